/**
 * The promises of the batcher, kept before a database that does whatever one may do: it loses answers, comes to statements late,
 * or never hears of them, while somebody keeps tasks locked, seen or not, and refuses others.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { BatchId } from '../../server/domain/batch-id.js';
import { delay } from '../../server/domain/clock.js';
import { TaskDashError } from '../../server/domain/errors.js';
import type { TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import { WriteBatcher } from '../../server/domain/write-batcher.js';
import { ManualClock } from '../support/manual-clock.js';
import { registration } from '../support/task-writes.js';

const DEADLINE_MS = 3_000;
const IDS = ['a', 'b', 'c', 'd', 'e', 'f', 'bad'];

/** What a task has been, one after the other. */
type History = { name: string; atMs: number }[];

/** The same numbers between 0 and 1 for the same seed. */
function randomOf(seed: number): () => number {
  let state = (Math.abs(seed) % 2_147_483_646) + 1;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

class RoughDatabase {
  readonly histories = new Map<string, History>(IDS.map((id) => [id, []]));
  readonly seen = new Set<string>();
  readonly hidden = new Set<string>();
  /** How much goes wrong between server and database, from 0 to 1. */
  trouble = 0;
  /** What the batches that were written wrote. */
  readonly #written = new Map<string, Map<string, TaskWriteResult>>();

  constructor(
    private readonly clock: ManualClock,
    private readonly random: () => number,
  ) {}

  writeBatch(writes: readonly TaskWrite[], batch: BatchId, withinMs: number): Promise<TaskWriteResult[]> {
    const lateAtMs = this.clock.monotonicMs() + withinMs;
    const run = () => this.#run(writes, `${batch.lane}.${batch.number}`, lateAtMs);
    if (this.random() > this.trouble) return this.#after(this.random() * 30, run);
    const isSent = this.random() < 0.7;
    if (isSent) void this.#after(this.random() * 1_000, run).catch(() => {});
    return this.#after(this.random() * 200, () => {
      throw new TaskDashError('STORAGE_UNAVAILABLE', { nothingSent: !isSent });
    });
  }

  #after<T>(ms: number, work: () => T): Promise<T> {
    return delay(this.clock, ms).then(work);
  }

  #run(writes: readonly TaskWrite[], name: string, lateAtMs: number): TaskWriteResult[] {
    const before = this.#written.get(name);
    if (before) return writes.map(({ id }) => before.get(id) ?? { outcome: 'unwritten' });
    if (writes.some(({ id }) => this.hidden.has(id))) throw new TaskDashError('STORAGE_LOCKED');
    if (writes.some(({ id }) => id === 'bad')) throw new TaskDashError('STORAGE_REFUSED');
    if (this.random() < 0.05) return writes.map(() => ({ outcome: 'raced' }));
    const results = writes.map((write) => this.#write(write, lateAtMs));
    const written = writes.map(({ id }, n) => [id, results[n]] as [string, TaskWriteResult]);
    const changed = written.filter(([, { outcome }]) => outcome === 'written');
    if (changed.length > 0) this.#written.set(name, new Map(changed));
    return results;
  }

  #write({ id, texts }: TaskWrite, lateAtMs: number): TaskWriteResult {
    if (this.seen.has(id)) return { outcome: 'locked' };
    const atMs = this.clock.monotonicMs();
    if (atMs > lateAtMs) return { outcome: 'late' };
    const history = this.histories.get(id) ?? [];
    history.push({ name: texts.name ?? '', atMs });
    return { outcome: 'written', revision: history.length, epoch: 0, status: 'running' };
  }
}

interface Submitted {
  readonly id: string;
  readonly name: string;
  readonly atMs: number;
  answer?: { outcome: string; revision?: number; atMs: number };
}

/** Lets random things happen for a while, and everything come to its end. */
async function play(seed: number) {
  const [clock, random] = [new ManualClock(), randomOf(seed)];
  const database = new RoughDatabase(clock, random);
  const batcher = new WriteBatcher(database, clock, {
    ...{ maxBatch: 4, maxInFlight: 2, capacity: 1_000, deadlineMs: DEADLINE_MS },
  });
  const submitted: Submitted[] = [];
  const submit = (id: string) => {
    const one: Submitted = { id, name: `${submitted.length}`, atMs: clock.monotonicMs() };
    submitted.push(one);
    const answered = (answer: { outcome: string; revision?: number }) =>
      (one.answer = { ...answer, atMs: clock.monotonicMs() });
    batcher
      .submit(registration(id, { name: one.name }))
      .then(answered, ({ code }: TaskDashError) => answered({ outcome: code }));
  };
  const some = () => IDS[Math.floor(random() * IDS.length)] ?? '';
  const toggle = (ids: Set<string>, id: string) => void (ids.delete(id) || ids.add(id));
  for (let step = 0; clock.monotonicMs() < 3 * DEADLINE_MS; step++) {
    const isOver = clock.monotonicMs() > 2 * DEADLINE_MS;
    if (!isOver && random() < 0.2) submit(some());
    if (random() < 0.03) toggle(database.seen, some());
    if (random() < 0.03) toggle(database.hidden, some());
    if (random() < 0.05) database.trouble = random() < 0.5 ? 0 : random();
    clock.advance(10);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return { submitted, database, pending: batcher.pending };
}

const CERTAIN = new Set(['STORAGE_LOCKED', 'STORAGE_REFUSED']);

it('whatever happens, nothing is lost, written twice, or told not to be written when it may be', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), async (seed) => {
      const { submitted, database, pending } = await play(seed);
      expect(pending).toBe(0);
      for (const { id, name, atMs, answer } of submitted) {
        const history = database.histories.get(id) ?? [];
        const times = history.filter((one) => one.name === name);
        if (answer?.outcome === 'written')
          expect([times.length, history[(answer.revision ?? 0) - 1]?.name]).toEqual([1, name]);
        else expect(times.length).toBeLessThanOrEqual(CERTAIN.has(answer?.outcome ?? '') ? 0 : 1);
        expect((answer?.atMs ?? Infinity) - atMs).toBeLessThanOrEqual(DEADLINE_MS + 10);
        for (const one of times) expect(one.atMs - atMs).toBeLessThanOrEqual(DEADLINE_MS);
      }
      for (const history of database.histories.values()) {
        const names = history.map(({ name }) => Number(name));
        expect(names).toEqual([...names].sort((one, other) => one - other));
      }
    }),
    { numRuns: 40 },
  );
});
