/** Between the contract's messages and the domain. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromDate, type Timestamp } from '@bufbuild/protobuf/wkt';
import {
  BatchRegisterTasksResultSchema,
  TaskOrderField as OrderField,
  type TaskFilter as FilterMessage,
} from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import {
  Cause as CauseMessage,
  TaskEventKind as EventKindMessage,
  TaskMark as MarkMessage,
  TaskSchema,
  TaskStatus,
  type Task as TaskMessage,
  type TaskEventSchema,
} from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { quoted, TaskDashError, type FieldViolation } from '../../domain/errors.js';
import type { TaskFilter, TaskOrderField } from '../../domain/ports.js';
import { isSendable } from '../../domain/reported-time.js';
import {
  etagOf,
  TASK_LIMITS,
  TASK_TEXT_FIELDS,
  type Cause,
  type Task,
  type TaskEvent,
  type TaskEventKind,
  type TaskMark,
  type TaskTexts,
} from '../../domain/task.js';

import { hasTimestamp, requireSendable, sendableSpan } from './sendable.js';

const STATUSES: ReadonlyMap<string, TaskStatus> = new Map([
  ['running', TaskStatus.RUNNING],
  ['finish', TaskStatus.FINISH],
  ['shutdown', TaskStatus.SHUTDOWN],
  ['restart', TaskStatus.RESTART],
]);

const CAUSES: Readonly<Record<Cause, CauseMessage>> = {
  client: CauseMessage.CLIENT,
  heartbeat_timeout: CauseMessage.HEARTBEAT_TIMEOUT,
  connection_closed: CauseMessage.CONNECTION_CLOSED,
  node_failover: CauseMessage.NODE_FAILOVER,
  operator: CauseMessage.OPERATOR,
  restored: CauseMessage.RESTORED,
};

const KINDS: Readonly<Record<TaskEventKind, EventKindMessage>> = {
  registered: EventKindMessage.REGISTERED,
  updated: EventKindMessage.UPDATED,
  lapsed: EventKindMessage.LAPSED,
  restored: EventKindMessage.RESTORED,
};

/** The contract's names of marks. */
export const MARKS: Readonly<Record<TaskMark, MarkMessage>> = {
  suspect: MarkMessage.SUSPECT,
  unconfirmed: MarkMessage.UNCONFIRMED,
  flapping: MarkMessage.FLAPPING,
  protected: MarkMessage.PROTECTED,
};

const ORDERS: Readonly<Record<OrderField, TaskOrderField>> = {
  [OrderField.UNSPECIFIED]: 'updatedAt',
  [OrderField.UPDATED_AT]: 'updatedAt',
  [OrderField.ID]: 'id',
  [OrderField.NAME]: 'name',
  [OrderField.STATUS]: 'status',
  [OrderField.USER]: 'user',
  [OrderField.GROUP_ID]: 'group_id',
  [OrderField.STARTED_AT]: 'startedAt',
  [OrderField.STOPPED_AT]: 'stoppedAt',
};

/** Tells the marks of a task, which live in the memory of nodes and not in the record. */
export type MarksOf = (task: Task) => readonly TaskMark[];

/** A task as the contract has it. Throws TASK_UNSENDABLE. */
export function taskMessage(task: Task, marksOf: MarksOf): TaskMessage {
  const { id, addr, statusBefore, statusChangedAt, createdAt, updatedAt, revision } = task;
  const texts = Object.fromEntries(TASK_TEXT_FIELDS.map((field) => [field, task[field]]));
  const rest = { addr, statusBefore, statusChangedAt, createdAt, updatedAt, revision };
  requireSendable(`The task ${JSON.stringify(id)}`, { id, ...texts, ...rest });
  return create(TaskSchema, {
    id: task.id,
    name: task.name,
    url: task.url,
    user: task.user,
    groupId: task.group_id,
    description: task.description,
    status: task.status,
    startTime: task.start_time,
    stopTime: task.stop_time,
    addr: task.addr,
    effectiveStatus: STATUSES.get(task.status) ?? TaskStatus.OTHER,
    cause: CAUSES[task.cause],
    statusChangedAt: timestampFromDate(task.statusChangedAt),
    marks: marksOf(task).map((mark) => MARKS[mark]),
    ...(task.startedAt && isSendable(task.startedAt) && { startedAt: timestampFromDate(task.startedAt) }),
    ...(task.stoppedAt && isSendable(task.stoppedAt) && { stoppedAt: timestampFromDate(task.stoppedAt) }),
    createdAt: timestampFromDate(task.createdAt),
    updatedAt: timestampFromDate(task.updatedAt),
    etag: etagOf(task),
    revision: BigInt(task.revision),
    connected: task.sessionId !== null,
    statusBefore: task.statusBefore,
  });
}

/** An event as the contract has it. Throws TASK_UNSENDABLE. */
export function eventMessage(event: TaskEvent): MessageInitShape<typeof TaskEventSchema> {
  const { fromStatus, toStatus, actor, node } = event;
  const gap = event.gapMs === null ? null : sendableSpan(event.gapMs);
  requireSendable(nameOf(event), { fromStatus, toStatus, actor, node, ...(gap !== null && { gap }) });
  return {
    ...leavingMessage(event),
    fromStatus: event.fromStatus,
    toStatus: event.toStatus,
    cause: CAUSES[event.cause],
    actor: event.actor,
    node: event.node,
    ...(gap !== null && { gap: durationFromMs(gap) }),
  };
}

/** An event as far as it may be told to somebody whose sight the task has left with it. Throws TASK_UNSENDABLE. */
export function leavingMessage(event: TaskEvent): MessageInitShape<typeof TaskEventSchema> {
  const { id, taskId, at, revision } = event;
  requireSendable(nameOf(event), { id, taskId, at, revision });
  return {
    id: BigInt(event.id),
    taskId: event.taskId,
    kind: KINDS[event.kind],
    at: timestampFromDate(event.at),
    revision: BigInt(event.revision),
  };
}

function nameOf(event: TaskEvent): string {
  return `The event ${event.id} of the task ${JSON.stringify(event.taskId)}`;
}

/** A task as its writer may know it who gets no record: which version they wrote. */
export function versionMessage(task: Task): TaskMessage {
  return create(TaskSchema, { id: task.id, etag: etagOf(task), revision: BigInt(task.revision) });
}

/** The texts of a message, under the names of the domain. */
export function textsOf(task: TaskMessage): TaskTexts {
  return {
    name: task.name,
    url: task.url,
    user: task.user,
    group_id: task.groupId,
    description: task.description,
    status: task.status,
    start_time: task.startTime,
    stop_time: task.stopTime,
  };
}

/** The texts that an update changes: those its mask names, or without a mask those that are not empty (AIP-161). */
export function maskedTexts(task: TaskMessage, paths: readonly string[] | undefined): Partial<TaskTexts> {
  const texts = textsOf(task);
  const named = paths === undefined || paths.length === 0 ? undefined : expandMask(paths);
  const chosen = TASK_TEXT_FIELDS.filter((field) => (named ? named.has(field) : texts[field] !== ''));
  return Object.fromEntries(chosen.map((field) => [field, texts[field]]));
}

function expandMask(paths: readonly string[]): ReadonlySet<string> {
  if (paths.length === 1 && paths[0] === '*') return new Set(TASK_TEXT_FIELDS);
  const known: readonly string[] = TASK_TEXT_FIELDS;
  const unknown = paths.filter((path) => !known.includes(path));
  if (unknown.length === 0) return new Set(paths);
  throw requestInvalid(
    unknown.map((path) => ({
      field: 'update_mask',
      description: `names ${quoted(path)}; only ${known.join(', ')} can be updated`,
    })),
  );
}

/** The lists of a filter: how many values each may have, and how long a value may be. */
const FILTER_LISTS = [
  ['statuses', 'statuses', 20, TASK_LIMITS.status],
  ['groupIds', 'group_ids', 100, TASK_LIMITS.group_id],
  ['users', 'users', 100, TASK_LIMITS.user],
] as const;
/** The texts of a filter, and how long each may be. */
const FILTER_TEXTS = [
  ['text', 'text', 256],
  ['idPrefix', 'id_prefix', 128],
  ['namePrefix', 'name_prefix', 256],
  ['addrPrefix', 'addr_prefix', 64],
] as const;

/** Different words of a filter's text; each is looked for in every task. */
const MAX_WORDS = 10;

/** A filter, checked against the limits in the contract's sentences. Throws REQUEST_INVALID. */
export function filterOf(message: FilterMessage | undefined): TaskFilter {
  if (!message) return {};
  const words = [...new Set(message.text.split(/\s+/).filter((word) => word !== ''))];
  refuseLargeFilter(message, words.length);
  return {
    ...(message.statuses.length > 0 && { statuses: message.statuses }),
    ...(message.groupIds.length > 0 && { groupIds: message.groupIds }),
    ...(message.users.length > 0 && { users: message.users }),
    ...(words.length > 0 && { words }),
    ...(message.startedFrom && { startedFrom: dateOf(message.startedFrom, 'filter.started_from') }),
    ...(message.startedUntil && { startedUntil: dateOf(message.startedUntil, 'filter.started_until') }),
    ...(message.connected !== undefined && { connected: message.connected }),
    ...(message.idPrefix !== '' && { idPrefix: message.idPrefix }),
    ...(message.namePrefix !== '' && { namePrefix: message.namePrefix }),
    ...(message.addrPrefix !== '' && { addrPrefix: message.addrPrefix }),
  };
}

function refuseLargeFilter(message: FilterMessage, words: number): void {
  const violations = [
    ...FILTER_LISTS.flatMap(([key, name, limit, maxLength]) =>
      tooMany(`filter.${name}`, message[key], limit, maxLength),
    ),
    ...FILTER_TEXTS.flatMap(([key, name, limit]) => tooLong(`filter.${name}`, message[key], limit)),
    ...(words > MAX_WORDS
      ? [{ field: 'filter.text', description: `must have at most ${MAX_WORDS} words, has ${words}` }]
      : []),
  ];
  if (violations.length > 0) throw requestInvalid(violations);
}

/** The violations of a list with more values than `limit`, or with values that no task could have. */
export function tooMany(field: string, values: readonly string[], limit: number, maxLength: number): FieldViolation[] {
  if (values.length > limit) return [{ field, description: `must have at most ${limit} values, has ${values.length}` }];
  return values.flatMap((value) => tooLong(field, value, maxLength));
}

/** Characters are Unicode code points, as in the fields of a task. */
function tooLong(field: string, value: string, limit: number): FieldViolation[] {
  if (value.includes('\0')) return [{ field, description: 'must not contain the character U+0000' }];
  if (!value.isWellFormed()) return [{ field, description: 'must be well-formed Unicode' }];
  const length = value.length > limit ? [...value].length : value.length;
  return length > limit ? [{ field, description: `must have at most ${limit} characters, has ${length}` }] : [];
}

/** REQUEST_INVALID with these violations. */
export function requestInvalid(violations: readonly FieldViolation[]): TaskDashError {
  const words = violations.map(({ field, description }) => `${field} ${description}`).join('; ');
  return new TaskDashError('REQUEST_INVALID', { message: `The request is not valid: ${words}.`, violations });
}

/** Tasks start at whole milliseconds: whether they do so before or after an instant, they do before or after the next of those. */
function dateOf({ seconds, nanos }: Timestamp, field: string): Date {
  const secondsMs = Number(seconds) * 1000;
  if (hasTimestamp(new Date(secondsMs)) && nanos >= 0 && nanos < 1e9)
    return new Date(secondsMs + Math.ceil(nanos / 1e6));
  throw requestInvalid([{ field, description: 'must be an instant between the years 1 and 9999' }]);
}

/** The domain's name of an order. Throws REQUEST_INVALID for a number that the contract does not have. */
export function orderOf(field: OrderField): TaskOrderField {
  const order: TaskOrderField | undefined = ORDERS[field];
  if (order) return order;
  throw requestInvalid([
    { field: 'order_by', description: `must be one of the contract's values, not ${field as number}` },
  ]);
}

/** One result of a batch; `messageOf` tells what was written. */
export function batchResult(outcome: Task | TaskDashError, messageOf: (task: Task) => TaskMessage) {
  return create(BatchRegisterTasksResultSchema, {
    outcome:
      outcome instanceof TaskDashError
        ? { case: 'error', value: { reason: outcome.code, message: `${outcome.message} ${outcome.hint}` } }
        : { case: 'task', value: messageOf(outcome) },
  });
}
