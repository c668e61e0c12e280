/** The connection to PostgreSQL: one TypeORM data source with every table, every migration and every deadline. */
import pg from 'pg';
import { DataSource, type EntitySchema, type Logger } from 'typeorm';
import type { Log } from '../domain/ports.js';
import {
  failedLoginEntity,
  groupEntity,
  knownNetworkEntity,
  loginSessionEntity,
  membershipEntity,
  serviceTokenEntity,
  userEntity,
} from './identity-entities.js';
import { nodeEntity, nodeEventEntity, sessionEntity } from './liveness-entities.js';
import { Tasks0001 } from './migrations/0001-tasks.js';
import { Identity0002 } from './migrations/0002-identity.js';
import { Liveness0003 } from './migrations/0003-liveness.js';
import { KnownNetworks0004 } from './migrations/0004-known-networks.js';
import { CommitOrder0005 } from './migrations/0005-commit-order.js';
import { SendableInstants0006 } from './migrations/0006-sendable-instants.js';
import { ReturnsByAddress0007 } from './migrations/0007-returns-by-address.js';
import { asUnavailable } from './postgres-errors.js';
import { sessionConfig, type SessionSettings } from './session-options.js';
import { settingEntity } from './setting-entity.js';
import { taskEntity, taskEventEntity } from './task-entities.js';

/** Every table. */
const ENTITIES: EntitySchema[] = [
  taskEntity,
  taskEventEntity,
  settingEntity,
  userEntity,
  groupEntity,
  membershipEntity,
  loginSessionEntity,
  serviceTokenEntity,
  failedLoginEntity,
  knownNetworkEntity,
  nodeEntity,
  nodeEventEntity,
  sessionEntity,
] as EntitySchema[];

/** Every migration, oldest first. Names end in thirteen digits, by which TypeORM and `migrate` order them. */
const MIGRATIONS = [
  ...[Tasks0001, Identity0002, Liveness0003, KnownNetworks0004, CommitOrder0005, SendableInstants0006],
  ReturnsByAddress0007,
];

/** Where TypeORM notes which migrations ran. */
export const MIGRATIONS_TABLE = 'schema_migration';

/** How long a connection, and how long a statement, may take. */
const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 8_000;

/**
 * A connection whose errors always have a listener. The pool listens while it is idle and its user while it is out; an error
 * between the two, as when the server ends it right after it became ready, would end the process. Whoever uses it is told by
 * the query that fails.
 */
class ListenedClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    this.on('error', () => {});
  }
}

/** How to reach the database. */
export interface DataSourceSettings extends SessionSettings {
  readonly poolSize: number;
  /** How the database's own views name this node. */
  readonly applicationName: string;
  readonly log: Log;
  /** How long a statement may take, in milliseconds; migrations need longer than the default of 8 s. */
  readonly statementTimeoutMs?: number;
  /** How long connecting may take, waiting for a place in the pool included, in milliseconds; 5 s where absent. */
  readonly connectTimeoutMs?: number;
}

/** A data source, not yet connected: `initialize()` connects, `destroy()` closes. */
export function createDataSource(settings: DataSourceSettings): DataSource {
  const { connectionString: url, ...session } = sessionConfig(
    settings,
    settings.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS,
  );
  const dataSource: DataSource = new DataSource({
    type: 'postgres',
    url,
    applicationName: settings.applicationName,
    poolSize: settings.poolSize,
    connectTimeoutMS: settings.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    entities: ENTITIES,
    migrations: MIGRATIONS,
    migrationsTableName: MIGRATIONS_TABLE,
    installExtensions: false,
    poolErrorHandler: (error: unknown) => {
      // A pool that is closed does not wait for its connections; whoever stops the database next may be faster than they.
      if (!isClosed(dataSource))
        settings.log.warn({ err: asUnavailable(error) }, 'an idle connection to the database was lost');
    },
    logger: loggerFor(settings.log),
    extra: {
      ...session,
      Client: ListenedClient,
      idleTimeoutMillis: 60_000,
    },
  });
  return dataSource;
}

/** Whether the connections of a data source are being closed, or were. */
function isClosed({ driver }: DataSource): boolean {
  const { master } = driver as unknown as { master?: { readonly ending: boolean } };
  return master?.ending !== false;
}

/** Connects a data source. Throws STORAGE_UNAVAILABLE. */
export async function connect(dataSource: DataSource): Promise<void> {
  try {
    await dataSource.initialize();
  } catch (error) {
    throw asUnavailable(error);
  }
}

function loggerFor(log: Log): Logger {
  return {
    logQuery: () => {},
    logQueryError: (error, query) => log.debug({ err: error, query }, 'a statement failed'),
    logQuerySlow: (timeMs, query) => log.warn({ timeMs, query }, 'a statement was slow'),
    logSchemaBuild: (message) => log.debug({}, message),
    logMigration: (message) => log.info({}, message),
    log: (level, message) => log[level === 'warn' ? 'warn' : 'debug']({}, String(message)),
  };
}
