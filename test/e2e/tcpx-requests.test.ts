import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ERRMSG,
  findFrame,
  frame,
  GOLDEN_FRAMES,
  HEARTBEAT,
  heartbeatFrame,
  registerFrame,
  REQUEST,
  SEED_TASK,
  updateFrame,
} from '../support/tcpx-frames.js';
import { TcpxRig, until } from '../support/tcpx-rig.js';

const REGISTERED = '{"id":"1234567","errid":0,"errmsg":"正确"}';
const FOUND = JSON.stringify({ ...SEED_TASK, errid: 0, errmsg: ERRMSG[0] });
const UNKNOWN = '{"id":"1234567","errid":1002,"errmsg":"不存在该任务id"}';

let rig: TcpxRig;
beforeEach(async () => {
  rig = await TcpxRig.start();
});
afterEach(() => rig.stop());

describe('Register, Update and Find', () => {
  it('store a record as sent and give it back to the byte', async () => {
    const client = await rig.connect();
    expect((await client.register(SEED_TASK)).bodyText).toBe(REGISTERED);
    expect((await client.find(SEED_TASK.id)).bodyText).toBe(FOUND);
    expect((await client.update({ id: SEED_TASK.id, status: 'finish', stop_time: '2020.07.01' })).bodyText).toBe(
      REGISTERED,
    );
    const changed = { ...SEED_TASK, status: 'finish', stop_time: '2020.07.01', errid: 0, errmsg: ERRMSG[0] };
    expect((await client.find(SEED_TASK.id)).bodyText).toBe(JSON.stringify(changed));
  });

  it('answer after the commit, not before', async () => {
    const client = await rig.connect();
    rig.store.pause('writes');
    const reply = client.register(SEED_TASK);
    await until('the write is under way', () => rig.store.batches.length === 1);
    await rig.connect().then((other) => other.find('x'));
    expect(client.unclaimed).toBe(0);
    rig.store.resume();
    expect((await reply).body.errid).toBe(0);
  });

  it('let a registration replace the record of the same id', async () => {
    const client = await rig.connect();
    await client.register(SEED_TASK);
    await client.register({ id: SEED_TASK.id, name: 'again' });
    const { body } = await client.find(SEED_TASK.id);
    expect(body).toMatchObject({ name: 'again', url: '', user: '', status: 'running' });
  });

  it.each([undefined, ''])('take the status %j of a registration as running', async (status) => {
    const client = await rig.connect();
    await client.register({ ...SEED_TASK, ...(status === undefined ? { status: undefined as never } : { status }) });
    expect((await client.find(SEED_TASK.id)).body).toMatchObject({ status: 'running' });
  });

  it('keep what an update leaves out or sends empty', async () => {
    const client = await rig.connect();
    await client.register(SEED_TASK);
    const empty = {
      name: '',
      url: '',
      user: '',
      group_id: '',
      description: '',
      status: '',
      start_time: '',
      stop_time: '',
    };
    expect((await client.update({ id: SEED_TASK.id, ...empty })).body.errid).toBe(0);
    expect((await client.update({ id: SEED_TASK.id })).body.errid).toBe(0);
    expect((await client.find(SEED_TASK.id)).bodyText).toBe(FOUND);
  });

  it('say 1002 where an update or find names no task', async () => {
    const client = await rig.connect();
    expect((await client.update(SEED_TASK)).bodyText).toBe(UNKNOWN);
    expect((await client.find(SEED_TASK.id)).bodyText).toBe(UNKNOWN);
  });

  it.each([
    ['any status', { status: 'Läuft 运行 🚀' }],
    ['any time', { start_time: '2020-07-01T12:00:00.123456789+08:00', stop_time: 'soon' }],
    ['spaces, quotes, line ends and what Go escapes', { description: ' "a"\\\n\t<&>\u2028\u2029\u0001 ' }],
    ['texts at their limits', { name: '名'.repeat(256), url: 'u'.repeat(2048), description: '🚀'.repeat(8192) }],
  ])('keep %s as sent', async (_what, texts) => {
    const client = await rig.connect();
    await client.register({ ...SEED_TASK, ...texts });
    expect((await client.find(SEED_TASK.id)).body).toEqual({ ...SEED_TASK, ...texts, errid: 0, errmsg: ERRMSG[0] });
  });

  it('claim the task for the session of their connection, under the address of the client', async () => {
    const client = await rig.connect({ localAddress: '127.0.0.2' });
    await client.register(SEED_TASK);
    await client.find(SEED_TASK.id);
    const [session] = rig.sessions.opened;
    expect(session).toMatchObject({ address: '127.0.0.2', claims: [SEED_TASK.id] });
    expect(rig.store.tasks.get(SEED_TASK.id)).toMatchObject({
      addr: '127.0.0.2',
      sessionId: session?.id,
      cause: 'client',
    });
    const other = await rig.connect();
    await other.update({ id: SEED_TASK.id, name: 'moved' });
    expect(rig.store.tasks.get(SEED_TASK.id)).toMatchObject({
      addr: '127.0.0.1',
      sessionId: rig.sessions.opened[1]?.id,
    });
  });
});

describe('a reply', () => {
  it.each([
    ['nothing', undefined, '{}'],
    ['null', 'null', '{}'],
    ['an empty object', '{}', '{}'],
    ['an object, to the byte', '{ "RequestID" : "Find", "seq":1.0,\n"Router-Type":[null] }', undefined],
  ])('repeats message id and header where the header was %s', async (_what, header, expected) => {
    const client = await rig.connect();
    const reply = await client.ask(frame(REQUEST, header, { id: 'x' }));
    expect(reply.messageId).toBe(REQUEST);
    expect(reply.headerText).toBe(expected ?? header);
  });

  it('arrives in one piece, header and body together', async () => {
    await rig.connect().then((client) => client.register(SEED_TASK));
    const client = await rig.connect();
    const chunks: number[] = [];
    client.socket.on('data', (chunk) => chunks.push(chunk.length));
    await client.find(SEED_TASK.id);
    expect(chunks).toHaveLength(1);
  });

  it('leaves together with the others that are ready', async () => {
    const client = await rig.connect();
    rig.store.pause('reads');
    const replies = client.pipeline(Array.from({ length: 40 }, (_, index) => findFrame(`task-${index}`)));
    await until('all are asked', () => rig.reader.pending === 40);
    rig.store.resume();
    await replies;
    // The first find went alone, into the first lane or the second; the others share what came after it.
    expect(rig.metrics.of('times written')).toBeLessThanOrEqual(3);
  });
});

describe('golden requests', () => {
  const requests = GOLDEN_FRAMES.filter(({ what }) => /^(Register|Update|Find)/.test(what));

  it.each(requests)('$what: is answered alike whole and byte by byte', async ({ bytes }) => {
    const client = await rig.connect();
    await client.register(SEED_TASK);
    const whole = await client.ask(bytes);
    expect(whole.body).toMatchObject({ id: SEED_TASK.id, errid: 0 });
    await client.writePieces([...bytes].map((byte) => Buffer.of(byte)));
    expect(await client.next()).toEqual(whole);
  });

  it.each(requests)('$what: is answered alike at every split', async ({ bytes }) => {
    const client = await rig.connect();
    await client.register(SEED_TASK);
    const whole = await client.ask(bytes);
    for (let at = 1; at < bytes.length; at++) {
      await client.writePieces([bytes.subarray(0, at), bytes.subarray(at)]);
      expect(await client.next()).toEqual(whole);
    }
  });

  it('of a heartbeat are signs of life, and never answered', async () => {
    const client = await rig.connect();
    for (const { bytes } of GOLDEN_FRAMES.filter(({ what }) => what.startsWith('heartbeat'))) client.write(bytes);
    client.write(frame(HEARTBEAT, 'no header at all', 'no body at all'));
    expect((await client.find('x')).body.errid).toBe(1002);
    expect(client.unclaimed).toBe(0);
    expect(rig.sessions.opened[0]).toMatchObject({ heartbeats: 3, beats: 4 });
    expect(rig.metrics.of('frame heartbeat')).toBe(3);
  });
});

describe('pipelined requests', () => {
  it('are answered in their order, whatever each of them is', async () => {
    const client = await rig.connect();
    const requests = Array.from({ length: 300 }, (_, index) => {
      const id = `task-${index % 7}`;
      const header = { seq: index };
      if (index % 5 === 0) return registerFrame({ id, name: `${index}` }, header);
      if (index % 5 === 1) return frame(REQUEST, header, 'nonsense');
      return index % 2 === 0 ? updateFrame({ id, name: `${index}` }, header) : findFrame(id, header);
    });
    const replies = await client.pipeline(requests);
    expect(replies.map((reply) => reply.header['seq'])).toEqual(requests.map((_, index) => index));
  });

  it('about one id see each other in their order', async () => {
    const client = await rig.connect();
    const replies = await client.pipeline([
      findFrame('a'),
      registerFrame({ id: 'a', name: '1' }),
      findFrame('a'),
      updateFrame({ id: 'a', name: '2' }),
      updateFrame({ id: 'a', user: 'u' }),
      findFrame('a'),
      findFrame('b'),
      registerFrame({ id: 'a', name: '3' }),
      findFrame('a'),
    ]);
    const seen = replies.map(({ body }) => [body.errid, body['name'], body['user']]);
    const ok = [0, undefined, undefined];
    const none = [1002, undefined, undefined];
    expect(seen).toEqual([none, ok, [0, '1', ''], ok, ok, [0, '2', 'u'], none, ok, [0, '3', '']]);
  });

  it('to write one id take effect in their order, register and update mixed', async () => {
    const client = await rig.connect();
    for (let round = 0; round < 20; round++) {
      await client.pipeline([
        registerFrame({ id: 'a', name: 'first' }),
        updateFrame({ id: 'a', name: 'second', user: 'u' }),
        registerFrame({ id: 'a', name: 'third' }),
      ]);
      expect((await client.find('a')).body).toMatchObject({ name: 'third', user: '' });
    }
  });

  it('of 64 connections, 16 deep, share few transactions', async () => {
    const clients = await Promise.all(Array.from({ length: 64 }, () => rig.connect()));
    rig.store.pause('writes');
    const replies = clients.map((client, index) =>
      client.pipeline(Array.from({ length: 16 }, (_, deep) => registerFrame({ id: `task-${index}-${deep}` }))),
    );
    await until('all writes wait', () => rig.batcher.pending === 1024);
    rig.store.resume();
    const all = (await Promise.all(replies)).flat();
    expect(all.every(({ body }) => body.errid === 0)).toBe(true);
    expect(rig.store.tasks.size).toBe(1024);
    // Two began with what had come in the first turns, however little; a batch has 1,000 at most.
    expect(rig.store.batches.length).toBeLessThanOrEqual(4);
  });

  it('to find share few queries', async () => {
    const clients = await Promise.all(Array.from({ length: 32 }, () => rig.connect()));
    rig.store.pause('reads');
    const replies = clients.map((client) => client.pipeline(Array.from({ length: 16 }, () => findFrame('x'))));
    await until('all finds wait', () => rig.reader.pending === 512);
    rig.store.resume();
    await Promise.all(replies);
    expect(rig.store.reads.length).toBeLessThanOrEqual(5);
  });

  it('are all begun before the first is answered', async () => {
    const client = await rig.connect();
    rig.store.pause('reads');
    const replies = client.pipeline([findFrame('slow'), registerFrame({ id: 'other' })]);
    await until('the registration is stored', () => rig.store.tasks.has('other'));
    expect(client.unclaimed).toBe(0);
    rig.store.resume();
    expect((await replies).map(({ body }) => body.errid)).toEqual([1002, 0]);
  });
});

describe('heartbeats between requests', () => {
  it('change nothing', async () => {
    const client = await rig.connect();
    client.write(
      Buffer.concat([heartbeatFrame(), registerFrame(SEED_TASK), heartbeatFrame(), findFrame(SEED_TASK.id)]),
    );
    expect((await client.take(2)).map(({ bodyText }) => bodyText)).toEqual([REGISTERED, FOUND]);
  });
});
