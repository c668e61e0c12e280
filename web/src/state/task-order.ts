/** What a list of tasks can be sorted by, and which of two tasks comes first: the same rules as the server's. */
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';

/** The sortable columns, under the names that the address bar uses. */
export const ORDER_FIELDS = ['updated', 'id', 'name', 'status', 'user', 'group', 'start', 'stop'] as const;
export type OrderField = (typeof ORDER_FIELDS)[number];

/** A column and a direction. */
export interface TaskOrder {
  readonly field: OrderField;
  readonly ascending: boolean;
}

/** The newest change first. */
export const DEFAULT_ORDER: TaskOrder = { field: 'updated', ascending: false };

/** The order after a click on a column's head: the other way round, or the column's natural direction. */
export function orderAfterClick(current: TaskOrder, field: OrderField): TaskOrder {
  if (current.field === field) return { field, ascending: !current.ascending };
  return { field, ascending: field !== 'updated' };
}

/** Below zero when `a` comes before `b`. Equal values are sorted by id; what is no instant comes last either way. */
export function compareTasks(order: TaskOrder, a: Task, b: Task): number {
  return compareKeys(order, a, b) || (order.ascending ? 1 : -1) * compareTexts(a.id, b.id);
}

function compareKeys(order: TaskOrder, a: Task, b: Task): number {
  const direction = order.ascending ? 1 : -1;
  const instants = instantsOf(order.field, a, b);
  if (!instants) return direction * compareTexts(textOf(order.field, a), textOf(order.field, b));
  const [left, right] = instants;
  if (!left || !right) return Number(!left) - Number(!right);
  return direction * compareInstants(left, right);
}

function instantsOf(field: OrderField, a: Task, b: Task): [Timestamp | undefined, Timestamp | undefined] | undefined {
  switch (field) {
    case 'updated':
      return [a.updatedAt, b.updatedAt];
    case 'start':
      return [a.startedAt, b.startedAt];
    case 'stop':
      return [a.stoppedAt, b.stoppedAt];
    default:
      return undefined;
  }
}

function textOf(field: OrderField, task: Task): string {
  switch (field) {
    case 'name':
      return task.name;
    case 'status':
      return task.status;
    case 'user':
      return task.user;
    case 'group':
      return task.groupId;
    default:
      return task.id;
  }
}

function compareInstants(a: Timestamp, b: Timestamp): number {
  if (a.seconds !== b.seconds) return a.seconds < b.seconds ? -1 : 1;
  return a.nanos - b.nanos;
}

/** By code point, as the database sorts ("C" collation); JavaScript's own `<` puts emoji before some Han characters. */
function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  const left = [...a];
  const right = [...b];
  const length = Math.min(left.length, right.length);
  for (let index = 0; index < length; index++) {
    const difference = codePoint(left[index]) - codePoint(right[index]);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

function codePoint(character: string | undefined): number {
  return character?.codePointAt(0) ?? 0;
}
