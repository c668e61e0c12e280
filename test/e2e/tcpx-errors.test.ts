import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { TASK_LIMITS, TASK_TEXT_FIELDS } from '../../server/domain/task.js';
import { KeptLog } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';
import {
  ERRMSG,
  findFrame,
  frame,
  heartbeatFrame,
  HEARTBEAT,
  REQUEST,
  registerFrame,
  SEED_TASK,
} from '../support/tcpx-frames.js';
import { TcpxRig, until } from '../support/tcpx-rig.js';

const FIND = { RequestID: 'Find' };
const REGISTER = { RequestID: 'Register' };
const malformed = (id = '') => `{"id":${JSON.stringify(id)},"errid":1000,"errmsg":"请求格式不正确"}`;

describe('a malformed request is answered with 1000, and the connection stays', () => {
  let rig: TcpxRig;
  beforeEach(async () => {
    rig = await TcpxRig.start();
  });
  afterEach(() => rig.stop());

  const cases: [what: string, request: Buffer, id: string, header: string][] = [
    ['no body', frame(REQUEST, FIND), '', '{"RequestID":"Find"}'],
    ['a body that is no JSON', frame(REQUEST, FIND, '{id:1}'), '', '{"RequestID":"Find"}'],
    ['a body that is no object', frame(REQUEST, FIND, '["a"]'), '', '{"RequestID":"Find"}'],
    ['a body of null', frame(REQUEST, FIND, 'null'), '', '{"RequestID":"Find"}'],
    [
      'a body that is not UTF-8',
      frame(REQUEST, FIND, Buffer.from('7b226964223a22ff227d', 'hex')),
      '',
      '{"RequestID":"Find"}',
    ],
    ['no id', frame(REQUEST, FIND, {}), '', '{"RequestID":"Find"}'],
    ['an empty id', frame(REQUEST, FIND, { id: '' }), '', '{"RequestID":"Find"}'],
    ['an id that is a number', frame(REQUEST, FIND, { id: 1234567 }), '', '{"RequestID":"Find"}'],
    ['an id with a NUL', frame(REQUEST, FIND, { id: 'a\0' }), '', '{"RequestID":"Find"}'],
    ['an id over its limit', frame(REQUEST, FIND, { id: 'x'.repeat(129) }), '', '{"RequestID":"Find"}'],
    ['half a surrogate pair', frame(REQUEST, FIND, '{"id":"\\ud83d"}'), '', '{"RequestID":"Find"}'],
    ['a name that is a number', frame(REQUEST, REGISTER, { id: 'a', name: 7 }), 'a', '{"RequestID":"Register"}'],
    ['an id of null', frame(REQUEST, REGISTER, { id: null, name: 'a' }), '', '{"RequestID":"Register"}'],
    ['a name with a NUL', frame(REQUEST, REGISTER, { id: 'a', name: 'b\0' }), 'a', '{"RequestID":"Register"}'],
    [
      'a name of half a surrogate pair',
      frame(REQUEST, REGISTER, '{"id":"a","name":"\\udc00"}'),
      'a',
      '{"RequestID":"Register"}',
    ],
    ['a header that is no JSON', frame(REQUEST, '{', { id: 'a' }), 'a', '{}'],
    ['a header that is a list', frame(REQUEST, '[]', { id: 'a' }), 'a', '{}'],
    ['a header that is a text', frame(REQUEST, '"Find"', { id: 'a' }), 'a', '{}'],
    ['a header that is not UTF-8', frame(REQUEST, Buffer.from('7b22ff223a317d', 'hex'), { id: 'a' }), 'a', '{}'],
    ['no header', frame(REQUEST, undefined, { id: 'a' }), 'a', '{}'],
    ['a header of null', frame(REQUEST, null, { id: 'a' }), 'a', '{}'],
    ['no RequestID', frame(REQUEST, { seq: 9 }, { id: 'a' }), 'a', '{"seq":9}'],
    ['an unknown RequestID', frame(REQUEST, { RequestID: 'Delete' }, { id: 'a' }), 'a', '{"RequestID":"Delete"}'],
    ['a RequestID that is a number', frame(REQUEST, { RequestID: 2 }, { id: 'a' }), 'a', '{"RequestID":2}'],
    ['a body length beyond the frame', frame(REQUEST, FIND, { id: 'a' }, { bodyLength: 0x7fffffff }), '', '{}'],
    ['a header length beyond the frame', frame(REQUEST, FIND, { id: 'a' }, { headerLength: 0xffffffff }), '', '{}'],
    ['lengths short of the frame', frame(REQUEST, FIND, { id: 'a' }, { bodyLength: 2 }), '', '{}'],
  ];

  it.each(cases)('%s', async (_what, request, id, header) => {
    const client = await rig.connect();
    const reply = await client.ask(request);
    expect(reply).toMatchObject({ messageId: REQUEST, bodyText: malformed(id), headerText: header });
    expect((await client.find('x')).body.errid).toBe(1002);
    expect(rig.store.batches).toEqual([]);
    expect(rig.metrics.of('error 1000')).toBe(1);
    expect(rig.sessions.opened[0]?.beats).toBe(2);
  });

  it.each(cases)('%s, byte by byte', async (_what, request, id, header) => {
    const client = await rig.connect();
    await client.writePieces([...request].map((byte) => Buffer.of(byte)));
    expect(await client.next()).toMatchObject({ bodyText: malformed(id), headerText: header });
  });

  it.each(TASK_TEXT_FIELDS)('a %s over its limit', async (field) => {
    const client = await rig.connect();
    const tooLong = '界'.repeat(TASK_LIMITS[field] + 1);
    expect((await client.register({ ...SEED_TASK, [field]: tooLong })).bodyText).toBe(malformed(SEED_TASK.id));
    expect((await client.register({ ...SEED_TASK, [field]: tooLong.slice(1) })).body.errid).toBe(0);
  });

  it('a contradiction of lengths repeats the message id, and is not answered to a heartbeat', async () => {
    const client = await rig.connect();
    client.write(frame(HEARTBEAT, null, undefined, { bodyLength: 5 }));
    const reply = await client.ask(frame(-77, null, undefined, { bodyLength: 5 }));
    expect(reply).toMatchObject({ messageId: -77, bodyText: malformed() });
    expect(rig.metrics.of('frame malformed')).toBe(2);
  });
});

describe('a length that cannot be right', () => {
  let rig: TcpxRig;
  beforeEach(async () => {
    rig = await TcpxRig.start();
  });
  afterEach(() => rig.stop());

  it.each([0, 11, 1024 * 1024 + 1, 0x7fffffff, 0xffffffff])(
    'of %i is answered with 1000, then the connection is closed',
    async (length) => {
      const client = await rig.connect();
      client.write(frame(REQUEST, FIND, { id: 'a' }, { length }));
      expect(await client.next()).toMatchObject({ messageId: REQUEST, headerText: '{}', bodyText: malformed() });
      await client.whenEnded();
      await until('the server has closed', () => rig.server.size === 0);
      expect(rig.metrics.of('closed broken_stream')).toBe(1);
    },
  );

  it('is answered after what came before it, even while more is coming', async () => {
    const client = await rig.connect();
    const broken = frame(REQUEST, FIND, undefined, { length: 5 });
    const sent = client.writePieces([Buffer.concat([registerFrame(SEED_TASK), broken, Buffer.alloc(20_000_000)])]);
    expect((await client.take(2)).map(({ body }) => body.errid)).toEqual([0, 1000]);
    // A connection that is closed with unread input is reset, and may lose its last replies.
    await sent;
    expect(client.endedBy).toBe('the server ended the connection');
    await client.whenEnded();
  });

  it('allocates nothing', async () => {
    const clients = await Promise.all(Array.from({ length: 50 }, () => rig.connect()));
    const before = process.memoryUsage();
    await Promise.all(clients.map((client) => client.ask(Buffer.from('7fffffff', 'hex'))));
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(20_000_000);
    expect(after.rss - before.rss).toBeLessThan(100_000_000);
  });
});

describe('what means nothing here', () => {
  it('gets no answer and is counted', async () => {
    const rig = await TcpxRig.start();
    const client = await rig.connect();
    for (const messageId of [0, 1, 3, -1, 1391, 1393, 0x7fffffff])
      client.write(frame(messageId, FIND, { id: 'a', token: 't' }));
    expect((await client.find('x')).body.errid).toBe(1002);
    expect(rig.metrics.of('frame unknown')).toBe(7);
    // One more where the turn ended between them.
    expect(rig.sessions.opened[0]?.beats).toBeGreaterThanOrEqual(8);
    await rig.stop();
  });
});

describe('when the database', () => {
  it('is away, a request waits, then gets 1001; the connection stays and works when it is back', async () => {
    const clock = new ManualClock();
    const rig = await TcpxRig.start({ clock });
    const client = await rig.connect();
    rig.store.failure = new TaskDashError('STORAGE_UNAVAILABLE');
    const replies = client.pipeline([registerFrame(SEED_TASK), findFrame('other')]);
    await until('both were tried', () => rig.store.batches.length > 0 && rig.store.reads.length > 0);
    for (let elapsedMs = 0; elapsedMs < 5_000; elapsedMs += 500) {
      expect(client.unclaimed).toBe(0);
      clock.advance(500);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await replies).map(({ bodyText }) => bodyText)).toEqual([
      `{"id":"1234567","errid":1001,"errmsg":"${ERRMSG[1001]}"}`,
      `{"id":"other","errid":1001,"errmsg":"${ERRMSG[1001]}"}`,
    ]);
    rig.store.failure = undefined;
    clock.advance(1_000);
    expect((await client.register(SEED_TASK)).body.errid).toBe(0);
    expect((await client.find(SEED_TASK.id)).body.errid).toBe(0);
    await stopByHand(rig, clock);
  });

  it('comes back in time, the request succeeds', async () => {
    const clock = new ManualClock();
    const rig = await TcpxRig.start({ clock });
    const client = await rig.connect();
    rig.store.failure = new TaskDashError('STORAGE_UNAVAILABLE');
    const replies = client.pipeline([registerFrame(SEED_TASK), findFrame('other')]);
    await until('both were tried', () => rig.store.batches.length > 0 && rig.store.reads.length > 0);
    rig.store.failure = undefined;
    await until(
      'both are answered',
      () => (clock.advance(100), client.unclaimed === 0 && rig.batcher.pending + rig.reader.pending === 0),
    );
    expect((await replies).map(({ body }) => body.errid)).toEqual([0, 1002]);
    await stopByHand(rig, clock);
  });

  it.each([
    ['refuses', new TaskDashError('STORAGE_REFUSED'), 'warn'],
    ['breaks in a way that nobody expected', new Error('surprise'), 'error'],
  ])('%s, the request gets 1001, the log tells why, and the connection stays', async (_what, failure, level) => {
    const log = new KeptLog();
    const rig = await TcpxRig.start({ log });
    const client = await rig.connect();
    rig.store.failure = failure;
    expect((await client.pipeline([registerFrame(SEED_TASK), findFrame('a')])).map(({ body }) => body.errid)).toEqual([
      1001, 1001,
    ]);
    expect(log.lines.filter((line) => line.level === level)).toHaveLength(2);
    rig.store.failure = undefined;
    expect((await client.register(SEED_TASK)).body.errid).toBe(0);
    expect(rig.metrics.of('error 1001')).toBe(2);
    await rig.stop();
  });
});

describe('an accident on one connection', () => {
  it('is quiet and harms no other', async () => {
    const log = new KeptLog();
    const rig = await TcpxRig.start({ log });
    const witness = await rig.connect();
    for (let round = 0; round < 20; round++) {
      const client = await rig.connect();
      client.write(Buffer.concat([heartbeatFrame(), registerFrame(SEED_TASK), findFrame('a'), Buffer.of(0, 0)]));
      await client.reset();
    }
    await until('all are gone', () => rig.server.size === 1);
    expect((await witness.register(SEED_TASK)).body.errid).toBe(0);
    expect(log.lines.filter((line) => line.level !== 'debug')).toEqual([]);
    await rig.stop();
  });

  it('of our own making while it ends is told in the log, and harms no other', async () => {
    const log = new KeptLog();
    const rig = await TcpxRig.start({ log });
    const [witness, client] = [await rig.connect(), await rig.connect()];
    const victim = rig.sessions.opened[1];
    if (!victim) throw new Error('no session');
    victim.close = () => {
      throw new Error('a defect');
    };
    await client.close();
    await until('it has gone', () => rig.server.size === 1);
    expect(log.lines.map((line) => line.level)).toContain('error');
    expect((await witness.register(SEED_TASK)).body.errid).toBe(0);
    await rig.stop();
  });

  it('of our own making closes it, is told in the log, and harms no other', async () => {
    const log = new KeptLog();
    const rig = await TcpxRig.start({ log });
    const [witness, client] = [await rig.connect(), await rig.connect()];
    const victim = rig.sessions.opened[1];
    if (!victim) throw new Error('no session');
    victim.heartbeat = () => {
      throw new Error('a defect');
    };
    client.heartbeat();
    await client.whenEnded();
    expect(log.lines.map((line) => line.level)).toEqual(['error']);
    expect(rig.metrics.of('closed failed')).toBe(1);
    witness.heartbeat();
    expect((await witness.register(SEED_TASK)).body.errid).toBe(0);
    await rig.stop();
  });
});

/** Stops a rig whose clock only moves by hand. */
async function stopByHand(rig: TcpxRig, clock: ManualClock): Promise<void> {
  const stopped = rig.stop();
  clock.advance(10_000);
  await stopped;
}
