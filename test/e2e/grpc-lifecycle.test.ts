import { once } from 'node:events';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Code, ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { ServerReflection } from '../../proto/gen/grpc/reflection/v1/reflection_pb.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { LeaseService, type KeepAliveResponse } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService, type WatchTasksResponse } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { ManualClock } from '../support/manual-clock.js';
import { rawCall } from '../support/rpc-raw.js';
import { RIG_PASSWORD, RpcRig, type RigDoor } from '../support/rpc-rig.js';

let rig: RpcRig;
let token: string;

beforeEach(async () => {
  rig = await RpcRig.start();
  token = await rig.token();
});
afterEach(() => rig.stop());

const WATCH = '/taskdash.task.v1.TaskService/WatchTasks';
const DOORS: readonly RigDoor[] = ['grpc', 'http', 'web'];

/** A stream after its first message. */
async function opened<T>(stream: AsyncIterable<T>): Promise<AsyncIterator<T>> {
  const iterator = stream[Symbol.asyncIterator]();
  await iterator.next();
  return iterator;
}

/** The first message of a stream that is left then. */
async function opening<T>(stream: AsyncIterable<T>): Promise<T | undefined> {
  for await (const message of stream) return message;
  return undefined;
}

/** How the rest of a stream ends. */
async function endOf(iterator: AsyncIterator<unknown>): Promise<ConnectError | 'OK'> {
  try {
    while (!(await iterator.next()).done);
    return 'OK';
  } catch (error) {
    return ConnectError.from(error);
  }
}

function watch(door: RigDoor): Promise<AsyncIterator<unknown>> {
  return opened(rig.client(TaskService, door, token).watchTasks({}));
}

/** Beats that never end by themselves. */
async function* endlessBeats(leaseId: string) {
  yield { leaseId };
  await new Promise(() => {});
}

describe('a deadline', () => {
  it('is never taken for the good end of a stream, whichever side looks at its clock first', async () => {
    const headers = (ms: number) => ({ authorization: `Bearer ${token}`, 'grpc-timeout': `${ms}m` });
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) => rawCall(rig.grpc.address, WATCH, headers(100 + n))),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([String(Code.DeadlineExceeded)]));
    expect(new Set(rig.reports.map(({ code }) => code))).toEqual(new Set(['DEADLINE_EXCEEDED']));
  });

  it('is one too where the clock is set back meanwhile', async () => {
    const headers = { authorization: `Bearer ${token}`, 'grpc-timeout': '500m' };
    const calls = Array.from({ length: 40 }, () => rawCall(rig.grpc.address, WATCH, headers));
    await vi.waitFor(() => expect(rig.openStreams).toBe(40));
    const now = Date.now.bind(Date);
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => now() - 1_000);
    const answers = await Promise.all(calls).finally(() => clock.mockRestore());
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([String(Code.DeadlineExceeded)]));
    expect(new Set(rig.reports.map(({ code }) => code))).toEqual(new Set(['DEADLINE_EXCEEDED']));
  });

  it('ends a stream over HTTP as such', async () => {
    const body = Buffer.alloc(7);
    body.writeUInt32BE(2, 1);
    body.write('{}', 5);
    const answer = await fetch(rig.http.address + WATCH, {
      method: 'POST',
      body,
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/connect+json',
        'connect-timeout-ms': '100',
      },
    });
    expect(await answer.text()).toContain('"error":{"code":"deadline_exceeded"');
    expect(rig.reports.map(({ code }) => code)).toEqual(['DEADLINE_EXCEEDED']);
  });

  it.each(DOORS)('ends the waiting of who writes, and not the write: %s', async (door) => {
    const write = rig.store.writeBatch.bind(rig.store);
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    rig.store.writeBatch = async (...batch) => held.then(() => write(...batch));
    const tasks = rig.client(TaskService, door, token);
    const late = tasks.registerTask({ task: { id: 'late', groupId: 'mx' } }, { timeoutMs: 100 });
    await expect(late).rejects.toMatchObject({ code: Code.DeadlineExceeded });
    release();
    await expect.poll(() => tasks.getTask({ id: 'late' }).then(({ task }) => task?.revision)).toBe(1n);
  });

  it('ends a call whose work takes longer', async () => {
    const release = rig.holdReads();
    const list = '/taskdash.task.v1.TaskService/ListTasks';
    const authorization = `Bearer ${token}`;
    const grpc = await rawCall(rig.grpc.address, list, { authorization, 'grpc-timeout': '50m' });
    expect(grpc.status).toBe(String(Code.DeadlineExceeded));
    const http = await fetch(rig.http.address + list, {
      method: 'POST',
      body: '{}',
      headers: { authorization, 'content-type': 'application/json', 'connect-timeout-ms': '50' },
    });
    expect(await http.json()).toMatchObject({ code: 'deadline_exceeded' });
    expect(rig.reports.map(({ code }) => code)).toEqual(['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED']);
    release();
  });

  it('of more than a day is refused on both doors', async () => {
    const list = '/taskdash.task.v1.TaskService/ListTasks';
    const authorization = `Bearer ${token}`;
    const grpc = await rawCall(rig.grpc.address, list, { authorization, 'grpc-timeout': '25H' });
    expect(grpc.status).toBe(String(Code.InvalidArgument));
    expect(decodeURIComponent(grpc.headers['grpc-message'] as string)).toMatch(/^timeout \d{8}ms must be <= 86400000$/);
    const http = await fetch(rig.http.address + list, {
      method: 'POST',
      body: '{}',
      headers: { authorization, 'content-type': 'application/json', 'connect-timeout-ms': '90000000' },
    });
    expect(await http.json()).toMatchObject({
      code: 'invalid_argument',
      message: 'timeout 90000000ms must be <= 86400000',
    });
  });
});

describe('a stream that its caller leaves', () => {
  it.each(DOORS)('through %s is gone from the server', async (door) => {
    const cut = new AbortController();
    await opened(rig.client(TaskService, door, token).watchTasks({}, { signal: cut.signal }));
    expect([rig.feed.watchers, rig.openStreams]).toEqual([1, 1]);
    cut.abort();
    await expect.poll(() => [rig.feed.watchers, rig.openStreams]).toEqual([0, 0]);
    expect(rig.reports.map(({ code }) => code)).toEqual(['CANCELLED']);
  });

  it('is gone though it was in the middle of a beat', async () => {
    const { lease } = await rig.client(LeaseService, 'grpc', token).grantLease({});
    const cut = new AbortController();
    const beats = endlessBeats(lease?.id ?? '');
    await opened(rig.client(LeaseService, 'grpc', token).keepAlive(beats, { signal: cut.signal }));
    expect(rig.openStreams).toBe(1);
    cut.abort();
    await expect.poll(() => rig.openStreams).toBe(0);
  });
});

describe('a stream of beats', () => {
  let clock: ManualClock;
  let byHand: RpcRig;
  beforeEach(async () => {
    clock = new ManualClock();
    byHand = await RpcRig.start({ clock });
    await byHand.addUser('lena', { mx: 'manager' });
  });
  afterEach(async () => {
    const stopped = byHand.stop();
    clock.advance(2_000);
    await stopped;
  });

  /** Opens a stream; the returned function sends a beat and returns its answer. */
  async function beating(): Promise<() => Promise<unknown>> {
    const login = { username: 'lena', password: RIG_PASSWORD, issueToken: true };
    const session = (await byHand.client(AuthService, 'http').login(login)).token;
    const leases = byHand.client(LeaseService, 'grpc', session);
    const leaseId = (await leases.grantLease({})).lease?.id ?? '';
    const beats = new PassThrough({ objectMode: true });
    const answers = leases.keepAlive(beats as AsyncIterable<{ leaseId: string }>)[Symbol.asyncIterator]();
    return async () => {
      beats.write({ leaseId });
      return ((await answers.next()) as IteratorYieldResult<KeepAliveResponse>).value.lease?.id === leaseId;
    };
  }

  it('ends within seconds when its caller may no longer register', async () => {
    const beat = await beating();
    expect(await beat()).toBe(true);
    const lena = await byHand.identity.findUser('lena');
    await byHand.identity.saveUser({ ...(lena as NonNullable<typeof lena>), memberships: new Map() });
    clock.advance(2_000);
    await expect(beat()).rejects.toThrow('[permission_denied] user:lena may not register or update tasks.');
  });

  it('goes on while the database is away', async () => {
    const beat = await beating();
    expect(await beat()).toBe(true);
    byHand.identity.findSession = () => Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
    clock.advance(2_000);
    expect(await beat()).toBe(true);
  });
});

describe('a stop', () => {
  it('ends every stream with STOPPING, so that clients go elsewhere, long before the deadline', async () => {
    const { lease } = await rig.client(LeaseService, 'grpc', token).grantLease({});
    const streams = [
      ...(await Promise.all(DOORS.map(watch))),
      await opened(rig.client(LeaseService, 'grpc', token).keepAlive(endlessBeats(lease?.id ?? ''))),
      await opened(rig.client(Health, 'grpc').watch({})),
    ];
    const ends = streams.map(endOf);
    const startedMs = performance.now();
    await Promise.all([rig.grpc.stop(10_000), rig.http.stop(10_000)]);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    for (const end of await Promise.all(ends)) {
      expect(end).toBeInstanceOf(ConnectError);
      expect((end as ConnectError).code).toBe(Code.Unavailable);
      expect((end as ConnectError).findDetails(ErrorInfoSchema)[0]?.reason).toBe('STOPPING');
    }
    expect(rig.openStreams).toBe(0);
  });

  it('does not wait for a stream of reflection that nobody asks anything on', async () => {
    const asked = async function* () {
      yield { messageRequest: { case: 'listServices', value: '' } } as const;
      await new Promise(() => {});
    };
    const end = endOf(await opened(rig.client(ServerReflection, 'grpc').serverReflectionInfo(asked())));
    const startedMs = performance.now();
    await rig.grpc.stop(10_000);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    expect(((await end) as ConnectError).code).toBe(Code.Unavailable);
  });

  it.each(DOORS)('answers what was read before it: %s', async (door) => {
    const release = rig.holdReads();
    const answer = rig.client(TaskService, door, token).listTasks({});
    await expect.poll(() => rig.heldReads).toBe(1);
    const stopped = Promise.all([rig.grpc.stop(10_000), rig.http.stop(10_000)]);
    release();
    expect((await answer).totalSize).toBe(0);
    await stopped;
  });

  it('cuts what does not end by its deadline', async () => {
    const release = rig.holdReads();
    const calls = DOORS.map((door) =>
      rig
        .client(TaskService, door, token)
        .listTasks({})
        .then(
          () => 'OK',
          () => 'cut',
        ),
    );
    await expect.poll(() => rig.heldReads).toBe(3);
    const startedMs = performance.now();
    await Promise.all([rig.grpc.stop(200), rig.http.stop(200)]);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    expect(await Promise.all(calls)).toEqual(['cut', 'cut', 'cut']);
    release();
  });

  it('waits for no client that has left its stream unread, nor for one that keeps its connection open', async () => {
    const tasks = rig.client(TaskService, 'grpc', token);
    const { resumeToken } = (await opening(tasks.watchTasks({}))) as WatchTasksResponse;
    for (let n = 0; n < 6; n++) await tasks.registerTask({ task: { id: `unread-${n}`, groupId: 'mx' } });
    await opening(rig.client(TaskService, 'grpc', token).watchTasks({ resumeToken }));
    const keeper = connect({ port: Number(rig.grpc.address.split(':')[1]), allowHalfOpen: true });
    await once(keeper, 'connect');
    rig.feed.stop();
    const startedMs = performance.now();
    await rig.grpc.stop(10_000);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    keeper.destroy();
  });

  it('closes connections that are idle, or become so', async () => {
    await rig.client(TaskService, 'http', token).listTasks({});
    const startedMs = performance.now();
    await rig.http.stop(10_000);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
  });
});

describe('starting and stopping', () => {
  it('twice is the same as once', async () => {
    const [grpc, http] = [rig.grpc.address, rig.http.address];
    await rig.grpc.start({ host: '127.0.0.1', port: 0 });
    await rig.http.start({ host: '127.0.0.1', port: 0 });
    expect([rig.grpc.address, rig.http.address]).toEqual([grpc, http]);
    await Promise.all([rig.grpc.stop(100), rig.grpc.stop(100), rig.http.stop(100), rig.http.stop(100)]);
  });

  it('says which address is not to be had', async () => {
    const taken = { host: '127.0.0.1', port: Number(rig.grpc.address.split(':').at(-1)) };
    const { grpc, http } = RpcRig.unopened();
    await expect(grpc.start(taken)).rejects.toThrow(`127.0.0.1:${taken.port}`);
    await expect(http.start(taken)).rejects.toThrow(`127.0.0.1:${taken.port}`);
    await Promise.all([grpc.stop(0), http.stop(0)]);
  });
});
