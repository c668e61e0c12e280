/**
 * Tasks and their history in memory. What a write or a lapse does to a task stands in two pure functions, `applyWrite`
 * and `applyLapse`; the SQL of server/storage/task-write-statements.ts says the same, and the contract suite and a
 * property test hold the two together.
 */
import { singleBatch } from '../../server/domain/batch-id.js';
import { eventIn, isVisible, mayWrite, type Scope } from '../../server/domain/access.js';
import type { Clock } from '../../server/domain/clock.js';
import type {
  FeedEvent,
  Lapse,
  LapseResult,
  StatusCount,
  TaskCounts,
  TaskFilter,
  TaskPageQuery,
  TaskPosition,
  TaskStore,
  TaskWrite,
  TaskWriteResult,
} from '../../server/domain/ports.js';
import { parseInstant } from '../../server/domain/reported-time.js';
import { LAPSE_CAUSES, type Cause, type Task, type TaskEvent } from '../../server/domain/task.js';
import { withinLimits } from './page-limits.js';

/** A task with what only storage knows of it. */
export interface StoredTask extends Task {
  /** Since when nothing had been heard, while a lapse stands. */
  silentSince: Date | null;
  lapsedSessionId: string | null;
}

/** What a change makes of a task, and how the history tells it. */
export interface Change {
  readonly task: StoredTask;
  readonly kind: TaskEvent['kind'];
  readonly cause: Cause;
  readonly gapMs: number | null;
}

/** Why a write changes nothing. */
export type Refusal = 'not_found' | 'forbidden' | 'changed';

/** The task after a write, or why there is none. */
export function applyWrite(stored: StoredTask | undefined, write: TaskWrite, at: Date): Change | Refusal {
  if (!stored) return write.kind === 'register' && !write.onlyKnown ? firstRegistration(write, at) : 'not_found';
  if (!mayWrite(write.groups, stored.group_id)) return 'forbidden';
  if (write.expectedRevision !== undefined && write.expectedRevision !== stored.revision) return 'changed';
  const restores = isLapsed(stored) && typeof write.sessionId === 'string';
  const registers = write.kind === 'register';
  const status = write.texts.status ?? (restores ? stored.statusBefore : stored.status);
  const moved = status !== stored.status;
  const endsLapse = restores || write.texts.status !== undefined;
  const cause = restores ? 'restored' : write.cause;
  const gapMs = restores ? Math.max(0, at.getTime() - (stored.silentSince ?? stored.statusChangedAt).getTime()) : null;
  const task: StoredTask = {
    ...stored,
    ...write.texts,
    ...instantsOf(write),
    status,
    addr: write.addr ?? stored.addr,
    cause: restores || registers || moved ? cause : stored.cause,
    statusChangedAt: restores || moved ? at : stored.statusChangedAt,
    ...(endsLapse && { statusBefore: '', silentSince: null, lapsedSessionId: null }),
    sessionId: write.sessionId === undefined ? stored.sessionId : write.sessionId,
    unconfirmedSince: doubtAfter(stored, write, at),
    epoch: stored.epoch + (write.sessionId === undefined ? 0 : 1),
    revision: stored.revision + 1,
    updatedAt: at,
  };
  return { task, kind: restores ? 'restored' : registers ? 'registered' : 'updated', cause, gapMs };
}

/** The task after a lapse, or undefined where the verdict does not hold any more. */
export function applyLapse(stored: StoredTask | undefined, lapse: Lapse, at: Date): Change | undefined {
  if (!stored || stored.epoch > lapse.epoch) return undefined;
  if (stored.epoch === lapse.epoch && stored.sessionId !== lapse.sessionId) return undefined;
  const isLater = stored.updatedAt.getTime() > at.getTime() - Math.round(lapse.silentMs);
  if (stored.epoch < lapse.epoch && isLater) return undefined;
  if (stored.status === 'finish' || stored.status === 'shutdown') return undefined;
  const task: StoredTask = {
    ...stored,
    status: 'shutdown',
    statusBefore: stored.status,
    cause: lapse.cause,
    statusChangedAt: at,
    silentSince: new Date(at.getTime() - Math.round(lapse.silentMs)),
    lapsedSessionId: lapse.sessionId,
    sessionId: null,
    revision: stored.revision + 1,
    updatedAt: at,
  };
  return { task, kind: 'lapsed', cause: lapse.cause, gapMs: Math.round(lapse.silentMs) };
}

function firstRegistration(write: TaskWrite, at: Date): Change {
  const task: StoredTask = {
    id: write.id,
    ...(write.texts as Required<TaskWrite['texts']>),
    startedAt: null,
    stoppedAt: null,
    ...instantsOf(write),
    addr: write.addr ?? '',
    cause: write.cause,
    statusChangedAt: at,
    statusBefore: '',
    silentSince: null,
    lapsedSessionId: null,
    createdAt: at,
    updatedAt: at,
    revision: 1,
    sessionId: write.sessionId ?? null,
    unconfirmedSince: null,
    epoch: write.sessionId === undefined ? 0 : 1,
  };
  return { task, kind: 'registered', cause: write.cause, gapMs: null };
}

function doubtAfter(stored: StoredTask, write: TaskWrite, at: Date): Date | null {
  if (write.guess === 'made') return at;
  return write.guess === 'kept' || write.sessionId === undefined ? stored.unconfirmedSince : null;
}

function isLapsed(task: StoredTask): boolean {
  return task.statusBefore !== '' && (LAPSE_CAUSES as readonly Cause[]).includes(task.cause);
}

function instantsOf({ texts }: TaskWrite): Partial<Pick<Task, 'startedAt' | 'stoppedAt'>> {
  return {
    ...(texts.start_time !== undefined && { startedAt: parseInstant(texts.start_time) }),
    ...(texts.stop_time !== undefined && { stoppedAt: parseInstant(texts.stop_time) }),
  };
}

/** What several stores and feeds share, as the nodes of one installation share a database. */
export class MemoryTaskDatabase {
  readonly tasks = new Map<string, StoredTask>();
  /** The event with id n stands at index n − 1. */
  readonly history: FeedEvent[] = [];
  /** Whether a lease is written down as revoked. */
  isRevoked: (sessionId: string) => boolean = () => false;
  /** Whether a session is written down as another node's. */
  isElsewhere: (sessionId: string, nodeId: string) => boolean = () => false;
  /** What the batches that were numbered wrote. */
  readonly batches = new Map<string, ReadonlyMap<string, TaskWriteResult>>();

  commit(before: StoredTask | undefined, change: Change, actor: string, node: string, batch: string): void {
    const { silentSince: _silentSince, lapsedSessionId: _lapsedSessionId, ...task } = change.task;
    const event: TaskEvent = {
      id: this.history.length + 1,
      taskId: task.id,
      kind: change.kind,
      fromStatus: before?.status ?? '',
      toStatus: task.status,
      cause: change.cause,
      actor,
      node,
      at: task.updatedAt,
      gapMs: change.gapMs,
      revision: task.revision,
    };
    this.tasks.set(task.id, change.task);
    const { group_id, user } = before ?? task;
    this.history.push({ event, task, previous: { group_id, user }, batch });
  }
}

/** A task store on such a database. */
export class MemoryTaskStore implements TaskStore {
  /** The latest batch that wrote something. */
  #latest: string | undefined;

  constructor(
    private readonly database: MemoryTaskDatabase,
    private readonly clock: Clock,
    private readonly nodeId: string,
  ) {}

  writeBatch(
    writes: readonly TaskWrite[],
    { lane, number } = singleBatch(),
    withinMs = Infinity,
  ): Promise<TaskWriteResult[]> {
    const name = `${lane}.${number}`;
    const { batches } = this.database;
    const before = batches.get(name);
    if (before) return Promise.resolve(writes.map(({ id }) => before.get(id) ?? { outcome: 'unwritten' }));
    if (withinMs < 0) return Promise.resolve(writes.map((write) => this.#late(write)));
    const results = writes.map((write) => this.#write(write, name));
    const written = results.map((result, index) => [writes[index]?.id ?? '', result] as const);
    const changed = written.filter(([, { outcome }]) => outcome === 'written');
    if (changed.length > 0) {
      batches.set(name, new Map(changed));
      this.#latest = name;
    }
    return Promise.resolve(results);
  }

  #late({ kind, id }: TaskWrite): TaskWriteResult {
    return { outcome: kind === 'update' && !this.database.tasks.has(id) ? 'not_found' : 'late' };
  }

  #write(write: TaskWrite, batch: string): TaskWriteResult {
    if (write.isLease && write.sessionId && this.database.isRevoked(write.sessionId)) return { outcome: 'revoked' };
    const before = this.database.tasks.get(write.id);
    const change = applyWrite(before, write, this.clock.now());
    if (typeof change === 'string') return { outcome: change };
    this.database.commit(before, change, write.actor, this.nodeId, batch);
    const { revision, epoch, status } = change.task;
    return {
      outcome: 'written',
      revision,
      epoch,
      status,
      ...(write.returnsTask && { task: withoutSecrets(change.task) }),
    };
  }

  lapse(lapses: readonly Lapse[], nodeId?: string): Promise<LapseResult> {
    const changed = lapses.filter((lapse) => {
      if (nodeId !== undefined && this.database.isElsewhere(lapse.sessionId, nodeId)) return false;
      const before = this.database.tasks.get(lapse.taskId);
      const change = applyLapse(before, lapse, this.clock.now());
      if (change) this.database.commit(before, change, 'server', this.nodeId, (this.#latest = singleBatch().lane));
      return change;
    });
    return Promise.resolve({ lapsed: changed.map(({ taskId }) => taskId), locked: [] });
  }

  hasLostWrites(): Promise<boolean> {
    const latest = this.#latest;
    if (latest === undefined || this.database.history.some(({ batch }) => batch === latest))
      return Promise.resolve(false);
    this.#latest = undefined;
    return Promise.resolve(true);
  }

  async find(scope: Scope, id: string): Promise<Task | undefined> {
    return (await this.findMany(scope, [id]))[0];
  }

  findMany(scope: Scope, ids: readonly string[]): Promise<Task[]> {
    return Promise.resolve(this.#matching(scope, {}).filter((task) => ids.includes(task.id)));
  }

  list(scope: Scope, query: TaskPageQuery): Promise<Task[]> {
    const order = (one: TaskPosition, other: TaskPosition) => comparePositions(one, other, query.ascending);
    const placed = this.#matching(scope, query.filter).map((task) => ({ task, position: placeOf(task, query) }));
    const sorted = placed.sort((one, other) => order(one.position, other.position));
    const { after } = query;
    const rest = after ? sorted.filter(({ position }) => order(position, after) > 0) : sorted;
    const limits = { records: query.limit, bytes: query.maxBytes };
    return Promise.resolve(withinLimits(rest, limits, ({ task }) => task).map(({ task }) => task));
  }

  count(scope: Scope, filter: TaskFilter, bound: number): Promise<number> {
    return Promise.resolve(Math.min(bound, this.#matching(scope, filter).length));
  }

  stats(scope: Scope, filter: TaskFilter, maxGroups: number): Promise<TaskCounts> {
    const tasks = this.#matching(scope, filter);
    const groups = [...groupBy(tasks, (task) => task.group_id)]
      .sort(([id, members], [otherId, others]) => others.length - members.length || compareBytes(id, otherId))
      .slice(0, maxGroups)
      .map(([groupId, members]) => ({ groupId, counts: countStatuses(members) }));
    return Promise.resolve({ counts: countStatuses(tasks), groups });
  }

  async events(scope: Scope, taskId: string, beforeId: number | undefined, limit: number): Promise<TaskEvent[]> {
    if (!(await this.find(scope, taskId))) return [];
    return this.database.history
      .filter(({ event }) => event.taskId === taskId && event.id < (beforeId ?? Infinity))
      .filter(({ task }) => isVisible(scope, task))
      .map(({ event, previous }) => eventIn(scope, event, previous))
      .reverse()
      .slice(0, limit);
  }

  #matching(scope: Scope, filter: TaskFilter): Task[] {
    return [...this.database.tasks.values()]
      .filter((task) => isVisible(scope, task) && matches(task, filter))
      .map(withoutSecrets);
  }
}

function withoutSecrets({ silentSince: _silentSince, lapsedSessionId: _lapsedSessionId, ...task }: StoredTask): Task {
  return task;
}

function matches(task: Task, filter: TaskFilter): boolean {
  const { statuses, groupIds, users, words = [], startedFrom, startedUntil, connected } = filter;
  const searched = [task.id, task.name, task.addr, task.url, task.description].map((text) => text.toLowerCase());
  return (
    (statuses?.includes(task.status) ?? true) &&
    (groupIds?.includes(task.group_id) ?? true) &&
    (users?.includes(task.user) ?? true) &&
    words.every((word) => searched.some((text) => text.includes(word.toLowerCase()))) &&
    (!startedFrom || (task.startedAt !== null && task.startedAt >= startedFrom)) &&
    (!startedUntil || (task.startedAt !== null && task.startedAt < startedUntil)) &&
    (connected === undefined || connected === (task.sessionId !== null)) &&
    task.id.startsWith(filter.idPrefix ?? '') &&
    task.name.toLowerCase().startsWith((filter.namePrefix ?? '').toLowerCase()) &&
    task.addr.startsWith(filter.addrPrefix ?? '')
  );
}

function placeOf(task: Task, { orderBy }: TaskPageQuery): TaskPosition {
  const value = task[orderBy];
  return { value: value instanceof Date ? value.getTime() : value, id: task.id };
}

/** Tasks without a value come last in both directions; ids follow the direction. */
function comparePositions(one: TaskPosition, other: TaskPosition, ascending: boolean): number {
  if (one.value === null && other.value !== null) return 1;
  if (one.value !== null && other.value === null) return -1;
  const byValue =
    typeof one.value === 'number'
      ? one.value - Number(other.value)
      : compareBytes(one.value ?? '', String(other.value ?? ''));
  return (byValue || compareBytes(one.id, other.id)) * (ascending ? 1 : -1);
}

function compareBytes(one: string, other: string): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}

function countStatuses(tasks: readonly Task[]): StatusCount[] {
  return [...groupBy(tasks, (task) => task.status)]
    .map(([status, members]) => ({ status, count: members.length }))
    .sort((one, other) => other.count - one.count || compareBytes(one.status, other.status));
}

/** Map.groupBy, which Node 20 lacks. */
function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group) group.push(item);
    else groups.set(keyOf(item), [item]);
  }
  return groups;
}
