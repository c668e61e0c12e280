import { TaskDashError } from '../domain/errors.js';
import type { StorageHealth } from '../domain/ports.js';
import type { Postgres } from './postgres.js';
import { causeInWords, causeOf } from './causes.js';
import { READ_ONLY } from './postgres-errors.js';

/**
 * A message in the log of changes, which needs no row: its commit waits for the disk, and for a standby where the database
 * is set up so, as the commit of every write does.
 */
const CHECK = {
  name: 'storage_check',
  text: `SELECT to_regclass('task') IS NOT NULL AS migrated, read_only,
  CASE WHEN NOT read_only THEN pg_logical_emit_message(true, 'taskdash', 'ready?')::text END AS written
FROM (SELECT current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery() AS read_only) AS s`,
};

const NO_TABLE = '42P01';

/** Whether the database answers, has the tables and takes a write. Throws STORAGE_UNAVAILABLE, with the cause in words. */
export class PostgresHealth implements StorageHealth {
  /** One at a time: where commits hang, asking again would take connection after connection. */
  #underWay: Promise<void> | undefined;

  constructor(private readonly postgres: Postgres) {}

  check(): Promise<void> {
    this.#underWay ??= this.#check().finally(() => (this.#underWay = undefined));
    return this.#underWay;
  }

  async #check(): Promise<void> {
    const rows = await this.#ask().catch((cause: unknown) => {
      throw unavailable(causeInWords(cause), cause);
    });
    if (!rows[0]?.migrated) throw unavailable(causeOf(NO_TABLE));
    if (rows[0].read_only) throw unavailable(causeOf(READ_ONLY));
  }

  #ask() {
    return this.postgres.rows<{ migrated: boolean; read_only: boolean }>(CHECK, []);
  }
}

function unavailable(message: string, cause?: unknown): TaskDashError {
  return new TaskDashError('STORAGE_UNAVAILABLE', { message, cause });
}
