import { EmbeddedPostgresError } from './embedded-postgres-error.js';

/** What the launcher decides alone: it would lose sight of the server otherwise. */
const RESERVED = new Set([
  'config_file',
  'data_directory',
  'external_pid_file',
  'hba_file',
  'lc_messages',
  'listen_addresses',
  'log_destination',
  'logging_collector',
  'max_connections',
  'port',
  'unix_socket_directories',
]);

/** PostgreSQL's own defaults stand for everything that is not here. */
const DEFAULTS: Readonly<Record<string, string>> = {
  // Nothing acknowledged is lost: these are the defaults, written down so that no postgresql.conf takes them away.
  fsync: 'on',
  synchronous_commit: 'on',
  full_page_writes: 'on',
  shared_buffers: '128MB',
  max_wal_size: '1GB',
  wal_buffers: '16MB',
  checkpoint_timeout: '10min',
  // Short statements on two cores gain nothing from compiling or from timing each read.
  jit: 'off',
  track_io_timing: 'off',
  // Nobody replicates from here, and nobody can log in as superuser: no process and no connection is kept for them.
  max_wal_senders: '0',
  max_logical_replication_workers: '0',
  superuser_reserved_connections: '0',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] ',
  // Progress in the log is how the launcher knows a long recovery from a stuck one (PostgreSQL 15 and later).
  log_startup_progress_interval: '5s',
};

/**
 * The command line arguments of a server.
 * @throws EmbeddedPostgresError when a setting has no name that PostgreSQL could know, or is the launcher's.
 */
export function serverArguments(
  major: number,
  port: number,
  maxConnections: number,
  settings: Readonly<Record<string, string>>,
): string[] {
  const own = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    port: String(port),
    max_connections: String(maxConnections),
    logging_collector: 'off',
    log_destination: 'stderr',
    lc_messages: 'C',
  };
  const known = Object.entries(DEFAULTS).filter(([name]) => major >= 15 || name !== 'log_startup_progress_interval');
  const all = { ...Object.fromEntries(known), ...settings, ...own };
  return Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

/**
 * Holds given settings against what may be set.
 * @throws EmbeddedPostgresError that names the first one that may not.
 */
export function checkSettings(settings: Readonly<Record<string, string>>, maxConnections: number): void {
  for (const name of Object.keys(settings)) {
    if (!/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/.test(name) || RESERVED.has(name)) {
      throw new EmbeddedPostgresError(
        `The PostgreSQL setting "${name}" cannot be given to the embedded database: ` +
          'it is no lower-case name of a setting, or one that the launcher decides itself.',
      );
    }
  }
  if (Number.isInteger(maxConnections) && maxConnections >= 1 && maxConnections <= 10_000) return;
  throw new EmbeddedPostgresError(
    `maxConnections is ${maxConnections} for the embedded database: allowed are whole numbers from 1 to 10000.`,
  );
}
