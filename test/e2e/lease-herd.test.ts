/** A client goes on with its lease at another server, with all of its calls at once, and then at both in turn. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { createTestDatabase } from '../support/database.js';
import { TcpxClient } from '../support/tcpx-client.js';

const TASKS = 500;
const CALLS = 300;

let first: TestApp;
let second: TestApp;
let token: string;

beforeAll(async () => {
  const database = await createTestDatabase();
  const settings = { TASKDASH_TOKEN_NEW_TASKS: '0' };
  first = await startTestApp({ database, settings });
  second = await startTestApp({ database, settings });
  token = await first.addToken('mx');
});
afterAll(async () => {
  await Promise.all([first.stop(), second.stop()]);
  await first.database.drop();
});

/** A lease of the first server with tasks of its own. */
async function leaseWith(name: string): Promise<string> {
  const { lease } = await first.client(LeaseService, 'grpc', token).grantLease({ ttl: { seconds: 120n } });
  const leaseId = lease?.id ?? '';
  const tasks = Array.from({ length: TASKS }, (_, n) => ({ id: `${name}-${n}`, groupId: 'mx' }));
  await first.client(TaskService, 'grpc', token).batchRegisterTasks({ leaseId, tasks });
  return leaseId;
}

async function sumOfEpochs(leaseId: string): Promise<number> {
  const [row] = await first.storage.postgres.adHocRows<{ sum: string }>(
    `SELECT sum(epoch) AS sum FROM task WHERE session_id = $1`,
    [leaseId],
  );
  return Number(row?.sum);
}

/** Updates under the lease, all at once; resolves with the codes of those that failed. */
async function herd(name: string, leaseId: string, serverOf: (call: number) => TestApp): Promise<string[]> {
  const clients = new Map([first, second].map((server) => [server, server.client(TaskService, 'grpc', token)]));
  const update = (n: number) => ({
    task: { id: `${name}-${n}`, name: 'moved' },
    updateMask: { paths: ['name'] },
    leaseId,
  });
  const calls = Array.from({ length: CALLS }, async (_, n) => clients.get(serverOf(n))?.updateTask(update(n)));
  const outcomes = await Promise.allSettled(calls);
  return outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [String(outcome.reason)] : []));
}

it('costs one move, fails no call, and hinders nobody else', async () => {
  const leaseId = await leaseWith('a');
  const before = await sumOfEpochs(leaseId);
  const legacy = await TcpxClient.connect(second.tcp);
  const failing = herd('a', leaseId, () => second);
  for (let n = 0; n < 10; n++) expect((await legacy.find('a-0')).body).toMatchObject({ errid: 0 });
  expect(await failing).toEqual([]);
  expect((await sumOfEpochs(leaseId)) - before).toBe(TASKS + CALLS);
  legacy.socket.destroy();
});

it('fails no call while the servers take turns', async () => {
  const leaseId = await leaseWith('b');
  for (let round = 0; round < 4; round++) {
    expect(await herd('b', leaseId, (call) => (call % 2 === 0 ? first : second))).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
});
