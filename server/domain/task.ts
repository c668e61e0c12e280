/**
 * What a task is, and the rules its fields obey. The rules stand here once and hold on every door; the contract repeats
 * the limits in its sentences, and a test holds the two together.
 *
 * Field names and flows: the owner's interface document. Texts are kept as sent, to the byte.
 */
import { TaskDashError, type FieldViolation } from './errors.js';

/** The texts that a service reports about a task, under the names that every protocol uses. */
export interface TaskTexts {
  name: string;
  url: string;
  user: string;
  group_id: string;
  description: string;
  status: string;
  start_time: string;
  stop_time: string;
}

/** The names of the texts, in the order of the interface document. */
export const TASK_TEXT_FIELDS = [
  'name',
  'url',
  'user',
  'group_id',
  'description',
  'status',
  'start_time',
  'stop_time',
] as const satisfies readonly (keyof TaskTexts)[];

/** How many characters (Unicode code points) each text may have. */
export const TASK_LIMITS: Readonly<Record<'id' | keyof TaskTexts, number>> = {
  id: 128,
  name: 256,
  url: 2048,
  user: 256,
  group_id: 256,
  description: 8192,
  status: 64,
  start_time: 64,
  stop_time: 64,
};

/** What a record measures beside its texts, at most: names of fields, times, marks. */
const SENT_BESIDE_TEXTS_BYTES = 1_500;

/** How many bytes a record takes at most in any form that doors send it in; JSON with its escapes is the longest. */
export function sentBytesOf(task: TaskTexts & { readonly id: string }): number {
  const texts = [task.id, ...TASK_TEXT_FIELDS.map((field) => task[field])];
  return texts.reduce((sum, text) => sum + Buffer.byteLength(JSON.stringify(text)), SENT_BESIDE_TEXTS_BYTES);
}

/** How long texts are together, in UTF-16 units: a cheap measure of the work that they make. */
export function textsLengthOf(texts: Partial<TaskTexts>): number {
  let length = 0;
  for (const field of TASK_TEXT_FIELDS) length += texts[field]?.length ?? 0;
  return length;
}

/** How many bytes the texts of a record take where it is stored, UTF-8. */
export function storedBytesOf(task: TaskTexts & { readonly id: string }): number {
  return TASK_TEXT_FIELDS.reduce((sum, field) => sum + Buffer.byteLength(task[field]), Buffer.byteLength(task.id));
}

/** Whether a status says that a task is over, so that nobody has to vouch for it any more. */
export function hasEnded(status: string | undefined): boolean {
  return status === 'finish' || status === 'shutdown';
}

/** What made a status what it is. */
export type Cause = 'client' | 'heartbeat_timeout' | 'connection_closed' | 'node_failover' | 'operator' | 'restored';

/** The causes of a shutdown that the registry decided by itself; only these are ever undone. */
export const LAPSE_CAUSES = ['heartbeat_timeout', 'connection_closed', 'node_failover'] as const satisfies Cause[];
export type LapseCause = (typeof LAPSE_CAUSES)[number];

/** Something worth knowing beside the status. */
export type TaskMark = 'suspect' | 'unconfirmed' | 'flapping' | 'protected';

/** A task as the registry keeps it. */
export interface Task extends TaskTexts {
  id: string;
  /** Where the last report came from; empty when a person wrote it. */
  addr: string;
  cause: Cause;
  statusChangedAt: Date;
  /** The status before the registry set `shutdown` by itself; empty when it did not. */
  statusBefore: string;
  startedAt: Date | null;
  stoppedAt: Date | null;
  createdAt: Date;
  updatedAt: Date;
  /** Counts versions from 1. */
  revision: number;
  /** The session that vouches for the task, or null. */
  sessionId: string | null;
  /** Since when the task is only believed to be that session's, by its address; null once the service has named it. */
  unconfirmedSince: Date | null;
  /** Counts claims; a verdict of the registry holds only for the epoch it was decided for. */
  epoch: number;
}

/** The kinds of change in a history. */
export type TaskEventKind = 'registered' | 'updated' | 'lapsed' | 'restored';

/** One change of a task. */
export interface TaskEvent {
  id: number;
  taskId: string;
  kind: TaskEventKind;
  /** Empty for the first registration. */
  fromStatus: string;
  toStatus: string;
  cause: Cause;
  /** `service:<address>`, `token:<name>`, `user:<id>` or `server`. */
  actor: string;
  node: string;
  at: Date;
  /** How long nothing had been heard, in milliseconds; null where that has no meaning. */
  gapMs: number | null;
  revision: number;
}

/** The etag of a version of a task (AIP-154). */
export function etagOf(task: Pick<Task, 'revision'>): string {
  return `"${task.revision}"`;
}

/** The revision that an etag names; throws TASK_CHANGED for a text that no version ever had. */
export function revisionOfEtag(etag: string): number {
  const match = /^"(\d{1,15})"$/.exec(etag);
  if (!match)
    throw new TaskDashError('TASK_CHANGED', {
      message: `The etag ${JSON.stringify(etag)} names no version of the task.`,
    });
  return Number(match[1]);
}

/** The id, checked. Throws TASK_INVALID. */
export function checkId(id: unknown, path = 'id'): string {
  const violations: FieldViolation[] = [];
  checkText('id', id, path, violations);
  if (id === '') violations.push({ field: path, description: 'must not be empty' });
  refuse(violations);
  return id as string;
}

/** Any subset of the texts, checked. Throws TASK_INVALID with every violation, not only the first. */
export function checkTexts<T extends Partial<Record<keyof TaskTexts, unknown>>>(
  texts: T,
  pathPrefix = '',
): { [K in keyof T]: string } {
  const violations: FieldViolation[] = [];
  for (const field of TASK_TEXT_FIELDS) {
    if (texts[field] !== undefined) checkText(field, texts[field], pathPrefix + field, violations);
  }
  refuse(violations);
  return texts as { [K in keyof T]: string };
}

function checkText(field: keyof typeof TASK_LIMITS, value: unknown, path: string, violations: FieldViolation[]): void {
  if (typeof value !== 'string') {
    violations.push({ field: path, description: `must be a text, not ${value === null ? 'null' : typeof value}` });
    return;
  }
  const limit = TASK_LIMITS[field];
  // Code points are counted only where code units, of which there are never fewer, exceed the limit.
  const length = value.length > limit ? [...value].length : value.length;
  if (length > limit)
    violations.push({ field: path, description: `must have at most ${limit} characters, has ${length}` });
  if (value.includes('\0')) violations.push({ field: path, description: 'must not contain the character U+0000' });
  // PostgreSQL stores UTF-8, which has no form for half a surrogate pair.
  if (!value.isWellFormed()) violations.push({ field: path, description: 'must be well-formed Unicode' });
}

function refuse(violations: FieldViolation[]): void {
  if (violations.length === 0) return;
  const words = violations.map((violation) => `${violation.field} ${violation.description}`).join('; ');
  throw new TaskDashError('TASK_INVALID', { message: `The task is not valid: ${words}.`, violations });
}
