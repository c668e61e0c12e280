/** What every change feed tells. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FeedEvent, FeedMark } from '../../server/domain/ports.js';
import { taskStoreBenches, type TaskStoreBench } from '../support/task-store-bench.js';
import { registration, update } from '../support/task-writes.js';

const SESSION = '00000000-0000-4000-8000-000000000001';

describe.each(taskStoreBenches)('the change feed on %s', (_name, open) => {
  let bench: TaskStoreBench;
  let start: FeedMark;
  beforeAll(async () => {
    bench = await open();
  });
  beforeEach(async () => {
    await bench.clear();
    start = await bench.feed.mark();
  });
  afterAll(() => bench.close());

  const since = async (from: FeedMark): Promise<FeedEvent[]> =>
    (await bench.feed.between(from, undefined, 0, 100)).events;
  const idsIn = (events: readonly FeedEvent[]) => events.map(({ event }) => event.taskId);

  it('has nothing to tell while nothing changes', async () => {
    const { until, events } = await bench.feed.between(start, undefined, 0, 100);
    expect(events).toEqual([]);
    expect(await since(until)).toEqual([]);
  });

  it('tells what changed after a mark, with the task as it was right after the change', async () => {
    await bench.tasks.writeBatch([
      registration('a', { name: 'first', user: 'ssx', group_id: 'mx', start_time: '2020' }),
    ]);
    const first = await bench.tasks.find('everything', 'a');
    bench.clock.advance(1000);
    await bench.tasks.writeBatch([update('a', { name: 'second', start_time: '2020.07.04' }, { sessionId: SESSION })]);
    const second = await bench.tasks.find('everything', 'a');
    const [firstEvent, secondEvent] = [...(await bench.tasks.events('everything', 'a', undefined, 10))].reverse();
    const previous = { group_id: 'mx', user: 'ssx' };
    expect(await since(start)).toEqual([
      { event: firstEvent, task: first, previous },
      { event: secondEvent, task: second, previous },
    ]);
  });

  it('tells whose a task was before it moved', async () => {
    await bench.tasks.writeBatch([registration('a', { user: 'ssx', group_id: 'mx' })]);
    const mark = await bench.feed.mark();
    await bench.tasks.writeBatch([update('a', { group_id: 'ops' })]);
    await bench.tasks.writeBatch([update('a', { user: '' })]);
    await bench.tasks.writeBatch([registration('a', { user: 'wsg', group_id: 'zz' })]);
    expect((await since(mark)).map(({ task, previous }) => [task.group_id, task.user, previous])).toEqual([
      ['ops', 'ssx', { group_id: 'mx', user: 'ssx' }],
      ['ops', '', { group_id: 'ops', user: 'ssx' }],
      ['zz', 'wsg', { group_id: 'ops', user: '' }],
    ]);
  });

  it('tells lapses and restorations with their gaps', async () => {
    await bench.tasks.writeBatch([registration('a', {}, { sessionId: SESSION })]);
    const mark = await bench.feed.mark();
    await bench.tasks.lapse([{ taskId: 'a', sessionId: SESSION, epoch: 1, cause: 'node_failover', silentMs: 70_000 }]);
    bench.clock.advance(5000);
    await bench.otherNode.writeBatch([update('a', {}, { sessionId: SESSION })]);
    expect((await since(mark)).map(({ event }) => event)).toMatchObject([
      { kind: 'lapsed', cause: 'node_failover', gapMs: 70_000, actor: 'server', node: 'node-a' },
      { kind: 'restored', cause: 'restored', gapMs: 75_000, actor: 'service:10.0.0.1', node: 'node-b' },
    ]);
  });

  it('tells of every node, and not of what was refused', async () => {
    await bench.tasks.writeBatch([registration('a', { group_id: 'mx' })]);
    await bench.otherNode.writeBatch([registration('b'), update('nobody'), update('a', {}, { groups: [] })]);
    expect(idsIn(await since(start))).toEqual(['a', 'b']);
  });

  it('gives pages by event id, and the same set again for the same two marks', async () => {
    await bench.tasks.writeBatch(['c', 'a', 'b'].map((id) => registration(id)));
    const whole = await bench.feed.between(start, undefined, 0, 100);
    await bench.tasks.writeBatch([registration('later')]);
    const page = await bench.feed.between(start, whole.until, 0, 2);
    expect(page).toEqual({ until: whole.until, events: whole.events.slice(0, 2) });
    const rest = await bench.feed.between(start, whole.until, page.events[1]?.event.id ?? 0, 2);
    expect(rest).toEqual({ until: whole.until, events: whole.events.slice(2) });
    expect(idsIn(await since(whole.until))).toEqual(['later']);
  });

  it('bounds an open read that did not fit by the mark it gives', async () => {
    await bench.tasks.writeBatch(['a', 'b', 'c'].map((id) => registration(id)));
    const page = await bench.feed.between(start, undefined, 0, 2);
    await bench.tasks.writeBatch([registration('d')]);
    const rest = await bench.feed.between(start, page.until, page.events[1]?.event.id ?? 0, 100);
    expect([...idsIn(page.events), ...idsIn(rest.events)].sort()).toEqual(['a', 'b', 'c']);
    expect(idsIn(await since(page.until))).toEqual(['d']);
  });

  it('orders marks by what they have seen', async () => {
    await bench.tasks.writeBatch([registration('a')]);
    const later = await bench.feed.mark();
    expect(bench.feed.reaches(later, start)).toBe(true);
    expect(bench.feed.reaches(later, later)).toBe(true);
    expect(bench.feed.reaches(start, later)).toBe(false);
  });

  it.each([
    '',
    'nonsense',
    '1',
    '-1:5:',
    'seen:',
    'a:1:2:3',
    'seen:1.5',
    '0:99999999999999999999999:',
    'x'.repeat(9999),
  ])('refuses %j, which is no mark', async (mark) => {
    await expect(bench.feed.between(mark, undefined, 0, 1)).rejects.toMatchObject({ code: 'RESUME_TOKEN_INVALID' });
    await expect(bench.feed.between(start, mark, 0, 1)).rejects.toMatchObject({ code: 'RESUME_TOKEN_INVALID' });
  });
});
