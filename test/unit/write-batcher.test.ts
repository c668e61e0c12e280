import { beforeEach, describe, expect, it } from 'vitest';
import { nextTurn } from '../../server/domain/clock.js';
import type { BatchId } from '../../server/domain/batch-id.js';
import { Deadline } from '../../server/domain/deadline.js';
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
    isHurried: boolean;
    answer: (results: TaskWriteResult[] | Error) => void;
  }[] = [];

  writeBatch(
    writes: readonly TaskWrite[],
    batch: BatchId,
    withinMs: number,
    isHurried: boolean,
  ): Promise<TaskWriteResult[]> {
    return new Promise((resolve, reject) => {
      const answer = (results: TaskWriteResult[] | Error) =>
        results instanceof Error ? reject(results) : resolve(results);
      this.batches.push({ writes, batch, withinMs, isHurried, answer });
    });
  }

  /** The ids of every batch so far. */
  get ids(): string[][] {
    return this.batches.map(({ writes }) => writes.map(({ id }) => id));
  }

  /** The names of the batches so far, in letters: A for the first, and again for whatever is sent as the same. */
  get names(): string {
    const all = this.batches.map(({ batch }) => `${batch.lane}.${batch.number}`);
    const known = [...new Set(all)];
    return all.map((name) => String.fromCharCode(65 + known.indexOf(name))).join('');
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
const locked: TaskWriteResult = { outcome: 'locked' };
const unwritten: TaskWriteResult = { outcome: 'unwritten' };
const cannotTell = new TaskDashError('STORAGE_LOCKED');
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

describe('a large batch', () => {
  it('is answered bit by bit, in several turns of the event loop', async () => {
    const batcher = open({ maxBatch: 1_000, capacity: 1_000 });
    let answered = 0;
    for (let n = 0; n < 250; n++) void batcher.submit(registration(`t-${n}`)).then(() => answered++);
    await turns();
    await store.answer();
    const seen = [answered];
    for (let turn = 0; turn < 3; turn++) {
      await nextTurn();
      seen.push(answered);
    }
    expect(seen).toEqual([100, 200, 250, 250]);
    expect(batcher.pending).toBe(0);
  });

  it('is answered in larger bits where more wait than those', async () => {
    const batcher = open({ maxBatch: 6_400, capacity: 6_400, maxBatchLength: Infinity });
    let answered = 0;
    for (let n = 0; n < 6_400; n++) void batcher.submit(registration(`t-${n}`)).then(() => answered++);
    await turns();
    await store.answer();
    expect(answered).toBeGreaterThan(180);
    expect(answered).toBeLessThan(201);
  });

  it('keeps its writes until their deadline, of which the rest is told that nobody knows', async () => {
    const batcher = open({ maxBatch: 1_000, capacity: 1_000 });
    const outcomes = Array.from({ length: 150 }, (_, n) =>
      batcher.submit(registration(`t-${n}`)).then(
        () => 'written',
        (error: TaskDashError) => error.code,
      ),
    );
    await turns();
    await store.answer();
    clock.advance(5_000);
    await nextTurn();
    const all = await Promise.all(outcomes);
    expect(all.filter((outcome) => outcome === 'written')).toHaveLength(100);
    expect(all.filter((outcome) => outcome === 'STORAGE_UNAVAILABLE')).toHaveLength(50);
  });
});

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

  it('a batch that never was sent is sent as a new one: what it is answered then is certain', async () => {
    const batcher = open();
    const seen = ['a', 'bad'].map((id) => submit(batcher, id));
    await turns();
    await answer(0, unsent);
    await advance(20);
    await answer(1, refused);
    await answer(2, [{ outcome: 'not_found' }]);
    await answer(3, refused);
    expect(seen).toEqual([{ outcome: 'not_found' }, { outcome: 'STORAGE_REFUSED' }]);
    expect(store.names).toBe('ABCD');
  });

  it('a batch that was sent once may arrive, though it could not be sent again', async () => {
    submit(open(), 'a');
    await turns();
    await answer(0, unavailable);
    await advance(20);
    await answer(1, unsent);
    await advance(40);
    expect(store.names).toBe('AAA');
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
    expect(store.names).toBe('AAAB');
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

  it('a write is answered at its deadline, also when it comes after all others were given up', async () => {
    const batcher = open();
    submit(batcher, 'a');
    await turns();
    await advance(5000);
    const seen = submit(batcher, 'b');
    await advance(5000);
    expect(seen).toEqual({ outcome: 'STORAGE_UNAVAILABLE' });
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

describe('a write that is not answered in time', () => {
  const late = 'The database did not answer in time.';
  const unknown = 'The database did not answer in time; it is not known whether this was written.';
  const messageOf = (writing: Promise<unknown>) => writing.then(String, (error: TaskDashError) => error.message);

  it('is told that it may be written when it was sent, and else just that', async () => {
    const batcher = open({ maxBatch: 1 });
    const outcomes = ['sent', 'waiting'].map((id) => messageOf(batcher.submit(registration(id))));
    await turns();
    await advance(5_000);
    expect(await Promise.all(outcomes)).toEqual([unknown, late]);
  });

  it('counts as sent no more than it was', async () => {
    const batcher = open();
    const [never, once] = ['never', 'once'].map((id) => messageOf(batcher.submit(registration(id))));
    await turns();
    await store.answer(unsent);
    await advance(5_000);
    expect(await never).toBe(late);
    expect(await once).toBe(late);
    const again = messageOf(batcher.submit(registration('again')));
    await turns();
    await store.answer(unavailable);
    await advance(500);
    await store.answer(unsent);
    await advance(5_000);
    expect(await again).toBe(unknown);
  });
});

describe('a deadline for all', () => {
  it('ends what waits, what is in flight, and what still comes, whatever time they had', async () => {
    const batcher = open({ maxBatch: 1 });
    const [inFlight, waiting] = [submit(batcher, 'a'), submit(batcher, 'b')];
    await turns();
    batcher.endBy(new Deadline(clock, 1000));
    await advance(500);
    const late = submit(batcher, 'c');
    await advance(499);
    expect([inFlight, waiting, late]).toEqual([{}, {}, {}]);
    await advance(1);
    const failed = { outcome: 'STORAGE_UNAVAILABLE' };
    expect([inFlight, waiting, late]).toEqual([failed, failed, failed]);
    await batcher.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  it('tells the store until when it may write what it is sent from then on', async () => {
    const batcher = open();
    batcher.endBy(new Deadline(clock, 1000));
    const written = submit(batcher, 'a');
    await turns();
    expect(store.batches.map(({ withinMs }) => withinMs)).toEqual([1000]);
    await store.answer();
    expect(written.outcome).toBe('written');
  });

  it('gives nobody more time than they had', async () => {
    const batcher = open();
    const seen = submit(batcher, 'a');
    await turns();
    batcher.endBy(new Deadline(clock, 60_000));
    await advance(5000);
    expect(seen.outcome).toBe('STORAGE_UNAVAILABLE');
  });

  it('that is over lets nothing be sent', async () => {
    const batcher = open();
    batcher.endBy(new Deadline(clock, 0));
    const seen = submit(batcher, 'a');
    await turns();
    await advance(1);
    expect([seen.outcome, store.ids]).toEqual(['STORAGE_UNAVAILABLE', []]);
  });
});

describe('a locked task', () => {
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

describe('a batch that was sent before and is answered without a conclusion', () => {
  /** Submits, loses the answer, and gives the second run another one. */
  async function sentBefore(batcher: WriteBatcher, ids: string, second: TaskWriteResult[] | Error) {
    const index = store.batches.length;
    const seen = [...ids].map((id) => submit(batcher, id));
    await turns();
    await answer(index, unavailable);
    await advance(20);
    await answer(index + 1, second);
    return seen;
  }

  it.each([
    ['locked', [locked]],
    ['raced', [{ outcome: 'raced' } as const]],
    ['a locked task that cannot be told', cannotTell],
    ['a refusal', refused],
    ['a defect', new Error('defect')],
  ])('keeps its identity apart, while others go by its lane (%s)', async (_what, second) => {
    const batcher = open();
    const [a] = await sentBefore(batcher, 'a', second);
    const c = submit(batcher, 'c');
    await turns();
    await answer(3, [written]);
    expect([a, c]).toEqual([{}, { outcome: 'written' }]);
    await answer(2, second);
    await advance(20);
    await answer(4, [written]);
    expect([store.ids, store.names]).toEqual([[['a'], ['a'], ['a'], ['c'], ['a']], 'AAABA']);
    expect([a?.outcome, clock.pendingTimers]).toEqual(['written', 0]);
  });

  it('holds up nobody, however many lanes such batches came by', async () => {
    const batcher = open({ maxInFlight: 2 });
    submit(batcher, 'a');
    await turns();
    submit(batcher, 'b');
    await turns();
    for (const index of [0, 1]) await answer(index, unavailable);
    await advance(20);
    for (const index of [2, 3]) await answer(index, [locked]);
    const c = submit(batcher, 'c');
    await turns();
    await answer(
      store.ids.findIndex(([id]) => id === 'c'),
      [written],
    );
    expect(c.outcome).toBe('written');
  });

  it('is tried beside the locked ones until its deadline, at which nobody knows what became of it', async () => {
    const batcher = open();
    const [a] = await sentBefore(batcher, 'a', [locked]);
    await answer(2, [locked]);
    const b = submit(batcher, 'b');
    await turns();
    await answer(3, [locked]);
    for (let index = 4; store.batches[index]; index++) {
      await answer(index, [locked]);
      await advance(20);
    }
    expect(store.ids.slice(4, 8)).toEqual([['a'], ['b'], ['a'], ['b']]);
    expect(store.batches.slice(4, 8).map(({ isHurried }) => isHurried)).toEqual([true, false, true, false]);
    for (let index = 4; clock.monotonicMs() < 6000; await advance(20))
      for (; store.batches[index]; index++) await answer(index, [locked]);
    expect([a, b]).toEqual([{ outcome: 'STORAGE_UNAVAILABLE' }, { outcome: 'STORAGE_LOCKED' }]);
  });

  it('is halved apart as the same: the first part that is written ends that, and the others are new', async () => {
    const batcher = open();
    const [a, b] = await sentBefore(batcher, 'ab', cannotTell);
    await answer(2, cannotTell);
    await answer(3, cannotTell);
    await answer(4, [written]);
    expect([store.ids.slice(2), store.names]).toEqual([[['a', 'b'], ['a'], ['b']], 'AAAAA']);
    expect([a, b]).toEqual([{}, { outcome: 'written' }]);
    await advance(20);
    await answer(5, [unwritten]);
    await advance(20);
    await answer(6, cannotTell);
    expect([store.ids.slice(5), store.names]).toEqual([[['a'], ['a']], 'AAAAAAB']);
    await advance(4500);
    for (let index = 7; store.batches[index]; index++) await answer(index, cannotTell);
    expect(a?.outcome).toBe('STORAGE_LOCKED');
  });

  it('is halved apart until the refused one is certain to be refused', async () => {
    const seen = await sentBefore(open(), 'ab', refused);
    await answer(2, refused);
    await answer(3, [written]);
    await answer(4, [unwritten]);
    await advance(20);
    await answer(5, refused);
    expect(seen).toEqual([{ outcome: 'written' }, { outcome: 'STORAGE_REFUSED' }]);
    expect(store.names).toBe('AAAAAB');
  });
});

describe('a batch that fails by a defect', () => {
  it('is split as the same, since it may have been written before that', async () => {
    const batcher = open();
    const seen = ['a', 'b'].map((id) => submit(batcher, id));
    await turns();
    await answer(0, new Error('defect'));
    await answer(1, [written]);
    await answer(2, [unwritten]);
    await advance(20);
    await answer(3, [written]);
    expect([seen, store.names]).toEqual([[{ outcome: 'written' }, { outcome: 'written' }], 'AAAB']);
  });

  it('keeps its identity also where others are in the way of it', async () => {
    const batcher = open();
    const seen = ['a', 'b'].map((id) => submit(batcher, id));
    await turns();
    await answer(0, new Error('defect'));
    await answer(1, [{ outcome: 'raced' }]);
    await answer(2, [written]);
    await advance(20);
    await answer(3, [written]);
    expect([seen, store.names]).toEqual([[{ outcome: 'written' }, { outcome: 'written' }], 'AAAA']);
  });

  it('fails at once where it is alone: no run of it is under way', async () => {
    const batcher = open();
    const seen = ['a', 'b'].map((id) => submit(batcher, id));
    await turns();
    await answer(0, new Error('defect'));
    await answer(1, new Error('defect'));
    await answer(2, [written]);
    expect([seen, store.ids]).toEqual([
      [{ outcome: 'INTERNAL' }, { outcome: 'written' }],
      [['a', 'b'], ['a'], ['b']],
    ]);
  });
});

describe('the line of the locked', () => {
  it('rests longer while nothing comes of it, until something new comes', async () => {
    const batcher = open({ capacity: 100 });
    submit(batcher, 'a');
    await turns();
    await answer(0, [locked]);
    for (const [index, pauseMs] of [20, 40, 80, 160, 320, 320].entries()) {
      await answer(index + 1, [locked]);
      await advance(pauseMs - 1);
      expect(store.batches).toHaveLength(index + 2);
      await advance(1);
      expect(store.batches).toHaveLength(index + 3);
    }
    await answer(7, [locked]);
    submit(batcher, 'b');
    submit(batcher, 'c');
    await turns();
    await answer(8, cannotTell);
    expect(store.ids.slice(8)).toEqual([
      ['b', 'c'],
      ['b', 'c'],
    ]);
    await answer(9, [written, written]);
    await answer(10, [locked]);
    await advance(20);
    expect(store.ids.slice(10)).toEqual([['a'], ['a']]);
  });

  it('does not rest when the last of it was given up', async () => {
    const batcher = open();
    submit(batcher, 'a');
    await turns();
    await answer(0, [locked]);
    await advance(4500);
    await answer(1, [locked]);
    submit(batcher, 'a');
    await turns();
    expect(store.ids).toEqual([['a'], ['a'], ['a']]);
  });

  it('tries in a hurry and alone what hides from the store, whoever writes it next', async () => {
    const batcher = open();
    submit(batcher, 'hidden');
    await turns();
    await answer(0, cannotTell);
    await advance(4500);
    await answer(1, cannotTell);
    submit(batcher, 'hidden');
    submit(batcher, 'b');
    await advance(20);
    expect(store.ids.slice(2)).toEqual([['b'], ['hidden']]);
    expect(store.batches.map(({ isHurried }) => isHurried)).toEqual([false, true, false, true]);
  });

  it('goes on halving in its next turn where that takes long, and lets others have theirs between', async () => {
    const ids = ['a', 'b', 'c', 'd'];
    const batcher = open({ maxBatch: 8 });
    const seen = ids.map((id) => submit(batcher, id));
    await turns();
    await answer(0, cannotTell);
    await advance(500);
    await answer(1, cannotTell);
    await advance(20);
    expect(store.ids.slice(1)).toEqual([ids, ['c', 'd']]);
    await advance(500);
    await answer(2, cannotTell);
    await answer(3, cannotTell);
    await advance(20);
    expect(store.ids.slice(3, 5)).toEqual([['a', 'b'], ['b']]);
    for (let index = 4; index < 8; index++) await answer(index, [written]);
    expect(seen).toEqual(ids.map(() => ({ outcome: 'written' })));
  });

  it('tries a few of those that hide in a turn, and all of them in turn', async () => {
    const batcher = open({ maxBatch: 100, capacity: 100, deadlineMs: 60_000 });
    for (let n = 0; n < 40; n++) submit(batcher, `${n}`);
    await turns();
    for (let index = 0; store.batches[index]; index++) await answer(index, cannotTell);
    await turns();
    const tried = store.batches.length;
    await advance(20);
    for (let index = tried; store.batches[index]; index++) await answer(index, cannotTell);
    expect(store.ids.slice(tried)).toEqual(Array.from({ length: 16 }, (_, n) => [`${n}`]));
    await advance(40);
    expect(store.ids.at(-1)).toEqual(['16']);
  });

  it('has all that are found locked, also when they are more than can be remembered', async () => {
    const batcher = open({ maxBatch: 20_000, maxBatchLength: Infinity, capacity: 20_000 });
    for (let n = 0; n < 10_001; n++) batcher.submit(registration(`${n}`)).catch(() => {});
    await turns();
    await answer(
      0,
      Array.from({ length: 10_001 }, () => locked),
    );
    expect(store.batches.map(({ writes }) => writes.length)).toEqual([10_001, 10_001]);
  });

  it('keeps the deadlines while it rests', async () => {
    const batcher = open();
    const seen = submit(batcher, 'a');
    await turns();
    await answer(0, unavailable);
    await advance(20);
    await answer(1, [locked]);
    await advance(4975);
    await answer(2, [locked]);
    await advance(4);
    expect(seen).toEqual({});
    await advance(1);
    expect(seen).toEqual({ outcome: 'STORAGE_UNAVAILABLE' });
    await advance(15);
    expect([store.batches.length, clock.pendingTimers]).toEqual([3, 0]);
  });

  it('is waited for by whoever stops, until the last is answered', async () => {
    const batcher = open({ maxInFlight: 2 });
    submit(batcher, 'lost');
    await turns();
    const locked1 = submit(batcher, 'locked');
    await turns();
    await answer(0, unavailable);
    await answer(1, [locked]);
    let isStopped = false;
    void batcher.stop().then(() => (isStopped = true));
    for (let index = 2; !isStopped && clock.monotonicMs() < 10_000; await advance(10))
      for (; store.batches[index]; index++) await answer(index, [locked]);
    expect([clock.monotonicMs(), locked1.outcome]).toEqual([5_000, 'STORAGE_LOCKED']);
    await advance(320);
    expect(clock.pendingTimers).toBe(0);
  });
});
