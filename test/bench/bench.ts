/**
 * The performance table: everything side by side in one run on one machine, the load generator and PostgreSQL on it too.
 * Each figure is the median of the rounds, and each ratio is taken within a round, since machines drift.
 *
 *   npm run bench                    all of it
 *   npm run bench -- --quick         one short round
 *   npm run bench -- --only register some of it: a word of the name of a work, "heartbeats" or "idle"
 *   npm run bench -- --json FILE     and the figures as JSON
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import { measureHeartbeats } from './heartbeats.js';
import { measureIdle, type IdleResult } from './idle.js';
import { findPgbench } from './pgbench.js';
import { createToken, peakMemoryBytes, startServer, type BenchServer } from './processes.js';
import { heartbeatTableOf, idleTableOf, medianRow, tableOf, type Row } from './table.js';
import { measure, seed, WORKS, type Place } from './works.js';

const { values: flags } = parseArgs({
  options: { quick: { type: 'boolean' }, only: { type: 'string', default: '' }, json: { type: 'string' } },
});
const ROUNDS = flags.quick ? 1 : 3;
const SECONDS = flags.quick ? 3 : 8;
const IDLE_SECONDS = flags.quick ? 20 : 60;
const IDLE_SESSIONS = [2_000, 20_000];

/** Tables just like ours, so that indexes cost pgbench what they cost us. */
const PREPARE = `
  CREATE TABLE bench_task (LIKE task INCLUDING ALL);
  CREATE TABLE bench_read (LIKE task INCLUDING ALL);
  INSERT INTO bench_read (id, name, url, user_id, group_id, description, status, start_time, stop_time, addr, cause,
    status_changed_at, status_before, created_at, updated_at, revision, epoch)
  SELECT 'read-' || n, 'nightly-export', 'http://localhost:8080/v1/task', 'wsg', 'mx', 'add data', 'running',
    '2020-07-01 12:00:00', '', '127.0.0.1', 'client', now(), '', now(), now(), 1, 1 FROM generate_series(1, 100000) n;
  ANALYZE bench_read`;

async function measureWorks(server: BenchServer, databaseUrl: string): Promise<Row[]> {
  const works = WORKS.filter(({ name }) => name.includes(flags.only));
  if (works.length === 0) return [];
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(PREPARE);
  await client.end();
  const place: Place = {
    ...{ server, databaseUrl, pgbench: findPgbench(), seconds: SECONDS },
    token: await createToken(databaseUrl, 'mx'),
  };
  await seed(place);
  const rounds = works.map((): Row[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, work] of works.entries()) rounds[index]?.push(await measure(place, work, round));
  }
  return rounds.map(medianRow);
}

async function measureIdleSessions(databaseUrl: string): Promise<IdleResult[]> {
  const results: IdleResult[] = [];
  for (const sessions of IDLE_SESSIONS) results.push(await measureIdle(databaseUrl, sessions, IDLE_SECONDS));
  return results;
}

const folder = mkdtempSync(join(tmpdir(), 'taskdash-bench-'));
const database = await startEmbeddedPostgres({ dataDir: join(folder, 'db'), log: () => {}, maxConnections: 120 });
try {
  const databaseUrl = database.connectionString;
  const server = await startServer({ TASKDASH_DATABASE_URL: databaseUrl, TASKDASH_LOG_LEVEL: 'warn' });
  const rows = await measureWorks(server, databaseUrl);
  const peakMb = Math.round(peakMemoryBytes(server.pid) / 2 ** 20);
  console.log(`${tableOf(rows)}\n\nMost memory of the server: ${peakMb} MB. Rounds: ${ROUNDS} of ${SECONDS} s each.`);
  const heartbeats = 'heartbeats'.includes(flags.only)
    ? await measureHeartbeats(server, databaseUrl, SECONDS * 1000)
    : undefined;
  if (heartbeats) console.log(`\n${heartbeatTableOf(heartbeats)}`);
  await server.stop();
  const idle = 'idle'.includes(flags.only) ? await measureIdleSessions(databaseUrl) : [];
  if (idle.length > 0) console.log(`\n${idleTableOf(idle)}`);
  const figures = { rounds: ROUNDS, seconds: SECONDS, peakMb, rows, heartbeats, idle };
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(figures, null, 2)}\n`);
} finally {
  await database.stop();
  rmSync(folder, { recursive: true, force: true });
}
