/** Streams whose caller loses the access while they are open: they end within seconds, and tell nothing after that. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { ConnectError } from '@connectrpc/connect';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService, type WatchTasksResponse } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { framed } from '../support/rpc-raw.js';
import { RIG_PASSWORD, RpcRig } from '../support/rpc-rig.js';
import { silentLog } from '../support/silent-log.js';

const WITHIN_MS = 5_000;
const DOORS = ['grpc', 'http'] as const;
const WATCH = '/taskdash.task.v1.TaskService/WatchTasks';

/** How a stream ended, and when: its first message has been taken. */
interface End {
  readonly reason: string;
  readonly atMs: number;
  readonly lastToldAtMs: number;
}

async function endOf(iterator: AsyncIterator<unknown>): Promise<End> {
  let lastToldAtMs = 0;
  const end = (reason: string) => ({ reason, atMs: performance.now(), lastToldAtMs });
  try {
    while (!(await iterator.next()).done) lastToldAtMs = performance.now();
    return end('OK');
  } catch (error) {
    return end(ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason ?? String(error));
  }
}

async function opened(stream: AsyncIterable<unknown>): Promise<AsyncIterator<unknown>> {
  const iterator = stream[Symbol.asyncIterator]();
  await iterator.next();
  return iterator;
}

/** A stream of one beat, and then none. */
async function* oneBeat(leaseId: string) {
  yield { leaseId };
  await new Promise(() => {});
}

describe('with a real database', () => {
  let app: TestApp;
  let writer: string;

  beforeAll(async () => {
    app = await startTestApp();
    writer = await app.addToken('mx');
  });
  afterAll(() => app.stop());

  async function sql(statement: string): Promise<void> {
    const client = new pg.Client({ connectionString: app.database.url });
    await client.connect();
    await client.query(statement);
    await client.end();
  }

  async function login(): Promise<string> {
    const request = { username: 'lena', password: TEST_PASSWORD, issueToken: true };
    return (await app.client(AuthService, 'http').login(request)).token;
  }

  it.each([
    ['a token was revoked', () => sql(`DELETE FROM service_token WHERE scopes = '{read,register}'`)],
    ['a token expired', () => sql(`UPDATE service_token SET expires_at = now() WHERE scopes = '{read,register}'`)],
    ['a user was disabled', () => sql('UPDATE app_user SET disabled = true')],
    ['the sessions of a user were ended', () => sql('DELETE FROM login_session')],
  ])('every stream is over soon after %s', async (what, revoke) => {
    await app.addUser('lena', { mx: 'manager' });
    await sql(`DELETE FROM service_token WHERE scopes = '{read,register}'`);
    const credential = what.includes('token') ? await app.addToken('mx', ['read', 'register']) : await login();
    const streams = DOORS.map((door) => opened(app.client(TaskService, door, credential).watchTasks({})));
    const leases = app.client(LeaseService, 'grpc', credential);
    const { lease } = await leases.grantLease({});
    streams.push(opened(leases.keepAlive(oneBeat(lease?.id ?? ''))));
    const ends = (await Promise.all(streams)).map(endOf);

    let isOver = false;
    const writing = (async () => {
      for (let n = 0; !isOver; n++)
        await app.client(TaskService, 'http', writer).registerTask({ task: { id: `t-${n % 10}`, groupId: 'mx' } });
    })();
    await revoke();
    const revokedAtMs = performance.now();
    const ended = await Promise.all(ends).finally(() => (isOver = true));
    await writing;
    for (const { reason, atMs, lastToldAtMs } of ended) {
      expect(reason).toBe('NOT_LOGGED_IN');
      expect(atMs - revokedAtMs).toBeLessThan(WITHIN_MS);
      expect(lastToldAtMs - revokedAtMs).toBeLessThan(WITHIN_MS);
    }
  });
});

describe('a reader who takes nothing', () => {
  let rig: RpcRig;
  let token: string;
  let logged: string[];

  beforeEach(async () => {
    logged = [];
    const note = (_details: object, message: string) => void logged.push(message);
    rig = await RpcRig.start({ log: { ...silentLog, warn: note, error: note } });
    token = await rig.token();
  });
  afterEach(() => rig.stop());

  /** More than the buffers of a connection take. */
  async function flood(): Promise<void> {
    const tasks = rig.client(TaskService, 'http', await rig.token('mx', ['register']));
    for (let batch = 0; batch < 8; batch++) {
      const records = Array.from({ length: 100 }, (_, n) => ({ id: `${batch}-${n}`, groupId: 'mx' }));
      await tasks.batchRegisterTasks({ tasks: records.map((task) => ({ ...task, description: '满'.repeat(8192) })) });
    }
  }

  async function revoked(): Promise<void> {
    const find = rig.identity.findTokenByHash.bind(rig.identity);
    rig.identity.findTokenByHash = async (hash) => {
      const found = await find(hash);
      return found?.scopes.includes('read') ? undefined : found;
    };
    const revokedAtMs = performance.now();
    await expect.poll(() => rig.openStreams, { timeout: 2 * WITHIN_MS, interval: 20 }).toBe(0);
    expect(performance.now() - revokedAtMs).toBeLessThan(WITHIN_MS);
  }

  /** The connection of a watch over HTTP that is not read any more. */
  async function unread(): Promise<Socket> {
    const [host, port] = rig.http.address.replace('http://', '').split(':');
    const socket = connect(Number(port), host);
    const body = framed(Buffer.from('{}'));
    const headers = { host, authorization: `Bearer ${token}`, 'content-type': 'application/connect+json' };
    const lines = Object.entries({ ...headers, 'content-length': body.length }).map((pair) => pair.join(': '));
    socket.write([`POST ${WATCH} HTTP/1.1`, ...lines, '', ''].join('\r\n'));
    socket.write(body);
    await once(socket, 'data');
    socket.pause();
    await flood();
    return socket;
  }

  it('over HTTP is hung up on', async () => {
    const socket = await unread();
    await revoked();
    socket.destroy();
  });

  it('over HTTP leaves nothing behind when it goes', async () => {
    (await unread()).destroy();
    await expect.poll(() => [rig.openStreams, rig.feed.watchers]).toEqual([0, 0]);
    expect(logged).toEqual([]);
  });

  it('over gRPC is told no more', async () => {
    const session = connectHttp2(`http://${rig.grpc.address}`);
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request({ ':method': 'POST', ':path': WATCH, ...headers });
    stream.end(framed(Buffer.alloc(0)));
    await once(stream, 'response');
    await flood();
    await revoked();
    session.destroy();
  });
});

it('a logout ends the streams of the session, however many guesses come from the same address', async () => {
  const rig = await RpcRig.start();
  await rig.addUser('lena', { mx: 'manager' });
  const request = { username: 'lena', password: RIG_PASSWORD, issueToken: true };
  const { token } = await rig.client(AuthService, 'http').login(request);
  const watches = await Promise.all(DOORS.map((door) => opened(rig.client(TaskService, door, token).watchTasks({}))));
  const ends = Promise.all(watches.map(endOf));

  let isOver = false;
  const refusals = new Set<string>();
  const guess = async () => {
    const madeUp = `tds_${randomBytes(32).toString('base64url')}`;
    const current = rig.client(AuthService, 'http', madeUp).getCurrentUser({});
    await current.catch((error: unknown) => refusals.add(ConnectError.from(error).message));
  };
  for (let n = 0; n < 30; n++) await guess();
  const guessing = (async () => {
    while (!isOver) await guess();
  })();
  await rig.client(AuthService, 'http', token).logout({});
  const outAtMs = performance.now();
  for (const { reason, atMs } of await ends.finally(() => (isOver = true))) {
    expect(reason).toBe('NOT_LOGGED_IN');
    expect(atMs - outAtMs).toBeLessThan(WITHIN_MS);
  }
  await guessing;
  expect([...refusals].join()).toContain('Too many tokens or sessions');
  await rig.stop();
});

it('an outage of the database ends no stream, and hides no change', async () => {
  const rig = await RpcRig.start({ recheckMs: 200 });
  const token = await rig.token();
  const tasks = rig.client(TaskService, 'grpc', token);
  const { lease } = await rig.client(LeaseService, 'grpc', token).grantLease({});
  const beats = await opened(rig.client(LeaseService, 'grpc', token).keepAlive(oneBeat(lease?.id ?? '')));
  const watches = await Promise.all(DOORS.map((door) => opened(rig.client(TaskService, door, token).watchTasks({}))));
  const find = rig.identity.findTokenByHash.bind(rig.identity);
  let refusals = 0;
  rig.identity.findTokenByHash = () => {
    refusals++;
    return Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
  };
  await expect.poll(() => refusals, { timeout: 10_000 }).toBeGreaterThan(5);
  rig.identity.findTokenByHash = find;
  await tasks.registerTask({ task: { id: 'after', groupId: 'mx' } });
  for (const watch of watches) {
    const { message } = ((await watch.next()) as IteratorYieldResult<WatchTasksResponse>).value;
    expect(message).toMatchObject({ case: 'change', value: { task: { id: 'after' } } });
  }
  expect(rig.openStreams).toBe(3);
  void beats.return?.();
  await rig.stop();
});
