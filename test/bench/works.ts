/** The works of the table, and how one of them is measured beside its yardstick. */
import { addTasks, emptyTables } from './database.js';
import type { GrpcLoad } from './load-grpc.js';
import type { LoadResult, TcpxLoad } from './load-tcpx.js';
import { runPgbench } from './pgbench.js';
import { cpuSeconds, peakMemoryBytes, runScript, startServer, type BenchServer } from './processes.js';
import type { Row } from './table.js';

/** What every measurement needs. */
export interface Place {
  readonly databaseUrl: string;
  readonly pgbench: string;
  /** A service token of the group of all loads. */
  readonly token: string;
  readonly seconds: number;
}

/** One line of the table to be. */
export interface Work {
  readonly name: string;
  /** Runs the load; what it registers has ids that begin with the prefix. */
  readonly load: (place: Place, server: BenchServer, prefix: string) => Promise<LoadResult>;
  /** Whether the load expects that its tasks are there. */
  readonly needsTasks?: boolean;
  /** How many servers on one database have the load, each all of it; undefined: one. */
  readonly servers?: number;
  readonly yardstickName: string;
  /** What the load is held against, in operations a second. */
  readonly yardstick: (place: Place, server: BenchServer) => Promise<number>;
}

const PREFIX = 'task';
/** Until the compiler of the server has seen what is hot. */
const WARM_UP_SECONDS = 2;
const CONNECTIONS = 64;
const IDS_PER_CONNECTION = 500;

function tcpx(verb: TcpxLoad['verb'], connections: number, depth: number): Work['load'] {
  return ({ seconds }, server, prefix) => {
    const shape = { verb, connections, depth, idsPerConnection: IDS_PER_CONNECTION };
    const ids = verb === 'Register' ? prefix : PREFIX;
    const load: TcpxLoad = { ...shape, address: server.tcp, durationMs: seconds * 1000, prefix: ids };
    return runScript<LoadResult>('load-tcpx.ts', load);
  };
}

function grpc(call: GrpcLoad['call'], inFlight: number): Work['load'] {
  return ({ seconds, token }, server, prefix) => {
    const load: GrpcLoad = { address: server.grpc, call, token, inFlight, durationMs: seconds * 1000, prefix };
    return runScript<LoadResult>('load-grpc.ts', load);
  };
}

function against(work: 'upsert' | 'select', clients: number): Pick<Work, 'yardstick' | 'yardstickName'> {
  return {
    yardstickName: `pgbench ${work}, ${clients} ${clients === 1 ? 'client' : 'clients'}`,
    yardstick: async ({ pgbench, databaseUrl, seconds }) =>
      (await runPgbench(pgbench, databaseUrl, work, clients, seconds)).perSecond,
  };
}

export const WORKS: readonly Work[] = [
  { name: 'register 1×1', load: tcpx('Register', 1, 1), ...against('upsert', 1) },
  { name: 'register 64×1', load: tcpx('Register', CONNECTIONS, 1), ...against('upsert', 64) },
  { name: 'register 64×16', load: tcpx('Register', CONNECTIONS, 16), ...against('upsert', 16) },
  {
    name: 'register 21×16 at each of 3 servers',
    servers: 3,
    load: tcpx('Register', Math.floor(CONNECTIONS / 3), 16),
    ...against('upsert', 16),
  },
  { name: 'update 64×16', load: tcpx('Update', CONNECTIONS, 16), needsTasks: true, ...against('upsert', 16) },
  { name: 'find 1×1', load: tcpx('Find', 1, 1), needsTasks: true, ...against('select', 1) },
  { name: 'find 64×16', load: tcpx('Find', CONNECTIONS, 16), needsTasks: true, ...against('select', 16) },
  {
    name: 'gRPC RegisterTask, 64 in flight',
    load: grpc('RegisterTask', 64),
    yardstickName: 'gRPC health check, 64 in flight',
    yardstick: async (place, server) => perSecondOf(await grpc('Check', 64)(place, server, '')),
  },
];

/** Measures a work once, and its yardstick right after it, from empty tables and with a server that has just started. */
export async function measure(place: Place, work: Work): Promise<Row> {
  await emptyTables(place.databaseUrl);
  if (work.needsTasks) await addTasks(place.databaseUrl, PREFIX, CONNECTIONS, IDS_PER_CONNECTION);
  const env = {
    TASKDASH_DATABASE_URL: place.databaseUrl,
    TASKDASH_LOG_LEVEL: 'warn',
    // One token registers as many new tasks as it can.
    TASKDASH_TOKEN_NEW_TASKS: '0',
  };
  const servers: BenchServer[] = [];
  try {
    for (let count = 0; count < (work.servers ?? 1); count++) servers.push(await startServer(env));
    await loadAll(servers, { ...place, seconds: WARM_UP_SECONDS }, work, 'warm');
    return await measureOn(servers, place, work);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}

async function measureOn(servers: readonly BenchServer[], place: Place, work: Work): Promise<Row> {
  const cpuOfAll = () => servers.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
  const cpuBefore = cpuOfAll();
  const result = await loadAll(servers, place, work, PREFIX);
  const cpu = cpuOfAll() - cpuBefore;
  if (result.errors > 0) throw new Error(`${work.name}: ${result.errors} of ${result.operations} requests failed`);
  const memoryMb = Math.max(...servers.map(({ pid }) => peakMemoryBytes(pid))) / 2 ** 20;
  const yardstickPerSecond = await work.yardstick(place, servers[0] as BenchServer);
  return {
    work: work.name,
    perSecond: perSecondOf(result),
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    cpuPercent: (cpu / result.elapsedMs) * 100_000,
    memoryMb,
    yardstick: work.yardstickName,
    yardstickPerSecond,
    ratio: perSecondOf(result) / yardstickPerSecond,
  };
}

/** The load at each server at once, and what came of all; of the times, the longest. */
async function loadAll(servers: readonly BenchServer[], place: Place, work: Work, prefix: string): Promise<LoadResult> {
  const results = await Promise.all(
    servers.map((server, n) => work.load(place, server, servers.length > 1 ? `${prefix}${n}` : prefix)),
  );
  const most = (of: keyof LoadResult) => Math.max(...results.map((result) => result[of]));
  const sum = (of: keyof LoadResult) => results.reduce((total, result) => total + result[of], 0);
  return {
    ...{ operations: sum('operations'), errors: sum('errors'), elapsedMs: most('elapsedMs') },
    ...{ p50Ms: most('p50Ms'), p99Ms: most('p99Ms') },
  };
}

function perSecondOf({ operations, elapsedMs }: LoadResult): number {
  return (operations / elapsedMs) * 1000;
}
