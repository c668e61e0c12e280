/** The works of the table, and how one of them is measured beside its yardstick. */
import type { GrpcLoad } from './load-grpc.js';
import type { LoadResult, TcpxLoad } from './load-tcpx.js';
import { runPgbench } from './pgbench.js';
import { cpuSeconds, memoryBytes, runScript, type BenchServer } from './processes.js';
import type { Row } from './table.js';

/** What every measurement needs. */
export interface Place {
  readonly server: BenchServer;
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
  readonly load: (place: Place, prefix: string) => Promise<LoadResult>;
  readonly yardstickName: string;
  /** What the load is held against, in operations a second. */
  readonly yardstick: (place: Place) => Promise<number>;
}

const IDS_PER_CONNECTION = 500;
const SEEDED = 'seeded';

function tcpx(verb: TcpxLoad['verb'], connections: number, depth: number): Work['load'] {
  return ({ server, seconds }, prefix) => {
    const shape = { address: server.tcp, verb, connections, depth, idsPerConnection: IDS_PER_CONNECTION };
    const load: TcpxLoad = { ...shape, durationMs: seconds * 1000, prefix: verb === 'Register' ? prefix : SEEDED };
    return runScript<LoadResult>('load-tcpx.ts', load);
  };
}

function grpc(call: GrpcLoad['call'], inFlight: number): Work['load'] {
  return ({ server, seconds, token }, prefix) => {
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
  { name: 'register 64×1', load: tcpx('Register', 64, 1), ...against('upsert', 64) },
  { name: 'register 64×16', load: tcpx('Register', 64, 16), ...against('upsert', 16) },
  { name: 'update 64×16', load: tcpx('Update', 64, 16), ...against('upsert', 16) },
  { name: 'find 1×1', load: tcpx('Find', 1, 1), ...against('select', 1) },
  { name: 'find 64×16', load: tcpx('Find', 64, 16), ...against('select', 16) },
  {
    name: 'gRPC RegisterTask, 64 in flight',
    load: grpc('RegisterTask', 64),
    yardstickName: 'gRPC health check, 64 in flight',
    yardstick: async (place) => perSecondOf(await grpc('Check', 64)(place, '')),
  },
];

/** What updates and finds need: the ids exist. */
export async function seed({ server }: Place): Promise<void> {
  const shape = { verb: 'Register', connections: 64, depth: 16, idsPerConnection: IDS_PER_CONNECTION } as const;
  await runScript('load-tcpx.ts', { ...shape, address: server.tcp, durationMs: 6000, prefix: SEEDED });
}

/** Measures a work once, and its yardstick right after it. */
export async function measure(place: Place, work: Work, round: number): Promise<Row> {
  const { pid } = place.server;
  const cpuBefore = cpuSeconds(pid);
  const result = await work.load(place, `${work.name.replace(/\W+/g, '-')}-${round}`);
  const cpu = cpuSeconds(pid) - cpuBefore;
  if (result.errors > 0) throw new Error(`${work.name}: ${result.errors} of ${result.operations} requests failed`);
  const memoryMb = memoryBytes(pid) / 2 ** 20;
  const yardstickPerSecond = await work.yardstick(place);
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

function perSecondOf({ operations, elapsedMs }: LoadResult): number {
  return (operations / elapsedMs) * 1000;
}
