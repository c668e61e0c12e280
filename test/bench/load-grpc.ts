/** Unary gRPC calls, some always under way on one channel, in a process of its own. Prints one JSON line. */
import { create, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { HealthCheckRequestSchema } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { RegisterTaskRequestSchema } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { LoadResult } from './load-tcpx.js';

/** What to do; the only argument, as JSON. */
export interface GrpcLoad {
  readonly address: string;
  readonly call: 'RegisterTask' | 'Check';
  readonly token: string;
  readonly inFlight: number;
  readonly durationMs: number;
  /** Ids are `<prefix>-<number>`. */
  readonly prefix: string;
}

const PATHS = {
  RegisterTask: '/taskdash.task.v1.TaskService/RegisterTask',
  Check: '/grpc.health.v1.Health/Check',
};

function messageOf(load: GrpcLoad, number: number): Uint8Array {
  if (load.call === 'Check') return toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema));
  const task = {
    ...{ id: `${load.prefix}-${number}`, name: 'nightly-export', url: 'http://localhost:8080/v1/task', user: 'wsg' },
    ...{ groupId: 'mx', description: 'add data', status: 'running', startTime: '2020-07-01 12:00:00' },
  };
  return toBinary(RegisterTaskRequestSchema, create(RegisterTaskRequestSchema, { task }));
}

async function run(load: GrpcLoad): Promise<LoadResult> {
  const client = new Client(load.address, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${load.token}`);
  const latenciesMs: number[] = [];
  let errors = 0;
  let next = 0;
  const call = (): Promise<void> =>
    new Promise((resolve) => {
      const sentAtMs = performance.now();
      const raw = [(bytes: Uint8Array) => Buffer.from(bytes), (bytes: Buffer) => bytes] as const;
      client.makeUnaryRequest(PATHS[load.call], ...raw, messageOf(load, next++), metadata, (error) => {
        if (error && errors++ === 0) process.stderr.write(`${error.message}\n`);
        latenciesMs.push(performance.now() - sentAtMs);
        resolve();
      });
    });
  const startedMs = performance.now();
  const worker = async () => {
    while (performance.now() < startedMs + load.durationMs) await call();
  };
  await Promise.all(Array.from({ length: load.inFlight }, worker));
  const elapsedMs = performance.now() - startedMs;
  client.close();
  const sorted = Float64Array.from(latenciesMs).sort();
  const quantile = (share: number) => sorted[Math.floor(sorted.length * share)] ?? 0;
  return { operations: latenciesMs.length, errors, elapsedMs, p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2] ?? '{}') as GrpcLoad))}\n`);
