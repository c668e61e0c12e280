import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { TaskEventKind, TaskEventSchema } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { StatusCounts } from '../../web/src/state/status-counts.js';
import { EMPTY_QUERY, parseQuery } from '../../web/src/state/task-query.js';
import { aTask } from '../support/web-tasks.js';

function event(fromStatus: string, toStatus: string, kind = TaskEventKind.UPDATED) {
  return create(TaskEventSchema, { taskId: '1', fromStatus, toStatus, kind });
}

function counting(query = EMPTY_QUERY): StatusCounts {
  const counts = new StatusCounts();
  counts.beginLoad(query);
  counts.load([
    { status: 'running', count: 5 },
    { status: 'queued', count: 2 },
  ]);
  return counts;
}

describe('the counts by status', () => {
  it('show the documented statuses first and always, then the others', () => {
    expect(counting().list.map(({ status, count }) => `${status} ${count}`)).toEqual([
      'running 5',
      'restart 0',
      'shutdown 0',
      'finish 0',
      'queued 2',
    ]);
    expect(counting().total).toBe(7);
  });

  it('follow a change of status, a new task, and one that became something else', () => {
    const counts = counting();
    counts.offer(event('running', 'finish'), aTask({ status: 'finish' }));
    counts.offer(event('', 'running', TaskEventKind.REGISTERED), aTask());
    counts.offer(event('queued', 'running', TaskEventKind.REGISTERED), aTask());
    expect([counts.of('running'), counts.of('finish'), counts.of('queued')]).toEqual([6, 1, 1]);
    expect(counts.urgency).toBe('eventually');
  });

  it('need no new count when no status changed', () => {
    const counts = counting();
    counts.offer(event('running', 'running'), aTask());
    expect(counts.urgency).toBe('no');
  });

  it('ask for a new count soon where the effect is not certain', () => {
    for (const [query, kind, task] of [
      [EMPTY_QUERY, TaskEventKind.UPDATED, undefined],
      [parseQuery('group:mx'), TaskEventKind.UPDATED, aTask()],
      [parseQuery('import'), TaskEventKind.REGISTERED, aTask()],
    ] as const) {
      const counts = counting(query);
      counts.offer(event('running', 'finish', kind), task);
      expect([counts.urgency, counts.of('running')]).toEqual(['soon', 5]);
    }
  });

  it('follow what the registry decides also under a filter, for the tasks in it', () => {
    const counts = counting(parseQuery('group:mx'));
    counts.offer(event('running', 'shutdown', TaskEventKind.LAPSED), aTask({ status: 'shutdown' }));
    counts.offer(event('running', 'shutdown', TaskEventKind.LAPSED), aTask({ status: 'shutdown', groupId: 'other' }));
    expect([counts.of('running'), counts.of('shutdown'), counts.urgency]).toEqual([4, 1, 'eventually']);
  });

  it('remember what arrived while a count was under way, and never fall below zero', () => {
    const counts = counting();
    counts.beginLoad(EMPTY_QUERY);
    counts.offer(event('restart', 'running'), aTask());
    expect([counts.of('restart'), counts.of('running')]).toEqual([0, 6]);
    counts.load([{ status: 'running', count: 6 }]);
    expect([counts.of('running'), counts.of('queued'), counts.urgency]).toEqual([6, 0, 'eventually']);
  });
});
