/**
 * Group commit: many callers, one transaction.
 *
 * A few batches at most are in flight. What arrives while they are under way waits and forms the next one, in which actors take
 * turns (ready-writes.ts); there is no timer, so a lone caller never waits for company. Each caller is answered after the
 * commit that holds its write. More than one batch in flight keeps the database busy while the answers to another are on their
 * way.
 *
 *   idle ──submit──► in flight ──commit──► in flight again (writes waiting) or idle
 *                        │
 *                        └─ answer lost: the batch is sent again until its callers' deadlines pass, with back-off
 *
 * Invariants
 * - Two writes of one id are never in flight together and never overtake each other, so the store sees them in arrival
 *   order.
 * - What all lanes answer in one turn of the event loop is bounded, since each caller makes a reply of it at once.
 * - A write is answered exactly once: with its result, or with an error at its deadline. An error after the database
 *   took the statement but before it answered says "unknown", never "written".
 * - A batch whose answer was lost is sent again with the same identity (batch-id.ts), by which the store finds what it
 *   wrote the first time, whatever others have written since. A definite answer ends the identity. A refusal is none when
 *   the second run wrote nothing at all: the first one may still arrive, when the task is there or the database accepts it.
 *   What never was sent is no run: it is sent as if for the first time.
 * - Nothing is written after its caller was told that the outcome is unknown: each batch says until when it may be written,
 *   which is the earliest deadline in it. What the store comes to later is sent again where there is time left. Only what is in
 *   flight when a stop makes the deadlines earlier (`endBy`) may still be written until its first one, as after a crash.
 * - No more than `capacity` writes wait, and no more than `capacityPerId` of one id, so that nobody holds up the others by
 *   one id; beyond that `submit` refuses with OVERLOADED. Doors that can push back ask `hasRoom` and `hasRoomFor` first and
 *   resume on `whenRoom` and `whenRoomFor`; they leave some room to doors that cannot.
 * - A batch that is refused when it is first sent is split until the write that the database refuses is alone; the others
 *   are not harmed. One that fails by a defect is split likewise, but keeps its identity: it may have been written before that.
 * - A write whose task somebody else keeps locked goes apart: the locked ones have a lane of their own, in which they are tried
 *   until their deadlines, and whoever writes such a task next comes there at once. So they hold up nobody but each other.
 * - A batch that fails by a locked task which the store cannot tell goes apart as a whole. There it is halved in a hurry, until
 *   the one is alone; that is tried alone from then on, and the others are written.
 * - A batch that was sent before goes apart, too, once it is answered and nothing follows from the answer. It keeps its identity,
 *   whatever its lane sends meanwhile, and so do its parts when it is halved: the first part that is written keeps all other
 *   runs out, and the store says of the rest that nobody will write it in that name. Until then its writes are not called
 *   locked or refused: at their deadlines they are answered as unknown.
 */
import { BatchLane, type BatchId } from './batch-id.js';
import { delay, nextTurn, type Clock, type Timer } from './clock.js';
import type { Deadline } from './deadline.js';
import { TaskDashError } from './errors.js';
import { LockedIds, type LockKind } from './locked-ids.js';
import type { TaskStore, TaskWrite, TaskWriteResult } from './ports.js';
import { RoomWaiters } from './room-waiters.js';
import { hasWrites, judge, newAttempt, type Attempt, type Waiting } from './write-attempts.js';
import { WriteLine } from './write-line.js';

/** Settings of a batcher. */
export interface WriteBatcherOptions {
  /** Writes in one transaction at most. */
  readonly maxBatch: number;
  /** How long the texts of a transaction may be together, in UTF-16 units; one write may be longer. Undefined: 131,072. */
  readonly maxBatchLength?: number;
  /** Batches in flight at most. */
  readonly maxInFlight: number;
  /** Writes that may wait or be in flight. */
  readonly capacity: number;
  /** Writes that may wait behind another one of the same id; undefined: 256. */
  readonly capacityPerId?: number;
  /** How long a write may take, database outages included, in milliseconds. */
  readonly deadlineMs: number;
}

/** What the metrics want to know of a finished batch. */
export interface BatchReport {
  readonly size: number;
  readonly durationMs: number;
  readonly failed: boolean;
}

/** Writes that are the first of their ids, and a lane for each turn of theirs that may be under way. */
interface Line {
  readonly writes: WriteLine;
  /** The turns of a lane follow each other. */
  readonly freeLanes: BatchLane[];
}

/** A turn of a line. */
interface Run {
  readonly line: Line;
  readonly lane: BatchLane;
  /** Until when it halves what fails; the parts that are left then have the next turn. */
  readonly halvesUntilMs: number;
  /** Those that were not written because their tasks are locked. */
  readonly locked: Map<Waiting, LockKind>;
  /** What has to be tried apart as it is, at once or after others. */
  readonly next: Attempt[];
  readonly later: Attempt[];
}

const CAPACITY_PER_ID = 256;
const SHARE_OF_THE_PATIENT = 3 / 4;
/** A full batch of ordinary records has less; a batch of the longest ones is over soon enough for whoever waits behind it. */
const MAX_BATCH_LENGTH = 131_072;
const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 500;
/** Between two turns of locked tasks, for each of which the store has its own patience; longer while nothing comes of them. */
const LOCKED_PAUSE_MS = 20;
const LOCKED_PAUSE_MAX_MS = 320;
/** So long a turn of theirs goes on halving. */
const HALVING_MS = 500;
/** With less time left a locked write is not tried again, so that its answer is certain: it was not written. */
const LOCKED_LAST_TRY_MS = 1000;
/**
 * How many writes are answered in one turn of the event loop, at least: each caller makes a reply at once, some 25 us each. Where
 * many wait, a share of those, so that what comes faster is not piled up.
 */
const SETTLED_A_TURN = 100;
const SETTLED_SHARE = 1 / 32;

export class WriteBatcher {
  readonly #line: Line;
  /** Of those whose tasks were locked when they were last tried. */
  readonly #apart: Line = { writes: new WriteLine(), freeLanes: [new BatchLane()] };
  readonly #lockedIds = new LockedIds();
  #lockedPauseMs = LOCKED_PAUSE_MS;
  /** Ends the pause of the line apart. */
  #newcomers = new AbortController();
  /** For each id with a write that is ready or in flight, those behind it; mostly there are none. */
  readonly #behind = new Map<string, Waiting[] | undefined>();
  /** Writes that are not answered yet, in the order of their deadlines. */
  readonly #open = new Set<Waiting>();
  #starting = false;
  /** How many writes all lanes have answered since the latest turn that was full. */
  #settledInTurn = 0;
  #nextTurn: Promise<void> | undefined;
  #stopping = false;
  /** Nothing waits beyond. */
  #endsAtMs = Infinity;
  #expiry: Timer | undefined;
  readonly #room = new RoomWaiters();
  #idleWaiters: (() => void)[] = [];

  constructor(
    private readonly store: Pick<TaskStore, 'writeBatch'>,
    private readonly clock: Clock,
    private readonly options: WriteBatcherOptions,
    private readonly onBatch: (report: BatchReport) => void = () => {},
  ) {
    const freeLanes = Array.from({ length: options.maxInFlight }, () => new BatchLane());
    this.#line = { writes: new WriteLine(), freeLanes };
  }

  /** Writes waiting or in flight. */
  get pending(): number {
    return this.#open.size;
  }

  /** Whether those may submit who can wait otherwise. A quarter of the room is left to those who would be refused. */
  get hasRoom(): boolean {
    return this.#open.size < this.options.capacity * SHARE_OF_THE_PATIENT && !this.#stopping;
  }

  /** Resolves when there is room again, or the batcher stops. */
  whenRoom(): Promise<void> {
    if (this.hasRoom || this.#stopping) return Promise.resolve();
    return this.#room.wait();
  }

  /** Whether `submit` would take another write of this id. */
  hasRoomFor(id: string): boolean {
    const { capacityPerId = CAPACITY_PER_ID } = this.options;
    return (this.#behind.get(id)?.length ?? 0) < capacityPerId;
  }

  /** Resolves when there is room for this id again, or the batcher stops. */
  whenRoomFor(id: string): Promise<void> {
    if (this.hasRoomFor(id) || this.#stopping) return Promise.resolve();
    return this.#room.waitFor(id);
  }

  /**
   * Writes one task and resolves after the commit. Rejects with OVERLOADED (too much waits), STOPPING,
   * STORAGE_UNAVAILABLE (deadline; the outcome is unknown), STORAGE_LOCKED or STORAGE_REFUSED.
   */
  submit(write: TaskWrite): Promise<TaskWriteResult> {
    if (this.#stopping) return Promise.reject(new TaskDashError('STOPPING'));
    if (this.#open.size >= this.options.capacity)
      return Promise.reject(new TaskDashError('OVERLOADED', { retryAfterMs: 200 }));
    if (!this.hasRoomFor(write.id)) return Promise.reject(tooManyOf(write.id));
    return new Promise((resolve, reject) => {
      const deadlineAtMs = Math.min(this.clock.monotonicMs() + this.options.deadlineMs, this.#endsAtMs);
      const waiting = { write, resolve, reject, deadlineAtMs, answered: false, isSent: false, trouble: undefined };
      this.#open.add(waiting);
      this.#armExpiry();
      const behind = this.#behind.get(write.id);
      if (behind) behind.push(waiting);
      else if (this.#behind.has(write.id)) this.#behind.set(write.id, [waiting]);
      else {
        this.#behind.set(write.id, undefined);
        this.#enter(waiting);
        this.#startSoon();
      }
    });
  }

  /** Has every write, whether it has come already or not, answered by this deadline too; before `stop`. */
  endBy({ endsAtMs }: Deadline): void {
    this.#endsAtMs = endsAtMs;
    for (const waiting of this.#open) waiting.deadlineAtMs = Math.min(waiting.deadlineAtMs, endsAtMs);
    this.#disarmExpiry();
    this.#armExpiry();
  }

  /** Takes no more writes, finishes those it has, and resolves; none waits beyond its own deadline. */
  stop(): Promise<void> {
    this.#stopping = true;
    this.#room.wakeAll();
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Has a write sent that is the first of its id. */
  #enter(waiting: Waiting): void {
    const kind = this.#lockedIds.kindOf(waiting.write.id);
    if (kind === 'hidden') this.#apart.writes.addWhole(newAttempt([waiting], true), 'last');
    else (kind ? this.#apart : this.#line).writes.add(waiting);
  }

  /** Callers of this turn of the event loop share a batch. */
  #startSoon(): void {
    if (this.#starting) return;
    this.#starting = true;
    queueMicrotask(() => {
      this.#starting = false;
      this.#start();
    });
  }

  #start(): void {
    const { maxBatch: writes, maxBatchLength: length = MAX_BATCH_LENGTH } = this.options;
    const halvesUntilMs = this.clock.monotonicMs() + HALVING_MS;
    for (const line of [this.#line, this.#apart]) {
      for (let lane; !line.writes.isEmpty && (lane = line.freeLanes.pop());) {
        const run: Run = { line, lane, halvesUntilMs, locked: new Map(), next: [], later: [] };
        void this.#run(line.writes.take({ writes, length }), run);
      }
    }
  }

  async #run(attempts: readonly Attempt[], run: Run): Promise<void> {
    await this.#writeUntilSettled(attempts, run);
    const areLeft = this.#moveApart(run);
    const done = attempts.flatMap(({ batch }) => batch.filter(({ answered }) => answered));
    for (const { write } of done) this.#advance(write.id);
    if (this.#open.size === 0) this.#disarmExpiry();
    if (areLeft && run.line !== this.#apart) this.#endPauseApart();
    else if (areLeft && !this.#apart.writes.isEmpty) await this.#pauseApart(done.length + run.next.length > 0);
    run.line.freeLanes.push(run.lane);
    this.#start();
  }

  /** Has tried apart what a turn has left; whether that is anything. */
  #moveApart({ locked, next, later }: Run): boolean {
    for (const [waiting, kind] of locked) this.#setApart(waiting, kind);
    const open = (attempt: Attempt) => ({ ...attempt, batch: this.#stillOpen(attempt.batch) });
    for (const attempt of next.map(open).filter(hasWrites)) this.#apart.writes.addWhole(attempt, 'first');
    for (const attempt of later.map(open).filter(hasWrites)) this.#apart.writes.addWhole(attempt, 'last');
    return locked.size + next.length + later.length > 0;
  }

  /** Has a locked write tried again apart, and with it what comes for the same task, until one finds it free. */
  #setApart(waiting: Waiting, kind: LockKind): void {
    this.#lockedIds.add(waiting.write.id, kind);
    if (waiting.deadlineAtMs - this.clock.monotonicMs() < LOCKED_LAST_TRY_MS)
      this.#fail(waiting, new TaskDashError('STORAGE_LOCKED', { retryAfterMs: 1000 }));
    else this.#enter(waiting);
  }

  /** Lets the database be for a moment, until something comes that has not been tried apart. */
  async #pauseApart(isGettingOn: boolean): Promise<void> {
    this.#start();
    const pauseMs = isGettingOn ? LOCKED_PAUSE_MS : this.#lockedPauseMs;
    this.#lockedPauseMs = Math.min(pauseMs * 2, LOCKED_PAUSE_MAX_MS);
    this.#newcomers = new AbortController();
    await delay(this.clock, pauseMs, this.#newcomers.signal);
  }

  #endPauseApart(): void {
    this.#lockedPauseMs = LOCKED_PAUSE_MS;
    this.#newcomers.abort();
  }

  /** The write of an id that was the first is done with: the next one has its turn. */
  #advance(id: string): void {
    const behind = this.#behind.get(id);
    let next = behind?.shift();
    while (next?.answered) next = behind?.shift();
    if (next) this.#enter(next);
    else this.#behind.delete(id);
    if (this.hasRoomFor(id)) this.#room.wakeFor(id);
  }

  async #writeUntilSettled(attempts: readonly Attempt[], run: Run): Promise<void> {
    for (let [due, retryMs] = [attempts, RETRY_FIRST_MS]; ; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      const again: Attempt[] = [];
      for (const attempt of due) again.push(...(await this.#attempt(attempt, run)));
      if (again.length === 0) return;
      await delay(this.clock, retryMs);
      due = again;
    }
  }

  #stillOpen(batch: readonly Waiting[]): Waiting[] {
    this.#expire();
    return batch.filter((waiting) => !waiting.answered);
  }

  /** Sends once what is not answered yet; returns what has to be sent again in this turn. */
  async #attempt(before: Attempt, run: Run): Promise<Attempt[]> {
    const attempt = { ...before, batch: this.#stillOpen(before.batch) };
    if (!hasWrites(attempt)) return [];
    const id = attempt.repeats ?? run.lane.next();
    const outcome = await this.#send(attempt, id);
    if (outcome instanceof TaskDashError) return this.#handleFailure(attempt, id, outcome, run);
    const { answers, undecided, locked, doubtful } = judge(attempt, outcome);
    for (const [waiting, result] of answers) {
      while (this.#settledInTurn >= Math.max(SETTLED_A_TURN, this.#open.size * SETTLED_SHARE)) await this.#turnEnd();
      this.#settledInTurn++;
      this.#settle(waiting, result);
    }
    for (const waiting of locked) run.locked.set(waiting, 'seen');
    this.#keepWhole({ ...attempt, batch: doubtful }, run);
    return [newAttempt(undecided, attempt.isHurried)].filter(hasWrites);
  }

  async #send(
    { batch, isHurried, mayArrive }: Attempt,
    id: BatchId,
  ): Promise<readonly TaskWriteResult[] | TaskDashError> {
    const startedMs = this.clock.monotonicMs();
    const writes = batch.map((waiting) => waiting.write);
    const withinMs = Math.min(...batch.map((waiting) => waiting.deadlineAtMs)) - startedMs;
    for (const waiting of batch) waiting.isSent = true;
    const sent = this.store.writeBatch(writes, id, withinMs, isHurried);
    const outcome = await sent.catch((thrown) => TaskDashError.from(thrown));
    const failed = outcome instanceof TaskDashError;
    if (failed && outcome.nothingSent) for (const waiting of batch) waiting.isSent = mayArrive;
    this.onBatch({ size: batch.length, durationMs: this.clock.monotonicMs() - startedMs, failed });
    return outcome;
  }

  /**
   * Sends all again while there is no answer. Else the one by which they fail is found by halving: where it is locked, or an
   * earlier run may still write them, apart, where nobody waits for that.
   */
  async #handleFailure(attempt: Attempt, id: BatchId, error: TaskDashError, run: Run): Promise<Attempt[]> {
    if (error.code === 'STORAGE_UNAVAILABLE')
      return [error.nothingSent ? attempt : { ...attempt, repeats: id, mayArrive: true }];
    // A defect may show itself after the commit.
    const failed = error.code === 'INTERNAL' ? { ...attempt, repeats: id } : attempt;
    const isLocked = error.code === 'STORAGE_LOCKED';
    const [first, ...others] = failed.batch;
    const goesApart = run.line !== this.#apart && (failed.mayArrive || isLocked);
    if (others.length > 0 && !goesApart) return this.#halve(failed, run);
    if (others.length > 0 || failed.mayArrive) this.#keepWhole(failed, run, error);
    else if (first && isLocked) run.locked.set(first, 'hidden');
    else if (first) this.#fail(first, error);
    return [];
  }

  /** Has writes tried apart as they are. */
  #keepWhole(attempt: Attempt, run: Run, why?: TaskDashError): void {
    for (const waiting of attempt.batch) waiting.trouble = why;
    const place = run.line === this.#apart ? run.later : run.next;
    if (hasWrites(attempt)) place.push({ ...attempt, isHurried: true });
  }

  async #halve(attempt: Attempt, run: Run): Promise<Attempt[]> {
    const isHurried = run.line === this.#apart;
    const middle = attempt.batch.length >> 1;
    const again: Attempt[] = [];
    for (const batch of [attempt.batch.slice(0, middle), attempt.batch.slice(middle)]) {
      const part = { ...attempt, batch, isHurried };
      if (isHurried && this.clock.monotonicMs() >= run.halvesUntilMs) run.next.push(part);
      else again.push(...(await this.#attempt(part, run)));
    }
    return again;
  }

  #turnEnd(): Promise<void> {
    this.#nextTurn ??= nextTurn().then(() => {
      this.#nextTurn = undefined;
      this.#settledInTurn = 0;
    });
    return this.#nextTurn;
  }

  #settle(waiting: Waiting, result: TaskWriteResult | 'unknown' | undefined): void {
    if (result === 'unknown') this.#fail(waiting, unanswered(waiting));
    else if (!result)
      this.#fail(waiting, TaskDashError.from(new Error(`the store gave no result for ${waiting.write.id}`)));
    else {
      this.#lockedIds.delete(waiting.write.id);
      if (this.#close(waiting)) waiting.resolve(result);
    }
  }

  #fail(waiting: Waiting, error: TaskDashError): void {
    if (this.#close(waiting)) waiting.reject(error);
  }

  #close(waiting: Waiting): boolean {
    if (waiting.answered) return false;
    waiting.answered = true;
    this.#open.delete(waiting);
    if (this.hasRoom) this.#room.wake();
    if (this.#open.size === 0) for (const wake of this.#idleWaiters.splice(0)) wake();
    return true;
  }

  /** Keeps one timer at the earliest deadline while anything is in flight. */
  #armExpiry(): void {
    if (this.#expiry) return;
    const [earliest] = this.#open;
    if (!earliest) return;
    this.#expiry = this.clock.schedule(Math.max(1, earliest.deadlineAtMs - this.clock.monotonicMs()), () => {
      this.#expiry = undefined;
      this.#expire();
      this.#armExpiry();
    });
  }

  #disarmExpiry(): void {
    this.#expiry?.cancel();
    this.#expiry = undefined;
  }

  #expire(): void {
    const nowMs = this.clock.monotonicMs();
    for (const waiting of this.#open) {
      if (waiting.deadlineAtMs > nowMs) return;
      this.#fail(waiting, unanswered(waiting));
    }
  }
}

/** What a write is told that the database has not answered in time. */
function unanswered({ isSent, trouble }: Waiting): TaskDashError {
  const unknown = 'The database did not answer in time; it is not known whether this was written.';
  return new TaskDashError('STORAGE_UNAVAILABLE', {
    ...(isSent && { message: unknown }),
    ...(trouble && { cause: trouble }),
    retryAfterMs: 1000,
  });
}

function tooManyOf(id: string): TaskDashError {
  const message = `Too many writes of the task ${JSON.stringify(id)} wait already; send them one after the other.`;
  return new TaskDashError('OVERLOADED', { message, retryAfterMs: 200 });
}
