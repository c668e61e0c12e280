import { beforeEach, describe, expect, it } from 'vitest';
import type { BatchId } from '../../server/domain/batch-id.js';
import { TaskDashError } from '../../server/domain/errors.js';
import type { TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import { WriteBatcher, type BatchReport, type WriteBatcherOptions } from '../../server/domain/write-batcher.js';
import { ManualClock } from '../support/manual-clock.js';
import { registration } from '../support/task-writes.js';

/** A store whose batches wait until the test answers them. */
class HeldStore {
  readonly batches: {
    writes: readonly TaskWrite[];
    batch: BatchId;
    withinMs: number;
    answer: (results: TaskWriteResult[] | Error) => void;
  }[] = [];

  writeBatch(writes: readonly TaskWrite[], batch: BatchId, withinMs: number): Promise<TaskWriteResult[]> {
    return new Promise((resolve, reject) => {
      const answer = (results: TaskWriteResult[] | Error) =>
        results instanceof Error ? reject(results) : resolve(results);
      this.batches.push({ writes, batch, withinMs, answer });
    });
  }

  /** The ids of every batch so far. */
  get ids(): string[][] {
    return this.batches.map(({ writes }) => writes.map(({ id }) => id));
  }

  /** Answers the latest batch: written, or an error. */
  async answer(error?: Error): Promise<void> {
    const batch = this.batches.at(-1);
    if (!batch) throw new Error('there is no batch');
    batch.answer(error ?? batch.writes.map(() => written));
    await turns();
  }
}

const written: TaskWriteResult = { outcome: 'written', revision: 1, epoch: 1, status: 'running' };
const unavailable = new TaskDashError('STORAGE_UNAVAILABLE');
const unsent = new TaskDashError('STORAGE_UNAVAILABLE', { nothingSent: true });
const refused = new TaskDashError('STORAGE_REFUSED');
const OPTIONS: WriteBatcherOptions = { maxBatch: 4, maxInFlight: 1, capacity: 10, deadlineMs: 5000 };

/** Lets everything run that waits for promises alone. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

async function answer(index: number, results: TaskWriteResult[] | Error): Promise<void> {
  store.batches[index]?.answer(results);
  await turns();
}

async function advance(ms: number): Promise<void> {
  clock.advance(ms);
  await turns();
}

let store: HeldStore;
let clock: ManualClock;
let reports: BatchReport[];

beforeEach(() => {
  store = new HeldStore();
  clock = new ManualClock();
  reports = [];
});

const open = (options: Partial<WriteBatcherOptions> = {}) =>
  new WriteBatcher(store, clock, { ...OPTIONS, ...options }, (report) => reports.push(report));

/** Submits, and keeps what became of it: the result, the code of the error, or nothing yet. */
function submit(batcher: WriteBatcher, id: string): { outcome?: string } {
  const seen: { outcome?: string } = {};
  batcher.submit(registration(id)).then(
    (result) => (seen.outcome = result.outcome),
    (error: TaskDashError) => (seen.outcome = error.code),
  );
  return seen;
}

describe('batches', () => {
  it('hold the writes of one turn together, and begin without waiting for company', async () => {
    const batcher = open();
    submit(batcher, 'a');
    submit(batcher, 'b');
    await turns();
    expect(store.ids).toEqual([['a', 'b']]);
    expect(clock.now()).toEqual(new ManualClock().now());
  });

  it('form from what arrives while one is in flight, never two at once', async () => {
    const batcher = open();
    submit(batcher, 'a');
    await turns();
    submit(batcher, 'b');
    await turns();
    submit(batcher, 'c');
    await turns();
    expect(store.ids).toEqual([['a']]);
    await store.answer();
    expect(store.ids).toEqual([['a'], ['b', 'c']]);
  });

  it('have at most as many writes as allowed, in the order of arrival', async () => {
    const batcher = open();
    for (const id of ['a', 'b', 'c', 'd', 'e', 'f']) submit(batcher, id);
    await turns();
    await store.answer();
    expect(store.ids).toEqual([
      ['a', 'b', 'c', 'd'],
      ['e', 'f'],
    ]);
  });

  it('end before their texts are longer than allowed, with one write at least', async () => {
    const batcher = open({ maxBatchLength: 100 });
    for (const [index, length] of [200, 30, 30, 30, 50].entries())
      void batcher.submit(registration(`${index}`, { status: '', description: 'x'.repeat(length) }));
    await turns();
    for (let batch = 0; batch < 2; batch++) await store.answer();
    expect(store.ids).toEqual([['0'], ['1', '2', '3'], ['4']]);
  });

  it('have those of whoever comes alone, however many of somebody else wait', async () => {
    const batcher = open({ maxBatch: 32, capacity: 1_000 });
    for (let n = 0; n < 100; n++) submit(batcher, `crowd-${n}`);
    await turns();
    void batcher.submit(registration('lone', {}, { actor: 'token:lone' }));
    await store.answer();
    expect(store.ids[1]).toContain('lone');
    expect(store.ids[1]).toHaveLength(32);
  });

  it('never hold an id twice, and keep the order of its writes', async () => {
    const batcher = open();
    const order: string[] = [];
    for (const [index, id] of ['a', 'b', 'a', 'c', 'a', 'b', 'd', 'e'].entries())
      void batcher.submit(registration(id)).then(() => order.push(`${id}${index}`));
    await turns();
    for (let batch = 0; batch < 3; batch++) await store.answer();
    expect(store.ids).toEqual([['a', 'b', 'c', 'd'], ['e', 'a', 'b'], ['a']]);
    expect(order).toEqual(['a0', 'b1', 'c3', 'd6', 'e7', 'a2', 'b5', 'a4']);
  });

  it('are reported with their size, how long they took, and whether they failed', async () => {
    const batcher = open();
    submit(batcher, 'a');
    await turns();
    clock.advance(7);
    await store.answer(unavailable);
    clock.advance(20);
    await turns();
    await store.answer();
    expect(reports).toEqual([
      { size: 1, durationMs: 7, failed: true },
      { size: 1, durationMs: 0, failed: false },
    ]);
  });
});

describe('two batches in flight', () => {
  const write = (batcher: WriteBatcher, ids: string) => [...ids].map((id) => submit(batcher, id));

  it('do not wait for each other, and a third waits for either', async () => {
    const batcher = open({ maxInFlight: 2 });
    write(batcher, 'ab');
    await turns();
    const [c] = write(batcher, 'c');
    await turns();
    write(batcher, 'de');
    await turns();
    expect(store.ids).toEqual([['a', 'b'], ['c']]);
    await store.answer();
    expect(c).toEqual({ outcome: 'written' });
    expect(store.ids).toEqual([['a', 'b'], ['c'], ['d', 'e']]);
  });

  it('never hold the same id, whose writes keep their order', async () => {
    const batcher = open({ maxInFlight: 2 });
    write(batcher, 'a');
    await turns();
    write(batcher, 'bac');
    write(batcher, 'ad');
    await turns();
    expect(store.ids).toEqual([['a'], ['b', 'c', 'd']]);
    store.batches[1]?.answer([written, written, written]);
    await turns();
    expect(store.ids).toHaveLength(2);
    store.batches[0]?.answer([written]);
    await turns();
    await store.answer();
    expect(store.ids.slice(2)).toEqual([['a'], ['a']]);
  });

  it('keep their own deadlines while the database is away', async () => {
    const batcher = open({ maxInFlight: 2 });
    const [a] = write(batcher, 'a');
    await turns();
    clock.advance(1000);
    const [b] = write(batcher, 'b');
    await turns();
    clock.advance(4000);
    await turns();
    expect([a, b]).toEqual([{ outcome: 'STORAGE_UNAVAILABLE' }, {}]);
    clock.advance(1000);
    await turns();
    expect(b).toEqual({ outcome: 'STORAGE_UNAVAILABLE' });
  });
});

describe('a write', () => {
  it('is answered with its own result, and only after the commit', async () => {
    const batcher = open();
    const [first, second] = [submit(batcher, 'a'), submit(batcher, 'b')];
    await turns();
    expect(first).toEqual({});
    store.batches[0]?.answer([{ outcome: 'not_found' }, written]);
    await turns();
    expect([first, second]).toEqual([{ outcome: 'not_found' }, { outcome: 'written' }]);
  });

  it('that was raced is written again, and the others of its batch are not', async () => {
    const batcher = open();
    const [first, second] = [submit(batcher, 'a'), submit(batcher, 'b')];
    await turns();
    store.batches[0]?.answer([{ outcome: 'raced' }, written]);
    await turns();
    expect([first, second]).toEqual([{}, { outcome: 'written' }]);
    clock.advance(20);
    await turns();
    await store.answer();
    expect(store.ids).toEqual([['a', 'b'], ['a']]);
    expect(first).toEqual({ outcome: 'written' });
  });

  it('that the database refuses is refused alone; the others of its batch are written', async () => {
    const batcher = open();
    const seen = ['a', 'b', 'bad', 'd'].map((id) => submit(batcher, id));
    await turns();
    for (let guard = 0; guard < 10 && seen.some((one) => !one.outcome); guard++) {
      await store.answer(store.ids.at(-1)?.includes('bad') ? refused : undefined);
    }
    expect(seen.map((one) => one.outcome)).toEqual(['written', 'written', 'STORAGE_REFUSED', 'written']);
  });

  it('that the store forgets to answer is an error, not a silence', async () => {
    const batcher = open();
    const seen = submit(batcher, 'a');
    await turns();
    store.batches[0]?.answer([]);
    await turns();
    expect(seen).toEqual({ outcome: 'INTERNAL' });
  });
});

describe('while the database is away', () => {
  it('a batch is tried again, ever more slowly, and written when the database is back', async () => {
    const batcher = open();
    const seen = submit(batcher, 'a');
    await turns();
    const pauses = [20, 40, 80, 160, 320, 500, 500];
    for (const pauseMs of pauses) {
      const before = store.batches.length;
      await store.answer(unavailable);
      clock.advance(pauseMs - 1);
      await turns();
      expect(store.batches).toHaveLength(before);
      clock.advance(1);
      await turns();
      expect(store.batches).toHaveLength(before + 1);
    }
    await store.answer();
    expect(seen).toEqual({ outcome: 'written' });
  });

  it.each(['not_found', 'forbidden', 'changed', 'late'] as const)(
    'a refusal (%s) of a batch that was sent before is no answer when nothing was written: the first run may come late',
    async (outcome) => {
      const batcher = open();
      const seen = submit(batcher, 'a');
      await turns();
      await store.answer(unavailable);
      clock.advance(20);
      await turns();
      store.batches.at(-1)?.answer([{ outcome }]);
      await turns();
      expect(seen.outcome).toBe('STORAGE_UNAVAILABLE');
    },
  );

  it('a refusal is an answer when the batch was sent once, or when others of it were written, which keeps the first run out', async () => {
    const batcher = open();
    const once = submit(batcher, 'a');
    await turns();
    store.batches.at(-1)?.answer([{ outcome: 'not_found' }]);
    await turns();
    expect(once.outcome).toBe('not_found');
    const [written1, again] = [submit(batcher, 'b'), submit(batcher, 'c')];
    await turns();
    await store.answer(unavailable);
    clock.advance(20);
    await turns();
    store.batches.at(-1)?.answer([written, { outcome: 'not_found' }]);
    await turns();
    expect([written1.outcome, again.outcome]).toEqual(['written', 'not_found']);
  });

  it('a batch that was sent before and is now refused stays one batch: its first run may have been written', async () => {
    const batcher = open();
    const seen = ['a', 'b'].map((id) => submit(batcher, id));
    await turns();
    await store.answer(unavailable);
    clock.advance(20);
    await turns();
    await store.answer(refused);
    expect(seen).toEqual([{}, {}]);
    clock.advance(40);
    await turns();
    await store.answer();
    expect(seen).toEqual([{ outcome: 'written' }, { outcome: 'written' }]);
    expect(store.ids).toEqual([
      ['a', 'b'],
      ['a', 'b'],
      ['a', 'b'],
    ]);
    expect(new Set(store.batches.map(({ batch }) => batch.number)).size).toBe(1);
  });

  it('a batch that never was sent is sent as for the first time: what it is answered then is certain', async () => {
    const batcher = open();
    const seen = ['a', 'bad'].map((id) => submit(batcher, id));
    await turns();
    await answer(0, unsent);
    await advance(20);
    await answer(1, refused);
    await answer(2, [{ outcome: 'not_found' }]);
    await answer(3, refused);
    expect(seen).toEqual([{ outcome: 'not_found' }, { outcome: 'STORAGE_REFUSED' }]);
  });

  it('a batch that was sent once may arrive, though it could not be sent again', async () => {
    submit(open(), 'a');
    await turns();
    await answer(0, unavailable);
    await advance(20);
    await answer(1, unsent);
    await advance(40);
    expect(new Set(store.batches.map(({ batch }) => batch.number))).toEqual(new Set([1]));
    await answer(2, refused);
    await advance(80);
    expect(store.ids).toEqual([['a'], ['a'], ['a'], ['a']]);
  });

  it('a batch that was sent before and is raced stays the same one, until it is known to have been written', async () => {
    const batcher = open();
    const [a, b] = [submit(batcher, 'a'), submit(batcher, 'b')];
    await turns();
    await answer(0, unavailable);
    await advance(20);
    await answer(1, [{ outcome: 'raced' }, { outcome: 'raced' }]);
    await advance(40);
    await answer(2, [written, { outcome: 'unwritten' }]);
    await advance(80);
    await answer(3, [written]);
    expect([a, b]).toEqual([{ outcome: 'written' }, { outcome: 'written' }]);
    expect(store.ids.at(-1)).toEqual(['b']);
    expect(store.batches.map(({ batch }) => batch.number)).toEqual([1, 1, 1, 2]);
  });

  it('a batch may be written until the earliest deadline in it, and no longer however often it is sent', async () => {
    const batcher = open();
    submit(batcher, 'a');
    clock.advance(1000);
    submit(batcher, 'b');
    await turns();
    await store.answer(unavailable);
    clock.advance(20);
    await turns();
    expect(store.batches.map(({ withinMs }) => withinMs)).toEqual([4000, 3980]);
  });

  it('what the store comes to too late is sent again where there is time left', async () => {
    const batcher = open();
    const [late, onTime] = [submit(batcher, 'a'), submit(batcher, 'b')];
    await turns();
    store.batches[0]?.answer([{ outcome: 'late' }, written]);
    await turns();
    expect([late, onTime]).toEqual([{}, { outcome: 'written' }]);
    clock.advance(20);
    await turns();
    await store.answer();
    expect(late).toEqual({ outcome: 'written' });
    const [first, second] = store.batches.map(({ batch }) => batch.number);
    expect(first).not.toBe(second);
  });

  it('a write is answered at its deadline, also when the store never answers', async () => {
    const batcher = open();
    const inFlight = submit(batcher, 'a');
    await turns();
    clock.advance(1000);
    const waiting = submit(batcher, 'b');
    clock.advance(3999);
    await turns();
    expect(inFlight).toEqual({});
    clock.advance(1);
    await turns();
    expect([inFlight, waiting]).toEqual([{ outcome: 'STORAGE_UNAVAILABLE' }, {}]);
    clock.advance(1000);
    await turns();
    expect(waiting).toEqual({ outcome: 'STORAGE_UNAVAILABLE' });
    expect(batcher.pending).toBe(0);
  });

  it('what was answered is not written later', async () => {
    const batcher = open();
    submit(batcher, 'a');
    await turns();
    clock.advance(4000);
    submit(batcher, 'b');
    submit(batcher, 'c');
    clock.advance(1000);
    await turns();
    await store.answer(unavailable);
    clock.advance(20);
    await turns();
    // Only what is still waiting for an answer.
    expect(store.ids).toEqual([['a'], ['b', 'c']]);
  });

  it('deadlines of very many writes are kept', async () => {
    const batcher = open({ capacity: 300_000 });
    const first = submit(batcher, 'first');
    await turns();
    clock.advance(1);
    let unanswered = 200_000;
    for (let index = 0; index < 200_000; index++)
      batcher.submit(registration(`task-${index}`)).catch(() => unanswered--);
    clock.advance(4999);
    await turns();
    expect(first).toEqual({ outcome: 'STORAGE_UNAVAILABLE' });
    expect(batcher.pending).toBe(200_000);
    clock.advance(1);
    await turns();
    expect([unanswered, batcher.pending]).toEqual([0, 0]);
  });

  it('no timer is left behind once everything is answered', async () => {
    const batcher = open();
    submit(batcher, 'a');
    submit(batcher, 'b');
    await turns();
    await store.answer();
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('room', () => {
  it('ends at the capacity: more is refused at once', async () => {
    const batcher = open({ capacity: 2 });
    const seen = ['a', 'b', 'c'].map((id) => submit(batcher, id));
    await turns();
    expect(batcher.hasRoom).toBe(false);
    expect(seen.map((one) => one.outcome)).toEqual([undefined, undefined, 'OVERLOADED']);
  });

  it('ends sooner for those who can wait, so that those who cannot are not refused', async () => {
    const batcher = open({ capacity: 4 });
    const seen = ['a', 'b', 'c'].map((id) => submit(batcher, id));
    expect(batcher.hasRoom).toBe(false);
    seen.push(submit(batcher, 'd'));
    await turns();
    expect(seen.map((one) => one.outcome)).toEqual(Array(4).fill(undefined));
    let told = false;
    void batcher.whenRoom().then(() => (told = true));
    await store.answer();
    expect([told, batcher.hasRoom]).toEqual([true, true]);
  });

  it('ends for an id before it does for all: others are taken, and it is told when there is room again', async () => {
    const batcher = open({ capacity: 1000, capacityPerId: 3 });
    const hot = Array.from({ length: 5 }, () => submit(batcher, 'hot'));
    const cold = submit(batcher, 'cold');
    await turns();
    expect(hot.map(({ outcome }) => outcome)).toEqual([...Array<undefined>(4), 'OVERLOADED']);
    expect([batcher.hasRoom, batcher.hasRoomFor('hot'), batcher.hasRoomFor('cold')]).toEqual([true, false, true]);
    let told = false;
    void batcher.whenRoomFor('hot').then(() => (told = true));
    expect(store.ids).toEqual([['hot', 'cold']]);
    await turns();
    expect(told).toBe(false);
    await store.answer();
    expect([told, cold.outcome, batcher.hasRoomFor('hot')]).toEqual([true, 'written', true]);
    for (let round = 0; round < 3; round++) await store.answer();
    expect(store.ids.slice(1)).toEqual([['hot'], ['hot'], ['hot']]);
    expect(batcher.pending).toBe(0);
  });

  it('is found for others at once, however many writes of one id wait', async () => {
    const batcher = open({ capacity: 100_000, capacityPerId: 50_000, maxBatch: 100 });
    for (let i = 0; i < 40_000; i++) batcher.submit(registration('hot')).catch(() => {});
    await turns();
    let reads = 0;
    const cold = new Proxy(registration('cold'), {
      get: (target, key) => (reads++, Reflect.get(target, key) as unknown),
    });
    void batcher.submit(cold);
    await store.answer();
    expect(store.ids.at(-1)).toEqual(['cold', 'hot']);
    expect(reads).toBeLessThan(20);
  });

  it('is there again after answers, and whoever waits for it is told', async () => {
    const batcher = open({ capacity: 1 });
    submit(batcher, 'a');
    let isTold = false;
    void batcher.whenRoom().then(() => (isTold = true));
    await turns();
    expect(isTold).toBe(false);
    await store.answer();
    expect([isTold, batcher.hasRoom, batcher.pending]).toEqual([true, true, 0]);
    await batcher.whenRoom();
  });
});

describe('stopping', () => {
  it('takes no more writes, finishes those it has, and then is done', async () => {
    const batcher = open({ maxBatch: 1 });
    const seen = [submit(batcher, 'a'), submit(batcher, 'b')];
    await turns();
    let isStopped = false;
    void batcher.stop().then(() => (isStopped = true));
    const late = submit(batcher, 'c');
    await batcher.whenRoom();
    await store.answer();
    expect(isStopped).toBe(false);
    await store.answer();
    expect([...seen, late].map((one) => one.outcome)).toEqual(['written', 'written', 'STOPPING']);
    expect(isStopped).toBe(true);
  });

  it('with nothing to do is done at once', async () => {
    await open().stop();
  });

  it('while the database is away ends at the deadlines', async () => {
    const batcher = open();
    const seen = submit(batcher, 'a');
    await turns();
    let isStopped = false;
    void batcher.stop().then(() => (isStopped = true));
    clock.advance(5000);
    await turns();
    expect([seen.outcome, isStopped]).toEqual(['STORAGE_UNAVAILABLE', true]);
  });
});

describe('a locked task', () => {
  const locked: TaskWriteResult = { outcome: 'locked' };
  const cannotTell = new TaskDashError('STORAGE_LOCKED');

  it('goes apart, so that others are written while it is tried again', async () => {
    const batcher = open();
    const [a, b] = [submit(batcher, 'a'), submit(batcher, 'b')];
    await turns();
    await answer(0, [locked, written]);
    expect([a, b]).toEqual([{}, { outcome: 'written' }]);
    const c = submit(batcher, 'c');
    await turns();
    expect(store.ids).toEqual([['a', 'b'], ['a'], ['c']]);
    await answer(2, [written]);
    expect(c.outcome).toBe('written');
    await answer(1, [locked]);
    expect(store.ids).toHaveLength(3);
    await advance(20);
    expect(store.ids[3]).toEqual(['a']);
    await answer(3, [written]);
    expect(a.outcome).toBe('written');
    expect(new Set(store.batches.map(({ batch }) => `${batch.lane}.${batch.number}`)).size).toBe(4);
    expect(clock.pendingTimers).toBe(0);
  });

  it('takes along what is written to it next, in order, and holds no other locked one up', async () => {
    const batcher = open();
    const seen = ['a', 'a', 'b'].map((id) => submit(batcher, id));
    await turns();
    await answer(0, [locked, locked]);
    await answer(1, [locked, written]);
    expect(seen).toEqual([{}, {}, { outcome: 'written' }]);
    await advance(20);
    await answer(2, [written]);
    expect(seen[0]?.outcome).toBe('written');
    expect(store.ids).toEqual([['a', 'b'], ['a', 'b'], ['a'], ['a']]);
  });

  it('is not tried again without time for a certain answer: nothing was written', async () => {
    const batcher = open();
    const seen = submit(batcher, 'a');
    await turns();
    await advance(4500);
    await answer(0, [locked]);
    expect(seen.outcome).toBe('STORAGE_LOCKED');
    expect(batcher.pending).toBe(0);
  });

  it('is remembered: who writes it next comes apart at once, until it is found free', async () => {
    const batcher = open();
    submit(batcher, 'a');
    await turns();
    await advance(4500);
    await answer(0, [locked]);
    submit(batcher, 'a');
    submit(batcher, 'b');
    await turns();
    expect(store.ids).toEqual([['a'], ['b'], ['a']]);
    await answer(2, [written]);
    submit(batcher, 'a');
    await answer(1, [written]);
    expect(store.ids).toEqual([['a'], ['b'], ['a'], ['a']]);
  });

  it('of a batch that was sent before stays with it: the first run may be what has locked it', async () => {
    submit(open(), 'a');
    await turns();
    await answer(0, unavailable);
    await advance(20);
    await answer(1, [locked]);
    await advance(40);
    expect(new Set(store.batches.map(({ batch }) => batch.number)).size).toBe(1);
    expect(store.ids).toEqual([['a'], ['a'], ['a']]);
  });

  it('of a batch that was sent before goes apart when others of it were written, which keeps the first run out', async () => {
    const batcher = open();
    submit(batcher, 'a');
    submit(batcher, 'b');
    await turns();
    await answer(0, unavailable);
    await advance(20);
    await answer(1, [locked, written]);
    submit(batcher, 'c');
    await turns();
    expect(store.ids.slice(2)).toEqual([['a'], ['c']]);
    expect(new Set(store.batches.map(({ batch }) => `${batch.lane}.${batch.number}`)).size).toBe(3);
  });

  it('that the store cannot tell is found apart, while others are written', async () => {
    const batcher = open();
    const seen = ['a', 'hidden', 'c'].map((id) => submit(batcher, id));
    await turns();
    await answer(0, cannotTell);
    submit(batcher, 'd');
    await turns();
    expect(store.ids).toEqual([['a', 'hidden', 'c'], ['a', 'hidden', 'c'], ['d']]);
    await answer(1, cannotTell);
    await answer(3, [written]);
    await answer(4, cannotTell);
    await answer(5, cannotTell);
    await answer(6, [written]);
    expect(store.ids.slice(3)).toEqual([['a'], ['hidden', 'c'], ['hidden'], ['c']]);
    expect(seen).toEqual([{ outcome: 'written' }, {}, { outcome: 'written' }]);
    await advance(20);
    expect(store.ids[7]).toEqual(['hidden']);
  });
});
