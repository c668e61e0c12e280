/**
 * Carries out verdicts: sets the tasks of sessions that are judged dead to shutdown, in bulk.
 *
 * A verdict is tried until the database has taken it, with back-off while it is away, and withdrawn when the node may
 * not judge any more. What a session lapses is read anew at each attempt, so that a task which somebody else has claimed
 * meanwhile drops out, and a session that was heard again leaves. A session waits here at most
 * once, so the queue is never longer than the node has sessions.
 *
 *   new ──batches──► carried out
 *    ├─ the batch was refused ──► one by one, so that one bad verdict does not hold up the others
 *    └─ somebody keeps some of its tasks locked: the others are shut down ──► the session is tried again with its like
 *
 * The three lines have batches and back-off of their own, so that nobody waits for another line. In a line, what was tried in vain
 * waits until everything else in it has been tried: many locked tasks keep no other one waiting that is free again.
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
  /** The same of all but the locked tasks; the session stays. */
  onPartlyCarriedOut(session: T, lapses: readonly Lapse[], changed: ReadonlySet<string>): void;
}

/** Sessions that are tried one batch after the other. */
class Line<T> {
  /** In the order of their verdicts. */
  sessions: T[] = [];
  /** Those that were tried in vain since the line last waited. */
  again: T[] = [];
  isRunning = false;
  run: Promise<void> = Promise.resolve();

  constructor(readonly maxLapses: number) {}
}

export class VerdictQueue<T extends Condemned> {
  readonly #new = new Line<T>(MAX_LAPSES);
  /** Each is alone: one session is always taken. */
  readonly #refused = new Line<T>(0);
  readonly #locked = new Line<T>(MAX_LAPSES);
  readonly #lines = [this.#new, this.#refused, this.#locked];
  readonly #stop = new AbortController();

  constructor(
    private readonly store: Pick<TaskStore, 'lapse'>,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly hooks: VerdictHooks<T>,
  ) {}

  /** Sessions whose verdict is not carried out yet. */
  get size(): number {
    return this.#lines.reduce((sum, { sessions, again }) => sum + sessions.length + again.length, 0);
  }

  /** Has the verdicts on sessions carried out; no session may wait here already. */
  submit(sessions: readonly T[]): void {
    this.#put(this.#new, sessions);
  }

  /** Begins no more attempts; resolves when those under way are over. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#lines.map(({ run }) => run));
  }

  #put(line: Line<T>, sessions: readonly T[]): void {
    for (const session of sessions) line.sessions.push(session);
    if (!line.isRunning && line.sessions.length > 0) line.run = this.#carryOut(line);
  }

  async #carryOut(line: Line<T>): Promise<void> {
    line.isRunning = true;
    let retryMs = RETRY_FIRST_MS;
    while (this.#tidy(line) > 0 && !this.#stop.signal.aborted) {
      if (line.sessions.length > 0 && (await this.#carryOutBatch(line))) {
        if (line.again.length === 0) retryMs = RETRY_FIRST_MS;
        continue;
      }
      await delay(this.clock, retryMs, this.#stop.signal);
      retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
      line.sessions = [...line.sessions, ...line.again.splice(0)];
    }
    line.isRunning = false;
  }

  /** Takes out what is not to be carried out any more; returns how many verdicts are left. */
  #tidy(line: Line<T>): number {
    if (this.hooks.isReady()) {
      line.sessions = line.sessions.filter((session) => this.hooks.stands(session));
      line.again = line.again.filter((session) => this.hooks.stands(session));
      return line.sessions.length + line.again.length;
    }
    for (const session of [...line.sessions.splice(0), ...line.again.splice(0)]) this.hooks.onWithdrawn(session);
    return 0;
  }

  /** False when the database did not answer: the line had better wait before it goes on. */
  async #carryOutBatch(line: Line<T>): Promise<boolean> {
    let tasks = 0;
    const tooMany = line.sessions.findIndex((session) => (tasks += session.tasks.size) > line.maxLapses);
    const batch = line.sessions.slice(0, tooMany < 0 ? line.sessions.length : Math.max(1, tooMany));
    const left = await this.#attempt(batch);
    if (left === 'unknown') return false;
    line.sessions.splice(0, batch.length);
    const next = left === 'refused' ? this.#refused : this.#locked;
    const again = left === 'refused' ? batch : left;
    if (next !== line) this.#put(next, again);
    else for (const session of again) line.again.push(session);
    return true;
  }

  /** Returns the sessions that have locked tasks. */
  async #attempt(batch: readonly T[]): Promise<readonly T[] | 'unknown' | 'refused'> {
    const perSession = batch.map((session) => session.lapses());
    let result: { changed: Set<string>; locked: Set<string> };
    try {
      result = await this.#lapse(perSession.flat());
    } catch (thrown) {
      this.log.warn({ err: thrown, sessions: batch.length }, 'shutdowns could not be stored yet, they are tried again');
      if (TaskDashError.from(thrown).code !== 'STORAGE_UNAVAILABLE') return 'refused';
      batch.forEach((session) => this.hooks.onUnknown(session));
      return 'unknown';
    }
    const { changed, locked } = result;
    return batch.filter((session, index) => {
      const lapses = perSession[index] ?? [];
      const decided = lapses.filter(({ taskId }) => !locked.has(taskId));
      const isWhole = decided.length === lapses.length;
      if (isWhole) this.hooks.onCarriedOut(session, decided, changed);
      else this.hooks.onPartlyCarriedOut(session, decided, changed);
      return !isWhole;
    });
  }

  async #lapse(lapses: readonly Lapse[]) {
    const changed = new Set<string>();
    const locked = new Set<string>();
    for (let start = 0; start < lapses.length; start += MAX_LAPSES) {
      const part = await this.store.lapse(lapses.slice(start, start + MAX_LAPSES));
      for (const id of part.lapsed) changed.add(id);
      for (const id of part.locked) locked.add(id);
    }
    return { changed, locked };
  }
}
