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
 * - A write is answered exactly once: with its result, or with an error at its deadline. An error after the database
 *   took the statement but before it answered says "unknown", never "written".
 * - A batch whose answer was lost is sent again with the same identity (batch-id.ts), by which the store finds what it
 *   wrote the first time, whatever others have written since. A definite answer ends the identity. A refusal is none when
 *   the second run wrote nothing at all: the first one may still arrive, when the task is there or the database accepts it.
 *   What never was sent is no run: it is sent as if for the first time.
 * - Nothing is written after its caller was told that the outcome is unknown: each batch says until when it may be written,
 *   which is the earliest deadline in it. What the store comes to later is sent again where there is time left.
 * - No more than `capacity` writes wait, and no more than `capacityPerId` of one id, so that nobody holds up the others by
 *   one id; beyond that `submit` refuses with OVERLOADED. Doors that can push back ask `hasRoom` and `hasRoomFor` first and
 *   resume on `whenRoom` and `whenRoomFor`; they leave some room to doors that cannot.
 * - A batch that is refused when it is first sent is split until the write that the database refuses is alone; the others
 *   are not harmed.
 * - A write whose task somebody else keeps locked goes apart: the locked ones have a lane of their own, in which they are tried
 *   until their deadlines, and whoever writes such a task next comes there at once. So they hold up nobody but each other. One
 *   that may be written by an earlier run of its batch stays with it.
 */
import { BatchLane, type BatchId } from './batch-id.js';
import type { Clock, Timer } from './clock.js';
import { delay } from './clock.js';
import { TaskDashError } from './errors.js';
import type { TaskStore, TaskWrite, TaskWriteResult } from './ports.js';
import { ReadyWrites } from './ready-writes.js';
import { RoomWaiters } from './room-waiters.js';

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

interface Waiting {
  readonly write: TaskWrite;
  readonly resolve: (result: TaskWriteResult) => void;
  readonly reject: (error: TaskDashError) => void;
  readonly deadlineAtMs: number;
  answered: boolean;
}

/** Writes that are the first of their ids, and a lane for each batch of them that may be in flight. */
interface Line {
  readonly ready: ReadyWrites<Waiting>;
  /** The batches of a lane follow each other. */
  readonly freeLanes: BatchLane[];
}

/** A batch on its way. */
interface Run {
  readonly line: Line;
  readonly lane: BatchLane;
  /** Those of it that were not written because their tasks are locked. */
  readonly locked: Set<Waiting>;
}

/** Writes that are sent together, and their identity. */
interface Attempt {
  readonly batch: readonly Waiting[];
  readonly id: BatchId;
  /** It was sent before, and what became of that is not known. */
  readonly isRepeat: boolean;
}

function hasWrites({ batch }: Attempt): boolean {
  return batch.length > 0;
}

const CAPACITY_PER_ID = 256;
const SHARE_OF_THE_PATIENT = 3 / 4;
/** A full batch of ordinary records has less; a batch of the longest ones is over soon enough for whoever waits behind it. */
const MAX_BATCH_LENGTH = 131_072;
const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 500;
/** Between two batches of locked tasks, for each of which the store has its own patience. */
const LOCKED_PAUSE_MS = 20;
/** With less time left a locked write is not tried again, so that its answer is certain: it was not written. */
const LOCKED_LAST_TRY_MS = 1000;
/** Ids that are remembered as locked. One too many costs its next writer a little time, and so does one that is not any more. */
const MAX_LOCKED_IDS = 10_000;

export class WriteBatcher {
  readonly #line: Line;
  /** Of those whose tasks were locked when they were last tried. */
  readonly #apart: Line = { ready: new ReadyWrites(), freeLanes: [new BatchLane()] };
  readonly #lockedIds = new Set<string>();
  /** For each id with a write that is ready or in flight, those behind it; mostly there are none. */
  readonly #behind = new Map<string, Waiting[] | undefined>();
  /** Writes that are not answered yet, in the order of their deadlines. */
  readonly #open = new Set<Waiting>();
  #starting = false;
  #stopping = false;
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
    this.#line = { ready: new ReadyWrites(), freeLanes };
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
      const deadlineAtMs = this.clock.monotonicMs() + this.options.deadlineMs;
      const waiting = { write, resolve, reject, deadlineAtMs, answered: false };
      this.#open.add(waiting);
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

  /** Takes no more writes, finishes those it has, and resolves; none waits beyond its own deadline. */
  stop(): Promise<void> {
    this.#stopping = true;
    this.#room.wakeAll();
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Has a write sent that is the first of its id. */
  #enter(waiting: Waiting): void {
    const { ready } = this.#lockedIds.has(waiting.write.id) ? this.#apart : this.#line;
    ready.add(waiting);
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
    for (const line of [this.#line, this.#apart]) {
      for (let lane; line.ready.size > 0 && (lane = line.freeLanes.pop());)
        void this.#run(line.ready.take({ writes, length }), { line, lane, locked: new Set() });
    }
  }

  async #run(batch: Waiting[], run: Run): Promise<void> {
    this.#armExpiry();
    const open = this.#stillOpen(batch);
    if (open.length > 0) await this.#writeUntilSettled(open, run);
    for (const waiting of run.locked) this.#setApart(waiting);
    if (run.line === this.#apart && run.locked.size > 0) await delay(this.clock, LOCKED_PAUSE_MS);
    run.line.freeLanes.push(run.lane);
    for (const waiting of batch) {
      if (waiting.answered) this.#advance(waiting.write.id);
      else this.#enter(waiting);
    }
    if (this.#open.size === 0) this.#disarmExpiry();
    this.#start();
  }

  /** Has a locked write tried again apart, and with it what comes for the same task, until one finds it free. */
  #setApart(waiting: Waiting): void {
    this.#lockedIds.add(waiting.write.id);
    const [eldest] = this.#lockedIds;
    if (this.#lockedIds.size > MAX_LOCKED_IDS && eldest !== undefined) this.#lockedIds.delete(eldest);
    if (waiting.deadlineAtMs - this.clock.monotonicMs() < LOCKED_LAST_TRY_MS)
      this.#fail(waiting, new TaskDashError('STORAGE_LOCKED', { retryAfterMs: 1000 }));
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

  async #writeUntilSettled(batch: Waiting[], run: Run): Promise<void> {
    let attempts: Attempt[] = [{ batch, id: run.lane.next(), isRepeat: false }];
    for (let retryMs = RETRY_FIRST_MS; ; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      const again: Attempt[] = [];
      for (const attempt of attempts) again.push(...(await this.#attempt(attempt, run)));
      if (again.length === 0) return;
      await delay(this.clock, retryMs);
      attempts = again.map((attempt) => ({ ...attempt, batch: this.#stillOpen(attempt.batch) })).filter(hasWrites);
    }
  }

  #stillOpen(batch: readonly Waiting[]): Waiting[] {
    this.#expire();
    return batch.filter((waiting) => !waiting.answered);
  }

  /** Sends a batch once; returns what has to be sent again, and as which batch. */
  async #attempt(attempt: Attempt, run: Run): Promise<Attempt[]> {
    const { batch, id } = attempt;
    const startedMs = this.clock.monotonicMs();
    const outcome = await this.#write(batch, id, startedMs);
    const failed = outcome instanceof TaskDashError;
    this.onBatch({ size: batch.length, durationMs: this.clock.monotonicMs() - startedMs, failed });
    if (failed) return this.#handleFailure(attempt, outcome, run);
    const isFenced = !attempt.isRepeat || outcome.some((result) => FENCING.has(result.outcome));
    const isLocked = (_: Waiting, i: number) => outcome[i]?.outcome === 'locked';
    const locked = batch.filter(isLocked);
    const undecided = batch.filter(
      (waiting, i) => !isLocked(waiting, i) && !this.#settle(waiting, isFenced ? outcome[i] : knownOf(outcome[i])),
    );
    if (!isFenced) return [{ batch: [...undecided, ...locked], id, isRepeat: true }].filter(hasWrites);
    for (const waiting of locked) run.locked.add(waiting);
    return [{ batch: undecided, id: run.lane.next(), isRepeat: false }].filter(hasWrites);
  }

  #write(batch: readonly Waiting[], id: BatchId, nowMs: number): Promise<TaskWriteResult[] | TaskDashError> {
    const writes = batch.map((waiting) => waiting.write);
    const withinMs = Math.min(...batch.map((waiting) => waiting.deadlineAtMs)) - nowMs;
    return this.store.writeBatch(writes, id, withinMs).catch((thrown) => TaskDashError.from(thrown));
  }

  /**
   * Sends all again as the same batch while nothing is known of it; else finds the refused write by halving. One that is locked
   * is looked for apart, where nobody waits for that.
   */
  async #handleFailure(attempt: Attempt, error: TaskDashError, run: Run): Promise<Attempt[]> {
    const { batch } = attempt;
    if (error.nothingSent) return [attempt];
    if (error.code === 'STORAGE_UNAVAILABLE' || attempt.isRepeat) return [{ ...attempt, isRepeat: true }];
    if (error.code === 'STORAGE_LOCKED' && (batch.length === 1 || run.line !== this.#apart)) {
      for (const waiting of batch) run.locked.add(waiting);
      return [];
    }
    if (batch.length === 1) {
      for (const waiting of batch) this.#fail(waiting, error);
      return [];
    }
    const middle = batch.length >> 1;
    const halves = [batch.slice(0, middle), batch.slice(middle)];
    const again: Attempt[] = [];
    for (const half of halves)
      again.push(...(await this.#attempt({ batch: half, id: run.lane.next(), isRepeat: false }, run)));
    return again;
  }

  /** Answers a write; false when it has to be written again. */
  #settle(waiting: Waiting, result: TaskWriteResult | 'unknown' | undefined): boolean {
    if (result === 'unknown') {
      this.#fail(waiting, new TaskDashError('STORAGE_UNAVAILABLE', { retryAfterMs: 1000 }));
      return true;
    }
    if (!result) {
      this.#fail(waiting, TaskDashError.from(new Error(`the store gave no result for ${waiting.write.id}`)));
      return true;
    }
    if (UNDECIDED.has(result.outcome)) return false;
    this.#lockedIds.delete(waiting.write.id);
    if (this.#close(waiting)) waiting.resolve(result);
    return true;
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
    const [earliest] = this.#open;
    if (this.#expiry || !earliest) return;
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
      this.#fail(waiting, new TaskDashError('STORAGE_UNAVAILABLE', { retryAfterMs: 1000 }));
    }
  }
}

/** By these the batch is known to have been written, which keeps every other run of it out. */
const FENCING: ReadonlySet<string> = new Set(['written', 'unwritten']);
const UNDECIDED: ReadonlySet<string> = new Set(['raced', 'unwritten', 'late']);

/** What an earlier run that is still under way may make untrue, or may have made true by itself: the version has changed. */
const MAY_BE_WRITTEN: ReadonlySet<string> = new Set(['not_found', 'forbidden', 'late', 'changed']);

/** What an answer says when an earlier run may still arrive. */
function knownOf(result: TaskWriteResult | undefined): TaskWriteResult | 'unknown' | undefined {
  return result && MAY_BE_WRITTEN.has(result.outcome) ? 'unknown' : result;
}

function tooManyOf(id: string): TaskDashError {
  const message = `Too many writes of the task ${JSON.stringify(id)} wait already; send them one after the other.`;
  return new TaskDashError('OVERLOADED', { message, retryAfterMs: 200 });
}
