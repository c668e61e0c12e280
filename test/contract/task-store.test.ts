/** What every task store does with writes and lapses. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Scope } from '../../server/domain/access.js';
import type { Task, TaskEvent, TaskTexts } from '../../server/domain/task.js';
import type { Lapse, TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import { upTo } from '../support/page-limits.js';
import { taskStoreBenches, type TaskStoreBench } from '../support/task-store-bench.js';
import { registration, update } from '../support/task-writes.js';

const SESSION = '00000000-0000-4000-8000-000000000001';
const OTHER_SESSION = '00000000-0000-4000-8000-000000000002';

describe.each(taskStoreBenches)('a task store on %s', (_name, open) => {
  let bench: TaskStoreBench;
  beforeAll(async () => {
    bench = await open();
  });
  beforeEach(() => bench.clear());
  afterAll(() => bench.close());

  async function write(change: TaskWrite): Promise<TaskWriteResult> {
    const [result] = await bench.tasks.writeBatch([change]);
    if (!result) throw new Error('no result');
    return result;
  }
  async function stored(id: string): Promise<Task> {
    const task = await bench.tasks.find('everything', id);
    if (!task) throw new Error(`no task ${id}`);
    return task;
  }
  const history = (id: string): Promise<TaskEvent[]> => bench.tasks.events('everything', id, undefined, 100);
  async function latest(id: string): Promise<TaskEvent> {
    const [event] = await history(id);
    if (!event) throw new Error(`no event of ${id}`);
    return event;
  }
  const lapse = (id: string, changes: Partial<Lapse> = {}) =>
    bench.tasks.lapse([
      { taskId: id, sessionId: SESSION, epoch: 1, cause: 'heartbeat_timeout', silentMs: 30_000, ...changes },
    ]);

  describe('a batch that comes too late', () => {
    it('writes nothing', async () => {
      await write(registration('a', { name: 'before' }));
      const writes = [registration('new'), registration('a'), update('a', { name: 'late' }), update('nobody')];
      const outcomes = async (withinMs: number) =>
        (await Promise.all(writes.map((late) => bench.tasks.writeBatch([late], undefined, withinMs)))).flat();
      const late = { outcome: 'late' };
      expect(await outcomes(-1)).toEqual([late, late, late, { outcome: 'not_found' }]);
      expect(await stored('a')).toMatchObject({ name: 'before', revision: 1 });
      expect(await bench.tasks.find('everything', 'new')).toBeUndefined();
      expect((await outcomes(60_000)).map(({ outcome }) => outcome)).toEqual([
        ...['written', 'written', 'written'],
        'not_found',
      ]);
    });
  });

  describe('a loss of what was written', () => {
    beforeEach(() => Promise.all([bench.tasks.hasLostWrites(), bench.otherNode.hasLostWrites()]));

    it.each([
      ['a batch', () => write(update('a', { status: 'running' }, { sessionId: SESSION }))],
      ['a verdict', () => lapse('a')],
    ])('is told once: %s', async (_what, change) => {
      await write(registration('a', {}, { sessionId: SESSION }));
      await change();
      expect(await bench.tasks.hasLostWrites()).toBe(false);
      expect(await bench.otherNode.hasLostWrites()).toBe(false);
      await bench.clear();
      expect(await bench.tasks.hasLostWrites()).toBe(true);
      expect(await bench.tasks.hasLostWrites()).toBe(false);
      expect(await bench.otherNode.hasLostWrites()).toBe(false);
    });

    it('is none where nothing was written', async () => {
      await write(update('nobody'));
      await lapse('nobody');
      await bench.clear();
      expect(await bench.tasks.hasLostWrites()).toBe(false);
    });
  });

  describe('a history after a move between groups', () => {
    it('shows each group what happened while the task was theirs', async () => {
      await write(registration('a', { user: 'ssx', group_id: 'mx', name: 'acquisition-of-acme' }));
      await write(update('a', { status: 'restart' }));
      await write(update('a', { group_id: 'ops' }));
      await write(update('a', { status: 'finish' }));
      const seenBy = async (scope: Scope) =>
        (await bench.tasks.events(scope, 'a', undefined, 10)).map(({ revision }) => revision);
      expect(await seenBy({ user: 'x', ownGroups: [], wholeGroups: ['ops'] })).toEqual([4, 3]);
      expect(await seenBy({ user: 'ssx', ownGroups: ['ops'], wholeGroups: [] })).toEqual([4, 3]);
      expect(await seenBy({ user: 'x', ownGroups: [], wholeGroups: ['mx', 'ops'] })).toEqual([4, 3, 2, 1]);
      expect(await seenBy('everything')).toEqual([4, 3, 2, 1]);
      expect(await seenBy({ user: 'x', ownGroups: [], wholeGroups: ['mx'] })).toEqual([]);
    });

    it.each<[string, Partial<TaskTexts>]>([
      ['group', { group_id: 'ops' }],
      ['user', { user: 'ssx' }],
    ])('by its %s tells who saw it before alone what it was before', async (_what, move) => {
      await write(registration('a', { status: 'acquisition', user: 'x', group_id: 'mx' }, { sessionId: SESSION }));
      await lapse('a');
      await write(update('a', { ...move, status: 'open' }, { sessionId: OTHER_SESSION }));
      const toldTo = async (scope: Scope) => {
        const [moved] = await bench.tasks.events(scope, 'a', undefined, 1);
        return { from: moved?.fromStatus, to: moved?.toStatus, gapMs: moved?.gapMs };
      };
      expect(await toldTo({ user: 'ssx', ownGroups: ['mx'], wholeGroups: ['ops'] })).toEqual({
        ...{ from: '', to: 'open', gapMs: null },
      });
      for (const scope of ['everything', { user: '', ownGroups: [], wholeGroups: ['mx', 'ops'] }] as const)
        expect(await toldTo(scope)).toMatchObject({
          from: 'shutdown',
          to: 'open',
          gapMs: expect.any(Number) as number,
        });
    });
  });

  describe('registering', () => {
    it('stores every text as sent, to the byte', async () => {
      const texts = {
        name: '名字 "quoted" \\ back',
        url: 'http://localhost:8080/v1/task?a=1&b={2}',
        user: 'ssx',
        group_id: "m'x",
        description: 'line one\nline two\t{NULL,null} \u{1F600} é e\u0301',
        status: 'running',
        start_time: '12:00',
        stop_time: '2020.07.05',
      };
      await write(registration(' id with\\ "all" ', texts, { addr: '10.20.30.40' }));
      const now = bench.clock.now();
      expect(await stored(' id with\\ "all" ')).toEqual({
        id: ' id with\\ "all" ',
        ...texts,
        addr: '10.20.30.40',
        cause: 'client',
        statusChangedAt: now,
        statusBefore: '',
        startedAt: null,
        stoppedAt: new Date('2020-07-05T00:00:00Z'),
        createdAt: now,
        updatedAt: now,
        revision: 1,
        sessionId: null,
        unconfirmedSince: null,
        epoch: 1,
      });
    });

    it('tells the history of a first registration', async () => {
      await write(registration('a', { status: 'restart' }));
      expect(await history('a')).toEqual([
        {
          id: expect.any(Number) as number,
          taskId: 'a',
          kind: 'registered',
          fromStatus: '',
          toStatus: 'restart',
          cause: 'client',
          actor: 'service:10.0.0.1',
          node: 'node-a',
          at: bench.clock.now(),
          gapMs: null,
          revision: 1,
        },
      ]);
    });

    it('replaces every text of the same id, and keeps when the task was created', async () => {
      await write(registration('a', { name: 'old', url: 'u', user: 'ssx', start_time: '2020-01-01' }));
      const createdAt = bench.clock.now();
      bench.clock.advance(1000);
      expect(await write(registration('a', { name: 'new' }))).toMatchObject({
        outcome: 'written',
        revision: 2,
        epoch: 2,
      });
      expect(await stored('a')).toMatchObject({
        name: 'new',
        url: '',
        user: '',
        startedAt: null,
        createdAt,
        updatedAt: bench.clock.now(),
        statusChangedAt: createdAt,
      });
    });

    it('notes when the status became another', async () => {
      await write(registration('a', { status: 'running' }));
      bench.clock.advance(1000);
      await write(registration('a', { status: 'finish' }, { cause: 'operator', actor: 'user:admin' }));
      expect(await stored('a')).toMatchObject({ cause: 'operator', statusChangedAt: bench.clock.now() });
      expect(await latest('a')).toMatchObject({ fromStatus: 'running', toStatus: 'finish', actor: 'user:admin' });
    });

    it('claims the task for a session, takes it from a session, or leaves it', async () => {
      await write(registration('a', {}, { sessionId: undefined }));
      expect(await stored('a')).toMatchObject({ sessionId: null, epoch: 0 });
      await write(registration('a', {}, { sessionId: SESSION }));
      expect(await stored('a')).toMatchObject({ sessionId: SESSION, epoch: 1 });
      await write(registration('a', {}, { sessionId: undefined }));
      expect(await stored('a')).toMatchObject({ sessionId: SESSION, epoch: 1 });
      await write(registration('a', {}, { sessionId: null }));
      expect(await stored('a')).toMatchObject({ sessionId: null, epoch: 2 });
    });

    it('leaves it in doubt whose the task is where nobody named it, until its service does', async () => {
      const doubt = async () => (await stored('a'))?.unconfirmedSince;
      await write(registration('a', {}, { sessionId: SESSION }));
      expect(await doubt()).toBeNull();
      const since = bench.clock.now();
      await write(update('a', {}, { sessionId: OTHER_SESSION, guess: 'made' }));
      expect(await doubt()).toEqual(since);
      bench.clock.advance(1000);
      await write(update('a', { name: 'by a person' }, { sessionId: undefined }));
      await write(update('a', {}, { sessionId: SESSION, guess: 'kept' }));
      expect(await doubt()).toEqual(since);
      expect(
        (await bench.feed.after({ id: 0, batch: '' }, upTo(100), Number.MAX_SAFE_INTEGER)).at(-1)?.task
          .unconfirmedSince,
      ).toEqual(since);
      await write(update('a', { status: 'running' }, { sessionId: SESSION }));
      expect(await doubt()).toBeNull();
    });

    it('keeps the address where none is given', async () => {
      await write(registration('a', {}, { addr: '10.0.0.9' }));
      await write(registration('a', {}, { addr: undefined }));
      expect(await stored('a')).toMatchObject({ addr: '10.0.0.9' });
    });

    it('of known ids only replaces what is there, and finds nothing elsewhere', async () => {
      await write(registration('a', { name: 'first' }));
      const writes = ['a', 'b'].map((id) => registration(id, { name: 'second' }, { onlyKnown: true }));
      expect(await bench.tasks.writeBatch(writes)).toMatchObject([
        { outcome: 'written', revision: 2 },
        { outcome: 'not_found' },
      ]);
      expect(await stored('a')).toMatchObject({ name: 'second' });
      expect(await bench.tasks.find('everything', 'b')).toBeUndefined();
    });

    it('is refused where the stored group is not one of the caller’s', async () => {
      await write(registration('a', { group_id: 'mx', name: 'first' }));
      expect(await write(registration('a', { group_id: 'other' }, { groups: ['other'] }))).toEqual({
        outcome: 'forbidden',
      });
      expect(await write(registration('a', { group_id: 'other' }, { groups: [] }))).toEqual({ outcome: 'forbidden' });
      expect(await stored('a')).toMatchObject({ name: 'first', revision: 1 });
      expect(await history('a')).toHaveLength(1);
      expect(await write(registration('a', {}, { groups: ['other', 'mx'] }))).toMatchObject({ outcome: 'written' });
    });

    it('keeps start and stop as instants where they are some, whatever the zone and the year', async () => {
      const cases: [string, Date | null][] = [
        ['2020.07.01', new Date('2020-07-01T00:00:00Z')],
        ['2020-07-01 12:00:05.123', new Date('2020-07-01T12:00:05.123Z')],
        ['2020-07-01T00:30:00+08:00', new Date('2020-06-30T16:30:00Z')],
        ['9999-12-31T23:59:59-12:00', null],
        ['9999-12-31T23:59:59Z', new Date('9999-12-31T23:59:59Z')],
        ['0001-01-01T00:00:00+08:00', null],
        ['0044-03-15', new Date('0044-03-15T00:00:00Z')],
        ['12:00', null],
        ['soon', null],
      ];
      await bench.tasks.writeBatch(cases.map(([start_time], index) => registration(`t${index}`, { start_time })));
      for (const [index, [, startedAt]] of cases.entries())
        expect((await stored(`t${index}`)).startedAt).toEqual(startedAt);
    });
  });

  describe('updating', () => {
    it('changes the texts that are given and leaves the others', async () => {
      await write(registration('a', { name: 'n', url: 'u', start_time: '2020-01-01', stop_time: '2020-01-02' }));
      bench.clock.advance(1000);
      const result = await write(update('a', { url: 'v', stop_time: 'later' }));
      expect(result).toMatchObject({ outcome: 'written', revision: 2, epoch: 1 });
      expect(await stored('a')).toMatchObject({
        name: 'n',
        url: 'v',
        status: 'running',
        startedAt: new Date('2020-01-01T00:00:00Z'),
        stoppedAt: null,
        updatedAt: bench.clock.now(),
        addr: '10.0.0.1',
      });
      expect(await latest('a')).toMatchObject({ kind: 'updated', fromStatus: 'running', toStatus: 'running' });
    });

    it('can empty a text', async () => {
      await write(registration('a', { description: 'some' }));
      await write(update('a', { description: '' }));
      expect(await stored('a')).toMatchObject({ description: '' });
    });

    it('of an unknown id finds nothing and stores nothing', async () => {
      expect(await write(update('nobody', { name: 'x' }))).toEqual({ outcome: 'not_found' });
      expect(await bench.tasks.find('everything', 'nobody')).toBeUndefined();
    });

    it('changes cause and time of the status only with the status', async () => {
      await write(registration('a'));
      const registeredAt = bench.clock.now();
      bench.clock.advance(1000);
      await write(update('a', { name: 'x', status: 'running' }, { cause: 'operator' }));
      expect(await stored('a')).toMatchObject({ cause: 'client', statusChangedAt: registeredAt });
      await write(update('a', { status: 'finish' }, { cause: 'operator' }));
      expect(await stored('a')).toMatchObject({ cause: 'operator', statusChangedAt: bench.clock.now() });
      expect(await latest('a')).toMatchObject({ cause: 'operator', fromStatus: 'running', toStatus: 'finish' });
    });

    it('is refused where the stored group is not one of the caller’s, also before the revision is looked at', async () => {
      await write(registration('a', { group_id: 'mx' }));
      const foreign = { groups: ['other'], expectedRevision: 99 };
      expect(await write(update('a', { name: 'x' }, foreign))).toEqual({ outcome: 'forbidden' });
    });

    it('is refused where the stored revision is another', async () => {
      await write(registration('a'));
      expect(await write(update('a', { name: 'x' }, { expectedRevision: 2 }))).toEqual({ outcome: 'changed' });
      expect(await write(update('a', { name: 'y' }, { expectedRevision: 1 }))).toMatchObject({ revision: 2 });
      expect(await write(update('a', { name: 'z' }, { expectedRevision: 1 }))).toEqual({ outcome: 'changed' });
      expect(await stored('a')).toMatchObject({ name: 'y' });
    });

    it('claims the task when a session is given', async () => {
      await write(registration('a'));
      await write(update('a', {}, { sessionId: SESSION, addr: '10.0.0.2' }));
      expect(await stored('a')).toMatchObject({ sessionId: SESSION, epoch: 2, addr: '10.0.0.2' });
    });
  });

  describe('a batch', () => {
    it('answers in the order of its writes, each with its own outcome', async () => {
      await write(registration('known', { group_id: 'mx' }));
      const results = await bench.tasks.writeBatch([
        update('unknown', { name: 'x' }),
        registration('z'),
        update('known', { name: 'x' }, { groups: ['other'] }),
        registration('b', { name: 'x' }, { returnsTask: true }),
      ]);
      expect(results.map((result) => result.outcome)).toEqual(['not_found', 'written', 'forbidden', 'written']);
      expect(results[1]).not.toHaveProperty('task');
      expect(results[3]).toMatchObject({ task: await stored('b') });
    });

    it('tells the stored status, whether the write has one or not', async () => {
      const statuses = async (writes: readonly TaskWrite[]) =>
        (await bench.tasks.writeBatch(writes)).map((result) => result.outcome === 'written' && result.status);
      const registrations = [registration('a', {}, { sessionId: SESSION }), registration('b', { status: 'finish' })];
      expect(await statuses(registrations)).toEqual(['running', 'finish']);
      expect(await statuses([update('a', { status: 'restart' }), update('b', { name: 'x' })])).toEqual([
        'restart',
        'finish',
      ]);
      expect(await statuses([update('b', { name: 'y' }, { returnsTask: true })])).toEqual(['finish']);
      await lapse('a');
      expect(await statuses([update('a', { name: 'x' })])).toEqual(['shutdown']);
      expect(await statuses([update('a', {}, { sessionId: SESSION })])).toEqual(['restart']);
    });

    it('returns the stored record of an update that wants it', async () => {
      await write(registration('a', { name: 'n', start_time: '2020-01-01' }));
      const result = await write(update('a', { url: 'v' }, { returnsTask: true }));
      expect(result).toMatchObject({ task: await stored('a') });
    });

    it('of nothing does nothing', async () => {
      expect(await bench.tasks.writeBatch([])).toEqual([]);
      expect(await bench.tasks.lapse([])).toEqual({ lapsed: [], locked: [] });
      expect(await bench.tasks.findMany('everything', [])).toEqual([]);
    });

    it('takes a thousand registrations, and the same again', async () => {
      const writes = Array.from({ length: 1000 }, (_, index) => registration(`task-${index}`, { name: `n${index}` }));
      for (const revision of [1, 2]) {
        const results = await bench.tasks.writeBatch(writes);
        expect(new Set(results.map((result) => JSON.stringify(result)))).toEqual(
          new Set([JSON.stringify({ outcome: 'written', revision, epoch: revision, status: 'running' })]),
        );
      }
      expect(await bench.tasks.count('everything', {}, 10_000)).toBe(1000);
    });

    it('is told in the history under the node that wrote it', async () => {
      await bench.otherNode.writeBatch([registration('a')]);
      expect(await latest('a')).toMatchObject({ node: 'node-b' });
    });
  });

  describe('a lapse', () => {
    beforeEach(async () => {
      await write(registration('a', { status: 'running' }, { sessionId: SESSION }));
      bench.clock.advance(60_000);
    });

    it('sets shutdown, keeps the status before, and takes the task from its session', async () => {
      expect(await lapse('a')).toEqual({ lapsed: ['a'], locked: [] });
      expect(await stored('a')).toMatchObject({
        status: 'shutdown',
        statusBefore: 'running',
        cause: 'heartbeat_timeout',
        statusChangedAt: bench.clock.now(),
        updatedAt: bench.clock.now(),
        sessionId: null,
        epoch: 1,
        revision: 2,
      });
      expect(await latest('a')).toMatchObject({
        kind: 'lapsed',
        fromStatus: 'running',
        toStatus: 'shutdown',
        cause: 'heartbeat_timeout',
        actor: 'server',
        node: 'node-a',
        gapMs: 30_000,
        revision: 2,
      });
    });

    it.each([
      ['another session', { sessionId: OTHER_SESSION }],
      ['an earlier epoch', { epoch: 0 }],
      ['an unknown task', { taskId: 'nobody' }],
    ])('that was decided for %s changes nothing', async (_what, changes) => {
      expect(await lapse('a', changes)).toEqual({ lapsed: [], locked: [] });
      expect(await stored('a')).toMatchObject({ status: 'running', revision: 1 });
    });

    it.each([SESSION, OTHER_SESSION])(
      'that was decided for a later epoch (of %s) holds: the claim was lost with the end of a history',
      async (sessionId) => {
        expect(await lapse('a', { epoch: 2, sessionId })).toEqual({ lapsed: ['a'], locked: [] });
        expect(await stored('a')).toMatchObject({ status: 'shutdown', statusBefore: 'running' });
      },
    );

    it('that was decided for a later epoch is void when somebody has claimed the task since the session was heard', async () => {
      const changes = { epoch: 5, sessionId: OTHER_SESSION };
      expect(await lapse('a', { ...changes, silentMs: 90_000 })).toEqual({ lapsed: [], locked: [] });
      expect(await lapse('a', { ...changes, silentMs: 59_000 })).toEqual({ lapsed: ['a'], locked: [] });
    });

    it.each(['finish', 'shutdown'])('leaves a task alone that reported %s', async (status) => {
      await write(update('a', { status }));
      expect(await lapse('a')).toEqual({ lapsed: [], locked: [] });
      expect(await stored('a')).toMatchObject({ status, sessionId: SESSION });
    });

    it('of many tasks tells which it changed', async () => {
      await bench.tasks.writeBatch(['c', 'b'].map((id) => registration(id, {}, { sessionId: SESSION })));
      await write(registration('b', {}, { sessionId: OTHER_SESSION }));
      const lapses = ['c', 'b', 'a'].map((taskId) => ({
        taskId,
        sessionId: SESSION,
        epoch: 1,
        cause: 'connection_closed' as const,
        silentMs: 0.4,
      }));
      expect([...(await bench.tasks.lapse(lapses)).lapsed].sort()).toEqual(['a', 'c']);
      expect(await latest('c')).toMatchObject({ cause: 'connection_closed', gapMs: 0 });
    });

    it('happens once', async () => {
      await lapse('a');
      expect(await lapse('a')).toEqual({ lapsed: [], locked: [] });
    });
  });

  describe('coming back after a lapse', () => {
    beforeEach(async () => {
      await write(registration('a', { status: 'busy', name: 'n' }, { sessionId: SESSION }));
      bench.clock.advance(60_000);
      await lapse('a');
      bench.clock.advance(5_000);
    });

    it('by a claim without a status gives the status from before back', async () => {
      await write(update('a', {}, { sessionId: OTHER_SESSION }));
      expect(await stored('a')).toMatchObject({
        status: 'busy',
        statusBefore: '',
        cause: 'restored',
        statusChangedAt: bench.clock.now(),
        sessionId: OTHER_SESSION,
        epoch: 2,
      });
      expect(await latest('a')).toMatchObject({
        kind: 'restored',
        cause: 'restored',
        fromStatus: 'shutdown',
        toStatus: 'busy',
        gapMs: 35_000,
      });
    });

    it('by a claim with a status takes that status', async () => {
      await write(update('a', { status: 'finish' }, { sessionId: OTHER_SESSION }));
      expect(await stored('a')).toMatchObject({ status: 'finish', statusBefore: '', cause: 'restored' });
      expect(await latest('a')).toMatchObject({ kind: 'restored', toStatus: 'finish', gapMs: 35_000 });
    });

    it('by a registration takes what it says and tells the gap', async () => {
      await write(registration('a', { status: 'running' }, { sessionId: OTHER_SESSION }));
      expect(await stored('a')).toMatchObject({ status: 'running', name: '', statusBefore: '', cause: 'restored' });
      expect(await latest('a')).toMatchObject({ kind: 'restored', cause: 'restored', gapMs: 35_000 });
    });

    it('is no restoration where nobody claims: a registration counts as one', async () => {
      await write(registration('a', { status: 'running' }, { sessionId: null, cause: 'operator' }));
      expect(await stored('a')).toMatchObject({ status: 'running', statusBefore: '', cause: 'operator' });
      expect(await latest('a')).toMatchObject({ kind: 'registered', cause: 'operator', gapMs: null });
    });

    it('is not meant by an update of other texts', async () => {
      await write(update('a', { name: 'm' }));
      expect(await stored('a')).toMatchObject({
        name: 'm',
        status: 'shutdown',
        statusBefore: 'busy',
        cause: 'heartbeat_timeout',
      });
      await write(update('a', {}, { sessionId: SESSION }));
      expect(await stored('a')).toMatchObject({ status: 'busy' });
    });

    it('is over once somebody has written a status, the same one included', async () => {
      await write(update('a', { status: 'shutdown' }, { cause: 'operator' }));
      expect(await stored('a')).toMatchObject({ status: 'shutdown', statusBefore: '' });
      await write(update('a', {}, { sessionId: SESSION }));
      expect(await stored('a')).toMatchObject({ status: 'shutdown', statusBefore: '' });
      expect(await latest('a')).toMatchObject({ kind: 'updated', gapMs: null });
    });

    it('never tells a negative gap, even when clocks disagree', async () => {
      await write(registration('b', {}, { sessionId: SESSION }));
      await lapse('b', { silentMs: -120_000 });
      await write(update('b', {}, { sessionId: SESSION }));
      expect(await latest('b')).toMatchObject({ kind: 'restored', gapMs: 0 });
    });
  });
});
