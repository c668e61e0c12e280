/**
 * Finds of many callers in one query, the counterpart of the write batcher.
 *
 * What is asked while every lane is busy waits and is read together next; there is no timer, so a lone caller never
 * waits for company. A find never joins a query that is already under way, so it sees every write that was acknowledged
 * before it was asked.
 *
 *   lane: free ──asked──► reading ──answered──► reading again (finds waiting) or free
 *                           └─ database away: tried again with back-off, until its callers' deadlines have passed
 *
 * Invariants
 * - Each find is answered exactly once: with the task, with "there is none", or with an error at its deadline.
 * - What all lanes answer in one turn of the event loop is bounded by the length of its texts, since each caller makes a
 *   reply of it at once.
 * - No more than `capacity` finds wait or are being read; beyond that OVERLOADED. Doors that can push back ask `hasRoom`
 *   first and resume on `whenRoom`.
 */
import type { Scope } from './access.js';
import { delay, nextTurn, type Clock, type Timer } from './clock.js';
import type { Deadline } from './deadline.js';
import { TaskDashError } from './errors.js';
import type { TaskStore } from './ports.js';
import { textsLengthOf, type Task } from './task.js';

/** Settings of a reader. */
export interface ReadBatcherOptions {
  /** Ids in one query at most. */
  readonly maxBatch: number;
  /** Queries under way at once. */
  readonly lanes: number;
  /** Finds that may wait or be under way. */
  readonly capacity: number;
  /** How long a find may take, database outages included, in milliseconds. */
  readonly deadlineMs: number;
  /** Resolves in a later turn of the event loop, in which more may be answered. */
  readonly nextTurn: () => Promise<void>;
}

const DEFAULTS: ReadBatcherOptions = { maxBatch: 500, lanes: 2, capacity: 10_000, deadlineMs: 5_000, nextTurn };
/** Length of the texts of what is answered in one turn, in UTF-16 units: eight of the longest records, some ten milliseconds. */
const ANSWERED_A_TURN = 80_000;
const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 500;

interface Asked {
  readonly id: string;
  readonly resolve: (task: Task | undefined) => void;
  readonly reject: (error: TaskDashError) => void;
  deadlineAtMs: number;
}

export class ReadBatcher {
  readonly #options: ReadBatcherOptions;
  /** Finds that no query has taken yet. */
  #queue: Asked[] = [];
  /** Finds that are not answered yet, in the order of their deadlines. */
  readonly #open = new Set<Asked>();
  #busyLanes = 0;
  /** Of what has been answered in this turn, at least. */
  #answeredLength = 0;
  #nextTurn: Promise<void> | undefined;
  #stopping = false;
  /** Nothing waits beyond. */
  #endsAtMs = Infinity;
  #expiry: Timer | undefined;
  #roomWaiters: (() => void)[] = [];
  #idleWaiters: (() => void)[] = [];

  constructor(
    private readonly store: Pick<TaskStore, 'find' | 'findMany'>,
    private readonly clock: Clock,
    options: Partial<ReadBatcherOptions> = {},
  ) {
    this.#options = { ...DEFAULTS, ...options };
  }

  /** Finds waiting or under way. */
  get pending(): number {
    return this.#open.size;
  }

  /** Whether `find` would take another one now. */
  get hasRoom(): boolean {
    return this.#open.size < this.#options.capacity && !this.#stopping;
  }

  /** Resolves when there is room again, or the reader stops. */
  whenRoom(): Promise<void> {
    if (this.hasRoom || this.#stopping) return Promise.resolve();
    return new Promise((resolve) => this.#roomWaiters.push(resolve));
  }

  /**
   * One task, as the database has it at some moment after the call; finds with a scope are rare and go their own way.
   * Rejects with OVERLOADED, STOPPING, STORAGE_UNAVAILABLE (deadline) or STORAGE_REFUSED.
   */
  find(scope: Scope, id: string): Promise<Task | undefined> {
    if (scope !== 'everything') return this.store.find(scope, id);
    if (this.#stopping) return Promise.reject(new TaskDashError('STOPPING'));
    if (!this.hasRoom) return Promise.reject(new TaskDashError('OVERLOADED', { retryAfterMs: 200 }));
    return new Promise((resolve, reject) => {
      const deadlineAtMs = Math.min(this.clock.monotonicMs() + this.#options.deadlineMs, this.#endsAtMs);
      const asked = { id, resolve, reject, deadlineAtMs };
      this.#open.add(asked);
      this.#queue.push(asked);
      this.#armExpiry();
      if (this.#busyLanes < this.#options.lanes) void this.#run();
    });
  }

  /** Has every find, whether it has come already or not, answered by this deadline too; before `stop`. */
  endBy({ endsAtMs }: Deadline): void {
    this.#endsAtMs = endsAtMs;
    for (const asked of this.#open) asked.deadlineAtMs = Math.min(asked.deadlineAtMs, endsAtMs);
    this.#expiry?.cancel();
    this.#expiry = undefined;
    this.#armExpiry();
  }

  /** Takes no more finds, answers those it has, and resolves; none waits beyond its own deadline. */
  stop(): Promise<void> {
    this.#stopping = true;
    this.#wake(this.#roomWaiters);
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  async #run(): Promise<void> {
    this.#busyLanes++;
    // Callers of this turn of the event loop share the first query.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#readUntilAnswered(this.#queue.splice(0, this.#options.maxBatch));
    this.#busyLanes--;
  }

  async #readUntilAnswered(batch: readonly Asked[]): Promise<void> {
    let open = batch.filter((asked) => this.#open.has(asked));
    for (let retryMs = RETRY_FIRST_MS; open.length > 0; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      if (await this.#attempt(open)) return;
      await delay(this.clock, retryMs);
      open = open.filter((asked) => this.#open.has(asked));
    }
  }

  /** Reads once; false when that has to be tried again. */
  async #attempt(batch: readonly Asked[]): Promise<boolean> {
    try {
      const tasks = await this.store.findMany('everything', [...new Set(batch.map((asked) => asked.id))]);
      await this.#answer(batch, new Map(tasks.map((task) => [task.id, task])));
    } catch (thrown) {
      const error = TaskDashError.from(thrown);
      if (error.code === 'STORAGE_UNAVAILABLE') return false;
      for (const asked of batch) if (this.#close(asked)) asked.reject(error);
    }
    return true;
  }

  async #answer(batch: readonly Asked[], tasks: ReadonlyMap<string, Task>): Promise<void> {
    for (const asked of batch) {
      while (this.#answeredLength > ANSWERED_A_TURN) await this.#turnEnd();
      const task = tasks.get(asked.id);
      if (task) this.#answeredLength += textsLengthOf(task);
      if (this.#close(asked)) asked.resolve(task);
    }
  }

  #turnEnd(): Promise<void> {
    this.#nextTurn ??= this.#options.nextTurn().then(() => {
      this.#nextTurn = undefined;
      this.#answeredLength = 0;
    });
    return this.#nextTurn;
  }

  /** Keeps one timer while finds are open, at the earliest deadline that it knew when it was set. */
  #armExpiry(): void {
    const [earliest] = this.#open;
    if (this.#expiry || !earliest) return;
    this.#expiry = this.clock.schedule(Math.max(1, earliest.deadlineAtMs - this.clock.monotonicMs()), () => {
      this.#expiry = undefined;
      this.#expire();
      this.#armExpiry();
    });
  }

  #expire(): void {
    const nowMs = this.clock.monotonicMs();
    for (const asked of this.#open) {
      if (asked.deadlineAtMs > nowMs) return;
      this.#close(asked);
      asked.reject(new TaskDashError('STORAGE_UNAVAILABLE', { retryAfterMs: 1000 }));
    }
  }

  /** Says whether the find was still to be answered. */
  #close(asked: Asked): boolean {
    if (!this.#open.delete(asked)) return false;
    if (this.hasRoom && this.#roomWaiters.length > 0) this.#wake(this.#roomWaiters);
    if (this.#open.size > 0) return true;
    this.#expiry?.cancel();
    this.#expiry = undefined;
    this.#wake(this.#idleWaiters);
    return true;
  }

  #wake(waiters: (() => void)[]): void {
    for (const wake of waiters.splice(0)) wake();
  }
}
