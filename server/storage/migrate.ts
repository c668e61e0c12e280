/**
 * Brings the schema to this version, forward only, under an advisory lock, so that several nodes may start at once.
 * The lock and the migrations share one connection: should it break, both end together.
 */
import { MigrationExecutor, type DataSource, type QueryRunner } from 'typeorm';
import { delay, systemClock } from '../domain/clock.js';
import type { Log } from '../domain/ports.js';
import { connect, createDataSource, MIGRATIONS_TABLE, type DataSourceSettings } from './data-source.js';
import { asStorageError } from './postgres-errors.js';

/** Any fixed number; "TaskDash" in ASCII. */
const LOCK_KEY = '6080488402764460904';
const LOCK_RETRY_MS = 100;
const LOCK_TIMEOUT_MS = 10 * 60_000;
const MIGRATION_TIMEOUT_MS = 60 * 60_000;
const OLDEST_SERVER = 140_000;

/** The database has a schema that this version does not know, or is too old a PostgreSQL. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';
}

/**
 * Runs what is missing, says in one line of the log what that was, and returns its names. Throws SchemaError where this version must
 * not run on the database, STORAGE_UNAVAILABLE.
 */
export async function migrate(settings: Omit<DataSourceSettings, 'poolSize'>): Promise<string[]> {
  const dataSource = createDataSource({ ...settings, poolSize: 1, statementTimeoutMs: MIGRATION_TIMEOUT_MS });
  try {
    await connect(dataSource);
    return await underLock(dataSource, (queryRunner) => migrateLocked(dataSource, queryRunner, settings.log));
  } catch (error) {
    throw error instanceof SchemaError ? error : asStorageError(error);
  } finally {
    if (dataSource.isInitialized) await dataSource.destroy();
  }
}

/** Which migrations a database has, and which it lacks, by name and in order. */
export interface SchemaState {
  readonly ran: readonly string[];
  readonly missing: readonly string[];
}

/** Looks without changing anything. Throws SchemaError where this version must not run on the database, STORAGE_UNAVAILABLE. */
export async function lookAtSchema(dataSource: DataSource): Promise<SchemaState> {
  const queryRunner = dataSource.createQueryRunner();
  try {
    await requireServer(queryRunner);
    const ran = await executedMigrations(queryRunner);
    requireKnown(dataSource, ran);
    return { ran, missing: knownMigrations(dataSource).filter((name) => !ran.includes(name)) };
  } catch (error) {
    throw error instanceof SchemaError ? error : asStorageError(error);
  } finally {
    await queryRunner.release();
  }
}

async function underLock<T>(dataSource: DataSource, work: (queryRunner: QueryRunner) => Promise<T>): Promise<T> {
  const queryRunner = dataSource.createQueryRunner();
  try {
    await acquireLock(queryRunner);
    return await work(queryRunner);
  } finally {
    // The lock goes with the connection, which the data source closes.
    await queryRunner.release();
  }
}

async function acquireLock(queryRunner: QueryRunner): Promise<void> {
  for (let waitedMs = 0; waitedMs < LOCK_TIMEOUT_MS; waitedMs += LOCK_RETRY_MS) {
    const rows = (await queryRunner.query(`SELECT pg_try_advisory_lock(${LOCK_KEY}) AS locked`)) as {
      locked: boolean;
    }[];
    if (rows[0]?.locked) return;
    await delay(systemClock, LOCK_RETRY_MS);
  }
  throw new SchemaError(
    `Another server has been migrating the database for ${LOCK_TIMEOUT_MS / 60_000} minutes; start again when it is done.`,
  );
}

async function migrateLocked(dataSource: DataSource, queryRunner: QueryRunner, log: Log): Promise<string[]> {
  await requireServer(queryRunner);
  requireKnown(dataSource, await executedMigrations(queryRunner));
  const executor = new MigrationExecutor(dataSource, queryRunner);
  executor.transaction = 'each';
  const startedMs = systemClock.monotonicMs();
  const migrations = (await executor.executePendingMigrations()).map(({ name }) => name);
  const tookMs = Math.round(systemClock.monotonicMs() - startedMs);
  if (migrations.length > 0) log.info({ migrations, tookMs }, `migrated the database in ${migrations.length} steps`);
  return migrations;
}

async function requireServer(queryRunner: QueryRunner): Promise<void> {
  const rows = (await queryRunner.query(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
            current_setting('server_encoding') AS encoding`,
  )) as { version: string; number: number; encoding: string }[];
  const server = rows[0];
  if (server && server.number < OLDEST_SERVER)
    throw new SchemaError(`The database is PostgreSQL ${server.version}; TaskDash needs 14 or newer.`);
  if (server && server.encoding !== 'UTF8')
    throw new SchemaError(
      `The database has the encoding ${server.encoding}; TaskDash needs UTF8 (CREATE DATABASE … ENCODING 'UTF8').`,
    );
}

async function executedMigrations(queryRunner: QueryRunner): Promise<string[]> {
  if (!(await queryRunner.hasTable(MIGRATIONS_TABLE))) return [];
  const rows = (await queryRunner.query(`SELECT name FROM ${MIGRATIONS_TABLE} ORDER BY timestamp`)) as {
    name: string;
  }[];
  return rows.map(({ name }) => name);
}

function knownMigrations(dataSource: DataSource): string[] {
  return dataSource.migrations.map(({ name }) => name ?? '');
}

function requireKnown(dataSource: DataSource, ran: readonly string[]): void {
  const known = knownMigrations(dataSource);
  const unknown = ran.filter((name) => !known.includes(name));
  if (unknown.length === 0) return;
  throw new SchemaError(
    `The database was migrated by a newer TaskDash (${unknown.join(', ')}); start that version, or restore a backup from before.`,
  );
}
