/** The hot path to PostgreSQL: named prepared statements on the pool that TypeORM owns, each with a deadline. */
import type { Pool, PoolClient, QueryConfig } from 'pg';
import type { DataSource } from 'typeorm';
import { systemClock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { Outage } from './outage.js';
import { asStorageError, asUnavailable, codeOf, connectionAfter, READ_ONLY } from './postgres-errors.js';

/** A prepared statement: a text that never changes, and a name that no other text has. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** Runs one statement of a transaction. */
export type RunStatement = <Row extends object>(statement: Statement, values: readonly unknown[]) => Promise<Row[]>;

/** Runs statements; every failure is a catalogue error (STORAGE_UNAVAILABLE, STORAGE_REFUSED). */
export class Postgres {
  /** When a connection broke the last time. */
  #brokeAtMs = -Infinity;
  readonly #lastAnswerAtMs = new WeakMap<PoolClient, number>();
  /** A connection could only read: new ones are asked whether they can do more, until one can. */
  #mayBeReadOnly = false;

  /** `log` and `outage` are told why the database is not available, which callers are not. */
  constructor(
    private readonly dataSource: DataSource,
    private readonly log: Log,
    private readonly outage = new Outage(log, systemClock),
  ) {}

  /** Runs a statement prepared, and returns its rows as objects of texts and whatever pg makes of the column types. */
  async rows<Row extends object>(statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    const result = await this.#run<Row>({ name: statement.name, text: statement.text, values: [...values] });
    return result.rows;
  }

  /** Runs a text that is different every time, unprepared. */
  async adHocRows<Row extends object>(text: string, values: readonly unknown[]): Promise<Row[]> {
    const result = await this.#run<Row>({ text, values: [...values] });
    return result.rows;
  }

  /**
   * Runs statements on one connection as one transaction. Each sees what was committed before it began (READ COMMITTED),
   * so that one after a lock sees what the lock waited for. `lockTimeoutMs`: how long it waits for a lock at most; 0: as long as
   * a statement may take. Throws what the work throws, having undone everything.
   */
  async transaction<T>(work: (rows: RunStatement) => Promise<T>, lockTimeoutMs = 0): Promise<T> {
    const held = await this.#connect();
    try {
      await held.query(lockTimeoutMs > 0 ? `BEGIN; SET LOCAL lock_timeout = ${lockTimeoutMs}` : 'BEGIN');
      const result = await work(async <Row extends object>({ name, text }: Statement, values: readonly unknown[]) => {
        requireStorable(values);
        const { rows } = await held.query<Row & Record<string, unknown>>({ name, text, values: [...values] });
        return rows;
      });
      await held.query('COMMIT');
      this.#giveBack(held);
      return result;
    } catch (error) {
      await this.#undo(held, error);
      throw asStorageError(error);
    }
  }

  /** Gives up what a transaction held: with its connection, unless a statement alone has failed. */
  async #undo(held: PoolClient, error: unknown): Promise<void> {
    if (connectionAfter(error) !== 'kept') return this.#throwAway(held, error);
    try {
      await held.query('ROLLBACK');
      this.#giveBack(held);
    } catch (rollbackError) {
      this.#throwAway(held, rollbackError);
    }
  }

  /** Like pool.query, which however throws the connection away after any error, also where it is none of its own. */
  async #run<Row extends object>(config: QueryConfig) {
    requireStorable(config.values ?? []);
    const client = await this.#connect();
    try {
      const result = await client.query<Row & Record<string, unknown>>(config);
      this.#giveBack(client);
      return result;
    } catch (error) {
      if (connectionAfter(error) === 'kept') this.#giveBack(client);
      else this.#throwAway(client, error);
      throw asStorageError(error);
    }
  }

  /** A connection of the pool. Throws STORAGE_UNAVAILABLE with `nothingSent`, whatever keeps the server from having one. */
  async #connect(): Promise<PoolClient> {
    try {
      return await this.#soundConnection();
    } catch (error) {
      // At the end everybody is told so.
      if (this.dataSource.isInitialized) this.outage.failed(error);
      throw asUnavailable(error);
    }
  }

  /**
   * Where a connection broke, others may be dead without having noticed, and each would cost somebody a whole timeout:
   * those that have not answered since are thrown away.
   */
  async #soundConnection(): Promise<PoolClient> {
    for (;;) {
      const client = await poolOf(this.dataSource).connect();
      const answeredAtMs = this.#lastAnswerAtMs.get(client);
      if (answeredAtMs !== undefined && answeredAtMs <= this.#brokeAtMs) client.release(true);
      else if (answeredAtMs === undefined && this.#mayBeReadOnly) return await this.#vet(client);
      else return client;
    }
  }

  /** A new connection may lead to the standby, or the demoted primary, that the last one led to. */
  async #vet(client: PoolClient): Promise<PoolClient> {
    try {
      const { rows } = await client.query<{ transaction_read_only: string }>('SHOW transaction_read_only');
      if (rows[0]?.transaction_read_only === 'on')
        throw new TaskDashError('STORAGE_UNAVAILABLE', { cause: canOnlyRead(), retryAfterMs: 1000, nothingSent: true });
      this.#mayBeReadOnly = false;
      return client;
    } catch (error) {
      client.release(true);
      throw error;
    }
  }

  #giveBack(client: PoolClient): void {
    client.release();
    this.#lastAnswerAtMs.set(client, systemClock.monotonicMs());
    this.outage.answered();
  }

  #throwAway(client: PoolClient, error: unknown): void {
    client.release(true);
    // A refusal of our own says nothing about connections.
    const isOurs = error instanceof TaskDashError;
    const after = connectionAfter(error);
    if (isOurs || after === 'kept') return;
    if (after === 'doubtful') return this.log.warn({ err: error }, 'the database did not carry out a statement');
    this.outage.failed(error);
    this.#brokeAtMs = systemClock.monotonicMs();
    this.#mayBeReadOnly ||= codeOf(error) === READ_ONLY;
  }
}

/**
 * Every text that reaches a statement comes by here: PostgreSQL has no U+0000, and no half of a surrogate pair. Fields of
 * tasks are judged before, with better words. Throws REQUEST_INVALID.
 */
function requireStorable(values: readonly unknown[]): void {
  for (const value of values) {
    if (Array.isArray(value)) requireStorable(value);
    else if (typeof value === 'string' && (value.includes('\0') || !value.isWellFormed()))
      throw new TaskDashError('REQUEST_INVALID', {
        message: 'A text of the request contains the character U+0000 or is not well-formed Unicode; leave that out.',
      });
  }
}

function canOnlyRead(): Error {
  return Object.assign(new Error('the new connection can only read'), { code: READ_ONLY });
}

/** The pg pool inside a data source. */
export function poolOf(dataSource: DataSource): Pool {
  // The driver of a postgres data source keeps its pool there; TypeORM types it as unknown.
  return (dataSource.driver as unknown as { master: Pool }).master;
}
