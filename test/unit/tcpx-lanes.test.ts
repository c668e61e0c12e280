import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Request } from '../../server/transports/tcpx/messages.js';
import { RequestLanes } from '../../server/transports/tcpx/request-lanes.js';
import { RoomGate, type Room } from '../../server/transports/tcpx/room-gate.js';
import { gateForAll, WriteGate } from '../../server/transports/tcpx/write-gate.js';
import { ManualClock } from '../support/manual-clock.js';

/** A batcher's room, counted by hand. */
class HandRoom implements Room {
  #waiters: (() => void)[] = [];

  constructor(public places: number) {}

  get hasRoom(): boolean {
    return this.places > 0;
  }

  whenRoom(): Promise<void> {
    if (this.hasRoom) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  async free(places: number): Promise<void> {
    this.places += places;
    for (const wake of this.#waiters.splice(0)) wake();
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  }
}

/** The same, where some ids have no room of their own. */
class HandWriteRoom extends HandRoom {
  readonly full = new Map<string, (() => void)[]>();

  hasRoomFor(id: string): boolean {
    return !this.full.has(id);
  }

  whenRoomFor(id: string): Promise<void> {
    return new Promise((resolve) => this.full.get(id)?.push(resolve) ?? resolve());
  }

  async freeId(id: string): Promise<void> {
    const waiters = this.full.get(id) ?? [];
    this.full.delete(id);
    for (const wake of waiters) wake();
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  }
}

let clock: ManualClock;
let reads: HandRoom;
let writes: HandWriteRoom;
let log: string[];
let woken: number;
let lanes: RequestLanes;

beforeEach(() => {
  clock = new ManualClock();
  reads = new HandRoom(1000);
  writes = new HandWriteRoom(1000);
  log = [];
  woken = 0;
  const readGate = gateForAll(new RoomGate(reads, clock, 1_000));
  lanes = new RequestLanes(readGate, new WriteGate(writes, clock, 1_000), () => woken++);
});

function enter(verb: Request['verb'], id: string, name: string) {
  const request: Request = verb === 'find' ? { verb, id } : { verb, id, texts: {} };
  const room = verb === 'find' ? reads : writes;
  const job = {
    request,
    start: () => {
      room.places--;
      log.push(name);
    },
    fail: () => void log.push(`${name} refused`),
    drop: () => void log.push(`${name} forgotten`),
  };
  lanes.enter(job);
  return { leave: () => lanes.leave(job) };
}

describe('requests about one id', () => {
  it('of one kind run side by side', () => {
    enter('register', 'a', 'w1');
    enter('update', 'a', 'w2');
    enter('find', 'b', 'r1');
    enter('find', 'b', 'r2');
    expect(log).toEqual(['w1', 'w2', 'r1', 'r2']);
  });

  it('of different kinds wait for each other, in their order', () => {
    const w1 = enter('register', 'a', 'w1');
    const w2 = enter('update', 'a', 'w2');
    const r1 = enter('find', 'a', 'r1');
    const r2 = enter('find', 'a', 'r2');
    const w3 = enter('update', 'a', 'w3');
    const r3 = enter('find', 'a', 'r3');
    expect(log).toEqual(['w1', 'w2']);
    w2.leave();
    expect(log).toHaveLength(2);
    w1.leave();
    expect(log).toEqual(['w1', 'w2', 'r1', 'r2']);
    r1.leave();
    r2.leave();
    expect(log.slice(4)).toEqual(['w3']);
    w3.leave();
    r3.leave();
    expect(log.slice(5)).toEqual(['r3']);
  });

  it('do not overtake one that waits, even of the kind that runs', () => {
    const w1 = enter('register', 'a', 'w1');
    const r1 = enter('find', 'a', 'r1');
    enter('update', 'a', 'w2');
    expect(log).toEqual(['w1']);
    w1.leave();
    r1.leave();
    expect(log).toEqual(['w1', 'r1', 'w2']);
  });

  it('never run beside one of the other kind and always all run, whatever their order', () => {
    const steps = fc.array(fc.tuple(fc.constantFrom('find', 'update'), fc.constantFrom('a', 'b'), fc.nat({ max: 3 })), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(steps, (requests) => {
        log = [];
        const running: { leave: () => void; verb: string; id: string; name: string }[] = [];
        const started = () => running.filter(({ name }) => log.includes(name));
        requests.forEach(([verb, id, leaving], index) => {
          running.push({ ...enter(verb, id, `${index}`), verb, id, name: `${index}` });
          for (const each of ['a', 'b']) {
            expect(
              new Set(
                started()
                  .filter((one) => one.id === each)
                  .map((one) => one.verb),
              ).size,
            ).toBeLessThan(2);
          }
          for (const done of started().slice(0, leaving)) {
            running.splice(running.indexOf(done), 1);
            done.leave();
          }
        });
        for (let done = started()[0]; done; done = started()[0]) {
          running.splice(running.indexOf(done), 1);
          done.leave();
        }
        expect(running).toEqual([]);
        expect(log).toHaveLength(requests.length);
      }),
    );
  });
});

describe('without room in its batcher', () => {
  it('a request waits, and what follows it on its id waits behind it', async () => {
    writes.places = 1;
    enter('register', 'a', 'w1');
    enter('register', 'b', 'w2');
    enter('find', 'b', 'r1');
    enter('find', 'c', 'r2');
    expect(log).toEqual(['w1', 'r2']);
    expect(lanes.waitsForRoom).toBe(true);
    expect(woken).toBe(0);
    await writes.free(1);
    expect(log).toEqual(['w1', 'r2', 'w2']);
    expect(woken).toBe(1);
    expect(lanes.waitsForRoom).toBe(false);
  });

  it('requests are served in the order in which they came, as far as the room goes', async () => {
    writes.places = 0;
    for (const id of ['a', 'b', 'c', 'd']) enter('register', id, id);
    await writes.free(2);
    expect(log).toEqual(['a', 'b']);
    enter('register', 'e', 'e');
    await writes.free(3);
    expect(log).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('a late-comer does not overtake those who wait', async () => {
    writes.places = 0;
    enter('register', 'a', 'a');
    writes.places = 1;
    enter('register', 'b', 'b');
    expect(log).toEqual([]);
    clock.advance(10);
    expect(log).toEqual(['a']);
    await writes.free(1);
    expect(log).toEqual(['a', 'b']);
  });

  it('a wake-up in vain is tried again a moment later, not at once', async () => {
    writes.places = 0;
    enter('register', 'a', 'a');
    await writes.free(0);
    expect(log).toEqual([]);
    writes.places = 1;
    clock.advance(10);
    expect(log).toEqual(['a']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('for too long, a request is refused and those behind it on its id go on', async () => {
    writes.places = 0;
    enter('register', 'a', 'w1');
    enter('find', 'a', 'r1');
    clock.advance(990);
    expect(log).toEqual([]);
    clock.advance(20);
    expect(log).toEqual(['w1 refused', 'r1']);
    expect(lanes.waitsForRoom).toBe(false);
    expect(clock.pendingTimers).toBe(0);
    await writes.free(1);
    expect(log).toEqual(['w1 refused', 'r1']);
  });
});

describe('writes of an id that has no room', () => {
  it('wait for it, and hold up neither other ids nor finds', async () => {
    writes.full.set('hot', []);
    enter('update', 'hot', 'hot 1');
    enter('update', 'cold', 'cold');
    enter('find', 'other', 'found');
    expect(log).toEqual(['cold', 'found']);
    expect(lanes.waitsForRoom).toBe(true);
    await writes.freeId('hot');
    expect(log).toEqual(['cold', 'found', 'hot 1']);
    expect([lanes.waitsForRoom, woken]).toEqual([false, 1]);
  });

  it('are refused when it takes too long', () => {
    writes.full.set('hot', []);
    enter('update', 'hot', 'hot');
    for (let ms = 0; ms < 1100; ms += 10) clock.advance(10);
    expect(log).toEqual(['hot refused']);
  });

  it('wait for it also after they waited for room among all', async () => {
    writes.places = 0;
    enter('update', 'hot', 'hot');
    enter('update', 'cold', 'cold');
    writes.full.set('hot', []);
    await writes.free(5);
    expect(log).toEqual(['cold']);
    await writes.freeId('hot');
    expect(log).toEqual(['cold', 'hot']);
  });
});

describe('when the connection is gone', () => {
  it('finds that wait are forgotten, writes that wait are done', () => {
    const w1 = enter('register', 'a', 'w1');
    enter('find', 'a', 'r1');
    enter('update', 'a', 'w2');
    enter('find', 'a', 'r2');
    lanes.forget('finds');
    expect(log).toEqual(['w1', 'r1 forgotten', 'w2', 'r2 forgotten']);
    w1.leave();
    enter('find', 'a', 'r3');
    expect(log.slice(4)).toEqual(['r3 forgotten']);
  });

  it('what waits for room is forgotten where it would have it, a write is done', async () => {
    [reads.places, writes.places] = [0, 0];
    enter('find', 'a', 'r1');
    enter('update', 'a', 'w1');
    lanes.forget('finds');
    await reads.free(1);
    await writes.free(1);
    expect([log, lanes.waitsForRoom]).toEqual([['r1 forgotten', 'w1'], false]);
  });

  it('everything that waits is forgotten where its client may not do it any more', async () => {
    const r1 = enter('find', 'a', 'r1');
    enter('update', 'a', 'w1');
    writes.places = 0;
    enter('update', 'b', 'w2');
    lanes.forget('everything');
    lanes.forget('finds');
    r1.leave();
    await writes.free(1);
    expect([log, lanes.waitsForRoom]).toEqual([['r1', 'w1 forgotten', 'w2 forgotten'], false]);
  });
});
