/**
 * The registry: every door calls this and nothing beneath it.
 *
 * The principal comes first in every method, so that permission cannot be forgotten: reading applies its scope inside
 * the query, writing is limited to its groups inside the write. What a principal may not see does not exist for it.
 */
import {
  actorOf,
  addressOf,
  causeOf,
  isVisible,
  mayWrite,
  readScope,
  requireSomeWriting,
  writeGroups,
  type Principal,
  type Scope,
  type WriteGroups,
} from './access.js';
import { nextTurn } from './clock.js';
import { leaseNotFound, TaskDashError } from './errors.js';
import type {
  ChangeHints,
  TaskCounts,
  TaskFilter,
  TaskOrderField,
  TaskPosition,
  TaskStore,
  TaskWrite,
  TaskWriteResult,
} from './ports.js';
import {
  checkId,
  checkTexts,
  hasEnded,
  revisionOfEtag,
  sentBytesOf,
  type Task,
  type TaskEvent,
  type TaskTexts,
} from './task.js';
import type { TokenQuota } from './token-quota.js';
import type { TokenSealer } from './token-sealer.js';
import type { WriteBatcher } from './write-batcher.js';

/** A session as the registry sees it: it vouches for the tasks that it claims. */
export interface Claimant {
  readonly id: string;
  readonly isLease: boolean;
  /** Told when a write of this session is on its way. */
  began(write: Promise<unknown>): void;
  /** Told after a write of this session is durable. */
  claimed(taskId: string, epoch: number): void;
  /** Told instead when the task has ended, by that write or before: nobody has to vouch for it any more. */
  concluded(taskId: string, epoch: number): void;
}

/** Tells a session what its write, now durable, makes of the task for it. */
export function tellClaimant(claimant: Claimant, taskId: string, { status, epoch }: { status: string; epoch: number }) {
  if (hasEnded(status)) claimant.concluded(taskId, epoch);
  else claimant.claimed(taskId, epoch);
}

/** How a write is meant. */
export interface WriteOptions {
  /** The session that claims the task; absent: whoever vouches for it goes on doing so. */
  readonly claimant?: Claimant | undefined;
  /** Whether the caller needs the stored record. */
  readonly returnsTask?: boolean;
  /** Only if the stored version is this one. */
  readonly etag?: string;
  /** Where the fields stand in the caller's message, for violations: "task." for example. */
  readonly pathPrefix?: string;
}

/** A page of a list. */
export interface TaskPage {
  readonly tasks: readonly Task[];
  /** Empty at the end. */
  readonly nextPageToken: string;
  readonly totalSize: number;
  /** Whether `totalSize` is only a lower bound. */
  readonly totalExceeded: boolean;
}

/** What to list. */
export interface ListQuery {
  readonly filter: TaskFilter;
  readonly orderBy: TaskOrderField;
  readonly ascending: boolean;
  /** 0 means the default. */
  readonly pageSize: number;
  readonly pageToken: string;
  /** What the records of the page may measure together: it ends before, but has one at least. */
  readonly maxBytes: number;
}

export const DEFAULT_PAGE_SIZE = 50;
export const MAX_PAGE_SIZE = 1000;
/** Totals are counted exactly up to here. */
export const TOTAL_BOUND = 10_000;
export const MAX_STATS_GROUPS = 100;
export const MAX_BATCH_REGISTRATIONS = 1000;

export class TaskRegistry {
  /**
   * `reader` answers `get`; it may read for many callers at once. `onEnded` is told of tasks that end, or had, in the writes
   * of those who claim nothing: whoever vouches for one has no more to vouch for.
   */
  constructor(
    private readonly store: TaskStore,
    private readonly batcher: WriteBatcher,
    private readonly hints: Pick<ChangeHints, 'announce'>,
    private readonly sealer: TokenSealer,
    private readonly reader: Pick<TaskStore, 'find'> = store,
    private readonly quota?: TokenQuota,
    private readonly onEnded: (taskId: string, epoch: number) => void = () => {},
  ) {}

  /**
   * Stores a record as sent, replacing one of the same id; resolves after it is durable, with the record if
   * `returnsTask`. Throws TASK_INVALID, PERMISSION_DENIED, TASK_ID_TAKEN, OVERLOADED, STORAGE_*.
   */
  async register(
    principal: Principal,
    id: string,
    texts: Readonly<Partial<TaskTexts>>,
    options: WriteOptions = {},
  ): Promise<Task | undefined> {
    const prefix = options.pathPrefix ?? '';
    const groups = requireSomeWriting(principal);
    const full = fullTexts(checkTexts(texts, prefix));
    const write: TaskWrite = {
      kind: 'register',
      id: checkId(id, `${prefix}id`),
      texts: full,
      addr: addressOf(principal),
      sessionId: options.claimant?.id,
      isLease: options.claimant?.isLease,
      cause: causeOf(principal),
      actor: actorOf(principal),
      groups,
      expectedRevision: undefined,
      returnsTask: options.returnsTask ?? false,
    };
    if (!mayWrite(groups, full.group_id)) throw foreignGroup(principal, full.group_id, prefix);
    const { quota } = this;
    const writing = quota?.isFor(principal)
      ? this.#submitWithinQuota(quota, principal, write)
      : this.batcher.submit(write);
    options.claimant?.began(writing);
    const result = await writing;
    if (result.outcome === 'forbidden')
      throw new TaskDashError('TASK_ID_TAKEN', {
        message: `The id ${JSON.stringify(id)} belongs to a task that the caller may not change.`,
      });
    return this.#written(write, result, options);
  }

  /**
   * Changes the given texts of an existing task; absent ones stay. Resolves after it is durable. Throws TASK_INVALID,
   * TASK_NOT_FOUND, PERMISSION_DENIED, TASK_CHANGED, OVERLOADED, STORAGE_*.
   */
  async update(
    principal: Principal,
    id: string,
    texts: Readonly<Partial<TaskTexts>>,
    options: WriteOptions = {},
  ): Promise<Task | undefined> {
    const prefix = options.pathPrefix ?? '';
    checkId(id, `${prefix}id`);
    const groups = writeGroups(principal);
    // Nothing is awaited before the write is submitted: registers and updates of one caller keep their order.
    if (groups !== 'every' && groups.length === 0) throw await this.#refusedUpdate(principal, id, groups);
    const write: TaskWrite = {
      kind: 'update',
      id,
      texts: withStatus(checkTexts(texts, prefix)),
      addr: options.claimant ? addressOf(principal) : undefined,
      sessionId: options.claimant?.id,
      isLease: options.claimant?.isLease,
      cause: causeOf(principal),
      actor: actorOf(principal),
      groups,
      expectedRevision: options.etag ? revisionOfEtag(options.etag) : undefined,
      returnsTask: options.returnsTask ?? false,
    };
    if (texts.group_id !== undefined && !mayWrite(groups, texts.group_id)) {
      throw foreignGroup(principal, texts.group_id, prefix);
    }
    const writing = this.batcher.submit(write);
    options.claimant?.began(writing);
    const result = await writing;
    if (isRefusal(result, groups)) throw await this.#refusedUpdate(principal, id, groups);
    return this.#written(write, result, options);
  }

  /** One task. Throws TASK_INVALID, TASK_NOT_FOUND. */
  async get(principal: Principal, id: string): Promise<Task> {
    const task = await this.reader.find(readScope(principal), checkId(id));
    if (!task) throw notFound(id);
    return task;
  }

  /** A page of tasks. Throws REQUEST_INVALID, PAGE_TOKEN_INVALID. */
  async list(principal: Principal, query: ListQuery): Promise<TaskPage> {
    const limit = pageSizeOf(query.pageSize);
    const binding = [query.filter, query.orderBy, query.ascending];
    const after = this.#openPageToken<TaskPosition>('list', binding, query.pageToken);
    const scope = readScope(principal);
    // One after the other, so that a page takes one connection of the database.
    const tasks = await this.store.list(scope, { ...query, limit: limit + 1, ...(after && { after }) });
    const total = await this.store.count(scope, query.filter, TOTAL_BOUND + 1);
    const page = fitting(tasks.slice(0, limit), query.maxBytes);
    const last = page.at(-1);
    return {
      tasks: page,
      nextPageToken:
        tasks.length > page.length && last
          ? this.sealer.seal('list', binding, positionOf(last, query.orderBy, query.ascending))
          : '',
      totalSize: Math.min(total, TOTAL_BOUND),
      totalExceeded: total > TOTAL_BOUND,
    };
  }

  /** A page of a task's history, newest first. Throws TASK_NOT_FOUND, PAGE_TOKEN_INVALID. */
  async listEvents(
    principal: Principal,
    taskId: string,
    pageSize: number,
    pageToken: string,
  ): Promise<{ events: readonly TaskEvent[]; nextPageToken: string }> {
    const limit = pageSizeOf(pageSize);
    const before = this.#openPageToken<number>('events', taskId, pageToken);
    await this.get(principal, taskId);
    const events = await this.store.events(readScope(principal), taskId, before, limit + 1);
    const page = events.slice(0, limit);
    const last = page.at(-1);
    const nextPageToken = events.length > limit && last ? this.sealer.seal('events', taskId, last.id) : '';
    return { events: page, nextPageToken };
  }

  /** Counts by status, and by group and status. */
  stats(principal: Principal, filter: TaskFilter): Promise<TaskCounts> {
    return this.store.stats(readScope(principal), filter, MAX_STATS_GROUPS);
  }

  /** A registration, which may take a new id only where the caller has one left. */
  async #submitWithinQuota(quota: TokenQuota, principal: Principal, write: TaskWrite): Promise<TaskWriteResult> {
    if (!quota.take(principal)) {
      const result = await this.batcher.submit({ ...write, onlyKnown: true });
      if (result.outcome !== 'not_found') return result;
      // What was registered together with it, and turned out to be known, is given back in this turn.
      await nextTurn();
      if (!quota.take(principal)) throw quota.exceeded(principal);
    }
    let isNew = false;
    try {
      const result = await this.batcher.submit(write);
      isNew = result.outcome === 'written' && result.revision === 1;
      return result;
    } finally {
      if (!isNew) quota.giveBack(principal);
    }
  }

  #written(write: TaskWrite, result: TaskWriteResult, options: WriteOptions): Task | undefined {
    if (result.outcome === 'not_found') throw notFound(write.id);
    if (result.outcome === 'changed') throw new TaskDashError('TASK_CHANGED');
    if (result.outcome === 'revoked') throw leaseNotFound(options.claimant?.id ?? '');
    if (result.outcome !== 'written')
      throw new TaskDashError('INTERNAL', { cause: `unexpected outcome ${result.outcome}` });
    if (options.claimant) tellClaimant(options.claimant, write.id, result);
    else if (hasEnded(result.status)) this.onEnded(write.id, result.epoch);
    this.hints.announce();
    return result.task;
  }

  /** Somebody who may not write a task learns that it exists only when they may see it. */
  async #refusedUpdate(principal: Principal, id: string, groups: WriteGroups): Promise<TaskDashError> {
    const seen = await this.store.find(readScope(principal), id);
    // One that the caller may write was not there a moment ago.
    const isShown = seen && isVisible(readScope(principal) satisfies Scope, seen) && !mayWrite(groups, seen.group_id);
    if (!isShown) return notFound(id);
    return new TaskDashError('PERMISSION_DENIED', {
      message: `${actorOf(principal)} may see the task ${JSON.stringify(id)} of group ${JSON.stringify(seen.group_id)}, but not change it.`,
    });
  }

  #openPageToken<T>(purpose: string, binding: unknown, token: string): T | undefined {
    if (token === '') return undefined;
    const opened = this.sealer.open(purpose, binding, token);
    if (opened === undefined) throw new TaskDashError('PAGE_TOKEN_INVALID');
    return opened as T;
  }
}

/**
 * Whether an update is to be looked into. A missing task goes the same way as a foreign one, with as many statements, so that
 * the time of the answer does not tell one from the other; for whoever may write everything there is no foreign one.
 */
function isRefusal({ outcome }: TaskWriteResult, groups: WriteGroups): boolean {
  return outcome === 'forbidden' || (outcome === 'not_found' && groups !== 'every');
}

/** The texts of a registration: what is not sent is empty, but for the status. */
function fullTexts(sent: Readonly<Partial<TaskTexts>>): TaskTexts {
  const { name = '', url = '', user = '', group_id = '', description = '', start_time = '', stop_time = '' } = sent;
  // Field by field: at this rate a copy by `...` is dear.
  return { name, url, user, group_id, description, status: sent.status || 'running', start_time, stop_time };
}

/** A status that is emptied is the default one, as in a registration. */
function withStatus(texts: Partial<TaskTexts>): Partial<TaskTexts> {
  return texts.status === '' ? { ...texts, status: 'running' } : texts;
}

/** How many rows a page has. Throws REQUEST_INVALID. */
export function pageSizeOf(asked: number): number {
  if (asked === 0) return DEFAULT_PAGE_SIZE;
  if (Number.isInteger(asked) && asked > 0 && asked <= MAX_PAGE_SIZE) return asked;
  const violation = {
    field: 'page_size',
    description: `must be 1 to ${MAX_PAGE_SIZE}, or 0 for ${DEFAULT_PAGE_SIZE}; is ${asked}`,
  };
  throw new TaskDashError('REQUEST_INVALID', {
    message: `page_size ${violation.description}.`,
    violations: [violation],
  });
}

/** The first of these tasks, as many as measure no more than `maxBytes` together; one at least. */
function fitting(tasks: readonly Task[], maxBytes: number): readonly Task[] {
  let bytes = 0;
  const beyond = tasks.findIndex((task, index) => (bytes += sentBytesOf(task)) > maxBytes && index > 0);
  return beyond < 0 ? tasks : tasks.slice(0, beyond);
}

/** The last instant that JavaScript has; PostgreSQL has later ones. */
const LAST_MS = 8_640_000_000_000_000;

/** Where a task stands in an order, as a page token keeps it. */
export function positionOf(task: Task, orderBy: TaskOrderField, ascending = false): TaskPosition {
  const value = task[orderBy];
  const isPlain = value === null || !orderBy.endsWith('At');
  return { id: task.id, value: isPlain ? (value as string | null) : placeOf(Number(value), ascending) };
}

/**
 * The place of an instant. One that is infinite has a word; one that JavaScript has no number for, later than all that can be
 * sent, stands where the way through the list goes on after it.
 */
function placeOf(ms: number, ascending: boolean): number | string {
  if (Number.isNaN(ms)) return ascending ? 'infinity' : LAST_MS;
  if (Number.isFinite(ms)) return ms;
  return ms > 0 ? 'infinity' : '-infinity';
}

function notFound(id: string): TaskDashError {
  return new TaskDashError('TASK_NOT_FOUND', { message: `There is no task with the id ${JSON.stringify(id)}.` });
}

function foreignGroup(principal: Principal, groupId: string, prefix: string): TaskDashError {
  return new TaskDashError('PERMISSION_DENIED', {
    message: `${actorOf(principal)} may not write tasks of the group ${JSON.stringify(groupId)}.`,
    violations: [{ field: `${prefix}group_id`, description: 'is not a group that the caller may write' }],
  });
}
