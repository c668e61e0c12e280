/** The tables of tasks and their history, as TypeORM knows them; the rows are private to storage. */
import { EntitySchema, type EntitySchemaColumnOptions } from 'typeorm';

/** Texts compare bytewise, so that orders are the same on every database. */
const text: EntitySchemaColumnOptions = { type: 'text', collation: 'C' };
const instant: EntitySchemaColumnOptions = { type: 'timestamptz', precision: 3 };
const counter: EntitySchemaColumnOptions = { type: 'bigint' };

/** The columns that say what a task is; task_event repeats them as they were right after the change. */
const record = {
  name: text,
  url: text,
  user_id: text,
  group_id: text,
  description: text,
  status: text,
  start_time: text,
  stop_time: text,
  addr: text,
  status_before: text,
  status_changed_at: instant,
  created_at: instant,
  session_id: { type: 'uuid', nullable: true },
  unconfirmed_since: { ...instant, nullable: true },
  epoch: counter,
  revision: counter,
} as const satisfies Record<string, EntitySchemaColumnOptions>;

/** Tasks as they are now. */
export const taskEntity = new EntitySchema<Record<string, unknown>>({
  name: 'task',
  tableName: 'task',
  columns: {
    id: { ...text, primary: true, primaryKeyConstraintName: 'task_pkey' },
    ...record,
    cause: text,
    started_at: { ...instant, nullable: true },
    stopped_at: { ...instant, nullable: true },
    updated_at: instant,
    silent_since: { ...instant, nullable: true },
    lapsed_session_id: { type: 'uuid', nullable: true },
    status_changes: { type: 'timestamptz', array: true, nullable: true },
    flapping_until: { ...instant, nullable: true },
  },
  indices: [
    { name: 'task_updated_at', columns: ['updated_at', 'id'] },
    { name: 'task_name', columns: ['name', 'id'] },
    { name: 'task_status', columns: ['status', 'id'] },
    { name: 'task_user', columns: ['user_id', 'id'] },
    { name: 'task_group', columns: ['group_id', 'id'] },
    { name: 'task_started_at', columns: ['started_at', 'id'], where: 'started_at IS NOT NULL' },
    { name: 'task_stopped_at', columns: ['stopped_at', 'id'], where: 'stopped_at IS NOT NULL' },
    { name: 'task_session', columns: ['session_id'], where: 'session_id IS NOT NULL' },
    { name: 'task_lapsed_session', columns: ['lapsed_session_id'], where: 'lapsed_session_id IS NOT NULL' },
    { name: 'task_flapping', columns: ['flapping_until'], where: 'flapping_until IS NOT NULL' },
  ],
});

/** Every change of a task, with the task right after it. */
export const taskEventEntity = new EntitySchema<Record<string, unknown>>({
  name: 'task_event',
  tableName: 'task_event',
  columns: {
    seq: {
      type: 'bigint',
      primary: true,
      primaryKeyConstraintName: 'task_event_pkey',
      // EntitySchema's types leave out a strategy that TypeORM has.
      generated: 'identity' as 'increment',
    },
    task_id: text,
    kind: text,
    from_status: text,
    event_cause: text,
    actor: text,
    node: text,
    at: instant,
    gap_ms: { type: 'bigint', nullable: true },
    previous_user_id: { ...text, nullable: true },
    previous_group_id: { ...text, nullable: true },
    ...record,
    cause: text,
    lane: counter,
    batch: counter,
    leads: { type: 'boolean' },
  },
  indices: [
    { name: 'task_event_task', columns: ['task_id', 'seq'] },
    { name: 'task_event_batch', columns: ['lane', 'batch'], unique: true, where: 'leads' },
  ],
});
