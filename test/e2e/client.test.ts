import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Code,
  ConnectError,
  TaskDashClient,
  type ClientState,
  type TaskDashClientOptions,
} from '../../client/client.js';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { startCuttableProxy, type CuttableProxy } from '../support/cuttable-proxy.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { startStallingProxy } from '../support/stalling-proxy.js';
import { startTlsProxy } from '../support/tls-proxy.js';

let database: TestDatabase;
let app: TestApp;
let token: string;
let states: ClientState[];
let proxy: CuttableProxy;
let client: TaskDashClient;
const clients: TaskDashClient[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
  app = await startTestApp({ database });
  token = await app.addToken('mx');
  states = [];
  proxy = await startCuttableProxy(`http://${app.grpc}`);
  client = newClient();
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((each) => each.stop({ timeoutMs: 1_000 })));
  await proxy.stop();
  await app.stop();
  await database.drop();
});

function newClient(options: Partial<TaskDashClientOptions> = {}): TaskDashClient {
  const onState = (state: ClientState) => void states.push(state);
  const created = new TaskDashClient({ url: proxy.url, token, ttlMs: 5_000, timeoutMs: 2_000, onState, ...options });
  clients.push(created);
  return created;
}

const stored = (id: string) => app.storage.tasks.find('everything', id);
const history = async (id: string) =>
  (await app.client(TaskService, 'grpc', token).listTaskEvents({ taskId: id })).events
    .map(({ toStatus }) => toStatus)
    .reverse();
const failureOf = (call: Promise<unknown>): Promise<ConnectError> =>
  call.then(
    () => Promise.reject(new Error('it went well')),
    (error: unknown) => ConnectError.from(error),
  );

describe('the client of services', () => {
  it('registers tasks under a lease, updates them and reports how they end', async () => {
    await client.register({ id: 'job', name: 'nightly', groupId: 'mx', description: 'begun' });
    const sessionId = expect.any(String) as string;
    expect(await stored('job')).toMatchObject({ name: 'nightly', status: 'running', sessionId });
    await client.update('job', { description: 'half' });
    expect(await stored('job')).toMatchObject({ name: 'nightly', description: 'half', status: 'running' });
    await client.update('job', { description: '' });
    expect(await stored('job')).toMatchObject({ name: 'nightly', description: '' });
    await client.finish('job', '2026-01-01T00:00:00Z');
    expect(await stored('job')).toMatchObject({ status: 'finish', stop_time: '2026-01-01T00:00:00Z' });
    await expect(client.update('job', {})).rejects.toThrow('has ended');
    await client.register({ id: 'job', groupId: 'mx' });
    expect(await stored('job')).toMatchObject({ status: 'running', name: '' });
  });

  it('sends reports of one task in order, and what was reported meanwhile in one', async () => {
    await client.register({ id: 'job', groupId: 'mx' });
    const updates = Array.from({ length: 200 }, (_, n) => client.update('job', { description: `${n}` }));
    await Promise.all([...updates, client.finish('job')]);
    expect(await stored('job')).toMatchObject({ description: '199', status: 'finish' });
    expect((await stored('job'))?.revision).toBeLessThan(10);
  });

  it('says goodbye when it stops, so that what still ran is shutdown at once', async () => {
    await client.register({ id: 'left', groupId: 'mx' });
    await client.stop();
    expect(await stored('left')).toMatchObject({ status: 'shutdown', cause: 'client' });
    expect(client.state).toBe('stopped');
    await expect(client.register({ id: 'late', groupId: 'mx' })).rejects.toThrow('the client was stopped');
    await expect(client.stop()).resolves.toBeUndefined();
  });

  it('sends what is still to be sent before it stops', async () => {
    await client.register({ id: 'job', groupId: 'mx' });
    const finished = client.finish('job');
    await client.stop();
    await finished;
    expect(await stored('job')).toMatchObject({ status: 'finish' });
  });

  it('may be stopped before it was started', async () => {
    await client.stop();
    expect(states).toEqual(['stopped']);
  });
});

describe('many tasks', () => {
  it('arrive in as many messages as the server wants them in', async () => {
    const strict = await startTestApp({ database, settings: { TASKDASH_RPC_MAX_MESSAGE_BYTES: '65536' } });
    const many = newClient({ url: `http://${strict.grpc}` });
    const description = 'd'.repeat(4_000);
    const ids = Array.from({ length: 150 }, (_, n) => `long-${n}`);
    await Promise.all(ids.map((id) => many.register({ id, groupId: 'mx', description })));
    for (const id of ids) expect(await stored(id)).toMatchObject({ status: 'running', revision: 1 });
    await many.stop();
    await strict.stop();
  });
});

describe('what is refused', () => {
  it('rejects with what is wrong, of many at once only those that are', async () => {
    const good = Array.from({ length: 20 }, (_, n) => client.register({ id: `good-${n}`, groupId: 'mx' }));
    const [foreign, long] = await Promise.all([
      failureOf(client.register({ id: 'x', groupId: 'foreign' })),
      failureOf(client.register({ id: 'y', groupId: 'mx', status: 's'.repeat(65) })),
      ...good,
    ]);
    expect(foreign.code).toBe(Code.PermissionDenied);
    expect(long.findDetails(ErrorInfoSchema)[0]?.reason).toBe('TASK_INVALID');
    await client.start();
    await expect(client.update('x', {})).rejects.toThrow('was not registered');
  });

  it('leaves a task as it was when an update of it is refused', async () => {
    await client.register({ id: 'job', groupId: 'mx', name: 'n' });
    await expect(client.update('job', { status: 's'.repeat(65) })).rejects.toThrow('status');
    await client.update('job', { description: 'd' });
    expect(await stored('job')).toMatchObject({ name: 'n', description: 'd', status: 'running' });
  });

  it('tells of a token that is not valid instead of waiting for ever', async () => {
    const stranger = newClient({ token: `tdt_${'x'.repeat(43)}` });
    const [started, registered] = await Promise.all([
      failureOf(stranger.start()),
      failureOf(stranger.register({ id: 'a', groupId: 'mx' })),
    ]);
    expect([started.code, registered.code]).toEqual([Code.Unauthenticated, Code.Unauthenticated]);
    expect(stranger.state).toBe('connecting');
  });

  it('tells of a time to live that no lease may have', async () => {
    expect((await failureOf(newClient({ ttlMs: 1 }).start())).code).toBe(Code.InvalidArgument);
  });

  it.each([
    [{ url: 'localhost:50051' }, 'url: "localhost:50051" is not allowed; it must be http://host:port'],
    [{ url: '' }, 'url: "" is not allowed'],
    [{ token: '' }, 'token: it is missing'],
    [{ token: 'tdt_ü' }, 'token: it is missing or no token'],
  ])('is not made with %j', (options, message) => {
    expect(() => newClient(options)).toThrow(new RegExp(`^${message.replaceAll('.', '\\.')}`));
  });

  it('knows no more tasks than it may', async () => {
    const small = newClient({ maxTasks: 2 });
    await Promise.all(['a', 'b'].map((id) => small.register({ id, groupId: 'mx' })));
    expect((await failureOf(small.register({ id: 'c', groupId: 'mx' }))).code).toBe(Code.ResourceExhausted);
    await small.finish('a');
    await small.register({ id: 'c', groupId: 'mx' });
  });
});

describe('while TaskDash is away', () => {
  it('waits, and reports the latest of each task once it is back', async () => {
    proxy.goAway();
    const registered = client.register({ id: 'early', groupId: 'mx' });
    const updated = client.update('early', { description: 'meanwhile' });
    await expect.poll(() => states).toContain('connecting');
    proxy.restore();
    await Promise.all([registered, updated]);
    expect(await stored('early')).toMatchObject({ description: 'meanwhile', status: 'running', revision: 1 });
  });

  it('keeps what ends meanwhile until it can be reported', async () => {
    await Promise.all(['one', 'two'].map((id) => client.register({ id, groupId: 'mx' })));
    proxy.goAway();
    const finished = client.finish('one', '2026-01-01T00:00:00Z');
    await expect.poll(() => client.state).toBe('connecting');
    proxy.restore();
    await finished;
    expect(await stored('one')).toMatchObject({ status: 'finish', stop_time: '2026-01-01T00:00:00Z' });
    expect(await history('two')).toEqual(['running']);
  });

  it('stops in time, and tells what did not arrive', async () => {
    await client.register({ id: 'job', groupId: 'mx' });
    proxy.goAway();
    const finished = failureOf(client.finish('job'));
    const beganAtMs = performance.now();
    await client.stop({ timeoutMs: 700 });
    expect(performance.now() - beganAtMs).toBeLessThan(1_500);
    expect((await finished).code).toBe(Code.Canceled);
  });

  it('lets those who wait give up, and reports all the same', async () => {
    proxy.goAway();
    const signal = AbortSignal.timeout(100);
    await expect(client.register({ id: 'job', groupId: 'mx' }, { signal })).rejects.toThrow('timeout');
    await expect(client.start({ signal: AbortSignal.timeout(100) })).rejects.toThrow('timeout');
    proxy.restore();
    await client.start();
    await expect.poll(() => stored('job')).toMatchObject({ status: 'running' });
  });

  it(
    'notices a connection that is dead without a word, before its tasks are given up',
    { timeout: 60_000 },
    async () => {
      const hole = await startStallingProxy(`http://${app.grpc}`);
      const behind = newClient({ url: hole.url.replace(/\/$/, ''), ttlMs: 15_000 });
      await behind.register({ id: 'job', groupId: 'mx' });
      hole.stall();
      const updated = behind.update('job', { description: 'through' });
      await new Promise((resolve) => setTimeout(resolve, 500));
      hole.restore();
      await updated;
      expect(await stored('job')).toMatchObject({ description: 'through', status: 'running' });
      expect(await history('job')).not.toContain('shutdown');
      await behind.stop();
      await hole.stop();
    },
  );

  it('comes back when the server was started anew, and its tasks are what they were', { timeout: 60_000 }, async () => {
    const direct = newClient({ url: `http://${app.grpc}` });
    await direct.register({ id: 'durable', name: 'd', groupId: 'mx' });
    const { grpc } = app;
    await app.stop();
    await expect.poll(() => direct.state, { timeout: 20_000 }).toBe('connecting');
    app = await startTestApp({ database, settings: { TASKDASH_GRPC_PORT: grpc.slice(grpc.lastIndexOf(':') + 1) } });
    await direct.start();
    await direct.register({ id: 'another', groupId: 'mx' });
    const sessionId = expect.any(String) as string;
    expect(await stored('durable')).toMatchObject({ name: 'd', status: 'running', sessionId });
    expect(states.slice(0, 2)).toEqual(['alive', 'connecting']);
  });
});

describe('a lease that is gone', () => {
  it('is replaced, and everything that has not ended is registered again', async () => {
    await Promise.all(['a', 'b', 'ended'].map((id) => client.register({ id, groupId: 'mx' })));
    await client.finish('ended');
    const leaseId = (await stored('a'))?.sessionId ?? '';
    await app.client(LeaseService, 'grpc', token).revokeLease({ leaseId });
    expect(await stored('b')).toMatchObject({ status: 'shutdown' });
    await expect.poll(async () => (await stored('b'))?.status, { timeout: 10_000 }).toBe('running');
    expect(await history('a')).toEqual(['running', 'shutdown', 'running']);
    expect(await history('ended')).toEqual(['running', 'finish']);
  });

  it('is noticed by a report too, which arrives all the same', async () => {
    await client.register({ id: 'a', groupId: 'mx' });
    const leaseId = (await stored('a'))?.sessionId ?? '';
    await app.client(LeaseService, 'grpc', token).revokeLease({ leaseId });
    await client.update('a', { description: 'on' });
    expect(await stored('a')).toMatchObject({ status: 'running', description: 'on' });
  });
});

describe('ways to TaskDash', () => {
  it('goes to the HTTP door over HTTP/1.1 where it is told to', async () => {
    const plain = newClient({ url: app.http, protocol: 'connect' });
    await plain.register({ id: 'plain', groupId: 'mx' });
    await plain.update('plain', { description: 'd' });
    expect(await stored('plain')).toMatchObject({ description: 'd', status: 'running' });
    await plain.stop();
    expect(await stored('plain')).toMatchObject({ status: 'shutdown', cause: 'client' });
  });

  it('goes through TLS, and only to whom it trusts', async () => {
    const tls = await startTlsProxy(app.grpc);
    const trusting = newClient({ url: tls.url, tls: { ca: tls.ca } });
    await trusting.register({ id: 'secret', groupId: 'mx' });
    expect(await stored('secret')).toMatchObject({ status: 'running' });
    const errors: string[] = [];
    const careful = newClient({ url: tls.url, onState: (_, error) => void errors.push(error?.message ?? '') });
    await expect(careful.start({ signal: AbortSignal.timeout(1_000) })).rejects.toThrow('timeout');
    expect(errors[0]).toMatch(/self-signed certificate/);
    await Promise.all([trusting.stop(), careful.stop({ timeoutMs: 500 })]);
    await tls.stop();
  });
});
