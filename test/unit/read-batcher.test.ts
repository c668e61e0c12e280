import { describe, expect, it } from 'vitest';
import { Deadline } from '../../server/domain/deadline.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { ReadBatcher, type ReadBatcherOptions } from '../../server/domain/read-batcher.js';
import type { Task } from '../../server/domain/task.js';
import { ManualClock } from '../support/manual-clock.js';

/** A store whose answers come when a test says so. */
class HandStore {
  readonly asked: { ids: readonly string[]; answer: () => void; fail: (error: unknown) => void }[] = [];
  readonly scoped: string[] = [];
  readonly tasks = new Map<string, Task>();

  findMany(_scope: unknown, ids: readonly string[]): Promise<Task[]> {
    return new Promise((resolve, reject) => {
      const found = () => ids.map((id) => this.tasks.get(id)).filter((task) => task !== undefined);
      this.asked.push({ ids, answer: () => resolve(found()), fail: reject });
    });
  }

  find(_scope: unknown, id: string): Promise<Task | undefined> {
    this.scoped.push(id);
    return Promise.resolve(undefined);
  }
}

const unavailable = () => new TaskDashError('STORAGE_UNAVAILABLE');

function bench(options: Partial<ReadBatcherOptions> = {}) {
  const store = new HandStore();
  const clock = new ManualClock();
  const reader = new ReadBatcher(store, clock, { lanes: 1, ...options });
  const find = (id: string) => reader.find('everything', id);
  return { store, clock, reader, find };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

describe('the read batcher', () => {
  it('asks for what one turn wants in one query, each id once', async () => {
    const { store, find, reader } = bench();
    store.tasks.set('a', { id: 'a' } as Task);
    const answers = ['a', 'b', 'a'].map(find);
    await settle();
    expect(store.asked.map(({ ids }) => ids)).toEqual([['a', 'b']]);
    expect(reader.pending).toBe(3);
    store.asked[0]?.answer();
    expect(await Promise.all(answers)).toEqual([{ id: 'a' }, undefined, { id: 'a' }]);
    expect(reader.pending).toBe(0);
  });

  it('answers no more in one turn than a loop can take, and all of it', async () => {
    const { store, find } = bench();
    store.tasks.set('long', { id: 'long', description: 'x'.repeat(50_000) } as Task);
    let answered = 0;
    const answers = Array.from({ length: 9 }, () => find('long').then(() => answered++));
    await settle();
    store.asked[0]?.answer();
    await settle();
    expect(answered).toBe(2);
    await new Promise((resolve) => setImmediate(resolve));
    await settle();
    expect(answered).toBe(4);
    await Promise.all(answers);
    expect(answered).toBe(9);
  });

  it('answers no more in one turn when several lanes do', async () => {
    const { store, find } = bench({ lanes: 2 });
    store.tasks.set('long', { id: 'long', description: 'x'.repeat(50_000) } as Task);
    let answered = 0;
    const ask = async () => {
      const answers = [1, 2, 3].map(() => find('long').then(() => answered++));
      await settle();
      return answers;
    };
    const answers = [...(await ask()), ...(await ask())];
    for (const asked of store.asked) asked.answer();
    await settle();
    expect(answered).toBe(2);
    await Promise.all(answers);
    expect(answered).toBe(6);
  });

  it('never lets a find join a query that is under way', async () => {
    const { store, find } = bench();
    const early = find('a');
    await settle();
    const late = find('a');
    await settle();
    expect(store.asked).toHaveLength(1);
    store.asked[0]?.answer();
    await early;
    store.tasks.set('a', { id: 'a' } as Task);
    await settle();
    store.asked[1]?.answer();
    expect(await late).toEqual({ id: 'a' });
  });

  it('has as many queries under way as it has lanes, none larger than allowed', async () => {
    const { store, find } = bench({ lanes: 2, maxBatch: 3 });
    const answers = [find('a')];
    await settle();
    answers.push(...['b', 'c', 'd', 'e', 'f'].map(find));
    await settle();
    expect(store.asked.map(({ ids }) => ids)).toEqual([['a'], ['b', 'c', 'd']]);
    store.asked[0]?.answer();
    await settle();
    expect(store.asked[2]?.ids).toEqual(['e', 'f']);
    for (const { answer } of store.asked) answer();
    await Promise.all(answers);
  });

  it('sends a find with a scope its own way', async () => {
    const { store, reader } = bench();
    await reader.find({ user: 'u', ownGroups: [], wholeGroups: ['g'] }, 'a');
    expect(store.scoped).toEqual(['a']);
    expect(store.asked).toEqual([]);
  });

  it('tries again while the database is away, and answers when it is back', async () => {
    const { store, clock, find } = bench();
    const answer = find('a');
    await settle();
    store.asked[0]?.fail(unavailable());
    await settle();
    clock.advance(20);
    await settle();
    expect(store.asked).toHaveLength(2);
    store.asked[1]?.answer();
    expect(await answer).toBeUndefined();
    expect(clock.pendingTimers).toBe(0);
  });

  it('gives up at the deadline of each find, even when the store never answers', async () => {
    const { store, clock, find, reader } = bench({ deadlineMs: 1_000 });
    const first = find('a').catch((error: unknown) => error);
    await settle();
    clock.advance(400);
    const second = find('b').catch((error: unknown) => error);
    clock.advance(600);
    expect(await first).toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    expect(reader.pending).toBe(1);
    clock.advance(400);
    expect(await second).toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    store.asked[0]?.answer();
    await settle();
    expect(store.asked).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
  });

  it('passes a refusal on at once', async () => {
    const { store, find } = bench();
    const answer = find('a').catch((error: unknown) => error);
    await settle();
    store.asked[0]?.fail(new Error('surprise'));
    expect(await answer).toMatchObject({ code: 'INTERNAL' });
  });

  it('refuses more than it may hold, and says when there is room again', async () => {
    const { store, find, reader } = bench({ capacity: 2 });
    const answers = [find('a'), find('b')];
    expect(reader.hasRoom).toBe(false);
    await expect(find('c')).rejects.toMatchObject({ code: 'OVERLOADED' });
    const room = reader.whenRoom().then(() => reader.hasRoom);
    await settle();
    store.asked[0]?.answer();
    expect(await room).toBe(true);
    await Promise.all(answers);
    await reader.whenRoom();
  });

  it('has all answered by a deadline for all, what still comes too', async () => {
    const { clock, find, reader } = bench();
    const waiting = find('a');
    reader.endBy(new Deadline(clock, 1000));
    const late = find('b');
    clock.advance(1000);
    await expect(waiting).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    await expect(late).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    await reader.stop();
  });

  it('stops when all is answered, and takes nothing more', async () => {
    const { store, find, reader } = bench();
    const answer = find('a');
    const stopped = reader.stop();
    await expect(find('b')).rejects.toMatchObject({ code: 'STOPPING' });
    await reader.whenRoom();
    await settle();
    store.asked[0]?.answer();
    await stopped;
    expect(await answer).toBeUndefined();
    await reader.stop();
  });
});
