/**
 * Carries out verdicts: sets the tasks of sessions that are judged dead to shutdown, in bulk.
 *
 * A verdict is tried until the database has taken it, with back-off while it is away, and withdrawn when the node may
 * not judge any more. What a session lapses is read anew at each attempt, so that a task which somebody else has claimed
 * meanwhile drops out, and a session that was heard again leaves. A session waits here at most
 * once, so the queue is never longer than the node has sessions. When the database refuses a batch, its sessions are
 * tried one by one, so that one bad verdict does not hold up the others.
 */
import type { Clock } from './clock.js';
import { delay } from './clock.js';
import { TaskDashError } from './errors.js';
import type { Lapse, Log, TaskStore } from './ports.js';

/** A session that is judged dead. */
export interface Condemned {
  /** The tasks that it still vouches for. */
  readonly tasks: ReadonlyMap<string, number>;
  /** The same as verdicts. */
  lapses(): Lapse[];
}

/** Tasks in one statement. */
const MAX_LAPSES = 1000;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;

/** What the queue asks and tells about its sessions. */
export interface VerdictHooks<T> {
  /** Whether verdicts may be carried out now. */
  isReady(): boolean;
  /** Whether the verdict on a session still stands; it leaves the queue if not. */
  stands(session: T): boolean;
  /** The queue is not ready, and gives a session back. */
  onWithdrawn(session: T): void;
  /** The database did not answer: whether the session's tasks lapsed is not known. */
  onUnknown(session: T): void;
  /** The database has taken the session's lapses: those asked for, and the ids that changed. */
  onCarriedOut(session: T, lapses: readonly Lapse[], changed: ReadonlySet<string>): void;
}

export class VerdictQueue<T extends Condemned> {
  /** In the order of their verdicts. */
  #waiting: T[] = [];
  /** Part of a batch that the database refused: tried one by one when nothing else waits. */
  #apart: T[] = [];
  #running = false;
  #run: Promise<void> = Promise.resolve();
  readonly #stop = new AbortController();

  constructor(
    private readonly store: Pick<TaskStore, 'lapse'>,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly hooks: VerdictHooks<T>,
  ) {}

  /** Sessions whose verdict is not carried out yet. */
  get size(): number {
    return this.#waiting.length + this.#apart.length;
  }

  /** Has the verdicts on sessions carried out; no session may wait here already. */
  submit(sessions: readonly T[]): void {
    for (const session of sessions) this.#waiting.push(session);
    if (!this.#running && this.size > 0) this.#run = this.#carryOut();
  }

  /** Begins no more attempts; resolves when the one under way is over. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#run;
  }

  async #carryOut(): Promise<void> {
    this.#running = true;
    for (let retryMs = RETRY_FIRST_MS; this.#tidy() > 0 && !this.#stop.signal.aborted;) {
      const done = this.#waiting.length > 0 ? await this.#carryOutBatch() : await this.#carryOutOne();
      if (done) retryMs = RETRY_FIRST_MS;
      else {
        await delay(this.clock, retryMs, this.#stop.signal);
        retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
      }
    }
    this.#running = false;
  }

  /** Takes out what is not to be carried out any more; returns how many verdicts are left. */
  #tidy(): number {
    if (this.hooks.isReady()) {
      this.#waiting = this.#waiting.filter((session) => this.hooks.stands(session));
      this.#apart = this.#apart.filter((session) => this.hooks.stands(session));
      return this.size;
    }
    const withdrawn = [...this.#waiting, ...this.#apart];
    this.#waiting = [];
    this.#apart = [];
    for (const session of withdrawn) this.hooks.onWithdrawn(session);
    return 0;
  }

  async #carryOutBatch(): Promise<boolean> {
    let tasks = 0;
    const tooMany = this.#waiting.findIndex((session) => (tasks += session.tasks.size) > MAX_LAPSES);
    const batch = this.#waiting.slice(0, tooMany < 0 ? this.#waiting.length : Math.max(1, tooMany));
    const failure = await this.#attempt(batch);
    if (failure?.code === 'STORAGE_UNAVAILABLE') return false;
    this.#waiting.splice(0, batch.length);
    if (failure) this.#apart.push(...batch);
    return !failure;
  }

  async #carryOutOne(): Promise<boolean> {
    const session = this.#apart.shift() as T;
    const failure = await this.#attempt([session]);
    if (failure) this.#apart.push(session);
    return !failure;
  }

  async #attempt(batch: readonly T[]): Promise<TaskDashError | undefined> {
    const perSession = batch.map((session) => session.lapses());
    let changed: Set<string>;
    try {
      changed = await this.#lapse(perSession.flat());
    } catch (thrown) {
      this.log.warn({ err: thrown, sessions: batch.length }, 'shutdowns could not be stored yet, they are tried again');
      const error = TaskDashError.from(thrown);
      if (error.code === 'STORAGE_UNAVAILABLE') batch.forEach((session) => this.hooks.onUnknown(session));
      return error;
    }
    batch.forEach((session, index) => this.hooks.onCarriedOut(session, perSession[index] ?? [], changed));
    return undefined;
  }

  async #lapse(lapses: readonly Lapse[]): Promise<Set<string>> {
    const changed = new Set<string>();
    for (let start = 0; start < lapses.length; start += MAX_LAPSES) {
      for (const id of await this.store.lapse(lapses.slice(start, start + MAX_LAPSES))) changed.add(id);
    }
    return changed;
  }
}
