/** Which database a command works on: the one of TASKDASH_DATABASE_URL, or the embedded one in the data folder. */
import type { Config } from './config.js';
import { explainDatabase } from './database-url.js';
import { attachEmbeddedPostgres, startEmbeddedPostgres } from './storage/embedded/embedded-postgres.js';
import { openStorage, type Storage, type StorageSettings } from './storage/storage.js';
import type { Log } from './domain/ports.js';

/** A database that is there, and how to let go of it. */
export interface Database {
  readonly url: string;
  /** Stops it when it was started for this process; harmless otherwise. Idempotent. */
  release(): Promise<void>;
}

/** The database of a server: an outside one, or an embedded one that this process owns until it releases it. */
export async function acquireDatabase(
  config: Pick<Config, 'databaseUrl' | 'dataDir' | 'databasePoolSize'>,
  log: Log,
  onLost: (reason: string) => void,
): Promise<Database> {
  if (config.databaseUrl) return { url: config.databaseUrl, release: () => Promise.resolve() };
  const embedded = await startEmbeddedPostgres({
    dataDir: config.dataDir,
    log: (level, message, details) => log[level](details ?? {}, message),
    maxConnections: Math.max(60, config.databasePoolSize * 3),
  });
  embedded.onUnexpectedExit(() => onLost('the embedded PostgreSQL ended unexpectedly'));
  return { url: embedded.connectionString, release: () => embedded.stop() };
}

/** The database of a command: the one that a running server has open, or one that is started for as long as the command runs. */
export async function borrowDatabase(
  config: Pick<Config, 'databaseUrl' | 'dataDir' | 'databasePoolSize'>,
  log: Log,
): Promise<Database> {
  const running = config.databaseUrl ? undefined : await attachEmbeddedPostgres(config.dataDir);
  if (running) return { url: running.connectionString, release: () => Promise.resolve() };
  return acquireDatabase(config, log, () => {});
}

/** Storage on the database of the settings. Throws what openStorage throws; of an outside one that cannot be had, DatabaseUrlError. */
export async function openDatabase(
  config: Pick<Config, 'databaseUrl'>,
  { url }: Database,
  settings: Omit<StorageSettings, 'url'>,
): Promise<Storage> {
  try {
    return await openStorage({ ...settings, url });
  } catch (thrown) {
    throw explainDatabase(config, thrown);
  }
}
