import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { TaskEventKind, TaskEventSchema } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { COUNT_TIMES, LiveCounts } from '../../web/src/state/live-counts.js';
import type { Count } from '../../web/src/state/status-counts.js';
import { EMPTY_QUERY, formatQuery, parseQuery } from '../../web/src/state/task-query.js';
import { aTask } from '../support/web-tasks.js';
import { settle, WebTime } from '../support/web-time.js';

function rig() {
  const time = new WebTime();
  const asked: { query: string; answer: (counts: readonly Count[]) => Promise<void>; fail: () => Promise<void> }[] = [];
  const failures: unknown[] = [];
  const counts = new LiveCounts(
    {
      count: (query) =>
        new Promise((resolve, reject) => {
          asked.push({
            query: formatQuery(query),
            answer: (found) => (resolve(found), settle()),
            fail: () => (reject(new Error('away')), settle()),
          });
        }),
      whenOpened: () => Promise.resolve(),
      onFailure: (thrown) => failures.push(thrown),
      onShow: () => {},
    },
    time,
  );
  return { time, asked, failures, counts };
}

const FOUND: readonly Count[] = [
  { status: 'running', count: 3 },
  { status: 'finish', count: 1 },
];

function statusChange(kind = TaskEventKind.UPDATED) {
  return create(TaskEventSchema, { fromStatus: 'running', toStatus: 'finish', kind });
}

async function counted(query = EMPTY_QUERY) {
  const rigged = rig();
  rigged.counts.open(query);
  await settle();
  await rigged.asked[0]?.answer(FOUND);
  return rigged;
}

describe('the counts above the list', () => {
  it('are of the search without its statuses, and asked for again only when that changes', async () => {
    const { counts, asked } = await counted(parseQuery('group:mx status:running'));
    counts.open(parseQuery('group:mx status:finish'));
    counts.open(parseQuery('group:mx'));
    expect(asked.map(({ query }) => query)).toEqual(['group:mx']);
    counts.open(parseQuery('group:other'));
    await settle();
    expect(asked.map(({ query }) => query)).toEqual(['group:mx', 'group:other']);
  });

  it('say how many tasks have any of some statuses', async () => {
    const { counts } = await counted();
    expect([counts.of([]), counts.of(['finish', 'running']), counts.of(['queued'])]).toEqual([4, 4, 0]);
    expect(rig().counts.of([])).toBeUndefined();
  });

  it('do not say it where the server has added up the rest', async () => {
    const { counts, asked } = rig();
    counts.open(EMPTY_QUERY);
    await settle();
    await asked[0]?.answer([...FOUND, { status: '…', count: 7 }]);
    expect(counts.of(['running'])).toBeUndefined();
  });

  it('follow a change at once, and are asked for again eventually', async () => {
    const { counts, asked, time } = await counted();
    counts.offer(statusChange(), aTask({ status: 'finish' }));
    expect([counts.of(['running']), counts.of(['finish'])]).toEqual([2, 2]);
    await time.pass(COUNT_TIMES.eventuallyMs - 1);
    expect(asked).toHaveLength(1);
    await time.pass(1);
    expect(asked).toHaveLength(2);
  });

  it('are asked for soon when a change is not certain, also when they were to be asked for later', async () => {
    const { counts, asked, time } = await counted();
    counts.offer(statusChange(), aTask({ status: 'finish' }));
    counts.offer(statusChange(), undefined);
    await time.pass(COUNT_TIMES.soonMs);
    expect(asked).toHaveLength(2);
  });

  it('are never asked for twice at once, whatever arrives meanwhile', async () => {
    const { counts, asked, time } = await counted();
    counts.offer(statusChange(), undefined);
    await time.pass(COUNT_TIMES.soonMs);
    counts.offer(statusChange(), undefined);
    await time.pass(60_000);
    expect(asked).toHaveLength(2);
    await asked[1]?.answer(FOUND);
    await time.pass(0);
    expect(time.alarms).toBe(1);
  });

  it('give a slow server time: counting takes at most a twentieth of it', async () => {
    const { counts, asked, time } = rig();
    counts.open(EMPTY_QUERY);
    await settle();
    await time.pass(1_000);
    await asked[0]?.answer(FOUND);
    counts.offer(statusChange(), undefined);
    expect(time.waits.at(-1)).toBe(20_000);
  });

  it('are asked for again after a failure', async () => {
    const { counts, asked, time, failures } = rig();
    counts.open(EMPTY_QUERY);
    await settle();
    await asked[0]?.fail();
    expect(failures).toHaveLength(1);
    await time.pass(COUNT_TIMES.eventuallyMs);
    expect(asked).toHaveLength(2);
  });

  it('forget everything for the next user', async () => {
    const { counts, time } = await counted();
    counts.offer(statusChange(), undefined);
    counts.reset();
    expect([counts.list, counts.total, time.alarms]).toEqual([[], 0, 0]);
  });

  it('are asked for again where no stream tells of changes, but not while they are, nor oftener than they are worth', async () => {
    const { counts, asked, time } = await counted();
    const refresh = async () => {
      counts.refresh();
      await settle();
      return asked.length;
    };
    expect(await refresh()).toBe(2);
    expect(await refresh()).toBe(2);
    await time.pass(1000);
    await asked[1]?.answer(FOUND);
    await time.pass(1000 / COUNT_TIMES.share - 1);
    expect(await refresh()).toBe(2);
    await time.pass(1);
    expect(await refresh()).toBe(3);
    await asked[2]?.fail();
    expect(await refresh()).toBe(4);
  });
});
