/*
 * The embedded database: a real PostgreSQL that belongs to one TaskDash process and keeps its data in a folder.
 *
 *   start    lock the folder → choose the user and the programs → make the cluster if there is none → end what an earlier
 *            server left → start PostgreSQL under its guardian → ready
 *   stop     fast shutdown, after a deadline an immediate one, after another by force → give the folder back
 *   lost     PostgreSQL, or its guardian, ended by itself: the callbacks are told, what remains of it is ended and the
 *            folder given back; nothing is started again by itself
 *
 * docs/embedded-database.md tells it from the operator's side.
 */
import { findBinaries, usualPlaces, type BinaryPlaces } from './binaries.js';
import { DATABASE_NAME, ensureCluster, majorOfCluster, readPassword } from './cluster.js';
import { dataFolderAt, isRoot, openDataFolder, statIfThere, type DataFolder, type LaunchLog } from './data-folder.js';
import { liveHolder, lockDataFolder, type DataFolderLock } from './data-folder-lock.js';
import { EmbeddedPostgresError, reasonOf } from './embedded-postgres-error.js';
import { freeLoopbackPort, startServer, type ServerOptions } from './launcher.js';
import { OwnedServer } from './owned-server.js';
import { readPostmasterFile } from './postmaster-file.js';
import { chooseRunAs, refuseForeignCluster } from './run-as.js';
import { openServerLog } from './server-log.js';
import { checkSettings } from './server-settings.js';

/** What an embedded database is started with. */
export interface EmbeddedPostgresOptions {
  /** The folder; made if it is not there. */
  dataDir: string;
  log: LaunchLog;
  /** How long PostgreSQL may say nothing while it starts; 60 000 if not given. */
  startTimeoutMs?: number;
  /** 60 if not given. */
  maxConnections?: number;
  /** More PostgreSQL settings, by name: they win over the launcher's tuning, not over what it needs to find the server. */
  settings?: Record<string, string>;
}

/** What a start takes from its surroundings. */
export interface Surroundings {
  /** Where PostgreSQL's programs are looked for. */
  places: BinaryPlaces;
  /** See ServerOptions. */
  pickPort: () => Promise<number>;
}

/** A running embedded database. */
export interface EmbeddedPostgres {
  /** `postgres://taskdash:…@127.0.0.1:port/taskdash`; contains the password. The user owns the database, and may make others. */
  readonly connectionString: string;
  /** Stops it: fast, after 20 s immediately, after 5 s more by force. Idempotent. */
  stop(): Promise<void>;
  /** Calls back once, with a sentence, should PostgreSQL end by itself, also when it already has. Nothing is left to stop then. */
  onUnexpectedExit(callback: (what: string) => void): void;
}

const START_TIMEOUT_MS = 60_000;
const MAX_CONNECTIONS = 60;

/**
 * Starts the database in a folder, and makes it first if there is none. It ends with this process, however that ends.
 * @throws EmbeddedPostgresError when the folder is in use or cannot be used, when there is no PostgreSQL to run, when the
 *   data is another version's, or when PostgreSQL does not start: with the end of its log.
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
  surroundings: Partial<Surroundings> = {},
): Promise<EmbeddedPostgres> {
  const serverOptions: ServerOptions = {
    startTimeoutMs: options.startTimeoutMs ?? START_TIMEOUT_MS,
    maxConnections: options.maxConnections ?? MAX_CONNECTIONS,
    settings: options.settings ?? {},
    pickPort: surroundings.pickPort ?? freeLoopbackPort,
  };
  checkSettings(serverOptions.settings, serverOptions.maxConnections);
  refuseUnsupportedSystem();
  const folder = await openDataFolder(options.dataDir);
  const lock = await lockDataFolder(folder);
  try {
    return await startLocked(folder, lock, serverOptions, options.log, surroundings.places ?? usualPlaces());
  } catch (error) {
    await lock.release();
    throw error instanceof EmbeddedPostgresError ? error : refusedBySystem(folder, error);
  }
}

/**
 * Finds the database that a running server of this machine has open, for commands beside it. Undefined when no server has
 * the folder, or its database is not ready.
 * @throws EmbeddedPostgresError when there is one and this user may not read the password.
 */
export async function attachEmbeddedPostgres(dataDir: string): Promise<{ connectionString: string } | undefined> {
  const folder = dataFolderAt(dataDir);
  if (!(await statIfThere(folder.lock)) || !(await liveHolder(folder))) return undefined;
  const password = await readPassword(folder);
  const file = await readPostmasterFile(folder);
  if (password === undefined || file?.status !== 'ready') return undefined;
  return { connectionString: connectionString(password, file.port) };
}

async function startLocked(
  folder: DataFolder,
  lock: DataFolderLock,
  options: ServerOptions,
  log: LaunchLog,
  places: BinaryPlaces,
): Promise<OwnedServer> {
  const startedAt = performance.now();
  await refuseForeignCluster(folder);
  const clusterMajor = await majorOfCluster(folder);
  const runAs = await chooseRunAs(folder, log);
  const binaries = await findBinaries(folder, runAs, places, clusterMajor, log);
  const serverLog = await openServerLog(folder, log);
  try {
    const launch = { folder, binaries, runAs, serverLog, log };
    const password = await ensureCluster(launch);
    const server = await startServer(launch, options);
    log('info', 'The embedded PostgreSQL is ready', {
      server: binaries.description,
      as: runAs.description,
      folder: folder.root,
      port: server.port,
      tookMs: Math.round(performance.now() - startedAt),
    });
    return new OwnedServer(launch, lock, server, connectionString(password, server.port));
  } catch (error) {
    await serverLog.close();
    throw error;
  }
}

function connectionString(password: string, port: number): string {
  return `postgres://${DATABASE_NAME}:${password}@127.0.0.1:${port}/${DATABASE_NAME}`;
}

/** Something that the machine does not allow, where nothing more exact is known than its own words. */
function refusedBySystem(folder: DataFolder, error: unknown): EmbeddedPostgresError {
  const rights = isRoot()
    ? ' (as root in a container: also CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETUID and CAP_SETGID)'
    : '';
  return new EmbeddedPostgresError(
    `The embedded database in ${folder.root} cannot be started: ${reasonOf(error)}. See that this process has the rights ` +
      `to the folder and everything in it${rights}, or name a PostgreSQL of your own in TASKDASH_DATABASE_URL.`,
    { cause: error },
  );
}

function refuseUnsupportedSystem(): void {
  if (process.platform !== 'win32') return;
  throw new EmbeddedPostgresError(
    'The embedded database runs on Linux and macOS. On Windows, start TaskDash in WSL or name a PostgreSQL of your own ' +
      'in TASKDASH_DATABASE_URL.',
  );
}
