import { afterEach, describe, expect, it, vi } from 'vitest';
import type { TcpxClient } from '../support/tcpx-client.js';
import { KeptLog } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';
import { findFrame, frame, heartbeatFrame, registerFrame, REQUEST, SEED_TASK } from '../support/tcpx-frames.js';
import { NotedMetrics, TcpxRig, until, type TcpxRigOptions } from '../support/tcpx-rig.js';

let rig: TcpxRig;
let clock: ManualClock;
afterEach(async () => {
  const stopped = rig.stop();
  // Harmless where the rig lives on the system's clock.
  clock.advance(10_000);
  await stopped;
});

async function start(options: TcpxRigOptions = {}): Promise<void> {
  clock = new ManualClock();
  rig = await TcpxRig.start(options);
}

/** A rig whose time only moves by `pass`. */
async function startByHand(options: TcpxRigOptions = {}): Promise<void> {
  clock = new ManualClock();
  rig = await TcpxRig.start({ clock, ...options });
}

/** Lets time pass, and the sockets be read on the way. */
async function pass(durationMs: number, stepMs = 250): Promise<void> {
  for (let elapsedMs = 0; elapsedMs < durationMs; elapsedMs += stepMs) {
    clock.advance(Math.min(stepMs, durationMs - elapsedMs));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Whether the connection is alive, as its client sees it. */
async function isAlive(client: TcpxClient): Promise<boolean> {
  return client.find('x').then(
    () => true,
    () => false,
  );
}

const half = registerFrame(SEED_TASK).subarray(0, 100);

describe('a frame that stays incomplete', () => {
  it.each([1, 3, 15, 100])('after %i bytes closes the connection after 30 seconds, no sooner', async (bytes) => {
    await startByHand();
    const client = await rig.connect();
    client.write(half.subarray(0, bytes));
    await until('it arrived', () => rig.metrics.of('bytes read') === bytes);
    await pass(29_750);
    expect(rig.server.size).toBe(1);
    await pass(750);
    await client.whenEnded();
    expect(rig.metrics.of('closed timeout')).toBe(1);
  });

  it('is not forgiven for every further byte', async () => {
    await startByHand();
    const client = await rig.connect();
    for (const byte of half.subarray(0, 59)) {
      client.write(Buffer.of(byte));
      await pass(500);
    }
    expect(rig.server.size).toBe(1);
    await pass(1_500);
    await client.whenEnded();
  });

  it('is forgiven when it is completed, however many follow', async () => {
    await startByHand();
    const client = await rig.connect();
    for (let round = 0; round < 10; round++) {
      client.write(heartbeatFrame().subarray(0, 7));
      await until('half is there', () => rig.metrics.of('bytes read') === round * 20 + 7);
      await pass(20_000);
      client.write(heartbeatFrame().subarray(7));
      await until('it is complete', () => rig.metrics.of('frame heartbeat') === round + 1);
    }
    await pass(60_000);
    expect(await isAlive(client)).toBe(true);
  });

  it('has its time from its own first byte, not from that of the one before it', async () => {
    await startByHand();
    const client = await rig.connect();
    const [beat, next] = [heartbeatFrame(), heartbeatFrame().subarray(0, 5)];
    client.write(beat.subarray(0, 5));
    await until('half is there', () => rig.metrics.of('bytes read') === 5);
    await pass(29_000);
    client.write(Buffer.concat([beat.subarray(5), next]));
    await until('the second has begun', () => rig.metrics.of('bytes read') === 25);
    await pass(29_000);
    expect(rig.server.size).toBe(1);
    await pass(1_500);
    await client.whenEnded();
  });

  it('is not blamed for a pause of the server', async () => {
    await startByHand();
    const client = await rig.connect();
    client.write(half);
    await until('it arrived', () => rig.metrics.of('bytes read') === half.length);
    clock.jump(600_000);
    await pass(1_000);
    client.write(registerFrame(SEED_TASK).subarray(100));
    expect((await client.next()).body.errid).toBe(0);
  });

  it('counts while it is skipped for its contradicting lengths, too', async () => {
    await startByHand();
    const client = await rig.connect();
    client.write(frame(REQUEST, null, Buffer.alloc(50), { headerLength: 1 }).subarray(0, 40));
    await until('it arrived', () => rig.metrics.of('bytes read') === 40);
    await pass(30_500);
    await client.whenEnded();
  });

  it('may not hold more memory than all connections have for that, unless it holds little', async () => {
    const log = new KeptLog();
    await start({ log, limits: { maxIncompleteBytes: 1_100_000, maxConnections: 100 } });
    const [small, first, second] = [await rig.connect(), await rig.connect(), await rig.connect()];
    const large = frame(REQUEST, { RequestID: 'Find' }, Buffer.alloc(900_000, ' '));
    first.write(large.subarray(0, 800_000));
    await until('the first is held', () => rig.metrics.of('bytes read') === 800_000);
    second.write(large.subarray(0, 800_000));
    await second.whenEnded();
    small.write(findFrame('x').subarray(0, 40));
    small.write(findFrame('x').subarray(40));
    expect((await small.next()).body.errid).toBe(1002);
    first.write(large.subarray(800_000));
    expect((await first.next()).body.errid).toBe(1000);
    expect(rig.metrics.of('closed memory')).toBe(1);
    expect(log.lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
  });

  it('gives its memory back when it is complete, and when its connection ends', async () => {
    await start({ limits: { maxIncompleteBytes: 1_100_000, maxConnections: 100 } });
    const large = frame(REQUEST, { RequestID: 'Find' }, Buffer.alloc(900_000, ' '));
    for (let round = 1; round <= 3; round++) {
      const [cut, whole] = [await rig.connect(), await rig.connect()];
      const before = rig.metrics.of('bytes read');
      cut.write(large.subarray(0, 800_000));
      await until('it is held', () => rig.metrics.of('bytes read') === before + 800_000);
      await cut.close();
      await until('it has gone', () => rig.server.size === round);
      await whole.writePieces([large.subarray(0, 800_000), large.subarray(800_000)]);
      expect((await whole.next()).body.errid).toBe(1000);
    }
    expect(rig.metrics.of('closed memory')).toBe(0);
  });
});

describe('a connection too many', () => {
  it('is accepted and closed at once, and counted; there is room again when one goes', async () => {
    await start({ limits: { maxConnections: 2 } });
    const first = await rig.connect();
    const second = await rig.connect();
    expect(await isAlive(first)).toBe(true);
    await rig.connect().then((third) => third.whenEnded());
    expect(rig.metrics.of('refused too_many_connections')).toBe(1);
    expect(rig.sessions.opened).toHaveLength(2);
    await second.close();
    await until('one has gone', () => rig.server.size === 1);
    expect(await isAlive(await rig.connect())).toBe(true);
  });

  it('from one address leaves room for other addresses', async () => {
    await start({ limits: { maxConnectionsPerAddress: 2 } });
    const [first, second] = [await rig.connect(), await rig.connect()];
    expect(await isAlive(first)).toBe(true);
    await rig.connect().then((third) => third.whenEnded());
    await second.close();
    await until('the second has gone', () => rig.server.size === 1);
    expect(await isAlive(await rig.connect())).toBe(true);
    await rig.connect().then((third) => third.whenEnded());
    expect(rig.metrics.of('refused too_many_from_address')).toBe(2);
    expect(await isAlive(await rig.connect({ localAddress: '127.0.0.2' }))).toBe(true);
    await first.close();
    await until('the first has gone', () => rig.server.size === 2);
    expect(await isAlive(await rig.connect())).toBe(true);
  });
});

describe('an address that is not allowed', () => {
  it('is closed at once, and counted', async () => {
    await start({ limits: { allow: ['127.0.0.2', '10.0.0.0/8'] } });
    await rig.connect().then((client) => client.whenEnded());
    expect(rig.metrics.of('refused address_not_allowed')).toBe(1);
    expect(await isAlive(await rig.connect({ localAddress: '127.0.0.2' }))).toBe(true);
  });

  it('is judged without the prefix that IPv4 wears on an IPv6 socket', async () => {
    await start({ host: '::ffff:127.0.0.1', limits: { allow: ['127.0.0.0/8'] } });
    const client = await rig.connect();
    expect(await isAlive(client)).toBe(true);
    expect(rig.sessions.opened[0]?.address).toBe('127.0.0.1');
  });
});

describe('requests that wait for their answers', () => {
  it('are taken up to the limit; the others follow in order', async () => {
    await start({ limits: { maxUnanswered: 8 } });
    const client = await rig.connect();
    rig.store.pause('reads');
    const replies = client.pipeline(Array.from({ length: 100 }, (_, index) => findFrame(`task-${index}`)));
    await until('the limit is reached', () => rig.metrics.of('frame find') === 8);
    await rig.connect().then((other) => other.register(SEED_TASK));
    expect(rig.metrics.of('frame find')).toBe(8);
    rig.store.resume();
    expect((await replies).map(({ body }) => body.id)).toEqual(
      Array.from({ length: 100 }, (_, index) => `task-${index}`),
    );
  });

  it('may be as large as the limit together, and one may be larger', async () => {
    await start({ limits: { maxUnansweredBytes: 10_000 } });
    const client = await rig.connect();
    rig.store.pause('reads');
    const ballast = 'b'.repeat(20_000);
    const large = (seq: number) => frame(REQUEST, { RequestID: 'Find', seq }, { id: 'x', ballast });
    const replies = client.pipeline([large(0), large(1), large(2)]);
    await until('one is taken', () => rig.metrics.of('frame find') === 1);
    await rig.connect().then((other) => other.register(SEED_TASK));
    expect(rig.metrics.of('frame find')).toBe(1);
    rig.store.resume();
    expect((await replies).map(({ header }) => header['seq'])).toEqual([0, 1, 2]);
  });

  it('keep their session alive meanwhile: its signs of life cannot be read', async () => {
    await startByHand({ limits: { maxUnanswered: 1 } });
    const client = await rig.connect();
    rig.store.pause('reads');
    const replies = client.pipeline([findFrame('a'), heartbeatFrame(), findFrame('b')].slice(0, 1));
    client.write(Buffer.concat([heartbeatFrame(), findFrame('b')]));
    await until('the first is taken', () => rig.metrics.of('frame find') === 1);
    const session = rig.sessions.opened[0];
    const beats = session?.beats ?? 0;
    await pass(3_000);
    expect(session?.beats).toBeGreaterThanOrEqual(beats + 10);
    rig.store.resume();
    await replies;
    await client.next();
    const afterwards = session?.beats ?? 0;
    await pass(3_000);
    expect(session?.beats).toBe(afterwards);
  });
});

describe('frames that come many at once', () => {
  it('are taken some in each turn of the loop, so that nobody else waits for all of them', async () => {
    await startByHand();
    const { metrics } = rig;
    vi.spyOn(metrics, 'frame').mockImplementation((kind) => {
      NotedMetrics.prototype.frame.call(metrics, kind);
      clock.advance(1 / 8);
    });
    const clients = await Promise.all(Array.from({ length: 3 }, () => rig.connect()));
    for (const client of clients)
      client.write(Buffer.concat(Array.from({ length: 2_000 }, () => frame(REQUEST, null))));
    let [taken, mostInATurn] = [0, 0];
    while (taken < 6_000) {
      await new Promise((resolve) => setImmediate(resolve));
      mostInATurn = Math.max(mostInATurn, rig.metrics.of('frame malformed') - taken);
      taken = rig.metrics.of('frame malformed');
    }
    expect(mostInATurn).toBeLessThanOrEqual(40);
    for (const client of clients) expect(await client.take(2_000)).toHaveLength(2_000);
  });

  it('do not give an incomplete one behind them more time than it has', async () => {
    await startByHand();
    const client = await rig.connect();
    client.write(half);
    await until('it arrived', () => rig.metrics.of('bytes read') === half.length);
    for (let round = 1; round <= 50; round++) {
      await pass(500);
      client.write(Buffer.of(0x20));
      const flood = await rig.connect();
      flood.write(Buffer.concat(Array.from({ length: 500 }, heartbeatFrame)));
      await until('both are read', () => rig.metrics.of('frame heartbeat') === round * 500);
      await flood.close();
    }
    await pass(5_500);
    await client.whenEnded();
    expect(rig.metrics.of('closed timeout')).toBe(1);
  });
});

describe('when a batcher has no room', () => {
  it('writes wait for it, and none is refused or lost', async () => {
    // A quarter is left to doors that cannot wait.
    await start({ writeCapacity: 12 });
    const clients = await Promise.all(Array.from({ length: 5 }, () => rig.connect()));
    rig.store.pause('writes');
    const replies = clients.map((client, index) =>
      client.pipeline(Array.from({ length: 40 }, (_, deep) => registerFrame({ id: `task-${index}-${deep}` }))),
    );
    await until('the batcher is full', () => rig.batcher.pending === 9);
    expect(rig.metrics.of('frame register')).toBeLessThanOrEqual(9 + clients.length);
    rig.store.resume();
    expect((await Promise.all(replies)).flat().filter(({ body }) => body.errid !== 0)).toEqual([]);
    expect(rig.store.tasks.size).toBe(200);
  });

  it('finds wait for it, and none is refused or lost', async () => {
    await start({ readCapacity: 10 });
    const clients = await Promise.all(Array.from({ length: 5 }, () => rig.connect()));
    rig.store.pause('reads');
    const replies = clients.map((client) => client.pipeline(Array.from({ length: 40 }, () => findFrame('x'))));
    await until('the reader is full', () => rig.reader.pending === 10);
    rig.store.resume();
    expect((await Promise.all(replies)).flat().filter(({ body }) => body.errid !== 1002)).toEqual([]);
  });

  it('for writes, finds of other connections go on', async () => {
    await start({ writeCapacity: 1 });
    const [writer, reader] = [await rig.connect(), await rig.connect()];
    rig.store.pause('writes');
    const replies = writer.pipeline([registerFrame({ id: 'a' }), registerFrame({ id: 'b' }), findFrame('a')]);
    await until('the second waits', () => rig.metrics.of('frame register') === 2);
    expect((await reader.find('a')).body.errid).toBe(1002);
    rig.store.resume();
    expect((await replies).map(({ body }) => body.errid)).toEqual([0, 0, 0]);
  });

  it('for a write, what follows it on its connection is taken as soon as it has begun', async () => {
    await start({ writeCapacity: 1 });
    const [first, second] = [await rig.connect(), await rig.connect()];
    rig.store.pause('writes');
    const held = first.register({ id: 'a' });
    await until('the batcher is full', () => rig.batcher.pending === 1);
    const replies = second.pipeline([registerFrame({ id: 'b' }), findFrame('c')]);
    await until('the second waits', () => rig.metrics.of('frame register') === 2);
    expect(rig.metrics.of('frame find')).toBe(0);
    rig.store.resume();
    rig.store.pause('writes');
    await held;
    await until('the find is taken', () => rig.metrics.of('frame find') === 1);
    expect(second.unclaimed).toBe(0);
    rig.store.resume();
    expect((await replies).map(({ body }) => body.errid)).toEqual([0, 1002]);
  });

  it('for too long, a write is refused with 1001, and the connection stays', async () => {
    await startByHand({ writeCapacity: 1, deadlineMs: 60_000, limits: { roomTimeoutMs: 5_000 } });
    const [first, second] = [await rig.connect(), await rig.connect()];
    rig.store.pause('writes');
    const held = first.register({ id: 'a' });
    await until('the batcher is full', () => rig.batcher.pending === 1);
    const refused = second.register({ id: 'b' });
    await until('the second waits', () => rig.metrics.of('frame register') === 2);
    await pass(5_250);
    expect((await refused).body).toMatchObject({ id: 'b', errid: 1001 });
    rig.store.resume();
    expect((await held).body.errid).toBe(0);
    expect((await second.register({ id: 'b' })).body.errid).toBe(0);
  });
});

describe('large requests of many connections', () => {
  const large = (id: string) => registerFrame({ id, description: '描'.repeat(8_000) });
  const limits = { maxRequestBytes: 200_000, maxConnections: 100 };

  it('are taken as far as there is room for all of them together, small ones too beside them, and none is lost', async () => {
    await start({ limits });
    const [small, ...clients] = await Promise.all(Array.from({ length: 6 }, () => rig.connect()));
    rig.store.pause('writes');
    const replies = clients.map((client, n) =>
      client.pipeline(Array.from({ length: 10 }, (_, deep) => large(`task-${n}-${deep}`))),
    );
    expect(await settled(() => rig.metrics.of('frame register'))).toBeLessThanOrEqual(6);
    const reply = small?.register(SEED_TASK);
    await until('the small one is taken', () => rig.batcher.pending > 0 && rig.metrics.of('frame register') === 6);
    rig.store.resume();
    expect((await Promise.all(replies)).flat().filter(({ body }) => body.errid !== 0)).toEqual([]);
    expect((await reply)?.body.errid).toBe(0);
    expect(rig.store.tasks.size).toBe(51);
  });

  it('count for as long as they are under way, also when their connection is gone', async () => {
    await start({ limits });
    rig.store.pause('writes');
    for (let round = 0; round < 4; round++) {
      const client = await rig.connect();
      client.write(Buffer.concat(Array.from({ length: 5 }, (_, deep) => large(`task-${round}-${deep}`))));
      await settled(() => rig.metrics.of('bytes read'));
      await client.reset();
    }
    expect(rig.metrics.of('frame register')).toBeLessThanOrEqual(5);
    rig.store.resume();
    const client = await rig.connect();
    expect((await client.ask(large('last'))).body.errid).toBe(0);
  });
});

describe('what is read while its connection is held', () => {
  it('counts against the memory of what is not taken', async () => {
    await start({ limits: { maxUnanswered: 1, maxIncompleteBytes: 50_000, maxConnections: 20 } });
    rig.store.pause('reads');
    const clients = await Promise.all(Array.from({ length: 5 }, () => rig.connect()));
    for (const client of clients) client.write(Buffer.concat(Array.from({ length: 1_000 }, () => findFrame('x'))));
    await until('some are closed', () => rig.metrics.of('closed memory') > 0);
    rig.store.resume();
    expect(await isAlive(await rig.connect())).toBe(true);
  });
});

describe('a client that never reads', () => {
  it('what its requests have in their headers counts, whatever they ask for', async () => {
    await start();
    const [client, other] = [await rig.connect(), await rig.connect()];
    client.stopReading();
    await sendAsManyAsItTakes(client, frame(REQUEST, { RequestID: 'Nope', x: 'x'.repeat(8_000) }), 5_000);
    const bytes = (await settled(() => rig.metrics.of('frame malformed'))) * 8_000;
    expect(rig.metrics.of('bytes written')).toBeGreaterThan(bytes - 400_000);
    expect(bytes).toBeLessThan(20_000_000);
    expect((await other.find('x')).body.errid).toBe(1002);
  });

  it('is read no further once its replies pile up; memory stays bounded and others are served', async () => {
    await start();
    const [client, other] = [await rig.connect(), await rig.connect()];
    await other.register({ ...SEED_TASK, description: 'd'.repeat(8_000) });
    client.stopReading();
    const before = process.memoryUsage();
    await sendAsManyAsItTakes(client, findFrame(SEED_TASK.id), 200_000);
    const taken = await settled(() => rig.metrics.of('frame find'));
    expect(taken).toBeGreaterThan(64);
    expect(taken).toBeLessThan(20_000);
    const after = process.memoryUsage();
    expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(64 * 1024 * 1024);
    expect((await other.find(SEED_TASK.id)).body.errid).toBe(0);
    const session = rig.sessions.opened[0];
    const beats = session?.beats;
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(session?.beats).toBe(beats);
  });

  it('is served on as soon as it reads', async () => {
    await start({ limits: { maxUnreadReplyBytes: 20_000 } });
    const client = await rig.connect();
    await client.register({ ...SEED_TASK, description: 'd'.repeat(8_000) });
    client.stopReading();
    client.write(Buffer.concat(Array.from({ length: 3_000 }, () => findFrame(SEED_TASK.id))));
    expect(await settled(() => rig.metrics.of('frame find'))).toBeLessThan(3_000);
    client.socket.resume();
    expect((await client.take(3_000)).every(({ body }) => body.errid === 0)).toBe(true);
  });
});

describe('clients that never read, however many', () => {
  /** As many connections ask for a record and take no reply. */
  async function greedy(count: number, limits: TcpxRigOptions['limits']) {
    await start({ limits: { maxReplyBytes: 512 * 1024, stalledReplyMs: 300, ...limits } });
    const honest = await rig.connect();
    await honest.register({ ...SEED_TASK, description: '长'.repeat(8_000) });
    const clients = await Promise.all(Array.from({ length: count }, () => rig.connect()));
    for (const client of clients) {
      client.stopReading();
      client.write(Buffer.concat(Array.from({ length: 2_000 }, () => findFrame(SEED_TASK.id))));
    }
    return honest;
  }

  it(
    'hold no more together than one bound, then those are cut off who take nothing, and others are served',
    { timeout: 60_000 },
    async () => {
      const honest = await greedy(8, {});
      await until('room is made', () => rig.metrics.of('closed memory') > 0, 30_000);
      expect((await honest.find(SEED_TASK.id)).body.errid).toBe(0);
      await until('all of them are cut off', () => rig.metrics.of('closed memory') === 8, 30_000);
      expect((await honest.find(SEED_TASK.id)).body.errid).toBe(0);
    },
  );

  it('hold no more with what they repeat in headers: large replies wait, and ordinary ones do not', async () => {
    await start({ limits: { maxReplyBytes: 1_000_000, maxConnections: 100, stalledReplyMs: 600_000 } });
    const clients = await Promise.all(Array.from({ length: 20 }, () => rig.connect()));
    for (const client of clients) {
      client.stopReading();
      const header = { RequestID: 'Nope', x: 'x'.repeat(8_000) };
      client.write(Buffer.concat(Array.from({ length: 1_500 }, () => frame(REQUEST, header))));
    }
    await settled(() => rig.metrics.of('frame malformed'));
    const [honest, large] = [await rig.connect(), await rig.connect()];
    large.write(frame(REQUEST, { RequestID: 'Nope', x: 'y'.repeat(5_000) }));
    expect((await honest.register(SEED_TASK)).body.errid).toBe(0);
    expect((await honest.ask(frame(REQUEST, { RequestID: 'Nope' }))).body.errid).toBe(1000);
    await settled(() => rig.metrics.of('frame malformed'));
    expect(large.unclaimed).toBe(0);
    for (const client of clients) await client.close();
    expect((await large.next()).body.errid).toBe(1000);
  });

  it('are left alone while there is room', async () => {
    const honest = await greedy(5, { maxReplyBytes: 1e9 });
    await settled(() => rig.metrics.of('frame find'));
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(rig.metrics.of('closed memory')).toBe(0);
    expect((await honest.find(SEED_TASK.id)).body.errid).toBe(0);
  });

  it('are read less far when their replies are known to be large', async () => {
    await start({ limits: { maxUnreadReplyBytes: 64 * 1024 } });
    const client = await rig.connect();
    await client.register({ ...SEED_TASK, description: '长'.repeat(8_000) });
    await client.find(SEED_TASK.id);
    const before = rig.metrics.of('frame find');
    rig.store.pause('reads');
    client.write(Buffer.concat(Array.from({ length: 64 }, () => findFrame(SEED_TASK.id))));
    expect((await settled(() => rig.metrics.of('frame find'))) - before).toBeLessThan(10);
    rig.store.resume();
    expect(await client.take(64)).toHaveLength(64);
  });
});

/** Sends copies of a frame until `count` are sent or the network takes no more for a while. */
async function sendAsManyAsItTakes(client: TcpxClient, bytes: Buffer, count: number): Promise<void> {
  const batch = Buffer.concat(Array.from({ length: 100 }, () => bytes));
  for (let sent = 0; sent < count; sent += 100) {
    if (client.socket.write(batch)) continue;
    const drained = await Promise.race([
      new Promise((resolve) => client.socket.once('drain', () => resolve(true))),
      new Promise((resolve) => setTimeout(() => resolve(false), 500)),
    ]);
    if (!drained) return;
  }
}

/** A value once it has not changed for a while. */
async function settled(read: () => number): Promise<number> {
  for (let value = read(); ; value = read()) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (read() === value) return value;
  }
}
