/** What every task store finds, lists, counts and tells of the past, and to whom. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../../server/domain/access.js';
import type { TaskFilter, TaskOrderField, TaskPageQuery } from '../../server/domain/ports.js';
import { storedBytesOf, type Task } from '../../server/domain/task.js';
import { positionOf } from '../../server/domain/task-registry.js';
import { taskStoreBenches, type TaskStoreBench } from '../support/task-store-bench.js';
import { registration, update } from '../support/task-writes.js';

const SESSION = '00000000-0000-4000-8000-000000000001';
const ORDERS: readonly TaskOrderField[] = [
  'updatedAt',
  'id',
  'name',
  'status',
  'user',
  'group_id',
  'startedAt',
  'stoppedAt',
];
const NOBODY: Scope = { user: 'ssx', ownGroups: [], wholeGroups: [] };
const MEMBER: Scope = { user: 'ssx', ownGroups: ['mx'], wholeGroups: [] };
const VIEWER: Scope = { user: 'ssx', ownGroups: [], wholeGroups: ['mx', 'zz'] };
const BOTH: Scope = { user: 'ssx', ownGroups: ['mx'], wholeGroups: ['ops'] };

/** Tasks that differ in everything a list looks at; the order of their ids is not the order of anything else. */
const TASKS = [
  registration('130', { name: 'zgl', user: 'ssx', group_id: 'mx', status: 'restart', start_time: '2020.07.04' }),
  registration('131', { name: 'lb', user: 'ssx', group_id: 'mx', status: 'shutdown', stop_time: '2020.07.06' }),
  registration('132', { name: 'lxq', user: 'wsg', group_id: 'mx', status: 'finish', start_time: '2020.07.16' }),
  registration('133', { name: 'Ärger', user: 'ssx', group_id: 'ops', status: 'running', start_time: '12:00' }),
  registration('a_b', { name: '100%', user: 'wsg', group_id: 'ops', status: 'running', url: 'http://X.example/Path' }),
  registration('a\\b', { name: 'lb', user: '', group_id: '', status: 'running', description: '汇总 Report' }),
  registration('B', { name: 'lb', user: 'ssx', group_id: 'zz', status: 'odd', start_time: '2020.07.04' }),
  registration('\u{ff5e}', { name: 'wide', user: 'x', group_id: 'zz', status: 'running' }, { sessionId: SESSION }),
  registration('\u{1f600}', { name: 'smile', user: 'x', group_id: 'zz', status: 'running' }, { addr: '192.168.0.7' }),
];

describe.each(taskStoreBenches)('a task store on %s', (_name, open) => {
  let bench: TaskStoreBench;
  beforeAll(async () => {
    bench = await open();
    for (const task of TASKS) {
      await bench.tasks.writeBatch([task]);
      bench.clock.advance(task.id === '130' ? 0 : 1000);
    }
    await bench.tasks.writeBatch([update('132', { description: 'changed' })]);
  });
  afterAll(() => bench.close());

  const list = (scope: Scope, query: Partial<TaskPageQuery> = {}): Promise<Task[]> =>
    bench.tasks.list(scope, {
      filter: {},
      orderBy: 'id',
      ascending: true,
      limit: 100,
      maxBytes: Number.MAX_SAFE_INTEGER,
      ...query,
    });
  const idsOf = async (filter: TaskFilter): Promise<string[]> =>
    (await list('everything', { filter })).map((task) => task.id);

  describe('finding', () => {
    it('gives a task to whoever may see it', async () => {
      expect(await bench.tasks.find('everything', '132')).toMatchObject({ id: '132', name: 'lxq' });
      expect(await bench.tasks.find(MEMBER, '130')).toMatchObject({ id: '130' });
      expect(await bench.tasks.find(VIEWER, '132')).toMatchObject({ id: '132' });
    });

    it('knows nothing of what the scope hides', async () => {
      expect(await bench.tasks.find(MEMBER, '132')).toBeUndefined();
      expect(await bench.tasks.find(MEMBER, '133')).toBeUndefined();
      expect(await bench.tasks.find(NOBODY, '130')).toBeUndefined();
      expect(await bench.tasks.find('everything', 'nobody')).toBeUndefined();
    });

    it('gives several at once, without those that the scope hides', async () => {
      const found = await bench.tasks.findMany(BOTH, ['133', '132', '130', 'nobody', '\u{1f600}']);
      expect(found.map((task) => task.id).sort()).toEqual(['130', '133']);
    });
  });

  describe('listing', () => {
    it('sorts ids by their bytes, whatever the language of the database', async () => {
      const ids = (await list('everything')).map((task) => task.id);
      expect(ids).toEqual(['130', '131', '132', '133', 'B', 'a\\b', 'a_b', '\u{ff5e}', '\u{1f600}']);
    });

    it.each(ORDERS)(
      'by %s puts tasks without a value last in both directions, and equal ones by id',
      async (orderBy) => {
        for (const ascending of [true, false]) {
          const tasks = await list('everything', { orderBy, ascending });
          const positions = tasks.map((task) => positionOf(task, orderBy));
          const sorted = [...positions].sort((one, other) => {
            if (one.value === null || other.value === null)
              return one.value === other.value
                ? bytes(one.id, other.id) * (ascending ? 1 : -1)
                : Number(one.value === null) - Number(other.value === null);
            const byValue =
              typeof one.value === 'number' ? one.value - Number(other.value) : bytes(one.value, String(other.value));
            return (byValue || bytes(one.id, other.id)) * (ascending ? 1 : -1);
          });
          expect(positions).toEqual(sorted);
          expect(tasks).toHaveLength(TASKS.length);
        }
      },
    );

    it.each(ORDERS)('by %s goes on exactly where a page ended, with every page size', async (orderBy) => {
      for (const ascending of [true, false]) {
        const whole = await list('everything', { orderBy, ascending });
        for (let limit = 1; limit <= TASKS.length; limit++) {
          expect(await allPages(orderBy, ascending, limit)).toEqual(whole.map((task) => task.id));
        }
      }
    });

    it('ends a page with the record that fills it', async () => {
      for (const orderBy of ORDERS) {
        const whole = await list('everything', { orderBy });
        for (let count = 1; count <= whole.length; count++) {
          const maxBytes = whole.slice(0, count).reduce((sum, task) => sum + storedBytesOf(task), 0);
          expect(await list('everything', { orderBy, maxBytes })).toEqual(whole.slice(0, count));
          expect(await list('everything', { orderBy, maxBytes: maxBytes - 1 })).toEqual(whole.slice(0, count));
        }
        expect(await list('everything', { orderBy, maxBytes: 1 })).toEqual(whole.slice(0, 1));
      }
    });

    async function allPages(orderBy: TaskOrderField, ascending: boolean, limit: number): Promise<string[]> {
      const ids: string[] = [];
      for (let after; ;) {
        const page: Task[] = await list('everything', { orderBy, ascending, limit, ...(after && { after }) });
        ids.push(...page.map((task) => task.id));
        const last = page.at(-1);
        if (!last || page.length < limit) return ids;
        after = positionOf(last, orderBy);
      }
    }

    it('shows a member the own tasks of the group, a viewer all of it, and nobody nothing', async () => {
      const seenBy = async (scope: Scope) => (await list(scope)).map((task) => task.id);
      expect(await seenBy(MEMBER)).toEqual(['130', '131']);
      expect(await seenBy(VIEWER)).toEqual(['130', '131', '132', 'B', '\u{ff5e}', '\u{1f600}']);
      expect(await seenBy(BOTH)).toEqual(['130', '131', '133', 'a_b']);
      expect(await seenBy(NOBODY)).toEqual([]);
    });
  });

  describe('filtering', () => {
    const cases: [string, TaskFilter, string[]][] = [
      ['by statuses', { statuses: ['restart', 'odd'] }, ['130', 'B']],
      ['by groups', { groupIds: ['ops', ''] }, ['133', 'a\\b', 'a_b']],
      ['by users', { users: ['wsg'] }, ['132', 'a_b']],
      ['by no value at all', { users: [] }, []],
      ['by several conditions at once', { users: ['ssx'], groupIds: ['mx'], statuses: ['shutdown'] }, ['131']],
      ['by a word, whatever its case', { words: ['REPORT'] }, ['a\\b']],
      ['by a word in the url', { words: ['x.EXAMPLE/p'] }, ['a_b']],
      ['by a word in the address', { words: ['168.0'] }, ['\u{1f600}']],
      ['by a word beyond ASCII, whatever its case', { words: ['äRGER'] }, ['133']],
      ['by words that must all occur, in any place', { words: ['汇', 'report'] }, ['a\\b']],
      ['by words of which one is missing', { words: ['汇', 'nowhere'] }, []],
      ['by a per cent sign, which is no wildcard', { words: ['%'] }, ['a_b']],
      ['by an underscore, which is no wildcard', { words: ['_'] }, ['a_b']],
      ['by a backslash', { words: ['\\'] }, ['a\\b']],
      ['by the beginning of the id', { idPrefix: '13' }, ['130', '131', '132', '133']],
      ['by a beginning with a wildcard in it', { idPrefix: 'a_' }, ['a_b']],
      ['by the beginning of the id, with its case', { idPrefix: 'b' }, []],
      ['by the beginning of the name, whatever its case', { namePrefix: 'L' }, ['131', '132', 'B', 'a\\b']],
      ['by the beginning of a name beyond ASCII', { namePrefix: 'är' }, ['133']],
      ['by the beginning of the address', { addrPrefix: '192.' }, ['\u{1f600}']],
      [
        'by what started at or after an instant',
        { startedFrom: new Date('2020-07-04T00:00:00Z') },
        ['130', '132', 'B'],
      ],
      ['by what started before an instant', { startedUntil: new Date('2020-07-16T00:00:00Z') }, ['130', 'B']],
      [
        'by what started before the end of all times',
        { startedUntil: new Date('+010000-01-01T00:00:00Z') },
        ['130', '132', 'B'],
      ],
      ['by what started at or after it', { startedFrom: new Date('+010000-01-01T00:00:00Z') }, []],
      ['by who has a live session', { connected: true }, ['\u{ff5e}']],
      ['by who has none', { connected: false, groupIds: ['zz'] }, ['B', '\u{1f600}']],
    ];

    it.each(cases)('%s', async (_what, filter, ids) => {
      expect(await idsOf(filter)).toEqual(ids);
      expect(await bench.tasks.count('everything', filter, 100)).toBe(ids.length);
    });

    it('never widens a scope', async () => {
      expect(await list(MEMBER, { filter: { groupIds: ['ops', 'mx'], users: ['wsg', 'ssx'] } })).toHaveLength(2);
    });
  });

  describe('counting', () => {
    it('goes no further than the bound', async () => {
      expect(await bench.tasks.count('everything', {}, 4)).toBe(4);
      expect(await bench.tasks.count('everything', {}, 100)).toBe(TASKS.length);
    });

    it('counts only what the scope shows', async () => {
      expect(await bench.tasks.count(MEMBER, {}, 100)).toBe(2);
      expect(await bench.tasks.count(NOBODY, {}, 100)).toBe(0);
    });

    it('by status has the largest count first, and the largest groups first', async () => {
      expect(await bench.tasks.stats('everything', {}, 2)).toEqual({
        counts: [
          { status: 'running', count: 5 },
          { status: 'finish', count: 1 },
          { status: 'odd', count: 1 },
          { status: 'restart', count: 1 },
          { status: 'shutdown', count: 1 },
        ],
        groups: [
          {
            groupId: 'mx',
            counts: [
              { status: 'finish', count: 1 },
              { status: 'restart', count: 1 },
              { status: 'shutdown', count: 1 },
            ],
          },
          {
            groupId: 'zz',
            counts: [
              { status: 'running', count: 2 },
              { status: 'odd', count: 1 },
            ],
          },
        ],
      });
    });

    it('by status obeys filter and scope', async () => {
      expect(await bench.tasks.stats(VIEWER, { users: ['ssx'], statuses: ['restart', 'odd'] }, 10)).toEqual({
        counts: [
          { status: 'odd', count: 1 },
          { status: 'restart', count: 1 },
        ],
        groups: [
          { groupId: 'mx', counts: [{ status: 'restart', count: 1 }] },
          { groupId: 'zz', counts: [{ status: 'odd', count: 1 }] },
        ],
      });
      expect(await bench.tasks.stats(NOBODY, {}, 10)).toEqual({ counts: [], groups: [] });
    });
  });

  describe('a history', () => {
    it('comes newest first, in pages', async () => {
      const [newest, oldest] = await bench.tasks.events('everything', '132', undefined, 10);
      expect(newest).toMatchObject({ kind: 'updated', revision: 2 });
      expect(oldest).toMatchObject({ kind: 'registered', revision: 1 });
      expect(await bench.tasks.events('everything', '132', undefined, 1)).toEqual([newest]);
      expect(await bench.tasks.events('everything', '132', newest?.id, 1)).toEqual([oldest]);
      expect(await bench.tasks.events('everything', '132', oldest?.id, 1)).toEqual([]);
    });

    it('is hidden with its task', async () => {
      expect(await bench.tasks.events(VIEWER, '132', undefined, 10)).toHaveLength(2);
      expect(await bench.tasks.events(MEMBER, '132', undefined, 10)).toEqual([]);
    });
  });
});

function bytes(one: string, other: string): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}
