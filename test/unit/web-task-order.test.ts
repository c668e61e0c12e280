import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { matchesQuery } from '../../web/src/state/task-match.js';
import { compareTasks, orderAfterClick, ORDER_FIELDS, type TaskOrder } from '../../web/src/state/task-order.js';
import { parseQuery } from '../../web/src/state/task-query.js';
import { aTask } from '../support/web-tasks.js';

function idsInOrder(order: TaskOrder, tasks: readonly ReturnType<typeof aTask>[]): string[] {
  return tasks.toSorted((a, b) => compareTasks(order, a, b)).map((task) => task.id);
}

describe('the order of two tasks', () => {
  it('is by code point, as the database sorts', () => {
    const tasks = ['b', 'B', 'ä', '任', '😀', '﹏', 'a', 'ab'].map((id) => aTask({ id }));
    expect(idsInOrder({ field: 'id', ascending: true }, tasks)).toEqual(['B', 'a', 'ab', 'b', 'ä', '任', '﹏', '😀']);
  });

  it('puts what is no instant last, whichever the direction', () => {
    const tasks = [
      aTask({ id: 'none' }),
      aTask({ id: 'late', startedAt: timestampFromMs(2000) }),
      aTask({ id: 'early', startedAt: timestampFromMs(1000) }),
    ];
    expect(idsInOrder({ field: 'start', ascending: true }, tasks)).toEqual(['early', 'late', 'none']);
    expect(idsInOrder({ field: 'start', ascending: false }, tasks)).toEqual(['late', 'early', 'none']);
  });

  it('falls back to the id, and is never undecided between two tasks', () => {
    const [a, b] = [aTask({ id: 'a' }), aTask({ id: 'b' })];
    for (const field of ORDER_FIELDS) {
      expect(compareTasks({ field, ascending: true }, a, b), field).toBeLessThan(0);
      expect(compareTasks({ field, ascending: false }, a, b), field).toBeGreaterThan(0);
    }
  });

  it('sorts by every column', () => {
    const a = aTask({
      id: '2',
      name: 'a',
      user: 'a',
      groupId: 'a',
      status: 'finish',
      stoppedAt: timestampFromMs(1),
      startedAt: timestampFromMs(1),
    });
    const b = aTask({
      id: '3',
      name: 'b',
      user: 'b',
      groupId: 'b',
      status: 'running',
      updatedMs: 1,
      stoppedAt: timestampFromMs(2),
      startedAt: timestampFromMs(2),
    });
    for (const field of ORDER_FIELDS)
      expect(idsInOrder({ field, ascending: false }, [a, b]), field).toEqual(['3', '2']);
  });

  it('turns round with a second click, and begins in the natural direction', () => {
    const byName = orderAfterClick({ field: 'updated', ascending: false }, 'name');
    expect(byName).toEqual({ field: 'name', ascending: true });
    expect(orderAfterClick(byName, 'name')).toEqual({ field: 'name', ascending: false });
    expect(orderAfterClick(byName, 'updated')).toEqual({ field: 'updated', ascending: false });
  });
});

describe('whether a task matches', () => {
  const task = aTask({
    id: '130',
    name: 'Nightly Import',
    url: 'http://host/Job',
    description: 'adds data',
    addr: '10.0.0.7',
  });
  it.each([
    ['', true],
    ['status:running', true],
    ['status:finish', false],
    ['status:finish status:running', true],
    ['status:run', false],
    ['group:mx user:ssx', true],
    ['group:mx user:wsg', false],
    ['id:13', true],
    ['id:30', false],
    ['name:nightly', true],
    ['name:import', false],
    ['addr:10.0.', true],
    ['addr:0.0', false],
    ['JOB data 10.0', true],
    ['data missing', false],
    ['ssx', false],
  ])('%j is answered with %s', (text, expected) => {
    expect(matchesQuery(parseQuery(text), task)).toBe(expected);
  });
});
