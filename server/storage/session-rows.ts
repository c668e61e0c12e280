/** Between rows of sessions and the domain: what a record consists of, and how rows become records. */
import type { HeldTask, SessionRecord, TaskVersion } from '../domain/liveness-ports.js';

/** A session's record, as columns. */
export const RECORD = `id, door, address, owner, ttl_ms, state, is_protected, has_claimed,
  round(extract(epoch FROM now() - opened_at) * 1000)::float8 AS opened_ago_ms,
  round(extract(epoch FROM now() - silent_since) * 1000)::float8 AS silent_ms`;

/** A row with these columns. */
export interface SessionRow {
  readonly id: string;
  readonly door: SessionRecord['door'];
  readonly address: string;
  readonly owner: string;
  readonly ttl_ms: number;
  readonly state: SessionRecord['state'];
  readonly is_protected: boolean;
  /** It holds tasks that have not ended; the name is of a time in which it told of others too. */
  readonly has_claimed: boolean;
  readonly opened_ago_ms: number;
  readonly silent_ms: number | null;
}

/** A task, and the claim on it. */
export interface TaskRow {
  readonly id: string;
  readonly session_id: string;
  readonly epoch: string;
}

/** A session, and versions of tasks: ids and revisions as JSON. */
export interface VersionsRow {
  readonly id: string;
  readonly tasks: readonly (readonly [id: string, revision: number])[];
}

export function recordOf(row: SessionRow): SessionRecord {
  return {
    id: row.id,
    door: row.door,
    address: row.address,
    owner: row.owner,
    ttlMs: row.ttl_ms,
    openedAgoMs: row.opened_ago_ms,
    state: row.state,
    isProtected: row.is_protected,
    holdsTasks: row.has_claimed,
    silentMs: row.silent_ms,
  };
}

export function heldTaskOf({ id, epoch }: TaskRow): HeldTask {
  return { taskId: id, epoch: Number(epoch) };
}

export function versionsOf({ tasks }: VersionsRow): TaskVersion[] {
  return tasks.map(([taskId, revision]) => ({ taskId, revision }));
}
