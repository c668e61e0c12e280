/**
 * The performance table: everything side by side in one run on one machine, the load generator and PostgreSQL on it too.
 * Each figure is the median of the rounds, and each ratio is taken within a round, since machines drift.
 *
 *   npm run bench            all of it
 *   npm run bench -- --quick one short round
 *   npm run bench -- --only register
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import type { LoadResult, TcpxLoad } from './load-tcpx.js';
import { measureIdle, type IdleResult } from './idle.js';
import { findPgbench, runPgbench } from './pgbench.js';
import { cpuSeconds, memoryBytes, peakMemoryBytes, runScript, startServer, type BenchServer } from './processes.js';

const { values: flags } = parseArgs({
  options: { quick: { type: 'boolean' }, only: { type: 'string' }, json: { type: 'string' } },
});
const ROUNDS = flags.quick ? 1 : 3;
const SECONDS = flags.quick ? 3 : 8;

/** One line of the table. */
interface Row {
  readonly work: string;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuPercent: number;
  readonly memoryMb: number;
  readonly yardstick: string;
  readonly yardstickPerSecond: number;
  readonly ratio: number;
}

interface Work {
  readonly name: string;
  readonly load: Omit<TcpxLoad, 'address' | 'durationMs' | 'prefix' | 'idsPerConnection'>;
  readonly pgbench: { readonly work: 'upsert' | 'select'; readonly clients: number };
}

const WORKS: readonly Work[] = [
  {
    name: 'register 1×1',
    load: { verb: 'Register', connections: 1, depth: 1 },
    pgbench: { work: 'upsert', clients: 1 },
  },
  {
    name: 'register 64×1',
    load: { verb: 'Register', connections: 64, depth: 1 },
    pgbench: { work: 'upsert', clients: 64 },
  },
  {
    name: 'register 64×16',
    load: { verb: 'Register', connections: 64, depth: 16 },
    pgbench: { work: 'upsert', clients: 16 },
  },
  {
    name: 'update 64×16',
    load: { verb: 'Update', connections: 64, depth: 16 },
    pgbench: { work: 'upsert', clients: 16 },
  },
  { name: 'find 1×1', load: { verb: 'Find', connections: 1, depth: 1 }, pgbench: { work: 'select', clients: 1 } },
  { name: 'find 64×16', load: { verb: 'Find', connections: 64, depth: 16 }, pgbench: { work: 'select', clients: 16 } },
];

const IDS_PER_CONNECTION = 500;

/** Tables just like ours, so that indexes cost pgbench what they cost us. */
const PREPARE = `
  CREATE TABLE bench_task (LIKE task INCLUDING ALL);
  CREATE TABLE bench_read (LIKE task INCLUDING ALL);
  INSERT INTO bench_read (id, name, url, user_id, group_id, description, status, start_time, stop_time, addr, cause,
    status_changed_at, status_before, created_at, updated_at, revision, epoch)
  SELECT 'read-' || n, 'nightly-export', 'http://localhost:8080/v1/task', 'wsg', 'mx', 'add data', 'running',
    '2020-07-01 12:00:00', '', '127.0.0.1', 'client', now(), '', now(), now(), 1, 1 FROM generate_series(1, 100000) n;
  ANALYZE bench_read`;

async function load(server: BenchServer, work: Work, prefix: string): Promise<LoadResult> {
  const seconds = { address: server.tcp, durationMs: SECONDS * 1000, idsPerConnection: IDS_PER_CONNECTION };
  return runScript<LoadResult>('load-tcpx.ts', { ...work.load, ...seconds, prefix } satisfies TcpxLoad);
}

/** What updates and finds need: the ids exist. */
async function seed(server: BenchServer): Promise<void> {
  const { connections, depth } = { connections: 64, depth: 16 };
  const fill: TcpxLoad = {
    address: server.tcp,
    verb: 'Register',
    connections,
    depth,
    durationMs: 4000,
    prefix: 'seeded',
    idsPerConnection: IDS_PER_CONNECTION,
  };
  await runScript<LoadResult>('load-tcpx.ts', fill);
}

async function measure(server: BenchServer, program: string, url: string, work: Work, round: number): Promise<Row> {
  const prefix = work.load.verb === 'Register' ? `${work.name.replace(/\W+/g, '-')}-${round}` : 'seeded';
  const cpuBefore = cpuSeconds(server.pid);
  const result = await load(server, work, prefix);
  const cpu = cpuSeconds(server.pid) - cpuBefore;
  if (result.errors > 0) throw new Error(`${work.name}: ${result.errors} of ${result.operations} requests failed`);
  const memoryMb = memoryBytes(server.pid) / 2 ** 20;
  const yardstick = await runPgbench(program, url, work.pgbench.work, work.pgbench.clients, SECONDS);
  const perSecond = (result.operations / result.elapsedMs) * 1000;
  return {
    work: work.name,
    perSecond,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    cpuPercent: (cpu / result.elapsedMs) * 100_000,
    memoryMb,
    yardstick: `pgbench ${work.pgbench.work}, ${work.pgbench.clients} clients`,
    yardstickPerSecond: yardstick.perSecond,
    ratio: perSecond / yardstick.perSecond,
  };
}

function medianRow(rows: readonly Row[]): Row {
  const median = (value: (row: Row) => number): number => {
    const sorted = rows.map(value).sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? 0;
  };
  const [first] = rows;
  if (!first) throw new Error('no rounds');
  return {
    ...first,
    perSecond: median((row) => row.perSecond),
    p50Ms: median((row) => row.p50Ms),
    p99Ms: median((row) => row.p99Ms),
    cpuPercent: median((row) => row.cpuPercent),
    memoryMb: Math.max(...rows.map((row) => row.memoryMb)),
    yardstickPerSecond: median((row) => row.yardstickPerSecond),
    ratio: median((row) => row.ratio),
  };
}

function print(rows: readonly Row[], peakMb: number): void {
  const whole = (value: number): string => Math.round(value).toLocaleString('en-US');
  console.log('| work | ops/s | p50 ms | p99 ms | server CPU % | server MB | yardstick | ops/s | ratio |');
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- | --- |');
  for (const row of rows) {
    const times = `${row.p50Ms.toFixed(2)} | ${row.p99Ms.toFixed(1)}`;
    const cost = `${whole(row.cpuPercent)} | ${whole(row.memoryMb)}`;
    console.log(
      `| ${row.work} | ${whole(row.perSecond)} | ${times} | ${cost} | ${row.yardstick} | ${whole(row.yardstickPerSecond)} | ${row.ratio.toFixed(2)} |`,
    );
  }
  console.log(`\nPeak memory of the server over the run: ${whole(peakMb)} MB. Rounds: ${ROUNDS} of ${SECONDS} s each.`);
}

function printIdle(results: readonly IdleResult[]): void {
  console.log('\n| idle sessions, a beat every 10 s | server kB a session | server CPU % | rows written a minute |');
  console.log('| --- | --- | --- | --- |');
  for (const { sessions, bytesPerSession, cpuPercent, rowsPerMinute } of results) {
    const cost = `${(bytesPerSession / 1024).toFixed(1)} | ${cpuPercent.toFixed(1)} | ${rowsPerMinute.toFixed(0)}`;
    console.log(`| ${sessions.toLocaleString('en-US')} | ${cost} |`);
  }
}

const program = findPgbench();
const folder = mkdtempSync(join(tmpdir(), 'taskdash-bench-'));
const database = await startEmbeddedPostgres({ dataDir: join(folder, 'db'), log: () => {}, maxConnections: 120 });
try {
  const server = await startServer({ TASKDASH_DATABASE_URL: database.connectionString, TASKDASH_LOG_LEVEL: 'warn' });
  const client = new pg.Client({ connectionString: database.connectionString });
  await client.connect();
  await client.query(PREPARE);
  await client.end();
  await seed(server);
  const works = WORKS.filter(({ name }) => name.includes(flags.only ?? ''));
  const rounds = new Map<string, Row[]>(works.map(({ name }) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const work of works)
      rounds.get(work.name)?.push(await measure(server, program, database.connectionString, work, round));
  }
  const rows = [...rounds.values()].map(medianRow);
  const peakMb = peakMemoryBytes(server.pid) / 2 ** 20;
  print(rows, peakMb);
  await server.stop();
  const idle: IdleResult[] = [];
  if ('idle'.includes(flags.only ?? '')) {
    for (const sessions of [2_000, 20_000])
      idle.push(await measureIdle(database.connectionString, sessions, flags.quick ? 20 : 60));
    printIdle(idle);
  }
  if (flags.json)
    writeFileSync(flags.json, `${JSON.stringify({ rounds: ROUNDS, seconds: SECONDS, peakMb, rows, idle }, null, 2)}\n`);
} finally {
  await database.stop();
  rmSync(folder, { recursive: true, force: true });
}
