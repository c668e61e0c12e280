import type pg from 'pg';

/** Rows that have been inserted, updated or deleted in this database, as PostgreSQL counts them. */
export async function writtenRows(database: pg.Client): Promise<number> {
  const { rows } = await database.query<{ written: string }>(
    'SELECT tup_inserted + tup_updated + tup_deleted AS written FROM pg_stat_database WHERE datname = current_database()',
  );
  return Number(rows[0]?.written);
}
