/** What the benchmark does with its database, beside measuring it. */
import pg from 'pg';

/** Adds tables just like ours, so that indexes cost pgbench what they cost us. */
export async function addYardstickTables(databaseUrl: string): Promise<void> {
  await run(
    databaseUrl,
    `CREATE TABLE bench_task (LIKE task INCLUDING ALL);
    CREATE TABLE bench_read (LIKE task INCLUDING ALL);
    ${insertion('bench_read', `SELECT 'read-' || n AS id FROM generate_series(1, 100000) n`)}`,
  );
}

/** Stores tasks of so many connections, with the ids that the loads count through. */
export async function addTasks(databaseUrl: string, prefix: string, connections: number, each: number): Promise<void> {
  const ids = `SELECT '${prefix}-' || connection || '-' || lpad(number::text, 8, '0') AS id
    FROM generate_series(0, ${connections - 1}) connection, generate_series(0, ${each - 1}) number`;
  await run(databaseUrl, insertion('task', ids));
}

function insertion(table: string, ids: string): string {
  return `INSERT INTO ${table} (id, name, url, user_id, group_id, description, status, start_time, stop_time, addr, cause,
      status_changed_at, status_before, created_at, updated_at, revision, epoch)
    SELECT id, 'nightly-export', 'http://localhost:8080/v1/task', 'wsg', 'mx', 'add data', 'running',
      '2020-07-01 12:00:00', '', '127.0.0.1', 'client', now(), '', now(), now(), 1, 1 FROM (${ids}) ids;
    ANALYZE ${table}`;
}

/** Makes every measurement begin with the same: no tasks, nobody's sessions to take over. */
export async function emptyTables(databaseUrl: string): Promise<void> {
  await run(databaseUrl, 'TRUNCATE task, task_event, session, node, bench_task');
}

async function run(databaseUrl: string, statements: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(statements);
  await client.end();
}

/** Rows that have been inserted, updated or deleted in this database, as PostgreSQL counts them. */
export async function writtenRows(database: pg.Client): Promise<number> {
  const { rows } = await database.query<{ written: string }>(
    'SELECT tup_inserted + tup_updated + tup_deleted AS written FROM pg_stat_database WHERE datname = current_database()',
  );
  return Number(rows[0]?.written);
}
