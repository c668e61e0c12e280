/**
 * The sessions' records on PostgreSQL, and how sessions move between nodes.
 *
 * Whatever moves a session raises the epochs of its tasks in the same transaction (session-moves.ts), so that verdicts of
 * where it came from are void from then on. Rows of several nodes' takers never wait for each other (SKIP LOCKED).
 *
 * A session may have any number of tasks, running and ended ones. No statement changes more than a part of them.
 */
import type { Scope } from '../domain/access.js';
import { TaskDashError } from '../domain/errors.js';
import {
  RESUMABLE_MS,
  type ClaimedTask,
  type EndedSession,
  type FoundSession,
  type HeldTask,
  type LeaseHolder,
  type ListedSession,
  type MovedSession,
  type Neighbour,
  type Neighbourhood,
  type NeighbourRequest,
  type OnLocked,
  type SessionRecord,
  type SessionStore,
  type TaskVersion,
  type TakeoverLimits,
  type UnattendedTask,
  type UndoneClaim,
  type Whereabouts,
} from '../domain/liveness-ports.js';
import type { TaskMark } from '../domain/task.js';
import { LEAVING, REVOKE } from './farewell-statements.js';
import { isLocked, type LockedRows } from './locked-rows.js';
import { passLocked, type Passed } from './pass-locked.js';
import type { Postgres, RunStatement, Statement } from './postgres.js';
import { moveSessions, takeLease } from './session-moves.js';
import { heldTaskOf, recordOf, versionsOf, type SessionRow, type TaskRow, type VersionsRow } from './session-rows.js';
import * as sql from './session-statements.js';
import { compareTexts } from './text-order.js';

/** How many tasks a statement changes; each takes some 0.1 ms. */
const PART_SIZE = 5000;
/** A lease that another server is taking, too, is tried again by whoever waits for it, who keeps no connection meanwhile. */
const TAKE_LOCK_TIMEOUT_MS = 300;
/** A server that takes a lease is done with it by then. */
const LOCKED_FOR_LONG_S = 1;
/** Sessions that are asked for at once. */
const MAX_STRAYS = 1000;

export class PostgresSessionStore implements SessionStore {
  /** Sessions that could not be written down the last time. */
  readonly #locked = new Set<string>();
  /** What could not be taken over the last time: sessions and nodes. */
  #leftBehind: ReadonlySet<string> = new Set();

  constructor(
    private readonly postgres: Postgres,
    private readonly lockedRows: LockedRows,
    private readonly partSize = PART_SIZE,
  ) {}

  async save(nodeId: string, records: readonly SessionRecord[], onLocked?: OnLocked): Promise<void> {
    const passed = await this.#write(nodeId, records);
    const untried = new Set(passed.flatMap((part) => part.untried));
    const tried = records.filter((record) => !untried.has(record));
    this.#passed(idsOf(tried), idsOf(passed.flatMap(({ locked }) => locked)), onLocked);
    for (const { id } of untried) onLocked?.(id);
  }

  /** Waits a moment for rows that are locked, unless they were the last time; then leaves them alone. */
  async #write(nodeId: string, records: readonly SessionRecord[]): Promise<Passed<SessionRecord>[]> {
    const write = async (part: readonly SessionRecord[], statement: Statement) => {
      const rows = await this.postgres.rows<{ id: string }>(statement, [nodeId, ...columnsOf(part)]);
      const locked = new Set(rows.map(({ id }) => id));
      return part.filter(({ id }) => locked.has(id));
    };
    const pass = (some: readonly SessionRecord[]) => passLocked(some, (part) => write(part, sql.SAVE_FREE));
    const known = records.filter(({ id }) => this.#locked.has(id));
    const others = records.filter(({ id }) => !this.#locked.has(id));
    const isWritten = others.length === 0 || (await isUnlocked(write(others, sql.SAVE)));
    return [await pass(isWritten ? [] : others), await pass(known)];
  }

  /** Of these sessions some were left alone. */
  #passed(ids: readonly string[], locked: readonly string[], onLocked: OnLocked | undefined): void {
    for (const id of ids) this.#locked.delete(id);
    for (const id of locked) {
      this.#locked.add(id);
      onLocked?.(id);
    }
    this.lockedRows.tell(locked, 'sessions');
  }

  async end(
    nodeId: string,
    ended: readonly EndedSession[],
    onLocked?: OnLocked,
  ): Promise<(HeldTask & { sessionId: string })[]> {
    const ids = ended.map(({ id }) => id);
    await this.#releaseEnded(nodeId, ids);
    const values = [nodeId, ids, ended.map(({ silentMs }) => silentMs)];
    const rows = await this.#end(ids, values);
    const locked = rows.filter(({ id }) => id === null).map(({ session_id: id }) => id);
    this.#passed(ids, locked, onLocked);
    return rows.filter(isTask).map((row) => ({ ...heldTaskOf(row), sessionId: row.session_id }));
  }

  async #end(ids: readonly string[], values: readonly unknown[]): Promise<EndRow[]> {
    const ending = ids.some((id) => this.#locked.has(id)) ? undefined : this.postgres.rows<EndRow>(sql.END, values);
    if (ending && (await isUnlocked(ending))) return ending;
    return this.postgres.rows<EndRow>(sql.END_FREE, values);
  }

  /**
   * Tasks that have ended keep the name of their session until it ends too; and one that somebody keeps locked until nothing is
   * left of the node that opened the session.
   */
  async #releaseEnded(nodeId: string, ids: readonly string[]): Promise<void> {
    for (let mayBeMore = true; mayBeMore;) {
      const rows = await this.postgres.rows<{ id: string }>(sql.ENDED_TASKS, [nodeId, ids, this.partSize]);
      const tasks = rows.map(({ id }) => id).sort(compareTexts);
      if (tasks.length === 0) return;
      const released = await this.postgres.rows(sql.RELEASE, [JSON.stringify(tasks), ids]);
      mayBeMore = tasks.length === this.partSize && released.length > 0;
    }
  }

  async revoke(nodeId: string, record: SessionRecord): Promise<boolean> {
    const { id, address, owner, ttlMs, openedAgoMs } = record;
    const revoking = this.postgres.rows(REVOKE, [nodeId, id, address, owner, ttlMs, openedAgoMs]);
    if (!(await isUnlocked(revoking))) {
      this.lockedRows.tell([id], 'sessions');
      return false;
    }
    await this.#releaseEnded(nodeId, [id]);
    return true;
  }

  leaving(ids: readonly string[]): Promise<{ id: string; owner: string; address: string }[]> {
    return this.postgres.rows(LEAVING, [ids]);
  }

  async adopt(nodeId: string, { sessions, tasks }: TakeoverLimits): Promise<MovedSession[]> {
    if ((await this.postgres.rows(sql.SOMEBODY_DIED, [])).length === 0) {
      this.#leftBehind = new Set();
      return [];
    }
    const adopt = () => this.#move(sql.ADOPT, [nodeId, sessions, tasks]);
    const recorded = await adopt();
    if (recorded.length > 0) return recorded;
    const unrecorded = (await this.#writeDownUnrecorded()) ? await adopt() : [];
    if (unrecorded.length > 0) return unrecorded;
    await this.postgres.rows(sql.SETTLE, []);
    await this.#tellLeftBehind();
    return [];
  }

  /** Whether there was any that could be written down. */
  async #writeDownUnrecorded(): Promise<boolean> {
    const unrecorded = idsOf(await this.postgres.rows<{ id: string }>(sql.UNRECORDED, []));
    let isAny = false;
    const { locked } = await passLocked(unrecorded, async (part) => {
      isAny = (await this.postgres.rows(sql.WRITE_DOWN_UNRECORDED, [part])).length > 0 || isAny;
      return [];
    });
    this.lockedRows.tell(locked, 'sessions');
    return isAny;
  }

  /** Other servers that take over lock rows too, for a moment: what is told was left behind twice. */
  async #tellLeftBehind(): Promise<void> {
    const left = await this.postgres.rows<{ id: string; is_node: boolean }>(sql.LEFT_BEHIND, []);
    const again = left.filter(({ id }) => this.#leftBehind.has(id));
    this.#leftBehind = new Set(left.map(({ id }) => id));
    const idsOf = (isNode: boolean) => again.filter((row) => row.is_node === isNode).map(({ id }) => id);
    this.lockedRows.tell(idsOf(true), 'nodes');
    this.lockedRows.tell(idsOf(false), 'sessions');
  }

  #move(picking: Statement, values: readonly unknown[]): Promise<MovedSession[]> {
    return this.#moved(this.postgres.transaction((rows) => moveSessions(rows, picking, values, this.partSize)));
  }

  async #moved(moving: Promise<MovedSession[]>): Promise<MovedSession[]> {
    const moved = await moving;
    this.lockedRows.tell(moved.flatMap(({ locked }) => locked));
    return moved;
  }

  async unsettle(): Promise<void> {
    await this.postgres.rows(sql.UNSETTLE, []);
  }

  async reclaim(nodeId: string, ids: readonly string[], onLocked?: OnLocked): Promise<MovedSession[]> {
    const moved = await this.#move(sql.RECLAIM, [nodeId, ids]);
    if (moved.length === ids.length) return moved;
    const left = await this.postgres.rows<{ id: string }>(sql.RECLAIMABLE, [nodeId, ids]);
    for (const { id } of left) onLocked?.(id);
    this.lockedRows.tell(
      left.map(({ id }) => id),
      'sessions',
    );
    return moved;
  }

  async take(nodeId: string, id: string, owner: string): Promise<MovedSession[]> {
    const work = (rows: RunStatement) => takeLease(rows, [nodeId, id, owner], this.partSize);
    try {
      return await this.#moved(this.postgres.transaction(work, TAKE_LOCK_TIMEOUT_MS));
    } catch (error) {
      if (!isLocked(error)) throw error;
      this.lockedRows.tell([id], 'sessions', LOCKED_FOR_LONG_S);
      throw leaseLocked(error);
    }
  }

  async holderOf(id: string, owner: string): Promise<LeaseHolder | undefined> {
    const values = [id, owner];
    const [row] = await this.postgres.rows<{ node_id: string; ttl_ms: number; is_open: boolean }>(
      sql.HOLDER_OF,
      values,
    );
    return row && { nodeId: row.node_id, ttlMs: row.ttl_ms, isOpen: row.is_open };
  }

  async lapsedOf(ids: readonly string[]): Promise<ReadonlyMap<string, readonly TaskVersion[]>> {
    const rows = await this.postgres.rows<VersionsRow>(sql.LAPSED_OF, [ids]);
    return new Map(rows.map((row) => [row.id, versionsOf(row)]));
  }

  async undone(claims: readonly ClaimedTask[]): Promise<UndoneClaim[]> {
    const input = claims.map(({ taskId, sessionId, epoch, claimedAgoMs }) => ({
      ...{ id: taskId, session_id: sessionId, epoch, claimed_ago_ms: claimedAgoMs },
    }));
    const rows = await this.postgres.rows<UndoneRow>(sql.UNDONE, [JSON.stringify(input)]);
    return rows.map((row) => ({
      ...{ taskId: row.id, revision: Number(row.revision), sessionId: row.session_id, isTheirs: row.is_theirs },
    }));
  }

  async strays(nodeId: string, knownIds: readonly string[]): Promise<MovedSession[]> {
    const rows = await this.postgres.rows<SessionRow & VersionsRow>(sql.STRAYS, [nodeId, knownIds, MAX_STRAYS]);
    const lapsed = await this.lapsedOf(idsOf(rows));
    return rows.map((row) => ({
      ...recordOf(row),
      tasks: row.tasks.map(([taskId, epoch]) => ({ taskId, epoch })),
      lapsed: lapsed.get(row.id) ?? [],
      locked: [],
    }));
  }

  async unattended(nodeId: string): Promise<UnattendedTask[]> {
    const rows = await this.postgres.rows<TaskRow & FoundSession>(sql.UNATTENDED, [nodeId]);
    return rows.map((row) => {
      const { session_id: id, door, address, owner } = row;
      return { ...heldTaskOf(row), session: { id, door, address, owner } };
    });
  }

  async whereabouts(nodeId: string, ids: readonly string[]): Promise<ReadonlyMap<string, Whereabouts>> {
    const rows = await this.postgres.rows<{ id: string } & Whereabouts>(sql.WHEREABOUTS, [nodeId, ids]);
    return new Map(rows.map(({ id, isElsewhere, hasTasks }) => [id, { isElsewhere, hasTasks }]));
  }

  async neighbours(nodeId: string, requests: readonly NeighbourRequest[]): Promise<Neighbourhood> {
    const rows = await this.postgres.rows<NeighbourRow>(sql.NEIGHBOURS, [
      nodeId,
      requests.map(({ sessionId }) => sessionId),
      requests.map(({ address }) => address),
      requests.map(({ owner }) => owner),
      RESUMABLE_MS,
    ]);
    const neighbours = rows.flatMap((row) => (row.id === null ? [] : [neighbourOf({ ...row, id: row.id })]));
    return { neighbours, missedForMs: rows[0]?.missed_for_ms ?? 0 };
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

function columnsOf(records: readonly SessionRecord[]): unknown[] {
  return [
    idsOf(records),
    records.map(({ door }) => door),
    records.map(({ address }) => address),
    records.map(({ owner }) => owner),
    records.map(({ ttlMs }) => ttlMs),
    records.map(({ state }) => state),
    records.map(({ isProtected }) => isProtected),
    records.map(({ openedAgoMs }) => openedAgoMs),
    records.map(({ silentMs }) => silentMs),
    records.map(({ holdsTasks }) => holdsTasks),
  ];
}

function idsOf(rows: readonly { readonly id: string }[]): string[] {
  return rows.map(({ id }) => id);
}

/** False where a statement failed since it had waited for long enough. */
function leaseLocked(cause: unknown): TaskDashError {
  const message = 'Another transaction keeps the record of the lease locked in the database; nothing was done.';
  return new TaskDashError('STORAGE_LOCKED', { message, cause, retryAfterMs: 1000 });
}

async function isUnlocked(running: Promise<unknown>): Promise<boolean> {
  try {
    await running;
    return true;
  } catch (error) {
    if (isLocked(error)) return false;
    throw error;
  }
}

interface UndoneRow {
  readonly id: string;
  readonly revision: string;
  readonly session_id: string;
  readonly is_theirs: boolean;
}

/** A task that a session still has; without one, the session was locked. */
type EndRow = TaskRow | { readonly id: null; readonly session_id: string };

function isTask(row: EndRow): row is TaskRow {
  return row.id !== null;
}

interface ListedRow extends SessionRow {
  readonly node_id: string;
  readonly node_name: string | null;
  readonly node_renewed_ago_ms: number | null;
  readonly tasks: number;
}

interface NeighbourRow {
  readonly asks: string;
  readonly missed_for_ms: number;
  /** null: nobody else was there, and neither is the rest of the row. */
  readonly id: string | null;
  readonly node_id: string;
  readonly is_open: boolean;
  readonly is_same_owner: boolean;
  readonly silent_ms: number;
  readonly node_ms: number;
  readonly tasks: VersionsRow['tasks'] | null;
  readonly is_guess: boolean | null;
}

function neighbourOf(row: NeighbourRow & { readonly id: string }): Neighbour {
  return {
    sessionId: row.asks,
    id: row.id,
    isOpen: row.is_open,
    isSameOwner: row.is_same_owner,
    silentMs: row.silent_ms,
    nodeId: row.node_id,
    nodeRenewedAgoMs: row.node_ms,
    tasks: versionsOf({ id: row.id, tasks: row.tasks ?? [] }),
    isGuess: row.is_guess ?? false,
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
