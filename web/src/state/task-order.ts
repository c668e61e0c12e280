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

/** What a column is sorted by; undefined where a time is no instant. */
const KEYS: Readonly<Record<OrderField, (task: Task) => string | Timestamp | undefined>> = {
  updated: (task) => task.updatedAt,
  id: (task) => task.id,
  name: (task) => task.name,
  status: (task) => task.status,
  user: (task) => task.user,
  group: (task) => task.groupId,
  start: (task) => task.startedAt,
  stop: (task) => task.stoppedAt,
};

function compareKeys({ field, ascending }: TaskOrder, a: Task, b: Task): number {
  const [left, right] = [KEYS[field](a), KEYS[field](b)];
  if (left === undefined || right === undefined) return Number(left === undefined) - Number(right === undefined);
  return (ascending ? 1 : -1) * compareValues(left, right);
}

function compareValues(a: string | Timestamp, b: string | Timestamp): number {
  if (typeof a === 'string') return typeof b === 'string' ? compareTexts(a, b) : 0;
  return typeof b === 'string' ? 0 : compareInstants(a, b);
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
