import { EventEmitter } from 'node:events';
import type { Server, Socket } from 'node:net';
import { beforeEach, describe, expect, it } from 'vitest';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { MAX_WAITING_CONNECTIONS } from '../../server/transports/rpc/limits.js';
import { ManualClock } from '../support/manual-clock.js';

/** A connection as the system gives it to Node, which tells what becomes of it. */
class FakeConnection {
  isBegun = false;
  isRead = false;
  isClosed = false;
  reading = true;
  writeQueueSize = 0;

  constructor(public address: string | undefined) {}

  getpeername(peer: { address?: string }): number {
    if (this.address !== undefined) peer.address = this.address;
    return 0;
  }

  close(): void {
    this.isClosed = true;
  }

  readStart(): void {
    this.isRead = true;
  }

  readStop(): void {
    this.isRead = false;
  }
}

/** A server as Node has it: of what its handle accepts it makes sockets. */
class FakeServer extends EventEmitter {
  listening = true;
  readonly sockets = new Map<FakeConnection, Socket>();
  readonly errors: number[] = [];
  readonly _handle = {
    onconnection: (error: number, connection: FakeConnection | undefined) => {
      if (!connection) return void this.errors.push(error);
      const socket = Object.assign(new EventEmitter(), { _handle: connection }) as unknown as Socket;
      this.sockets.set(connection, socket);
      connection.isBegun = true;
      this.emit('connection', socket);
      if (connection.reading && connection.writeQueueSize === 0) connection.readStart();
    },
  };
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

let clock: ManualClock;
let turns: ReadingTurns;
let server: FakeServer;
let open: string[];
let admits: (address: string) => boolean;

beforeEach(() => {
  clock = new ManualClock();
  turns = new ReadingTurns(clock);
  open = [];
  admits = () => true;
  server = listen();
});

function listen(options: { isHttp2?: boolean } = {}): FakeServer {
  const listening = new FakeServer();
  const gate = {
    admits: (address: string) => admits(address) && open.push(address) > 0,
    onClosed: (address: string) => void open.splice(open.indexOf(address), 1),
  };
  turns.begin(listening as unknown as Server, gate, options);
  return listening;
}

function accept(address: string | undefined, by = server): FakeConnection {
  const connection = new FakeConnection(address);
  by._handle.onconnection(0, connection);
  return connection;
}

const crowd = (count: number) => Array.from({ length: count }, () => accept('10.0.0.1'));
const begun = (connections: readonly FakeConnection[]) => connections.filter(({ isBegun }) => isBegun).length;
const onWork = (connection: FakeConnection) => turns.onWork(server.sockets.get(connection));

/** Until nobody waits any more. */
async function lineEnds(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await nextTurn();
}

/** Connections that have been begun and are read. */
async function reading(...addresses: string[]): Promise<FakeConnection[]> {
  clock.advance(1_000);
  const connections = addresses.map((address) => accept(address));
  await lineEnds();
  return connections;
}

describe('a new connection', () => {
  it('is not even begun in the turn that accepts it', async () => {
    const connection = accept('10.0.0.1');
    expect(connection).toMatchObject({ isBegun: false, isRead: false });
    await nextTurn();
    expect(connection).toMatchObject({ isBegun: true, isRead: true });
  });

  it('is next when it comes alone, however many another address has sent', async () => {
    const many = crowd(2_000);
    const [alone, other] = [accept('10.0.0.2'), accept('2001:db8::1')];
    await nextTurn();
    expect(begun([alone, other])).toBe(2);
    expect(begun(many)).toBeLessThan(20);
  });

  it('waits while each turn accepts another one, but now and then some are begun', async () => {
    const many: FakeConnection[] = [];
    const acceptOne = async () => {
      many.push(accept('10.0.0.1'));
      await nextTurn();
    };
    for (let n = 0; n < 100; n++) await acceptOne();
    expect(begun(many)).toBe(1);
    clock.advance(25);
    const others = [accept('10.0.0.2'), accept('10.0.0.3')];
    await acceptOne();
    expect([begun(many), begun(others)]).toEqual([15, 2]);
    await nextTurn();
    expect(begun(many)).toBe(31);
  });

  it('waits so from when the turn ends in which others of the line went on, however long that was', async () => {
    const many = crowd(100);
    const acceptOne = async () => {
      many.push(accept('10.0.0.1'));
      await nextTurn();
    };
    await acceptOne();
    expect(begun(many)).toBe(16);
    clock.advance(30);
    await acceptOne();
    expect(begun(many)).toBe(16);
    clock.advance(24);
    await acceptOne();
    expect(begun(many)).toBe(16);
    clock.advance(1);
    await acceptOne();
    expect(begun(many)).toBe(32);
  });

  it('waits so also after a time in which nobody came', async () => {
    await reading('10.0.0.2');
    clock.advance(1_000);
    const many = crowd(100);
    await nextTurn();
    accept('10.0.0.1');
    await nextTurn();
    expect(begun(many)).toBe(16);
  });

  it('waits no longer for others to be accepted where turns are long all the same', async () => {
    const many = crowd(300);
    const acceptOne = async (turnMs: number) => {
      many.push(accept('10.0.0.1'));
      clock.advance(turnMs);
      await nextTurn();
      return begun(many);
    };
    expect([await acceptOne(0), await acceptOne(60), await acceptOne(60)]).toEqual([16, 16, 32]);
    const others: number[] = [];
    for (let turn = 0; turn < 9; turn++) others.push(await acceptOne(60));
    expect(others).toEqual([48, 64, 80, 96, 112, 128, 144, 160, 160]);
  });

  it('that is not admitted is closed at once, and so is one that has gone already', async () => {
    admits = (address) => address !== '10.0.0.9';
    const [refused, gone, taken] = [accept('10.0.0.9'), accept(undefined), accept('10.0.0.1')];
    expect([refused, gone, taken].map(({ isClosed }) => isClosed)).toEqual([true, true, false]);
    await lineEnds();
    expect([refused, gone, taken].map(({ isBegun }) => isBegun)).toEqual([false, false, true]);
  });

  it('that goes before its turn is not begun, and counts no more', async () => {
    const [gone, other] = [accept('10.0.0.1'), accept('10.0.0.2')];
    gone.address = undefined;
    await lineEnds();
    expect([gone, other].map(({ isBegun, isClosed }) => [isBegun, isClosed])).toEqual([
      [false, true],
      [true, false],
    ]);
    expect(open).toEqual(['10.0.0.2']);
  });

  it('is closed at once when many of its network wait', () => {
    crowd(MAX_WAITING_CONNECTIONS.network);
    const [late, other] = [accept('10.0.0.1'), accept('10.0.0.2')];
    expect([late, other].map(({ isClosed }) => isClosed)).toEqual([true, false]);
    expect(open).toHaveLength(MAX_WAITING_CONNECTIONS.network + 1);
  });

  it('is closed at once when very many wait together', () => {
    const { network, together } = MAX_WAITING_CONNECTIONS;
    for (let n = 0; n < together; n++) accept(`10.0.${Math.floor(n / network)}.1`);
    expect(accept('10.1.0.1').isClosed).toBe(true);
  });

  it('keeps the line waiting also when it is not admitted, as others wait to be accepted behind it', async () => {
    admits = (address) => address !== '10.0.0.9';
    const many = crowd(100);
    for (let turn = 0; turn < 5; turn++) {
      accept('10.0.0.9');
      await nextTurn();
    }
    expect(begun(many)).toBe(16);
    await lineEnds();
    expect(begun(many)).toBe(100);
  });

  it('counts from when it is accepted until it is closed', async () => {
    const [one] = [accept('10.0.0.1'), accept('10.0.0.2')];
    expect(open).toEqual(['10.0.0.1', '10.0.0.2']);
    await lineEnds();
    server.sockets.get(one)?.emit('close');
    expect(open).toEqual(['10.0.0.2']);
  });

  it('is closed when the server stopped listening meanwhile', async () => {
    const late = accept('10.0.0.1');
    server.listening = false;
    await lineEnds();
    expect(late).toMatchObject({ isBegun: false, isClosed: true });
    expect(open).toEqual([]);
  });

  it('that could not be accepted is told to Node as ever', () => {
    server._handle.onconnection(-24, undefined);
    expect(server.errors).toEqual([-24]);
  });
});

describe('a turn that lasts long', () => {
  it('is the end of reading, which goes on in the next ones, address by address', async () => {
    const many = crowd(100);
    await lineEnds();
    const [alone] = (await reading('10.0.0.2')) as [FakeConnection];
    onWork(many[0] as FakeConnection);
    clock.advance(9);
    onWork(many[1] as FakeConnection);
    expect(many.every(({ isRead }) => isRead)).toBe(true);
    clock.advance(1);
    onWork(many[2] as FakeConnection);
    expect([alone, ...many].some(({ isRead }) => isRead)).toBe(false);
    const read = () => [alone.isRead, many.filter(({ isRead }) => isRead).length];
    await nextTurn();
    expect(read()).toEqual([false, 16]);
    await nextTurn();
    expect(read()).toEqual([true, 16]);
    await lineEnds();
    expect(read()).toEqual([true, 100]);
  });

  it('is not their fault where other work takes it', async () => {
    const few = await reading('10.0.0.1', '10.0.0.2');
    const [one, other] = few as [FakeConnection, FakeConnection];
    onWork(one);
    clock.advance(9);
    turns.onOtherWork();
    clock.advance(100);
    onWork(other);
    turns.onOtherWork();
    expect(few.every(({ isRead }) => isRead)).toBe(true);
    onWork(other);
    clock.advance(1);
    onWork(one);
    expect(few.some(({ isRead }) => isRead)).toBe(false);
  });

  it('lets networks go on one after the other, until none has been long for a while', async () => {
    const [one, other] = [crowd(150), Array.from({ length: 150 }, () => accept('10.0.0.2'))];
    await lineEnds();
    onWork(one[0] as FakeConnection);
    clock.advance(10);
    onWork(other[0] as FakeConnection);
    const read = () => [one, other].map((connections) => connections.filter(({ isRead }) => isRead).length);
    const seen: number[][] = [];
    for (let turn = 0; turn < 17; turn++) {
      await nextTurn();
      seen.push(read());
    }
    expect(seen.slice(0, 4)).toEqual([
      [16, 0],
      [16, 16],
      [32, 16],
      [32, 32],
    ]);
    expect(seen.slice(-2)).toEqual([
      [128, 128],
      [136, 136],
    ]);
  });

  it('ends also for a few, as each may have sent what takes long; whoever was read comes last', async () => {
    const few = await reading(...Array.from({ length: 16 }, () => '10.0.0.2'));
    const goneOn: number[] = [];
    for (const [n, connection] of few.entries()) connection.readStart = () => void goneOn.push(n);
    onWork(few[0] as FakeConnection);
    clock.advance(10);
    onWork(few[1] as FakeConnection);
    expect(few.some(({ isRead }) => isRead)).toBe(false);
    await nextTurn();
    expect(goneOn).toEqual([...Array.from({ length: 14 }, (_, n) => n + 2), 0, 1]);
  });

  it('begins with another address each time, as one piece may take all of it', async () => {
    const [one, other] = [crowd(50), Array.from({ length: 50 }, () => accept('10.0.0.2'))];
    const firsts: FakeConnection[] = [];
    for (const connection of [...one, ...other]) connection.readStart = () => void firsts.push(connection);
    const addresses: (string | undefined)[] = [];
    for (let turn = 0; turn < 4; turn++) {
      clock.advance(25);
      firsts.length = 0;
      await nextTurn();
      addresses.push(firsts[0]?.address);
    }
    expect(addresses).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.1', '10.0.0.2']);
  });
});

describe('while others of its address wait', () => {
  it('a connection is read by the piece, and one of another address as ever', async () => {
    const [busy, alone] = (await reading('10.0.0.1', '10.0.0.2')) as [FakeConnection, FakeConnection];
    crowd(100);
    onWork(busy);
    onWork(alone);
    expect(busy.isRead).toBe(false);
    expect(alone.isRead).toBe(true);
    await lineEnds();
    expect(busy.isRead).toBe(true);
  });

  it('one that is closed is forgotten', async () => {
    const [busy] = (await reading('10.0.0.1')) as [FakeConnection];
    crowd(100);
    onWork(busy);
    server.sockets.get(busy)?.emit('close');
    await lineEnds();
    expect(busy.isRead).toBe(false);
  });
});

describe('who stops to read by itself', () => {
  it('is left to go on by itself: Node, and HTTP/2 while it writes', async () => {
    const http2 = listen({ isHttp2: true });
    const [node, writing] = [accept('10.0.0.1'), accept('10.0.0.1', http2)];
    await lineEnds();
    crowd(100);
    onWork(node);
    turns.onWork(http2.sockets.get(writing));
    [node.reading, writing.writeQueueSize] = [false, 1];
    await lineEnds();
    expect([node, writing].map(({ isRead }) => isRead)).toEqual([false, false]);
  });

  it('is stopped again when it goes on before its turn', async () => {
    const [early] = (await reading('10.0.0.1')) as [FakeConnection];
    crowd(100);
    onWork(early);
    early.readStart();
    onWork(early);
    expect(early.isRead).toBe(false);
    await lineEnds();
    expect(early.isRead).toBe(true);
  });
});

describe('long work', () => {
  it('has a turn of its own, in its order', async () => {
    const done: number[] = [];
    for (let n = 0; n < 3; n++) void turns.forLongWork().then(() => done.push(n));
    expect(done).toEqual([]);
    await nextTurn();
    expect(done).toEqual([0]);
    await lineEnds();
    expect(done).toEqual([0, 1, 2]);
  });

  it('waits while each turn accepts a connection, but for a piece now and then', async () => {
    let done = 0;
    for (let n = 0; n < 10; n++) void turns.forLongWork().then(() => done++);
    for (let n = 0; n < 50; n++) {
      accept('10.0.0.1');
      await nextTurn();
    }
    expect(done).toBe(1);
    clock.advance(25);
    accept('10.0.0.1');
    await nextTurn();
    expect(done).toBe(2);
    await lineEnds();
    expect(done).toBe(10);
  });
});
