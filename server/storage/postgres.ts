/** The hot path to PostgreSQL: named prepared statements on the pool that TypeORM owns, each with a deadline. */
import type { Pool, PoolClient, QueryConfig } from 'pg';
import type { DataSource } from 'typeorm';
import { asStorageError, isUnavailable } from './postgres-errors.js';

/** A prepared statement: a text that never changes, and a name that no other text has. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** Runs statements; every failure is a catalogue error (STORAGE_UNAVAILABLE, STORAGE_REFUSED). */
export class Postgres {
  constructor(private readonly dataSource: DataSource) {}

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
   * Like pool.query, which however throws the connection away after any error; here it is kept unless the error says
   * that it is broken.
   */
  async #run<Row extends object>(config: QueryConfig) {
    let client: PoolClient | undefined;
    try {
      client = await poolOf(this.dataSource).connect();
      const result = await client.query<Row & Record<string, unknown>>(config);
      client.release();
      return result;
    } catch (error) {
      client?.release(isUnavailable(error));
      throw asStorageError(error);
    }
  }
}

/** The pg pool inside a data source. */
export function poolOf(dataSource: DataSource): Pool {
  // The driver of a postgres data source keeps its pool there; TypeORM types it as unknown.
  return (dataSource.driver as unknown as { master: Pool }).master;
}
