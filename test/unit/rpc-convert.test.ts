import { create } from '@bufbuild/protobuf';
import { timestampFromMs, TimestampSchema } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { TaskEventSchema, TaskMark, TaskSchema, TaskStatus } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { TaskFilterSchema, TaskOrderField } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { TASK_TEXT_FIELDS, type Task, type TaskEvent } from '../../server/domain/task.js';
import {
  eventMessage,
  filterOf,
  leavingMessage,
  maskedTexts,
  orderOf,
  taskMessage,
} from '../../server/transports/rpc/convert.js';

const AT = new Date('2026-01-02T03:04:05.678Z');

const task: Task = {
  ...{ id: '133', name: 'zxf', url: 'u', user: 'ssx', group_id: 'mx', description: 'd' },
  ...{ status: 'running', start_time: '2020.07.01', stop_time: '', addr: '10.0.0.1', cause: 'client' },
  ...{ statusChangedAt: AT, statusBefore: '', startedAt: new Date('2020-07-01T00:00:00Z'), stoppedAt: null },
  ...{
    createdAt: AT,
    updatedAt: AT,
    revision: 9_007_199_254_740_991,
    sessionId: null,
    unconfirmedSince: null,
    epoch: 3,
  },
};

const event: TaskEvent = {
  ...{ id: 4, taskId: '133', kind: 'lapsed', fromStatus: 'running', toStatus: 'shutdown', cause: 'node_failover' },
  ...{ actor: 'server', node: 'node-a', at: AT, gapMs: 1234.5678, revision: 7 },
};

function violationsOf(work: () => unknown): string[] {
  try {
    work();
  } catch (error) {
    if (error instanceof TaskDashError)
      return error.violations.map(({ field, description }) => `${field} ${description}`);
    throw error;
  }
  return [];
}

describe('a task as a message', () => {
  it('has the texts as sent, the version as a whole number, and no instant where the text is none', () => {
    const message = taskMessage(task, () => ['suspect', 'flapping']);
    expect(message).toMatchObject({
      ...{ id: '133', groupId: 'mx', startTime: '2020.07.01', stopTime: '', connected: false },
      ...{ revision: 9_007_199_254_740_991n, etag: '"9007199254740991"', effectiveStatus: TaskStatus.RUNNING },
      marks: [TaskMark.SUSPECT, TaskMark.FLAPPING],
      startedAt: { seconds: 1_593_561_600n, nanos: 0 },
      updatedAt: { seconds: 1_767_323_045n, nanos: 678_000_000 },
    });
    expect(message.stoppedAt).toBeUndefined();
  });

  it.each([
    ['finish', TaskStatus.FINISH],
    ['shutdown', TaskStatus.SHUTDOWN],
    ['restart', TaskStatus.RESTART],
    ['Running', TaskStatus.OTHER],
    ['constructor', TaskStatus.OTHER],
  ])('%s counts as %s, and stays as it was written', (status, effectiveStatus) => {
    expect(taskMessage({ ...task, status }, () => [])).toMatchObject({ status, effectiveStatus });
  });
});

describe('an event as a message', () => {
  it('tells a gap that is no whole number of milliseconds', () => {
    expect(create(TaskEventSchema, eventMessage(event)).gap).toMatchObject({ seconds: 1n, nanos: 235_000_000 });
  });

  it('of a task that left the sight of the caller tells that it did, and nothing of what it became', () => {
    const told = create(TaskEventSchema, leavingMessage(event));
    const nothing = create(TaskEventSchema, {});
    const { id, taskId, kind, at, revision } = create(TaskEventSchema, eventMessage(event));
    expect(told).toEqual({ ...nothing, id, taskId, kind, at, revision });
  });
});

describe('what cannot be sent', () => {
  const nan = new Date(NaN);
  const late = new Date(8e15);
  it.each([
    ['name', { name: 'half \ud800' }],
    ['addr', { addr: '\udc00' }],
    ['created_at', { createdAt: nan }],
    ['updated_at', { updatedAt: late }],
    ['status_changed_at', { statusChangedAt: Infinity as unknown as Date }],
    ['revision', { revision: NaN }],
  ])('is a task whose %s has no form, in words that name both', (field, change) => {
    const words = new RegExp(`^The task "133" cannot be sent: ${field} is .*\\.$`);
    expect(() => taskMessage({ ...task, ...change }, () => [])).toThrow(words);
  });

  it.each([
    ['at', { at: nan }],
    ['actor', { actor: '\ud800' }],
    ['gap', { gapMs: Infinity }],
    ['gap', { gapMs: 1e15 }],
  ])('is an event whose %s has no form', (field, change) => {
    const words = new RegExp(`^The event 4 of the task "133" cannot be sent: ${field} is .*\\.$`);
    expect(() => eventMessage({ ...event, ...change })).toThrow(words);
  });

  it('is no start or stop: the instant is left out, and the text tells it', () => {
    const { startedAt, stoppedAt } = taskMessage({ ...task, startedAt: nan, stoppedAt: late }, () => []);
    expect([startedAt, stoppedAt]).toEqual([undefined, undefined]);
  });
});

describe('the texts of an update', () => {
  const message = create(TaskSchema, { name: 'n', status: '', description: 'd' });

  it('are those that are not empty, where there is no mask', () => {
    for (const mask of [undefined, []]) expect(maskedTexts(message, mask)).toEqual({ name: 'n', description: 'd' });
  });

  it('are those that the mask names, empty ones too', () => {
    expect(maskedTexts(message, ['status', 'name', 'name'])).toEqual({ status: '', name: 'n' });
  });

  it('are all of them for "*"', () => {
    expect(Object.keys(maskedTexts(message, ['*']))).toEqual(TASK_TEXT_FIELDS);
  });

  it.each(['id', 'addr', 'groupId', '', 'name.x', 'task.name', '__proto__'])('are never %j', (path) => {
    expect(violationsOf(() => maskedTexts(message, ['name', path]))).toEqual([
      expect.stringMatching(/^update_mask names .*; only name, url, .* can be updated$/),
    ]);
  });
});

describe('a filter', () => {
  const filter = (init: Parameters<typeof create<typeof TaskFilterSchema>>[1]) => () =>
    filterOf(create(TaskFilterSchema, init));

  it.each([
    ['statuses', 20],
    ['groupIds', 100],
    ['users', 100],
  ] as const)('may have as many %s as the contract says, and not one more', (field, limit) => {
    expect(violationsOf(filter({ [field]: Array.from({ length: limit }, String) }))).toEqual([]);
    expect(violationsOf(filter({ [field]: Array.from({ length: limit + 1 }, String) }))).toHaveLength(1);
  });

  it.each([
    ['text', 256],
    ['idPrefix', 128],
    ['namePrefix', 256],
    ['addrPrefix', 64],
  ] as const)('may have a %s as long as the contract says, whatever the bytes of its characters', (field, limit) => {
    for (const character of ['x', '字', '🚀']) {
      expect(violationsOf(filter({ [field]: character.repeat(limit) }))).toEqual([]);
      expect(violationsOf(filter({ [field]: character.repeat(limit + 1) }))).toEqual([
        expect.stringContaining(`must have at most ${limit} characters, has ${limit + 1}`),
      ]);
    }
  });

  it('may have ten words, each looked for once', () => {
    const words = Array.from({ length: 10 }, (_, n) => `w${n}`);
    expect(filter({ text: [...words, ...words].join(' ') })()).toEqual({ words });
    expect(violationsOf(filter({ text: [...words, 'more'].join(' ') }))).toEqual([
      'filter.text must have at most 10 words, has 11',
    ]);
  });

  it.each(['statuses', 'users', 'groupIds'] as const)('takes %s that tasks may have', (field) => {
    const limit = field === 'statuses' ? 64 : 256;
    expect(violationsOf(filter({ [field]: ['🚀'.repeat(limit)] }))).toEqual([]);
    expect(violationsOf(filter({ [field]: ['🚀'.repeat(limit + 1)] }))).toHaveLength(1);
  });

  it('refuses what the database has no form for', () => {
    expect(violationsOf(filter({ users: ['a\0'], text: '\ud800' }))).toHaveLength(2);
  });

  it.each([-62_135_596_800_001, 253_402_300_800_000])('refuses an instant out of the years 1 to 9999: %i', (ms) => {
    expect(violationsOf(filter({ startedFrom: timestampFromMs(ms) }))).toEqual([
      'filter.started_from must be an instant between the years 1 and 9999',
    ]);
    const inside = ms < 0 ? ms + 1 : ms - 1;
    expect(filter({ startedUntil: timestampFromMs(inside) })()).toEqual({ startedUntil: new Date(inside) });
  });

  it('takes every instant of those years, to the nanosecond, as the next millisecond', () => {
    const last = create(TimestampSchema, { seconds: 253_402_300_799n, nanos: 999_999_999 });
    const next = new Date(253_402_300_800_000);
    expect(filter({ startedFrom: last, startedUntil: last })()).toEqual({ startedFrom: next, startedUntil: next });
    const odd = create(TimestampSchema, { seconds: -1n, nanos: 1 });
    expect(filter({ startedFrom: odd, startedUntil: odd })()).toEqual({
      startedFrom: new Date(-999),
      startedUntil: new Date(-999),
    });
  });

  it.each([-1, 1_000_000_000])('refuses an instant with %i nanoseconds', (nanos) => {
    const odd = create(TimestampSchema, { seconds: 0n, nanos });
    expect(violationsOf(filter({ startedUntil: odd }))).toHaveLength(1);
  });

  it('of nothing means everything', () => {
    expect(filterOf(undefined)).toEqual({});
    expect(filter({ text: ' \t' })()).toEqual({});
  });
});

describe('an order', () => {
  it('that the contract does not have is refused', () => {
    expect(violationsOf(() => orderOf(99 as TaskOrderField))).toHaveLength(1);
    expect(orderOf(TaskOrderField.UNSPECIFIED)).toBe('updatedAt');
  });
});
