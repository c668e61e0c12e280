import { TaskDashError } from '../domain/errors.js';
import type { StorageHealth } from '../domain/ports.js';
import type { Postgres } from './postgres.js';

const CHECK = {
  name: 'storage_check',
  text: `SELECT to_regclass('task') IS NOT NULL AS migrated, current_setting('transaction_read_only') = 'on' AS read_only`,
};

/** Whether the database answers, takes writes and has the tables. Throws STORAGE_UNAVAILABLE. */
export class PostgresHealth implements StorageHealth {
  constructor(private readonly postgres: Postgres) {}

  async check(): Promise<void> {
    const rows = await this.postgres.rows<{ migrated: boolean; read_only: boolean }>(CHECK, []);
    if (!rows[0]?.migrated) throw unavailable('The database has no tables; run "taskdash migrate".');
    if (rows[0].read_only) throw unavailable('The database takes no writes: it is a standby, or set to read-only.');
  }
}

function unavailable(message: string): TaskDashError {
  return new TaskDashError('STORAGE_UNAVAILABLE', { message });
}
