/** What the log of a server says of a database that is away for some seconds while services report. */
import { execFileSync } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { ServerProcess } from '../support/server-process.js';
import { startStallingProxy, type StallingProxy } from '../support/stalling-proxy.js';
import { TcpxClient } from '../support/tcpx-client.js';

const SERVICES_OF_A_DOOR = 20;
const PAUSE_MS = 200;

let database: TestDatabase;
let proxy: StallingProxy;
let server: ServerProcess;
let isOver = false;

beforeEach(async () => {
  database = await createTestDatabase();
  proxy = await startStallingProxy(database.url);
  const settings = { TASKDASH_NODE_LEASE: '4s', TASKDASH_HEARTBEAT_TTL: '2s' };
  server = await ServerProcess.start({ TASKDASH_DATABASE_URL: proxy.url, ...settings });
});
afterEach(async () => {
  isOver = true;
  await server.stop();
  await proxy.stop();
  await database.drop();
});

/** Reports until the test is over, whatever becomes of it. */
async function report(once: () => Promise<unknown>): Promise<void> {
  for (; !isOver; await delay(PAUSE_MS)) await once().catch(() => {});
}

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly err?: unknown;
}

it(
  'has few lines of each kind, no error that ends by itself, and one that says that it is over',
  { timeout: 90_000 },
  async () => {
    const create = ['dist/server/main.js', 'token', 'create', 'reporter', '--group', 'mx'];
    const env = { ...process.env, TASKDASH_DATABASE_URL: database.url };
    const token = execFileSync(process.execPath, create, { env, stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim();
    const headers = { authorization: `Bearer ${token}` };
    const tasks = createClient(TaskService, createGrpcTransport({ baseUrl: `http://${server.ready.grpc}` }));
    for (let n = 0; n < SERVICES_OF_A_DOOR; n++) {
      const legacy = await TcpxClient.connect(server.ready.tcp);
      void report(() => legacy.register({ id: `legacy-${n}`, group_id: 'mx' }));
      void report(() =>
        tasks.registerTask({ task: { id: `grpc-${n}`, groupId: 'mx' } }, { headers, timeoutMs: 6_000 }),
      );
    }
    const before = server.output.length;
    const lines = () => server.output.slice(before).map((line) => JSON.parse(line) as Line);
    const messages = () => lines().map(({ msg }) => msg);
    proxy.stall();
    await expect.poll(messages, { timeout: 30_000 }).toContainEqual(expect.stringContaining('has run out'));
    await expect.poll(messages, { timeout: 30_000 }).toContain('a call could not be served');
    proxy.restore();
    proxy.cut();
    await expect.poll(messages, { timeout: 30_000 }).toContain('the database can be used again');
    await expect.poll(messages, { timeout: 30_000 }).toContainEqual(expect.stringContaining('holds its lease again'));
    const kinds = messages();
    expect(kinds.filter((kind) => kind === 'the lease of this node could not be renewed').length).toBeLessThanOrEqual(
      1,
    );
    expect(kinds.length).toBeLessThanOrEqual(new Set(kinds).size);
    expect(kinds.length).toBeLessThanOrEqual(12);
    expect(server.output.slice(before).filter((line) => line.includes('\\n    at '))).toEqual([]);
    expect(lines().filter(({ level }) => level >= 50)).toEqual([]);
  },
);
