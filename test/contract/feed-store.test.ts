/** What every change feed tells. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FeedEvent, FeedPosition } from '../../server/domain/ports.js';
import { storedBytesOf } from '../../server/domain/task.js';
import { positionAfter } from '../../server/domain/task-feed.js';
import { upTo } from '../support/page-limits.js';
import { taskStoreBenches, type TaskStoreBench } from '../support/task-store-bench.js';
import { registration, update } from '../support/task-writes.js';

const SESSION = '00000000-0000-4000-8000-000000000001';

/** Two bytes a character. */
const LONG = 'é'.repeat(100);

describe.each(taskStoreBenches)('the change feed on %s', (_name, open) => {
  let bench: TaskStoreBench;
  let start: FeedPosition;
  beforeAll(async () => {
    bench = await open();
  });
  beforeEach(async () => {
    await bench.clear();
    start = await bench.feed.head();
  });
  afterAll(() => bench.close());

  const since = (from: FeedPosition): Promise<FeedEvent[]> => bench.feed.after(from, upTo(100), 1000);
  const idsIn = (events: readonly FeedEvent[]) => events.map(({ event }) => event.taskId);

  it('has nothing to tell while nothing changes', async () => {
    expect(await since(start)).toEqual([]);
    expect(await bench.feed.head()).toEqual(start);
  });

  it('tells what changed after a place, with the task as it was right after the change', async () => {
    await bench.tasks.writeBatch([
      registration('a', { name: 'first', user: 'ssx', group_id: 'mx', start_time: '2020' }),
    ]);
    const first = await bench.tasks.find('everything', 'a');
    bench.clock.advance(1000);
    await bench.tasks.writeBatch([update('a', { name: 'second', start_time: '2020.07.04' }, { sessionId: SESSION })]);
    const second = await bench.tasks.find('everything', 'a');
    const [firstEvent, secondEvent] = [...(await bench.tasks.events('everything', 'a', undefined, 10))].reverse();
    const more = { previous: { group_id: 'mx', user: 'ssx' }, batch: expect.any(String) as string };
    expect(await since(start)).toEqual([
      { event: firstEvent, task: first, ...more },
      { event: secondEvent, task: second, ...more },
    ]);
  });

  it('ends a page with the record that fills it, whatever the place itself measures', async () => {
    for (const id of ['a', 'b', 'c', 'd']) await bench.tasks.writeBatch([registration(id, { description: LONG })]);
    const whole = await since(start);
    const bytes = storedBytesOf((whole[0] as FeedEvent).task);
    for (const [from, rest] of [
      [start, whole] as const,
      [positionAfter(whole[0] as FeedEvent), whole.slice(1)] as const,
    ]) {
      const read = async (limit: number) => bench.feed.after(from, { records: 100, bytes: limit }, 1000);
      expect(await read(1)).toEqual(rest.slice(0, 1));
      expect(await read(bytes)).toEqual(rest.slice(0, 1));
      expect(await read(bytes + 1)).toEqual(rest.slice(0, 2));
      expect(await read(2 * bytes + 1)).toEqual(rest.slice(0, 3));
    }
  });

  it('tells whose a task was before it moved', async () => {
    await bench.tasks.writeBatch([registration('a', { user: 'ssx', group_id: 'mx' })]);
    const mark = await bench.feed.head();
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
    const mark = await bench.feed.head();
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

  it('gives pages that go on from each event of another', async () => {
    await bench.tasks.writeBatch(['c', 'a', 'b'].map((id) => registration(id)));
    await bench.tasks.writeBatch([registration('later')]);
    const whole = await since(start);
    expect(whole).toHaveLength(4);
    expect(await bench.feed.after(start, upTo(2), 1000)).toEqual(whole.slice(0, 2));
    for (const [index, event] of whole.entries()) {
      expect(await bench.feed.after(positionAfter(event), upTo(2), 1000)).toEqual(whole.slice(index + 1, index + 3));
    }
    expect(await bench.feed.head()).toEqual(positionAfter(whole.at(-1) as FeedEvent));
  });

  it('says before it reads that a place is too far behind', async () => {
    await bench.tasks.writeBatch([registration('a')]);
    const place = await bench.feed.head();
    await bench.tasks.writeBatch(['b', 'c', 'd'].map((id) => registration(id)));
    expect(await bench.feed.after(place, upTo(1), 3)).toHaveLength(1);
    await expect(bench.feed.after(place, upTo(1), 2)).rejects.toMatchObject({ code: 'RESUME_TOKEN_EXPIRED' });
  });

  it('refuses a place that its history does not have: ahead of it, or of another batch', async () => {
    await bench.tasks.writeBatch([registration('a')]);
    const { id, batch } = await bench.feed.head();
    for (const place of [
      { id: id + 1_000_000, batch },
      { id, batch: '1.1' },
    ])
      await expect(bench.feed.after(place, upTo(10), 1000)).rejects.toMatchObject({ code: 'RESUME_TOKEN_INVALID' });
  });
});
