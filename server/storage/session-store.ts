/**
 * The sessions' records on PostgreSQL, and how sessions move between nodes.
 *
 * Whatever moves a session raises the epochs of its tasks in the same statement, so that verdicts of where it came from
 * are void from then on. Rows of several nodes' takers never wait for each other (SKIP LOCKED); tasks are locked in the
 * order of their ids, like every batch of writes locks them.
 */
import type { Scope } from '../domain/access.js';
import {
  RESUMABLE_MS,
  type EndedSession,
  type HeldTask,
  type ListedSession,
  type MovedSession,
  type ResumeCandidate,
  type ResumeRequest,
  type SessionRecord,
  type SessionStore,
  type TaskVersion,
  type Whereabouts,
} from '../domain/liveness-ports.js';
import type { TaskMark } from '../domain/task.js';
import type { Postgres } from './postgres.js';
import * as sql from './session-statements.js';

export class PostgresSessionStore implements SessionStore {
  constructor(private readonly postgres: Postgres) {}

  async save(nodeId: string, records: readonly SessionRecord[]): Promise<void> {
    await this.postgres.rows(sql.SAVE, [
      nodeId,
      records.map(({ id }) => id),
      records.map(({ door }) => door),
      records.map(({ address }) => address),
      records.map(({ owner }) => owner),
      records.map(({ ttlMs }) => ttlMs),
      records.map(({ state }) => state),
      records.map(({ isProtected }) => isProtected),
      records.map(({ openedAgoMs }) => openedAgoMs),
      records.map(({ silentMs }) => silentMs),
    ]);
  }

  async end(nodeId: string, ended: readonly EndedSession[]): Promise<(HeldTask & { sessionId: string })[]> {
    const values = [nodeId, ended.map(({ id }) => id), ended.map(({ silentMs }) => silentMs)];
    const rows = await this.postgres.rows<TaskRow>(sql.END, values);
    return rows.map((row) => ({ ...heldTaskOf(row), sessionId: row.session_id }));
  }

  async adopt(nodeId: string, limit: number): Promise<MovedSession[]> {
    if ((await this.postgres.rows(sql.SOMEBODY_DIED, [])).length === 0) return [];
    await this.postgres.rows(sql.WRITE_DOWN_UNRECORDED, []);
    const rows = await this.postgres.rows<MovedRow>(sql.ADOPT, [nodeId, limit]);
    if (rows.length < limit) await this.postgres.rows(sql.SETTLE, []);
    return rows.map(movedOf);
  }

  async unsettle(): Promise<void> {
    await this.postgres.rows(sql.UNSETTLE, []);
  }

  async reclaim(nodeId: string, ids: readonly string[]): Promise<MovedSession[]> {
    return (await this.postgres.rows<MovedRow>(sql.RECLAIM, [nodeId, ids])).map(movedOf);
  }

  async take(nodeId: string, id: string, owner: string): Promise<MovedSession[]> {
    return (await this.postgres.rows<MovedRow>(sql.TAKE, [nodeId, id, owner])).map(movedOf);
  }

  async lapsedOf(ids: readonly string[]): Promise<ReadonlyMap<string, readonly TaskVersion[]>> {
    const rows = await this.postgres.rows<{ id: string; tasks: Pair[] }>(sql.LAPSED_OF, [ids]);
    return new Map(rows.map(({ id, tasks }) => [id, tasks.map(versionOf)]));
  }

  async unattended(nodeId: string): Promise<(HeldTask & { sessionId: string; address: string })[]> {
    const rows = await this.postgres.rows<TaskRow & { addr: string }>(sql.UNATTENDED, [nodeId]);
    return rows.map((row) => ({ ...heldTaskOf(row), sessionId: row.session_id, address: row.addr }));
  }

  async whereabouts(nodeId: string, ids: readonly string[]): Promise<ReadonlyMap<string, Whereabouts>> {
    const rows = await this.postgres.rows<{ id: string } & Whereabouts>(sql.WHEREABOUTS, [nodeId, ids]);
    return new Map(rows.map(({ id, isElsewhere, hasTasks }) => [id, { isElsewhere, hasTasks }]));
  }

  async resumable(requests: readonly ResumeRequest[]): Promise<ResumeCandidate[]> {
    const rows = await this.postgres.rows<{ session_id: string; lost_id: string; tasks: Pair[] }>(sql.RESUMABLE, [
      requests.map(({ sessionId }) => sessionId),
      requests.map(({ address }) => address),
      requests.map(({ owner }) => owner),
      requests.map(({ openedAgoMs }) => openedAgoMs),
      RESUMABLE_MS,
    ]);
    return rows.map(({ session_id: sessionId, lost_id: lostSessionId, tasks }) => ({
      sessionId,
      lostSessionId,
      tasks: tasks.map(versionOf),
    }));
  }

  async tasksOf(sessionId: string): Promise<TaskVersion[]> {
    const rows = await this.postgres.rows<{ id: string; revision: string }>(sql.TASKS_OF, [sessionId]);
    return rows.map(({ id, revision }) => ({ taskId: id, revision: Number(revision) }));
  }

  async marked(exceptNodeId: string, limit: number): Promise<ReadonlyMap<string, TaskMark>> {
    const rows = await this.postgres.rows<{ id: string; state: string }>(sql.MARKED, [exceptNodeId, limit]);
    return new Map(rows.map(({ id, state }) => [id, state === 'orphan' ? 'unconfirmed' : 'protected']));
  }

  async flapping(limit: number): Promise<ReadonlyMap<string, number>> {
    const rows = await this.postgres.rows<{ id: string; for_ms: number }>(sql.FLAPPING, [limit]);
    return new Map(rows.map(({ id, for_ms: forMs }) => [id, forMs]));
  }

  async list(scope: Scope, afterId: string | undefined, limit: number): Promise<ListedSession[]> {
    const after = afterId ?? '00000000-0000-0000-0000-000000000000';
    const rows =
      scope === 'everything'
        ? await this.postgres.rows<ListedRow>(sql.LIST_ALL, [after, limit])
        : await this.postgres.rows<ListedRow>(sql.LIST_SCOPED, [
            after,
            limit,
            scope.wholeGroups,
            scope.ownGroups,
            scope.user,
          ]);
    return rows.map(listedOf);
  }

  async purge(): Promise<number> {
    return (await this.postgres.rows(sql.PURGE, [RESUMABLE_MS])).length;
  }
}

/** A task's id with its epoch or revision, as JSON. */
type Pair = readonly [string, number];

interface TaskRow {
  readonly id: string;
  readonly session_id: string;
  readonly epoch: string;
}

interface SessionRow {
  readonly id: string;
  readonly door: SessionRecord['door'];
  readonly address: string;
  readonly owner: string;
  readonly ttl_ms: number;
  readonly state: SessionRecord['state'];
  readonly is_protected: boolean;
  readonly opened_ago_ms: number;
  readonly silent_ms: number | null;
}

interface MovedRow extends SessionRow {
  readonly tasks: readonly Pair[] | null;
  readonly lapsed: readonly Pair[] | null;
}

interface ListedRow extends SessionRow {
  readonly node_id: string;
  readonly node_name: string | null;
  readonly node_renewed_ago_ms: number | null;
  readonly tasks: number;
}

function heldTaskOf({ id, epoch }: TaskRow): HeldTask {
  return { taskId: id, epoch: Number(epoch) };
}

function versionOf([taskId, revision]: Pair): TaskVersion {
  return { taskId, revision };
}

function recordOf(row: SessionRow): SessionRecord {
  return {
    id: row.id,
    door: row.door,
    address: row.address,
    owner: row.owner,
    ttlMs: row.ttl_ms,
    openedAgoMs: row.opened_ago_ms,
    state: row.state,
    isProtected: row.is_protected,
    silentMs: row.silent_ms,
  };
}

function movedOf(row: MovedRow): MovedSession {
  return {
    ...recordOf(row),
    tasks: (row.tasks ?? []).map(([taskId, epoch]) => ({ taskId, epoch })),
    lapsed: (row.lapsed ?? []).map(versionOf),
  };
}

function listedOf(row: ListedRow): ListedSession {
  return {
    ...recordOf(row),
    nodeId: row.node_id,
    nodeName: row.node_name ?? '',
    nodeRenewedAgoMs: row.node_renewed_ago_ms ?? 0,
    tasks: row.tasks,
  };
}
