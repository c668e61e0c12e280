/**
 * Goodbyes: a lease that is revoked is over for good, at every server, and its tasks are shut down as its own word.
 *
 *   asked ──no call is taken on it here, and what is being written under it is waited for──► leaving
 *   leaving ──written down: no server takes it any more, and no write that begins later claims a task for it──► revoked
 *   revoked ──its tasks are shut down, and no write can turn up any more that had begun before──► forgotten here
 *
 * - There is no way back from `leaving`. What could not be done, since the database is away, or somebody keeps a task or the record
 *   of the lease locked, is told to whoever asked, and done with a later renewal of this node's lease.
 * - A write that had begun elsewhere before the lease was written down as revoked may be stored after its tasks were shut down.
 *   What it claims is told by its own server, or found with a later renewal, and is shut down in the same way.
 * - The record stays (session-statements.ts), so that a server that has not heard of the end, or a beat that comes late, does not
 *   write the lease down anew. When this node dies, another one shuts down what is left.
 */
import { doneWithin, type Clock } from './clock.js';
import { TaskDashError } from './errors.js';
import type { SessionStore } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { Log } from './ports.js';
import type { SessionEngine } from './session-engine.js';
import { SessionWork } from './session-work.js';
import type { Farer, TaskClaims } from './task-claims.js';

/** What goodbyes need. */
export interface FarewellsOptions {
  readonly nodeId: string;
  readonly store: Pick<SessionStore, 'revoke' | 'tasksOf' | 'leaving'>;
  readonly engine: Pick<SessionEngine, 'revoke'>;
  readonly claims: Pick<TaskClaims, 'farewell'>;
  readonly clock: Clock;
  readonly log: Log;
  /** A lease is written down as revoked. */
  readonly onRevoked: (leaseId: string) => void;
}

/** A lease that is over. */
interface Farewell {
  readonly session: Farer;
  /** Writes it down as revoked; undefined: it is. */
  writeDown: (() => Promise<boolean>) | undefined;
  /** It is being carried out. */
  underWay: Promise<number> | undefined;
  /** All that was found of it is shut down. */
  isDone: boolean;
  /** How many tasks that is. */
  ended: number;
  /** Until when a write may turn up that had begun before it was written down. */
  untilMs: number;
}

/** How long what is being written is waited for: what takes longer is refused, or found later. */
const WRITES_PATIENCE_MS = 1000;
/** Longer than a write may take that the database has begun. */
const WRITES_WITHIN_MS = 70_000;
/** How often a goodbye is said to tasks that others change meanwhile. */
const MAX_TRIES = 10;
/**
 * How often a record is tried for whoever asked: another server may be taking the lease, with many tasks. Each try waits for the
 * row as long as a statement does.
 */
const RECORD_TRIES = 5;
const MAX_AT_ONCE = 100;
/** Where nothing is known to be left, dead nodes are looked at with every so many renewals. */
const LOOK_EVERY = 5;

export class Farewells {
  readonly #leaving = new Map<string, Farewell>();
  readonly #work: SessionWork;
  #renewals = 0;
  #isLooking = false;
  #isFailing = false;
  #isStopped = false;

  constructor(private readonly options: FarewellsOptions) {
    this.#work = new SessionWork(options.clock, MAX_AT_ONCE);
  }

  /** Whether a lease has been revoked here lately. */
  has(leaseId: string): boolean {
    return this.#leaving.has(leaseId);
  }

  /** Whether there is still something to be done about a lease. */
  isPending(leaseId: string): boolean {
    return this.#leaving.get(leaseId)?.isDone === false;
  }

  /** Ends a lease. Returns how many tasks were shut down. Throws where that is to be done later; it is over all the same. */
  async say(session: LiveSession): Promise<number> {
    const { engine, clock, nodeId, store } = this.options;
    if (session.isRevoked) return (await this.sayAgain(session.id, session.owner)) ?? 0;
    const record = session.record(clock.monotonicMs());
    const farewell = this.#remember(session, () => store.revoke(nodeId, record));
    engine.revoke(session);
    const writes = session.isWriting ? doneWithin(clock, WRITES_PATIENCE_MS, session.settled()) : undefined;
    return this.#carryOut(farewell, RECORD_TRIES, writes).catch(overAllTheSame);
  }

  /** The same once more for a lease of which something is still to be done; undefined: there is none. */
  sayAgain(leaseId: string, owner: string): Promise<number> | undefined {
    const farewell = this.#leaving.get(leaseId);
    if (!farewell || farewell.isDone || farewell.session.owner !== owner) return undefined;
    return this.#carryOut(farewell, RECORD_TRIES).catch(overAllTheSame);
  }

  /** A task was claimed for a lease that is over, by a write that had begun before. */
  onLate(session: Farer): void {
    const farewell = this.#leaving.get(session.id) ?? this.#remember(session);
    farewell.isDone = false;
    void this.#goOn(farewell);
  }

  /** Does what is left to do, and looks for what turned up since, also for dead nodes. */
  async onRenewed(): Promise<void> {
    const isIdle = this.#leaving.size === 0 && this.#renewals++ % LOOK_EVERY > 0;
    if (isIdle || this.#isLooking) return;
    this.#isLooking = true;
    try {
      await this.#lookAgain();
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing)
        this.options.log.warn({ err: error }, 'what revoked leases have left could not be looked for');
      this.#isFailing = true;
    } finally {
      this.#isLooking = false;
    }
  }

  /** Resolves when what is under way is over, or has been waited for long enough. */
  stop(): Promise<void> {
    this.#isStopped = true;
    return this.#work.stop();
  }

  #remember(session: Farer, writeDown?: () => Promise<boolean>): Farewell {
    const farewell = { session, writeDown, underWay: undefined, isDone: false, ended: 0, untilMs: this.#lateUntilMs() };
    this.#leaving.set(session.id, farewell);
    return farewell;
  }

  #lateUntilMs(): number {
    return this.options.clock.monotonicMs() + WRITES_WITHIN_MS;
  }

  async #lookAgain(): Promise<void> {
    const known = [...this.#leaving].flatMap(([id, { writeDown }]) => (writeDown ? [] : [id]));
    const left = await this.options.store.leaving(known);
    for (const session of left) if (!this.#leaving.has(session.id)) this.#remember(session);
    const found = new Set(left.map(({ id }) => id));
    const nowMs = this.options.clock.monotonicMs();
    for (const [id, farewell] of this.#leaving) {
      if (found.has(id)) farewell.isDone = false;
      if (farewell.isDone && farewell.untilMs <= nowMs) this.#leaving.delete(id);
    }
    await this.#goOnWithAll();
  }

  async #goOnWithAll(): Promise<void> {
    const due = [...this.#leaving.values()].filter(({ isDone }) => !isDone);
    for (let start = 0; start < due.length && !this.#isStopped; start += MAX_AT_ONCE)
      await Promise.all(due.slice(start, start + MAX_AT_ONCE).map((farewell) => this.#goOn(farewell)));
  }

  /** Goes on beside everything else; what fails, or turns up while it is being carried out, is done with a later renewal. */
  async #goOn(farewell: Farewell): Promise<void> {
    if (farewell.underWay) return;
    await this.#work.begin(farewell.session.id, () =>
      this.#carryOut(farewell, 1).then(
        () => {},
        (error: unknown) => this.options.log.debug({ err: error }, 'a revoked lease still has tasks'),
      ),
    );
  }

  /** Once at a time: whoever asks meanwhile shares the outcome. */
  #carryOut(farewell: Farewell, recordTries: number, writes?: Promise<void>): Promise<number> {
    farewell.underWay ??= this.#doIt(farewell, recordTries, writes).finally(() => (farewell.underWay = undefined));
    return farewell.underWay;
  }

  async #doIt(farewell: Farewell, recordTries: number, writes?: Promise<void>): Promise<number> {
    const before = farewell.ended;
    // Tasks that are not being written need not wait for those that are. What fails now is found again below.
    const early = writes && this.#shutDown(farewell).catch(() => {});
    await writes;
    for (let tries = 0; farewell.writeDown && tries < recordTries; tries++)
      await this.#writeDown(farewell, farewell.writeDown);
    await this.#shutDown(farewell);
    await early;
    if (farewell.writeDown) throw recordLocked();
    farewell.isDone = true;
    return farewell.ended - before;
  }

  async #writeDown(farewell: Farewell, writeDown: () => Promise<boolean>): Promise<void> {
    if (!(await writeDown())) return;
    farewell.writeDown = undefined;
    farewell.untilMs = this.#lateUntilMs();
    this.options.onRevoked(farewell.session.id);
  }

  async #shutDown(farewell: Farewell): Promise<void> {
    const { claims, store } = this.options;
    const { session } = farewell;
    for (let tries = 1; ; tries++) {
      const { claimed, changed, failure } = await claims.farewell(session, await store.tasksOf(session.id));
      farewell.ended += claimed;
      if (failure) throw failure.code === 'STORAGE_LOCKED' ? someLocked(failure) : failure;
      if (changed === 0) return;
      // Somebody changed them in between, and is done with that soon.
      if (tries === MAX_TRIES) throw new TaskDashError('STORAGE_UNAVAILABLE', { retryAfterMs: 1000 });
    }
  }
}

/** The catalogue's sentence, that nothing was written, is about the one task that is locked. */
function someLocked(cause: TaskDashError): TaskDashError {
  const message =
    'The lease is over, and its tasks are shut down but for those that another transaction keeps locked in the database.';
  return new TaskDashError('STORAGE_LOCKED', { message, cause, retryAfterMs: 1000 });
}

/** The catalogue's sentence, that the database did not answer, does not say what became of the lease. */
function overAllTheSame(thrown: unknown): never {
  const cause = TaskDashError.from(thrown);
  if (cause.code !== 'STORAGE_UNAVAILABLE') throw cause;
  const message =
    'The lease is over at this server; the database did not answer in time, and its tasks are shut down when it does.';
  throw new TaskDashError('STORAGE_UNAVAILABLE', { message, cause, retryAfterMs: 1000 });
}

/** Until its record is written, a server that has the lease as well, or is taking it, does not know that it is over. */
function recordLocked(): TaskDashError {
  const message =
    'The lease is over at this server, and its tasks are shut down; another transaction keeps its record locked in the database, ' +
    'so that other servers may learn of it late.';
  return new TaskDashError('STORAGE_LOCKED', { message, retryAfterMs: 1000 });
}
