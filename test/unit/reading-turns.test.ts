import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { beforeEach, describe, expect, it } from 'vitest';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { ManualClock } from '../support/manual-clock.js';

/** A connection as Node has it, whose handle says what becomes of it. */
class FakeSocket extends EventEmitter {
  isBegun = false;
  isRead = true;
  readonly _handle = {
    reading: true,
    writeQueueSize: 0,
    readStart: () => (this.isRead = true),
    readStop: () => (this.isRead = false),
  };

  constructor(readonly remoteAddress: string) {
    super();
  }
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

let clock: ManualClock;
let turns: ReadingTurns;

beforeEach(() => {
  clock = new ManualClock();
  turns = new ReadingTurns(clock);
});

function enter(address: string, options: { isHttp2?: boolean } = {}): FakeSocket {
  const socket = new FakeSocket(address);
  turns.enter(socket as unknown as Socket, () => (socket.isBegun = true), options);
  return socket;
}

const crowd = (count: number) => Array.from({ length: count }, () => enter('10.0.0.1'));
const begun = (sockets: readonly FakeSocket[]) => sockets.filter(({ isBegun }) => isBegun).length;
const onWork = (socket: FakeSocket) => turns.onWork(socket as unknown as Socket);

/** Connections that have been begun and are read. */
async function reading(...addresses: string[]): Promise<FakeSocket[]> {
  const sockets = addresses.map((address) => enter(address));
  await nextTurn();
  return sockets;
}

describe('a new connection', () => {
  it('is not read before it is begun, at the end of the turn that accepted it', async () => {
    const socket = enter('10.0.0.1');
    expect(socket).toMatchObject({ isBegun: false, isRead: false });
    await nextTurn();
    expect(socket).toMatchObject({ isBegun: true, isRead: true });
  });

  it('is next when it comes alone, however many another address has sent', async () => {
    const many = crowd(2_000);
    const [alone, other] = [enter('10.0.0.2'), enter('2001:db8::1')];
    await nextTurn();
    expect(begun([alone, other])).toBe(2);
    expect(begun(many)).toBeLessThan(20);
  });

  it('waits while each turn accepts another one, but now and then some are begun', async () => {
    const many: FakeSocket[] = [];
    const accept = async () => {
      turns.onAccepted();
      many.push(enter('10.0.0.1'));
      await nextTurn();
    };
    for (let n = 0; n < 100; n++) await accept();
    expect(begun(many)).toBe(1);
    clock.advance(25);
    await accept();
    expect(begun(many)).toBe(5);
    await nextTurn();
    expect(begun(many)).toBeGreaterThan(5);
  });

  it('that is closed while it waits is never begun', async () => {
    const many = crowd(100);
    for (const socket of many) socket.emit('close');
    for (let turn = 0; turn < 20; turn++) await nextTurn();
    expect(begun(many)).toBe(0);
  });
});

describe('a turn that lasts long', () => {
  it('is the end of reading, which goes on in the next ones, address by address', async () => {
    const many = crowd(100);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    const [alone] = (await reading('10.0.0.2')) as [FakeSocket];
    onWork(many[0] as FakeSocket);
    clock.advance(9);
    onWork(many[1] as FakeSocket);
    expect(many.every(({ isRead }) => isRead)).toBe(true);
    clock.advance(1);
    onWork(many[2] as FakeSocket);
    expect([alone, ...many].some(({ isRead }) => isRead)).toBe(false);
    await nextTurn();
    expect(alone.isRead).toBe(true);
    expect(many.filter(({ isRead }) => isRead).length).toBe(15);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    expect(many.every(({ isRead }) => isRead)).toBe(true);
  });

  it('stops none of a few, who would all go on in the next one: it is not they who take long', async () => {
    const few = await reading(...Array.from({ length: 16 }, () => '10.0.0.2'));
    onWork(few[0] as FakeSocket);
    clock.advance(1_000);
    onWork(few[1] as FakeSocket);
    expect(few.every(({ isRead }) => isRead)).toBe(true);
  });

  it('begins with another address each time, as one piece may take all of it', async () => {
    const [one, other] = [crowd(50), Array.from({ length: 50 }, () => enter('10.0.0.2'))];
    const firsts: FakeSocket[] = [];
    for (const socket of [...one, ...other]) {
      const { readStart } = socket._handle;
      socket._handle.readStart = () => {
        firsts.push(socket);
        return readStart();
      };
    }
    const addresses: (string | undefined)[] = [];
    for (let turn = 0; turn < 4; turn++) {
      firsts.length = 0;
      await nextTurn();
      addresses.push(firsts[0]?.remoteAddress);
    }
    expect(addresses).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.1', '10.0.0.2']);
  });
});

describe('while others of its address wait', () => {
  it('a connection is read by the piece, and one of another address as ever', async () => {
    const [busy, alone] = (await reading('10.0.0.1', '10.0.0.2')) as [FakeSocket, FakeSocket];
    crowd(100);
    onWork(busy);
    onWork(alone);
    expect(busy.isRead).toBe(false);
    expect(alone.isRead).toBe(true);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    expect(busy.isRead).toBe(true);
  });
});

describe('who stops to read by itself', () => {
  it('is left to go on by itself: Node, and HTTP/2 while it writes', async () => {
    const [node, http2] = [enter('10.0.0.1'), enter('10.0.0.1', { isHttp2: true })];
    node._handle.reading = false;
    http2._handle.writeQueueSize = 1;
    await nextTurn();
    expect([node, http2].map(({ isBegun, isRead }) => [isBegun, isRead])).toEqual([
      [true, false],
      [true, false],
    ]);
  });

  it('is stopped again when it goes on before its turn', async () => {
    const [early] = (await reading('10.0.0.1')) as [FakeSocket];
    crowd(100);
    onWork(early);
    early._handle.readStart();
    onWork(early);
    expect(early.isRead).toBe(false);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    expect(early.isRead).toBe(true);
  });
});
