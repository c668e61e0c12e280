/** A moment without the database is waited for at every door alike: reads, writes, and who somebody is. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { startCuttableProxy, type CuttableProxy } from '../support/cuttable-proxy.js';
import { createTestDatabase } from '../support/database.js';
import { TcpxClient } from '../support/tcpx-client.js';

/** Longer than what is believed of a credential. */
const BLIP_MS = 2500;

let app: TestApp;
let proxy: CuttableProxy;
let token: string;

beforeAll(async () => {
  const database = await createTestDatabase();
  proxy = await startCuttableProxy(database.url);
  const throughProxy = new URL(database.url);
  throughProxy.host = new URL(proxy.url).host;
  app = await startTestApp({ database, settings: { TASKDASH_DATABASE_URL: throughProxy.href } });
  await app.addUser('ann', { mx: 'member' });
  token = await app.addToken('mx');
  await app.client(TaskService, 'grpc', token).registerTask({ task: { id: 'a', groupId: 'mx', user: 'ann' } });
});
afterAll(async () => {
  await app.stop();
  await proxy.stop();
  await app.database.drop();
});

it('lists, finds, counts, histories, look-ups of tokens, and writes, over gRPC, HTTP and the legacy protocol', async () => {
  const legacy = await TcpxClient.connect(app.tcp);
  await delay(BLIP_MS);
  proxy.goAway();
  setTimeout(() => proxy.restore(), BLIP_MS);
  const calls = (['grpc', 'http'] as const).flatMap((door) => {
    const tasks = app.client(TaskService, door, token);
    return [
      tasks.getTask({ id: 'a' }),
      tasks.listTasks({}),
      tasks.getTaskStats({}),
      tasks.listTaskEvents({ taskId: 'a' }),
      tasks.updateTask({ task: { id: 'a', description: door }, updateMask: { paths: ['description'] } }),
    ];
  });
  const outcomes = await Promise.allSettled([
    ...calls,
    legacy.find('a').then(({ body }) => expect(body).toMatchObject({ id: 'a', errid: 0 })),
  ]);
  expect(outcomes.filter(({ status }) => status === 'rejected')).toEqual([]);
  legacy.socket.destroy();
});
