/** Between rows and the domain: the columns of tasks and their history, and how rows become records. */
import type { TaskOwner } from '../domain/access.js';
import type { FeedEvent } from '../domain/ports.js';
import { parseInstant } from '../domain/reported-time.js';
import { type Cause, type Task, type TaskEvent, type TaskEventKind } from '../domain/task.js';

/** What a task is, as columns; task_event repeats them as they were right after the change. */
export const RECORD_COLUMNS = [
  'name',
  'url',
  'user_id',
  'group_id',
  'description',
  'status',
  'start_time',
  'stop_time',
  'addr',
  'cause',
  'status_before',
  'status_changed_at',
  'created_at',
  'session_id',
  'unconfirmed_since',
  'epoch',
  'revision',
] as const;

/** What a task has beside its record, and its events tell in other words. */
export const TASK_ONLY_COLUMNS = ['updated_at', 'started_at', 'stopped_at'] as const;

/** A row with the record's columns, as pg returns it: instants as Date, bigint as text. */
interface RecordRow {
  readonly name: string;
  readonly url: string;
  readonly user_id: string;
  readonly group_id: string;
  readonly description: string;
  readonly status: string;
  readonly start_time: string;
  readonly stop_time: string;
  readonly addr: string;
  readonly cause: Cause;
  readonly status_before: string;
  readonly status_changed_at: Date;
  readonly created_at: Date;
  readonly session_id: string | null;
  readonly unconfirmed_since: Date | null;
  readonly epoch: string;
  readonly revision: string;
}

/** A row of TASK_COLUMNS. */
export interface TaskRow extends RecordRow {
  readonly id: string;
  readonly updated_at: Date;
  readonly started_at: Date | null;
  readonly stopped_at: Date | null;
}

/** An event, as HISTORY_COLUMNS has it. */
export interface TaskEventRow {
  readonly seq: string;
  readonly task_id: string;
  readonly kind: TaskEventKind;
  readonly from_status: string;
  readonly status: string;
  readonly event_cause: Cause;
  readonly actor: string;
  readonly node: string;
  readonly at: Date;
  readonly gap_ms: string | null;
  readonly revision: string;
}

/** A row of HISTORY_COLUMNS. */
export interface HistoryRow extends TaskEventRow, Pick<RecordRow, 'user_id' | 'group_id'> {
  readonly previous_user_id: string | null;
  readonly previous_group_id: string | null;
}

/** A row of FEED_COLUMNS. */
export interface FeedRow extends HistoryRow, Omit<RecordRow, 'status' | 'revision'> {
  readonly lane: string;
  readonly batch: string;
}

export const TASK_COLUMNS = ['id', ...RECORD_COLUMNS, ...TASK_ONLY_COLUMNS].join(', ');

/** What the texts of a record measure (storedBytesOf), as an expression; `id` is the column of its id. */
export function storedBytes(id: 'id' | 'task_id'): string {
  const texts = [id, 'name', 'url', 'user_id', 'group_id', 'description', 'status', 'start_time', 'stop_time'];
  return `(${texts.map((column) => `octet_length(${column})`).join(' + ')})`;
}

const EVENT_ONLY_COLUMNS = 'seq, task_id, kind, from_status, event_cause, actor, node, at, gap_ms';

/** An event, and whose the task was before and after it. */
export const HISTORY_COLUMNS = `${EVENT_ONLY_COLUMNS}, status, revision, user_id, group_id, previous_user_id, previous_group_id`;
export const FEED_COLUMNS = `${EVENT_ONLY_COLUMNS}, previous_user_id, previous_group_id, lane, batch, ${RECORD_COLUMNS.join(', ')}`;

/** A task from its row. */
export function taskOf(row: TaskRow): Task {
  return {
    id: row.id,
    ...recordOf(row),
    startedAt: row.started_at,
    stoppedAt: row.stopped_at,
    updatedAt: row.updated_at,
  };
}

/** An event from its row. */
export function taskEventOf(row: TaskEventRow): TaskEvent {
  return {
    id: Number(row.seq),
    taskId: row.task_id,
    kind: row.kind,
    fromStatus: row.from_status,
    toStatus: row.status,
    cause: row.event_cause,
    actor: row.actor,
    node: row.node,
    at: row.at,
    gapMs: row.gap_ms === null ? null : Number(row.gap_ms),
    revision: Number(row.revision),
  };
}

/** Whose the task of an event was before it. */
export function previousOwnerOf(row: HistoryRow): TaskOwner {
  return { group_id: row.previous_group_id ?? row.group_id, user: row.previous_user_id ?? row.user_id };
}

/** An event with the task right after it, from one row. The instants of start and stop follow from their texts. */
export function feedEventOf(row: FeedRow): FeedEvent {
  const task: Task = {
    id: row.task_id,
    ...recordOf(row),
    startedAt: parseInstant(row.start_time),
    stoppedAt: parseInstant(row.stop_time),
    updatedAt: row.at,
  };
  return {
    event: taskEventOf(row),
    task,
    previous: previousOwnerOf(row),
    batch: `${row.lane}.${row.batch}`,
  };
}

function recordOf(row: RecordRow): Omit<Task, 'id' | 'startedAt' | 'stoppedAt' | 'updatedAt'> {
  return {
    name: row.name,
    url: row.url,
    user: row.user_id,
    group_id: row.group_id,
    description: row.description,
    status: row.status,
    start_time: row.start_time,
    stop_time: row.stop_time,
    addr: row.addr,
    cause: row.cause,
    statusBefore: row.status_before,
    statusChangedAt: row.status_changed_at,
    createdAt: row.created_at,
    sessionId: row.session_id,
    unconfirmedSince: row.unconfirmed_since,
    epoch: Number(row.epoch),
    revision: Number(row.revision),
  };
}
