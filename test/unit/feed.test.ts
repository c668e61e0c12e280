import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import type { FeedPosition, FeedStore } from '../../server/domain/ports.js';
import { TaskFeed, type FeedWatch, type TaskFeedOptions } from '../../server/domain/task-feed.js';
import { upTo } from '../support/page-limits.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryFeedStore } from '../support/memory-feed-store.js';
import { MemoryTaskDatabase, MemoryTaskStore } from '../support/memory-task-store.js';
import { silentLog } from '../support/silent-log.js';
import { registration } from '../support/task-writes.js';

const OPTIONS: TaskFeedOptions = {
  pollMs: 1000,
  watcherBytes: Infinity,
  page: upTo(4),
  ringSize: 12,
  ringBytes: 1e6,
  maxCatchUp: 1000,
};
const SOMEBODY = { network: '10.0.0.1', account: 'user:ssx', isKnown: true };
const never = new AbortController().signal;

let clock: ManualClock;
let database: MemoryTaskDatabase;
let tasks: MemoryTaskStore;

beforeEach(() => {
  clock = new ManualClock();
  database = new MemoryTaskDatabase();
  tasks = new MemoryTaskStore(database, clock, 'node-a');
});

/** Everything that only waits for promises happens. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
}

/** A store that counts what is asked of it. */
class CountingStore implements FeedStore {
  reads = 0;
  failure: TaskDashError | undefined;
  /** What pages wait for. */
  held: Promise<void> = Promise.resolve();
  readonly #store = new MemoryFeedStore(database);

  async head(): Promise<FeedPosition> {
    this.#count();
    return this.#store.head();
  }

  async after(...asked: Parameters<FeedStore['after']>): ReturnType<FeedStore['after']> {
    this.#count();
    await this.held;
    return this.#store.after(...asked);
  }

  #count(): void {
    this.reads++;
    if (this.failure) throw this.failure;
  }
}

/** A node: its feed, and the hints that reach it. */
class Node {
  readonly store = new CountingStore();
  readonly feed: TaskFeed;
  #onHint: () => void = () => {};

  constructor(options: Partial<TaskFeedOptions> = {}) {
    const hints = { announce: () => {}, listen: (onHint: () => void) => ((this.#onHint = onHint), () => {}) };
    this.feed = new TaskFeed(this.store, hints, clock, { ...OPTIONS, ...options }, silentLog);
    this.feed.start();
  }

  hint(): void {
    this.#onHint();
  }
}

const write = (...ids: string[]) => tasks.writeBatch(ids.map((id) => registration(id)));
const range = (count: number, prefix = 'task') => Array.from({ length: count }, (_, index) => `${prefix}-${index}`);

/** A watcher that keeps what it is told. */
class Watcher {
  readonly told: string[] = [];
  steps = 0;
  failure: unknown;
  #watch: FeedWatch | undefined;
  #running: Promise<void> | undefined;
  readonly #end = new AbortController();

  async begin(node: Node, position?: FeedPosition): Promise<this> {
    this.#watch = await node.feed.open(SOMEBODY, position);
    this.#running = this.#run(this.#watch).catch((error: unknown) => void (this.failure = error));
    return this;
  }

  get at(): FeedPosition {
    return (this.#watch as FeedWatch).at;
  }

  async end(): Promise<void> {
    this.#end.abort();
    await this.#running;
    this.#watch?.close();
  }

  async #run(watch: FeedWatch): Promise<void> {
    while (!this.#end.signal.aborted) {
      const segment = await watch.next(3000, this.#end.signal);
      if (this.steps++ > 1000) throw new Error('it spins');
      this.told.push(...(segment?.events ?? []).map(({ event }) => event.taskId));
    }
  }
}

describe('a watcher', () => {
  it('is told upon a hint, and at the next look where the hint was lost', async () => {
    const node = new Node();
    const watcher = await new Watcher().begin(node);
    await write('a');
    node.hint();
    await settle();
    expect(watcher.told).toEqual(['a']);
    await write('b');
    clock.advance(999);
    await settle();
    expect(watcher.told).toEqual(['a']);
    clock.advance(1);
    await settle();
    expect(watcher.told).toEqual(['a', 'b']);
    await watcher.end();
  });

  it('begins with what comes after it, also where others had watched before', async () => {
    const node = new Node();
    const first = await new Watcher().begin(node);
    // The last watcher goes while a read is under way that another hint wants to be followed by one more.
    const read = node.store.after.bind(node.store);
    let answer: () => void = () => {};
    const answered = new Promise<void>((resolve) => (answer = resolve));
    node.store.after = async (...asked) => answered.then(() => read(...asked));
    node.hint();
    await settle();
    node.hint();
    await first.end();
    answer();
    await settle();
    Reflect.deleteProperty(node.store, 'after');
    await write('unseen');
    const second = await new Watcher().begin(node);
    await settle();
    await write('seen');
    node.hint();
    await settle();
    expect(second.told).toEqual(['seen']);
    await second.end();
  });

  it('misses no change that arrives while it is about to wait', async () => {
    const node = new Node();
    const watch = await node.feed.open(SOMEBODY);
    // Whatever the turn in which it begins to wait.
    for (let turns = 0; turns < 20; turns++) {
      await write(`change-${turns}`);
      node.hint();
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      const next = watch.next(60_000, never);
      await settle();
      const told = await Promise.race([next, Promise.resolve('nothing yet')]);
      expect([turns, told]).toMatchObject([turns, { events: [{ event: { taskId: `change-${turns}` } }] }]);
    }
    watch.close();
  });

  it('waits quietly at a place beyond what its node has read, which another node gave it', async () => {
    const node = new Node();
    const beside = await new Watcher().begin(node);
    await write(...range(9, 'unheard'));
    const position = await new MemoryFeedStore(database).head();
    const watcher = await new Watcher().begin(node, position);
    await settle();
    const { reads } = node.store;
    expect([reads < 10, watcher.steps < 5]).toEqual([true, true]);
    await settle();
    expect(node.store.reads).toBe(reads);
    await write('a');
    node.hint();
    await settle();
    expect([watcher.told, beside.told]).toEqual([['a'], [...range(9, 'unheard'), 'a']]);
    await watcher.end();
    await beside.end();
  });

  it('that fell behind further than it may is told to begin anew', async () => {
    const node = new Node({ maxCatchUp: 20 });
    const start = await node.store.head();
    await write(...range(25));
    const watcher = await new Watcher().begin(node, start);
    await settle();
    expect(watcher.failure).toMatchObject({ code: 'RESUME_TOKEN_EXPIRED' });
    await watcher.end();
  });

  it('goes on where it was when the database is back', async () => {
    const node = new Node();
    const watcher = await new Watcher().begin(node);
    node.store.failure = new TaskDashError('STORAGE_UNAVAILABLE');
    await write('a');
    node.hint();
    await settle();
    clock.advance(1000);
    await settle();
    expect([watcher.told, watcher.failure]).toEqual([[], undefined]);
    node.store.failure = undefined;
    clock.advance(1000);
    await settle();
    expect(watcher.told).toEqual(['a']);
    await watcher.end();
  });
});

describe('a history that was set back, as by a failover to a standby that had not received everything', () => {
  it('has watchers list again whose place is gone, while those whose place is still there go on', async () => {
    const node = new Node();
    await write('a');
    const before = await new MemoryFeedStore(database).head();
    await write('lost');
    const [watcher, other] = [await new Watcher().begin(node), await new Watcher().begin(node)];
    await settle();
    database.history.length = 1;
    await write('b', 'c', 'd');
    node.hint();
    await settle();
    for (const { told, failure } of [watcher, other])
      expect([told, failure]).toMatchObject([[], { code: 'RESUME_TOKEN_INVALID' }]);
    const kept = await new Watcher().begin(node, before);
    await settle();
    await write('e');
    node.hint();
    await settle();
    expect([kept.told, kept.failure]).toEqual([['b', 'c', 'd', 'e'], undefined]);
    await Promise.all([watcher, other, kept].map((one) => one.end()));
  });
});

describe('long records', () => {
  it('are read in short pages, one right after the other', async () => {
    const node = new Node({ page: { records: 100, bytes: 20 } });
    const watcher = await new Watcher().begin(node);
    await write(...range(50));
    node.hint();
    for (let round = 0; round < 5; round++) await settle();
    expect(watcher.told).toHaveLength(50);
    await watcher.end();
  });
});

describe('a thousand watchers', () => {
  it('cost one read of the database for all', async () => {
    const node = new Node({ page: upTo(100), ringSize: 1000 });
    const watchers = await Promise.all(Array.from({ length: 1000 }, () => new Watcher().begin(node)));
    await settle();
    const { reads } = node.store;
    await write(...range(50));
    node.hint();
    await settle();
    expect(node.store.reads - reads).toBe(1);
    expect(watchers.every(({ told }) => told.length === 50)).toBe(true);
    await Promise.all(watchers.map((watcher) => watcher.end()));
    expect(node.feed.watchers).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('that come from another node cost a few reads, and then none but the one for all', async () => {
    const node = new Node({ page: upTo(100), ringSize: 1000 });
    const beside = await new Watcher().begin(node);
    const watchers: Watcher[] = [];
    for (let count = 0; count < 1000; count++) {
      await write(`unheard-${count}`);
      const position = await new MemoryFeedStore(database).head();
      watchers.push(await new Watcher().begin(node, position));
    }
    // They take turns.
    for (let turn = 0; turn < 100; turn++) await settle();
    expect(node.store.reads).toBeLessThanOrEqual(4000);
    const { reads } = node.store;
    await write('a');
    node.hint();
    await settle();
    expect(node.store.reads - reads).toBe(1);
    expect(watchers.map(({ told }) => told.length)).toEqual(range(1000).map((_, index) => 1000 - index));
    await Promise.all([...watchers, beside].map((watcher) => watcher.end()));
  });
});

describe('the ring', () => {
  it('keeps no more than it may: who is slower reads the database, and is told everything once', async () => {
    const node = new Node();
    const slow = await node.feed.open(SOMEBODY);
    const fast = await new Watcher().begin(node);
    for (let burst = 0; burst < 10; burst++) {
      await write(...range(5, `burst-${burst}`));
      node.hint();
      await settle();
    }
    const { reads } = node.store;
    const told: string[] = [];
    for (let segment = await slow.next(0, never); segment; segment = await nextNow(slow))
      told.push(...segment.events.map(({ event }) => event.taskId));
    expect(told).toEqual(fast.told);
    expect(told).toHaveLength(50);
    // Fifty events less the twelve of the ring, four in a read.
    expect(node.store.reads - reads).toBeGreaterThanOrEqual(9);
    expect(node.store.reads - reads).toBeLessThanOrEqual(14);
    slow.close();
    await fast.end();
  });

  it('is bounded by the bytes of its records too', async () => {
    const node = new Node({ ringSize: 1000, ringBytes: 100_000, page: upTo(100) });
    const slow = await node.feed.open(SOMEBODY);
    const fast = await new Watcher().begin(node);
    await tasks.writeBatch(range(60).map((id) => registration(id, { description: 'x'.repeat(8000) })));
    node.hint();
    await settle();
    const { reads } = node.store;
    expect((await slow.next(0, never))?.events).toHaveLength(60);
    // Twelve records of 8 kB are kept at most, so that the others are read again.
    expect(node.store.reads).toBe(reads + 1);
    expect(fast.told).toHaveLength(60);
    slow.close();
    await fast.end();
  });

  it('is given to a watcher in parts, and so is what is read for one who catches up', async () => {
    const node = new Node({ ringSize: 4, page: upTo(100), watcherBytes: 20_000 });
    const slow = await node.feed.open(SOMEBODY);
    await tasks.writeBatch(range(7).map((id) => registration(id, { description: 'x'.repeat(8000) })));
    node.hint();
    await settle();
    const parts: number[] = [];
    for (let segment = await slow.next(0, never); segment; segment = await nextNow(slow))
      parts.push(segment.events.length);
    // Three from the database, and from the ring three and the rest.
    expect(parts).toEqual([3, 3, 1]);
    slow.close();
  });

  it('leaves those who catch up to wait for each other, and lets go of whoever leaves', async () => {
    const node = new Node({ ringSize: 1, watcherBytes: 1 });
    const keeper = await node.feed.open(SOMEBODY);
    await write(...range(9));
    node.hint();
    await settle();
    let release: () => void = () => {};
    node.store.held = new Promise((resolve) => (release = resolve));
    const watches = await Promise.all(range(5).map(() => node.feed.open(SOMEBODY, { id: 0, batch: '' })));
    const end = new AbortController();
    const { reads } = node.store;
    const nexts = watches.map((watch, n) => watch.next(0, n === 4 ? end.signal : never));
    const left = expect(nexts[4]).rejects.toThrow('gone');
    await settle();
    expect(node.store.reads - reads).toBe(2);
    end.abort(new Error('gone'));
    await left;
    release();
    await Promise.all(nexts.slice(0, 4));
    expect(node.store.reads - reads).toBe(4);
    for (const watch of [keeper, ...watches]) watch.close();
  });

  async function nextNow(watch: FeedWatch) {
    const next = watch.next(1, never);
    await settle();
    clock.advance(1);
    return next;
  }
});

it('every change is told once, in order, to watchers that are cut off at random and go on anywhere', async () => {
  const index = fc.nat({ max: 2 });
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('write' as const), count: fc.integer({ min: 1, max: 9 }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('hint' as const), node: index }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 1500 }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('move' as const), watcher: index, node: index }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('fail' as const, 'mend' as const), node: index }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      clock = new ManualClock();
      database = new MemoryTaskDatabase();
      tasks = new MemoryTaskStore(database, clock, 'node-a');
      const nodes = [new Node(), new Node({ ringSize: 4 }), new Node({ page: upTo(1) })];
      const told: string[][] = [[], [], []];
      const places: FeedPosition[] = Array.from({ length: 3 }, () => ({ id: 0, batch: '' }));
      const watchers: (Watcher | undefined)[] = [];
      const move = async (which: number, to: number) => {
        const watcher = watchers[which];
        if (watcher) {
          await watcher.end();
          places[which] = watcher.at;
          told[which]?.push(...watcher.told);
        }
        const next = new Watcher();
        watchers[which] = await next.begin(nodes[to] as Node, places[which]).catch(() => undefined);
      };
      let written = 0;
      for (let i = 0; i < 3; i++) await move(i, i);
      for (const taken of steps) {
        if (taken.do === 'write') await write(...range(taken.count, `t${written++}`));
        else if (taken.do === 'hint') nodes[taken.node]?.hint();
        else if (taken.do === 'wait') clock.advance(taken.ms);
        else if (taken.do === 'move') await move(taken.watcher, taken.node);
        else if (taken.do === 'fail')
          (nodes[taken.node] as Node).store.failure = new TaskDashError('STORAGE_UNAVAILABLE');
        else (nodes[taken.node] as Node).store.failure = undefined;
        if (taken.do !== 'write') await settle();
      }
      for (const node of nodes) node.store.failure = undefined;
      for (let i = 0; i < 3; i++) await move(i, i);
      const last = database.history.length;
      // A page at a time, many of which hold a single event.
      for (
        let second = 0;
        second < 3 || (second < 100 && watchers.some((watcher) => watcher && watcher.at.id < last));
        second++
      ) {
        clock.advance(1000);
        await settle();
        await settle();
      }
      for (let i = 0; i < 3; i++) await move(i, i);
      const all = database.history.map(({ event }) => event.taskId);
      expect(told).toEqual([all, all, all]);
      for (const watcher of watchers) await watcher?.end();
    }),
    { numRuns: 150 },
  );
});
