/** How long a stop takes, whatever the database does: from the signal to the end of the process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, TEST_PASSWORD } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { KeptLog } from '../support/liveness-bench.js';
import { ServerProcess } from '../support/server-process.js';
import { startStallingProxy } from '../support/stalling-proxy.js';
import { TcpxClient } from '../support/tcpx-client.js';

const STOP_MS = 2_000;
/** What the end of a process takes beside, on a busy machine. */
const SLACK_MS = 1_000;
const FREE_PORTS = { TASKDASH_HTTP_PORT: '0', TASKDASH_GRPC_PORT: '0', TASKDASH_TCP_PORT: '0' };

let database: TestDatabase;
let neighbour: pg.Client;

beforeEach(async () => {
  database = await createTestDatabase();
  neighbour = new pg.Client({ connectionString: database.url });
  await neighbour.connect();
});
afterEach(async () => {
  await neighbour.end();
  await database.drop();
});

async function lockTables(...tables: string[]): Promise<void> {
  await neighbour.query('BEGIN');
  for (const table of tables) await neighbour.query(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
}

async function idsOf(): Promise<string[]> {
  const { rows } = await neighbour.query<{ id: string }>('SELECT id FROM task ORDER BY id');
  return rows.map(({ id }) => id);
}

/** How many wait for a lock. */
async function waiting(): Promise<number> {
  const { rows } = await neighbour.query<{ count: string }>(
    `SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = current_database() AND NOT granted`,
  );
  return Number(rows[0]?.count);
}

describe('a stop while a neighbour keeps every table locked', () => {
  it('ends in time, answers what was not written, loses nothing acknowledged, and says in one line what is left', async () => {
    const server = await ServerProcess.start({
      TASKDASH_DATABASE_URL: database.url,
      TASKDASH_STOP_TIMEOUT: `${STOP_MS}ms`,
      TASKDASH_WRITE_DEADLINE: '60s',
      TASKDASH_ADMIN_PASSWORD: TEST_PASSWORD,
    });
    const client = await TcpxClient.connect(server.ready.tcp);
    expect((await client.register({ id: 'acknowledged', name: 'a' })).body.errid).toBe(0);
    await lockTables('task', 'session', 'node');
    const unwritten = client.register({ id: 'not acknowledged', name: 'b' });
    await expect.poll(waiting).toBeGreaterThan(0);
    const stoppedAtMs = performance.now();
    const code = await server.stop();
    expect(performance.now() - stoppedAtMs).toBeLessThan(STOP_MS + SLACK_MS);
    expect(code).toBe(0);
    expect((await unwritten).body.errid).toBe(1001);
    const entries = server.output.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Entry);
    const goodbyes = entries.filter(({ unsaid }) => unsaid !== undefined);
    expect(goodbyes).toHaveLength(1);
    expect(goodbyes[0]?.unsaid).toContain('lease');
    await neighbour.query('ROLLBACK');
    expect(await idsOf()).toContain('acknowledged');
    client.socket.destroy();
  });

  it('gives the lease up where only the tasks are locked', async () => {
    const server = await ServerProcess.start({
      TASKDASH_DATABASE_URL: database.url,
      TASKDASH_STOP_TIMEOUT: `${STOP_MS}ms`,
    });
    await lockTables('task');
    const stoppedAtMs = performance.now();
    expect(await server.stop()).toBe(0);
    expect(performance.now() - stoppedAtMs).toBeLessThan(STOP_MS + SLACK_MS);
    const { rows } = await neighbour.query('SELECT lease_until < clock_timestamp() AS is_over FROM node');
    expect(rows).toEqual([{ is_over: true }]);
  });
});

it('a server that stops says so to whoever asks whether it is ready', async () => {
  const app = await startTestApp({ database });
  await lockTables('task');
  const { hostname, port } = new URL(app.http);
  const socket = connect(Number(port), hostname);
  const answers = text(socket);
  const body = JSON.stringify({ id: 'a' });
  const head = `Host: ${hostname}\r\nAuthorization: Bearer ${await app.addToken('mx')}\r\nContent-Type: application/json`;
  const call = 'POST /taskdash.task.v1.TaskService/GetTask HTTP/1.1';
  socket.write(`${call}\r\n${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  await expect.poll(waiting).toBeGreaterThan(0);
  const stopped = app.app.stop();
  socket.write(`GET /readyz HTTP/1.1\r\n${head}\r\n\r\n`);
  expect(await answers).toMatch(/^HTTP\/1.1 503 [^]*STORAGE_UNAVAILABLE[^]*not ready: the server is stopping\n/);
  await stopped;
  await app.storage.close();
});

it('a start that is asked to stop while the database says nothing is given up in time', async () => {
  let hasCalled: () => void = () => {};
  const called = new Promise<void>((resolve) => (hasCalled = resolve));
  const silent = createServer(() => hasCalled()).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const url = new URL(database.url);
  url.port = String((silent.address() as AddressInfo).port);
  const env = { ...process.env, TASKDASH_DATABASE_URL: url.href, TASKDASH_STOP_TIMEOUT: `${STOP_MS}ms` };
  const child = spawn(process.execPath, ['dist/server/main.js', 'serve'], {
    env: { ...env, ...FREE_PORTS },
    stdio: 'ignore',
  });
  await called;
  const stoppedAtMs = performance.now();
  child.kill('SIGTERM');
  await once(child, 'exit');
  expect(performance.now() - stoppedAtMs).toBeLessThan(STOP_MS + 2 * SLACK_MS);
  silent.close();
});

interface Entry {
  readonly unsaid?: readonly string[];
}

it('a stop while the database says nothing at all ends in time, and each call has its answer', async () => {
  const proxy = await startStallingProxy(database.url);
  const log = new KeptLog();
  const app = await startTestApp({
    database: { ...database, url: proxy.url },
    log,
    settings: { TASKDASH_STOP_TIMEOUT: `${STOP_MS}ms`, TASKDASH_WRITE_DEADLINE: '60s' },
  });
  const token = await app.addToken('mx');
  const tasks = ['grpc', 'http'].map((door) => app.client(TaskService, door as 'grpc' | 'http', token));
  await Promise.all(tasks.map((client, n) => client.registerTask({ task: { id: `before ${n}`, groupId: 'mx' } })));
  proxy.stall();
  const calls = tasks.flatMap((client, n) => [
    client.registerTask({ task: { id: `during ${n}`, groupId: 'mx' } }),
    client.getTask({ id: `before ${n}` }),
    client.listTasks({}),
  ]);
  const outcomes = calls.map((call) =>
    call.then(
      () => 'answered',
      (error: Error) => error.message,
    ),
  );
  // Every call is under way when an answer to what came after it is there.
  await Promise.all([fetch(`${app.http}/healthz`), app.client(Health, 'grpc').check({})]);
  const stoppedAtMs = performance.now();
  await app.app.stop();
  expect(performance.now() - stoppedAtMs).toBeLessThan(STOP_MS + SLACK_MS);
  for (const outcome of await Promise.all(outcomes)) expect(outcome).toMatch(/The database did not answer in time[.;]/);
  expect(log.lines.filter(({ details }) => 'unsaid' in details)).toHaveLength(1);
  proxy.cut();
  await app.storage.close();
  await proxy.stop();
});
