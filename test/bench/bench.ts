/**
 * The performance table: everything side by side in one run on one machine, the load generator and PostgreSQL on it too.
 * Each figure is the median of the rounds (of memory, the most), and each ratio is taken within a round, since machines
 * drift.
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
import { startEmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import { measureHeartbeats } from './heartbeats.js';
import { measureIdle, type IdleResult } from './idle.js';
import { addYardstickTables } from './database.js';
import { findPgbench } from './pgbench.js';
import { createToken, migrate } from './processes.js';
import { heartbeatTableOf, idleTableOf, medianRow, tableOf, type Row } from './table.js';
import { measure, WORKS, type Place } from './works.js';

const { values: flags } = parseArgs({
  options: { quick: { type: 'boolean' }, only: { type: 'string', default: '' }, json: { type: 'string' } },
});
const ROUNDS = flags.quick ? 1 : 3;
const SECONDS = flags.quick ? 3 : 8;
const IDLE_SECONDS = flags.quick ? 20 : 60;
const IDLE_SESSIONS = [0, 2_000, 20_000];

async function measureWorks(databaseUrl: string): Promise<Row[]> {
  const works = WORKS.filter(({ name }) => name.includes(flags.only));
  if (works.length === 0) return [];
  const place: Place = {
    ...{ databaseUrl, pgbench: findPgbench(), seconds: SECONDS },
    token: await createToken(databaseUrl, 'mx'),
  };
  const rounds = works.map((): Row[] => []);
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [index, work] of works.entries()) rounds[index]?.push(await measure(place, work));
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
  await migrate(databaseUrl);
  await addYardstickTables(databaseUrl);
  const rows = await measureWorks(databaseUrl);
  if (rows.length > 0) console.log(`${tableOf(rows)}\n\nRounds: ${ROUNDS} of ${SECONDS} s each.`);
  const heartbeats = 'heartbeats'.includes(flags.only)
    ? await measureHeartbeats(databaseUrl, SECONDS * 1000)
    : undefined;
  if (heartbeats) console.log(`\n${heartbeatTableOf(heartbeats)}`);
  const idle = 'idle'.includes(flags.only) ? await measureIdleSessions(databaseUrl) : [];
  if (idle.length > 0) console.log(`\n${idleTableOf(idle)}`);
  const figures = { rounds: ROUNDS, seconds: SECONDS, rows, heartbeats, idle };
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(figures, null, 2)}\n`);
} finally {
  await database.stop();
  rmSync(folder, { recursive: true, force: true });
}
