import { createServer, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Principal } from '../../server/domain/access.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { TcpxServer } from '../../server/transports/tcpx/server.js';
import { ManualClock } from '../support/manual-clock.js';
import {
  AUTHENTICATE,
  findFrame,
  frame,
  HEARTBEAT,
  heartbeatFrame,
  registerFrame,
  REQUEST,
  SEED_TASK,
} from '../support/tcpx-frames.js';
import { TcpxClient } from '../support/tcpx-client.js';
import { NotedMetrics, NotedSessions, TcpxRig, until } from '../support/tcpx-rig.js';
import { silentLog } from '../support/silent-log.js';

describe('a session', () => {
  let rig: TcpxRig;
  beforeEach(async () => {
    rig = await TcpxRig.start();
  });
  afterEach(() => rig.stop());

  it('lives as long as its connection', async () => {
    const client = await rig.connect();
    await client.find('x');
    const [session] = rig.sessions.opened;
    expect(session).toMatchObject({ door: 'tcp', address: '127.0.0.1', closed: false });
    await client.close();
    await until('the session is closed', () => session?.closed === true);
    expect(rig.server.size).toBe(0);
    expect(rig.metrics.of('closed client')).toBe(1);
  });

  it('that expires closes its connection, so that the client notices', async () => {
    const client = await rig.connect();
    await client.find('x');
    rig.sessions.opened[0]?.expire();
    await client.whenEnded();
    expect(rig.metrics.of('closed silent')).toBe(1);
  });

  it('claims what its connection wrote, even when the client is gone before the commit', async () => {
    const client = await rig.connect();
    rig.store.pause('writes');
    client.write(registerFrame(SEED_TASK));
    await until('the write is under way', () => rig.store.batches.length === 1);
    await client.reset();
    await until('the connection is gone', () => rig.server.size === 0);
    rig.store.resume();
    await until('the claim is told', () => rig.sessions.opened[0]?.claims.length === 1);
    expect(rig.store.tasks.has(SEED_TASK.id)).toBe(true);
  });

  it('that is gone has its writes done that were taken, and no find that waited behind them', async () => {
    const client = await rig.connect();
    rig.store.pause('writes');
    const finds = Array.from({ length: 5 }, () => findFrame(SEED_TASK.id));
    const late = registerFrame({ ...SEED_TASK, description: 'late' });
    client.write(Buffer.concat([registerFrame(SEED_TASK), ...finds, late]));
    await until('all are taken', () => rig.metrics.of('frame register') === 2);
    await client.reset();
    await until('the connection is gone', () => rig.server.size === 0);
    rig.store.resume();
    await until('both are written', () => rig.store.tasks.get(SEED_TASK.id)?.description === 'late');
    expect(rig.store.reads).toEqual([]);
  });
});

describe('a client that shuts down its sending side', () => {
  let rig: TcpxRig;
  beforeEach(async () => {
    rig = await TcpxRig.start();
  });
  afterEach(() => rig.stop());

  it('still receives its replies, then the end; its session ends with the last answer', async () => {
    const client = await rig.connect();
    rig.store.pause('writes');
    client.write(Buffer.concat([registerFrame(SEED_TASK), findFrame(SEED_TASK.id), findFrame('x')]));
    client.halfClose();
    await until('all are taken', () => rig.metrics.of('frame find') === 2);
    await rig.connect().then((other) => other.find('y'));
    expect(rig.sessions.opened[0]?.closed).toBe(false);
    rig.store.resume();
    expect((await client.take(3)).map(({ body }) => body.errid)).toEqual([0, 0, 1002]);
    await client.whenEnded();
    expect(rig.sessions.opened[0]?.closed).toBe(true);
  });

  it('receives more replies than may be unanswered at once', async () => {
    const client = await rig.connect();
    client.write(Buffer.concat(Array.from({ length: 1_000 }, (_, seq) => findFrame('x', { seq }))));
    client.halfClose();
    const replies = await client.take(1_000);
    expect(replies.map(({ header }) => header['seq'])).toEqual(replies.map((_, index) => index));
    await client.whenEnded();
  });

  it('in the middle of a frame gets what came before it, and the end', async () => {
    const client = await rig.connect();
    client.write(Buffer.concat([findFrame('x'), findFrame('y').subarray(0, 30)]));
    client.halfClose();
    expect((await client.next()).body.errid).toBe(1002);
    await client.whenEnded();
    expect(client.unclaimed).toBe(0);
  });

  it('without having asked for anything gets the end', async () => {
    const client = await rig.connect();
    client.halfClose();
    await client.whenEnded();
    await until('the connection is gone', () => rig.server.size === 0);
  });

  it('and never takes its replies is cut off in the end', async () => {
    const clock = new ManualClock();
    const limits = { maxUnanswered: 10_000, maxUnansweredBytes: 1e9, maxUnreadReplyBytes: 1e9 };
    const slow = await TcpxRig.start({ clock, limits });
    const client = await slow.connect();
    await client.register({ ...SEED_TASK, description: 'd'.repeat(8_000) });
    client.stopReading();
    client.write(Buffer.concat(Array.from({ length: 1_500 }, () => findFrame(SEED_TASK.id))));
    client.halfClose();
    await until('all is answered', () => slow.sessions.opened[0]?.closed === true);
    await passTurns(clock, 29_000);
    expect(slow.server.size).toBe(1);
    await passTurns(clock, 2_000);
    expect(slow.server.size).toBe(0);
    expect(slow.metrics.of('closed timeout')).toBe(1);
    const stopped = slow.stop();
    await passTurns(clock, 3_000);
    await stopped;
  });
});

/** Lets time pass a quarter second a turn of the event loop. */
async function passTurns(clock: ManualClock, durationMs: number): Promise<void> {
  for (let elapsedMs = 0; elapsedMs < durationMs; elapsedMs += 250) {
    clock.advance(250);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('tokens, when they are asked for', () => {
  const HOLDER: Principal = {
    kind: 'token',
    name: 'builder',
    groupId: 'mx',
    scopes: ['register', 'read'],
    address: '127.0.0.1',
  };
  const checked: string[] = [];
  let accept = () => {};
  let rig: TcpxRig;
  beforeEach(async () => {
    checked.length = 0;
    const authenticateToken = async (token: string, address: string): Promise<Principal> => {
      checked.push(`${token} from ${address}`);
      await new Promise((resolve) => setImmediate(resolve));
      if (token === 'slow') await new Promise<void>((resolve) => (accept = resolve));
      if (token === 'away') throw new TaskDashError('STORAGE_UNAVAILABLE');
      if (token !== 'secret' && token !== 'slow') throw new TaskDashError('NOT_LOGGED_IN');
      return HOLDER;
    };
    rig = await TcpxRig.start({ server: { authenticateToken } });
  });
  afterEach(() => rig.stop());

  it('keep out whoever has shown none: 1003, and the connection stays', async () => {
    const client = await rig.connect();
    expect(await client.register(SEED_TASK)).toMatchObject({
      bodyText: '{"id":"1234567","errid":1003,"errmsg":"未授权"}',
      headerText: '{"RequestID":"Register"}',
    });
    expect((await client.find('x')).body.errid).toBe(1003);
    expect((await client.ask(frame(REQUEST, { RequestID: 'Find' }, 'nonsense'))).body).toMatchObject({
      id: '',
      errid: 1003,
    });
    expect(rig.store.batches).toEqual([]);
    expect(rig.store.reads).toEqual([]);
    expect(rig.metrics.of('frame unauthenticated')).toBe(3);
  });

  it('let nobody say much before them: 1003 to whatever is longer than 16 kB, none of it kept or read', async () => {
    const client = await rig.connect();
    const long = { ...SEED_TASK, description: 'd'.repeat(8_192), name: 'n'.repeat(10_000) };
    const [register, token] = [registerFrame(long), frame(AUTHENTICATE, null, { token: 't'.repeat(20_000) })];
    for (const piece of [register.subarray(0, 12_000), register.subarray(12_000)]) client.write(piece);
    expect(await client.next()).toMatchObject({ headerText: '{}', body: { id: '', errid: 1003 } });
    expect((await client.ask(token)).body).toMatchObject({ id: '', errid: 1000 });
    client.write(frame(HEARTBEAT, null, Buffer.alloc(20_000)));
    const replies = await client.pipeline([
      frame(AUTHENTICATE, null, { token: 'secret' }),
      registerFrame({
        ...long,
        name: 'n',
        url: 'ü'.repeat(2_048),
        user: 'ü'.repeat(256),
        description: 'ü'.repeat(8_192),
      }),
    ]);
    expect(replies.map(({ body }) => body.errid)).toEqual([0, 0]);
    expect(rig.metrics.of('frame unauthenticated')).toBe(1);
  });

  it('let their holder in, and what was pipelined behind them', async () => {
    const client = await rig.connect();
    const replies = await client.pipeline([
      frame(AUTHENTICATE, { seq: 1 }, { token: 'secret' }),
      registerFrame(SEED_TASK),
      findFrame(SEED_TASK.id),
    ]);
    expect(replies.map(({ messageId, body }) => [messageId, body.errid])).toEqual([
      [AUTHENTICATE, 0],
      [REQUEST, 0],
      [REQUEST, 0],
    ]);
    expect(replies[0]).toMatchObject({ headerText: '{"seq":1}', bodyText: '{"id":"","errid":0,"errmsg":"正确"}' });
    expect(checked).toEqual(['secret from 127.0.0.1']);
    expect(rig.store.batches[0]?.[0]).toMatchObject({ actor: 'token:builder', groups: ['mx'] });
  });

  it('bind their holder to its group', async () => {
    const client = await rig.connect();
    await client.authenticate('secret');
    expect((await client.register({ ...SEED_TASK, group_id: 'other' })).body).toMatchObject({
      id: SEED_TASK.id,
      errid: 1003,
    });
    expect((await client.register(SEED_TASK)).body.errid).toBe(0);
  });

  it.each([
    ['wrong', 1003],
    ['away', 1001],
  ])('that are %s are refused with %i, and others may follow', async (token, errid) => {
    const client = await rig.connect();
    expect((await client.authenticate(token)).body).toMatchObject({ id: '', errid });
    expect((await client.find('x')).body.errid).toBe(1003);
    expect((await client.authenticate('secret')).body.errid).toBe(0);
    expect((await client.find('x')).body.errid).toBe(1002);
    expect((await client.authenticate('wrong')).body.errid).toBe(1003);
    expect((await client.find('x')).body.errid).toBe(1002);
  });

  it.each([
    ['no body', undefined, null],
    ['no token', {}, null],
    ['a token that is a number', { token: 7 }, null],
    ['a header that is none', { token: 'secret' }, '[]'],
  ])('in a frame with %s are malformed', async (_what, body, header) => {
    const client = await rig.connect();
    expect((await client.ask(frame(AUTHENTICATE, header, body))).body).toMatchObject({ id: '', errid: 1000 });
    expect(checked).toEqual([]);
  });

  it.each(['secret', 'wrong'])(
    'hold up nothing once they are judged, %s or not, whatever waits before them',
    async (token) => {
      const client = await rig.connect();
      await client.authenticate('secret');
      rig.store.pause('reads');
      const replies = client.pipeline([findFrame('a'), frame(AUTHENTICATE, null, { token }), registerFrame(SEED_TASK)]);
      await until('the registration is stored', () => rig.store.tasks.has(SEED_TASK.id));
      expect(client.unclaimed).toBe(0);
      rig.store.resume();
      expect((await replies).map(({ body }) => body.errid)).toEqual([1002, token === 'secret' ? 0 : 1003, 0]);
    },
  );

  it('that are accepted after their connection has gone name no owner', async () => {
    const client = await rig.connect();
    client.write(frame(AUTHENTICATE, null, { token: 'slow' }));
    await until('it is being checked', () => checked.length === 1);
    await client.reset();
    await until('the connection has gone', () => rig.server.size === 0);
    accept();
    await new Promise((resolve) => setImmediate(resolve));
    expect(rig.sessions.opened).toMatchObject([{ closed: true, owner: undefined }]);
  });

  it('that end take with them what waits to be done in the name of their holder', async () => {
    const clock = new ManualClock();
    const shown: string[] = [];
    const authenticateToken = async (token: string): Promise<Principal> => {
      if (shown.push(token) > 1) throw new TaskDashError('NOT_LOGGED_IN');
      return Promise.resolve(HOLDER);
    };
    const brief = await TcpxRig.start({ clock, server: { authenticateToken } });
    const client = await brief.connect();
    await client.authenticate('brief');
    brief.store.pause('reads');
    client.write(Buffer.concat([findFrame(SEED_TASK.id), registerFrame(SEED_TASK)]));
    await until('both are taken', () => brief.metrics.of('frame register') === 1);
    clock.advance(2_000);
    await until('the connection has gone', () => brief.server.size === 0);
    brief.store.resume();
    await brief.stop();
    expect([brief.store.reads.length, brief.store.batches]).toEqual([1, []]);
  });

  it('decide whose session it is, and only their holder gets tasks back by beating', async () => {
    const client = await rig.connect();
    client.heartbeat();
    await client.find('x');
    const [session] = rig.sessions.opened;
    expect(session).toMatchObject({ beats: 2, heartbeats: 0, owner: undefined });
    await client.authenticate('secret');
    client.heartbeat();
    await client.find('x');
    expect(session).toMatchObject({ heartbeats: 1, closed: false, owner: 'token:builder@mx' });
    expect(rig.sessions.opened).toHaveLength(1);
  });
});

describe('stopping', () => {
  it('answers what was read, reads no more, and closes', async () => {
    const rig = await TcpxRig.start();
    const [busy, idle] = [await rig.connect(), await rig.connect()];
    await idle.find('x');
    rig.store.pause('writes');
    busy.write(Buffer.concat([registerFrame(SEED_TASK), findFrame(SEED_TASK.id)]));
    await until('both are taken', () => rig.metrics.of('frame find') === 2);
    const { address } = rig.server;
    const stopped = rig.server.stop(5_000);
    await idle.whenEnded();
    busy.write(registerFrame({ id: 'late' }));
    rig.store.resume();
    expect((await busy.take(2)).map(({ body }) => body.errid)).toEqual([0, 0]);
    await busy.whenEnded();
    await stopped;
    expect(rig.store.tasks.has('late')).toBe(false);
    expect(rig.metrics.of('closed stopping')).toBe(2);
    await expect(TcpxClient.connect(address)).rejects.toThrow('ECONNREFUSED');
    await rig.stop();
  });

  it('closes a crowd bit by bit, within half of the deadline', async () => {
    const clock = new ManualClock();
    const rig = await TcpxRig.start({ clock });
    const clients = await Promise.all(Array.from({ length: 500 }, () => rig.connect()));
    await until('all are there', () => rig.server.size === 500);
    let ended = 0;
    for (const client of clients) void client.whenEnded().then(() => ended++);
    const stopped = rig.server.stop(200);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ended).toBe(0);
    clock.advance(50);
    await until('some are closed', () => ended > 150);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ended).toBeLessThan(350);
    clock.advance(50);
    await until('all are closed', () => ended === 500);
    for (const client of clients) await client.close();
    await stopped;
    await rig.stop();
  });

  it('cuts off after the deadline whoever is not answered or does not go', async () => {
    const clock = new ManualClock();
    const rig = await TcpxRig.start({ clock });
    const client = await rig.connect();
    rig.store.pause('writes');
    client.write(registerFrame(SEED_TASK));
    await until('the write is under way', () => rig.store.batches.length === 1);
    const stopped = rig.server.stop(3_000);
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(2_999);
    await new Promise((resolve) => setImmediate(resolve));
    expect(rig.server.size).toBe(1);
    clock.advance(1);
    await stopped;
    expect(rig.server.size).toBe(0);
    await client.whenEnded();
    await rig.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  it('may be asked for twice, and before or without starting', async () => {
    const rig = await TcpxRig.start();
    const first = rig.server.stop(100);
    expect(rig.server.stop(5_000)).toBe(first);
    await first;
    await rig.stop();
    await new TcpxServer(rigless()).stop(100);
  });
});

describe('starting', () => {
  it('twice is starting once', async () => {
    const server = new TcpxServer(rigless());
    const first = server.start({ host: '127.0.0.1', port: 0 });
    expect(server.start({ host: '127.0.0.1', port: 0 })).toBe(first);
    await first;
    expect(server.address).toMatch(/^127\.0\.0\.1:\d+$/);
    await server.stop(100);
  });

  it('on IPv6 gives the address with brackets', async () => {
    const server = new TcpxServer(rigless());
    await server.start({ host: '::1', port: 0 });
    expect(server.address).toMatch(/^\[::1\]:\d+$/);
    await server.stop(100);
  });

  it('on a taken port fails with the reason', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const server = new TcpxServer(rigless());
    await expect(server.start({ host: '127.0.0.1', port: (taken.address() as AddressInfo).port })).rejects.toThrow(
      'EADDRINUSE',
    );
    await server.stop(100);
    await new Promise((resolve) => taken.close(resolve));
  });

  it('has no address before', () => {
    expect(() => new TcpxServer(rigless()).address).toThrow('does not listen');
  });

  it('with a list that names no address is refused', () => {
    expect(() => new TcpxServer({ ...rigless(), limits: { allow: ['everywhere'] } })).toThrow('"everywhere"');
  });
});

/** Options of a server that never gets as far as a request. */
function rigless() {
  const never = () => Promise.reject(new Error('never asked'));
  const free = () => Promise.resolve();
  const room = { hasRoom: true, whenRoom: free, hasRoomFor: () => true, whenRoomFor: free };
  return {
    registry: { register: never, update: never, get: never },
    room,
    readRoom: room,
    sessions: new NotedSessions(),
    metrics: new NotedMetrics(),
    log: silentLog,
    clock: new ManualClock(),
  };
}

describe('heartbeats', () => {
  it('by the thousand are read in bulk', async () => {
    const rig = await TcpxRig.start();
    const client = await rig.connect();
    client.write(Buffer.concat(Array.from({ length: 50_000 }, heartbeatFrame)));
    expect((await client.find('x')).body.errid).toBe(1002);
    expect(rig.sessions.opened[0]?.heartbeats).toBe(50_000);
    await rig.stop();
  });
});
