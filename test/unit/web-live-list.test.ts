import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Task } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { LiveList, MAX_WAITING, type ListFrame, type LiveChange } from '../../web/src/state/live-list.js';
import { matchesQuery } from '../../web/src/state/task-match.js';
import { compareTasks, type TaskOrder } from '../../web/src/state/task-order.js';
import { EMPTY_QUERY, parseQuery } from '../../web/src/state/task-query.js';
import { aTask, START_MS } from '../support/web-tasks.js';

const byId: TaskOrder = { field: 'id', ascending: true };
const frame: ListFrame = { query: EMPTY_QUERY, order: byId, pageSize: 3, after: undefined, isFirstPage: true };

function changed(task: Task): LiveChange {
  return { taskId: task.id, revision: task.revision, task };
}

function gone(taskId: string, revision: number): LiveChange {
  return { taskId, revision: BigInt(revision), task: undefined };
}

function loaded(tasks: readonly Task[], nextPageToken = '', given: Partial<ListFrame> = {}): LiveList {
  const list = new LiveList({ ...frame, ...given });
  list.beginLoad();
  list.load({ tasks, nextPageToken });
  return list;
}

const idsOf = (list: LiveList) => list.rows.map((row) => row.id);

describe('while changes flow', () => {
  it('a row takes its new fields, a new task comes in its place, one that left the view goes', () => {
    const list = loaded([aTask({ id: 'a' }), aTask({ id: 'c' })]);
    list.offer(changed(aTask({ id: 'a', name: 'renamed', revision: 2 })));
    list.offer(changed(aTask({ id: 'b' })));
    list.offer(gone('c', 2));
    expect(idsOf(list)).toEqual(['a', 'b']);
    expect(list.rows[0]?.name).toBe('renamed');
    expect(list.pendingCount).toBe(0);
  });

  it('a task that no longer matches goes, and comes back when it matches again', () => {
    const list = loaded([aTask({ id: 'a' })], '', { query: parseQuery('status:running') });
    list.offer(changed(aTask({ id: 'a', status: 'finish', revision: 2 })));
    expect(idsOf(list)).toEqual([]);
    list.offer(changed(aTask({ id: 'a', status: 'running', revision: 3 })));
    expect(idsOf(list)).toEqual(['a']);
  });

  it('an older version never replaces a newer one', () => {
    const list = loaded([aTask({ id: 'a', name: 'new', revision: 5 })]);
    expect(list.offer(changed(aTask({ id: 'a', name: 'old', revision: 4 })))).toBe(false);
    expect(list.offer(gone('a', 5))).toBe(false);
    expect(list.rows[0]?.name).toBe('new');
  });

  it('a change elsewhere does not concern the page', () => {
    const list = loaded([aTask({ id: 'a' })], '', { query: parseQuery('group:mx') });
    expect(list.offer(changed(aTask({ id: 'b', groupId: 'other' })))).toBe(false);
  });

  it('marks rows that changed before the viewer, and none that were just loaded', () => {
    const list = loaded([aTask({ id: 'a' }), aTask({ id: 'b' })]);
    expect(list.highlightOf('a')).toBe(0);
    list.offer(changed(aTask({ id: 'a', revision: 2 })));
    const first = list.highlightOf('a');
    list.offer(changed(aTask({ id: 'a', revision: 3 })));
    expect(list.highlightOf('a')).toBeGreaterThan(first);
    expect(list.highlightOf('b')).toBe(0);
  });
});

describe('a page with more after it', () => {
  it('pushes its last row over the end, and asks for a fresh token before going on', () => {
    const list = loaded([aTask({ id: 'b' }), aTask({ id: 'c' }), aTask({ id: 'd' })], 'next');
    expect(list.nextPageToken).toBe('next');
    list.offer(changed(aTask({ id: 'a' })));
    expect(idsOf(list)).toEqual(['a', 'b', 'c']);
    expect(list.nextPageToken).toBeUndefined();
    list.offer(changed(aTask({ id: 'cc' })));
    expect(idsOf(list)).toEqual(['a', 'b', 'c']);
  });

  it('has more after it once a row was pushed over its end, and then runs short when one leaves', () => {
    const list = loaded([aTask({ id: 'b' }), aTask({ id: 'c' }), aTask({ id: 'd' })]);
    expect(list.hasMore).toBe(false);
    list.offer(changed(aTask({ id: 'a' })));
    expect(list.hasMore).toBe(true);
    list.offer(gone('b', 2));
    expect(list.isStale).toBe(true);
  });

  it('does not take in what stands on the next page, nor on the one before', () => {
    const list = loaded([aTask({ id: 'd' }), aTask({ id: 'e' }), aTask({ id: 'f' })], 'next', {
      isFirstPage: false,
      after: aTask({ id: 'c' }),
    });
    expect(list.offer(changed(aTask({ id: 'g' })))).toBe(false);
    expect(list.offer(changed(aTask({ id: 'b' })))).toBe(false);
    expect(list.offer(changed(aTask({ id: 'cc' })))).toBe(true);
    expect(idsOf(list)).toEqual(['cc', 'd', 'e']);
  });

  it('knows its beginning by its first row when the page before is unknown', () => {
    const list = loaded([aTask({ id: 'd' })], '', { isFirstPage: false });
    expect(list.offer(changed(aTask({ id: 'c' })))).toBe(false);
    expect(list.offer(changed(aTask({ id: 'e' })))).toBe(true);
  });

  it('asks to be loaded again when it ran short of rows', () => {
    const list = loaded([aTask({ id: 'b' }), aTask({ id: 'c' }), aTask({ id: 'd' })], 'next');
    list.offer(gone('c', 2));
    expect(idsOf(list)).toEqual(['b', 'd']);
    expect(list.isStale).toBe(true);
    const whole = loaded([aTask({ id: 'b' }), aTask({ id: 'c' })]);
    whole.offer(gone('c', 2));
    expect(whole.isStale).toBe(false);
  });
});

describe('while the pointer or the focus is in the table', () => {
  it('fields change in place, but no row comes, goes or moves until it is applied', () => {
    const list = loaded(
      [aTask({ id: 'a', name: 'x' }), aTask({ id: 'b', name: 'y' }), aTask({ id: 'c', name: 'z' })],
      '',
      {
        order: { field: 'name', ascending: true },
        pageSize: 10,
      },
    );
    list.setMode('held');
    list.offer(changed(aTask({ id: 'b', name: 'yy', status: 'finish', revision: 2 })));
    expect(list.pendingCount).toBe(0);
    list.offer(changed(aTask({ id: 'a', name: 'zz', revision: 2 })));
    list.offer(changed(aTask({ id: 'd', name: 'a' })));
    list.offer(gone('c', 2));
    expect(idsOf(list)).toEqual(['a', 'b', 'c']);
    expect(list.rows.map((row) => row.name)).toEqual(['zz', 'yy', 'z']);
    expect(list.pendingCount).toBe(3);
    expect(list.isLeaving('c')).toBe(true);
    expect(list.isLeaving('a')).toBe(false);
    list.apply();
    expect(idsOf(list)).toEqual(['d', 'b', 'a']);
    expect(list.pendingCount).toBe(0);
  });

  it.each([
    { first: ['d', 'z'], second: ['b', 'g'], after: ['f', 'g', 'z'] },
    { first: ['d', 'a'], second: ['f', 'aa'], after: ['a', 'aa', 'b'] },
  ] as const)('a row that would pass its settled neighbours waits, whatever waits between: $after', (moves) => {
    const tasks = ['b', 'd', 'f'].map((name) => aTask({ id: name, name }));
    const list = loaded(tasks, '', { order: { field: 'name', ascending: true } });
    list.setMode('held');
    for (const [id, name] of [moves.first, moves.second]) list.offer(changed(aTask({ id, name, revision: 2 })));
    expect(list.pendingCount).toBe(2);
    list.apply();
    expect(list.rows.map((row) => row.name)).toEqual(moves.after);
  });

  it('what is undone before it was applied is pending no more', () => {
    const list = loaded([aTask({ id: 'a' })], '', { query: parseQuery('status:running') });
    list.setMode('held');
    list.offer(changed(aTask({ id: 'a', status: 'finish', revision: 2 })));
    expect([list.pendingCount, list.isLeaving('a'), list.rows[0]?.status]).toEqual([1, true, 'finish']);
    list.offer(changed(aTask({ id: 'a', status: 'running', revision: 3 })));
    expect([list.pendingCount, list.isLeaving('a'), list.rows[0]?.status]).toEqual([0, false, 'running']);
  });

  it('several changes of one task are one pending change, and leaving the table applies it', () => {
    const list = loaded([]);
    list.setMode('held');
    for (let revision = 1; revision <= 7; revision++)
      list.offer(changed(aTask({ id: 'a', name: `v${revision}`, revision })));
    expect(list.pendingCount).toBe(1);
    list.setMode('flowing');
    expect(list.rows[0]?.name).toBe('v7');
  });

  it('more changes than can wait ask for a new load instead of growing', () => {
    const list = loaded([], '', { pageSize: 200 });
    list.setMode('held');
    for (let index = 0; index < MAX_WAITING + 10; index++) list.offer(changed(aTask({ id: `t${index}` })));
    expect([list.pendingCount, list.isStale]).toEqual([MAX_WAITING, true]);
  });
});

describe('while paused', () => {
  it('nothing changes at all until it goes on', () => {
    const list = loaded([aTask({ id: 'a', name: 'before' })]);
    list.setMode('paused');
    list.offer(changed(aTask({ id: 'a', name: 'after', revision: 2 })));
    expect([list.rows[0]?.name, list.pendingCount]).toEqual(['before', 1]);
    list.setMode('flowing');
    expect([list.rows[0]?.name, list.pendingCount]).toEqual(['after', 0]);
  });
});

describe('while a list request is under way', () => {
  it('changes that arrive meanwhile are merged into its answer, the highest revision wins', () => {
    const list = new LiveList(frame);
    list.beginLoad();
    list.offer(changed(aTask({ id: 'a', name: 'streamed', revision: 3 })));
    list.offer(changed(aTask({ id: 'b', name: 'streamed', revision: 1 })));
    list.offer(gone('c', 2));
    list.load({
      tasks: [
        aTask({ id: 'a', name: 'listed', revision: 2 }),
        aTask({ id: 'b', name: 'listed', revision: 2 }),
        aTask({ id: 'c' }),
      ],
      nextPageToken: '',
    });
    expect(list.rows.map((row) => [row.id, row.name])).toEqual([
      ['a', 'streamed'],
      ['b', 'listed'],
    ]);
  });

  it('too many changes meanwhile make the answer stale at once', () => {
    const list = new LiveList(frame);
    list.beginLoad();
    for (let index = 0; index <= MAX_WAITING; index++) list.offer(changed(aTask({ id: `t${index}` })));
    list.load({ tasks: [], nextPageToken: '' });
    expect(list.isStale).toBe(true);
  });
});

/** A registry of its own for the property: versions by id, and what a page of it is. */
class Model {
  readonly tasks = new Map<string, Task>();
  #tick = 0;

  write(id: string, name: string, status: string): LiveChange {
    this.#tick += 1;
    const revision = Number(this.tasks.get(id)?.revision ?? 0n) + 1;
    const task = aTask({ id, name, status, revision, updatedAt: timestampFromMs(START_MS + this.#tick) });
    this.tasks.set(id, task);
    return changed(task);
  }

  page(given: ListFrame): { tasks: Task[]; nextPageToken: string } {
    const { query, order, pageSize, after } = given;
    const all = [...this.tasks.values()]
      .filter((task) => matchesQuery(query, task) && (!after || compareTasks(order, task, after) > 0))
      .sort((a, b) => compareTasks(order, a, b));
    return { tasks: all.slice(0, pageSize), nextPageToken: all.length > pageSize ? 'more' : '' };
  }
}

describe('whatever arrives in whatever mode', () => {
  const step = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'),
        name: fc.constantFrom('k', 'l', 'm', 'n', 'o'),
        status: fc.constantFrom('running', 'finish'),
      }),
    },
    { weight: 1, arbitrary: fc.constantFrom('flowing' as const, 'held' as const, 'paused' as const) },
    { weight: 1, arbitrary: fc.constantFrom('beginLoad' as const, 'apply' as const) },
  );
  const frames = fc.record({
    query: fc.constantFrom(EMPTY_QUERY, parseQuery('status:running'), parseQuery('name:m')),
    order: fc.record({ field: fc.constantFrom('updated', 'name', 'id', 'status'), ascending: fc.boolean() }),
    pageSize: fc.constantFrom(2, 3, 5),
    after: fc.constantFrom(undefined, aTask({ id: 'c', name: 'l', updatedMs: 3 })),
  });

  it('the page ends as the server would list it, unless it asks to be loaded again', () => {
    fc.assert(
      fc.property(frames, fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }), (chosen, steps) => {
        const model = new Model();
        const given: ListFrame = { ...chosen, isFirstPage: chosen.after === undefined };
        for (const id of ['a', 'b', 'c', 'd', 'e']) model.write(id, 'm', 'running');
        const list = new LiveList(given);
        list.beginLoad();
        let answer: ReturnType<Model['page']> | undefined = model.page(given);
        for (const next of steps) {
          if (next === 'beginLoad') {
            if (answer) list.load(answer);
            list.beginLoad();
            answer = model.page(given);
          } else if (next === 'apply') list.apply();
          else if (typeof next === 'string') list.setMode(next);
          else list.offer(model.write(next.id, next.name, next.status));
          const order = new Set(list.rows.map((row) => row.id));
          expect(order.size).toBe(list.rows.length);
        }
        if (answer) list.load(answer);
        list.setMode('flowing');
        if (list.isStale) return;
        expect(idsOf(list)).toEqual(model.page(given).tasks.map((task) => task.id));
        expect(list.rows.map((row) => row.revision)).toEqual(model.page(given).tasks.map((task) => task.revision));
      }),
      { numRuns: 2000 },
    );
  });
});
