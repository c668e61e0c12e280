/**
 * The live side of the event table: what changed, to everybody who watches, nothing lost and nothing twice.
 *
 * The event table is the truth. A position (ports.ts) names a place in it and means the same on every node, so that a
 * watcher may go on anywhere.
 *
 * While anybody watches, one *pump* per node reads what follows its head, upon a hint or at the latest after `pollMs`,
 * and appends it to a ring that is bounded by events and by bytes. Watchers walk the ring by position, so that a thousand
 * of them cost one read of the database. A watcher whose position is not in the ring (it resumed from elsewhere, or is
 * slower than the ring is long) reads the database by itself until it has caught up, in turns with others. No queue belongs
 * to a watcher: a slow one keeps the few events that it is being told, and costs its own reads.
 *
 *   asleep ──first watcher──► pumping ──last watcher gone──► asleep (ring forgotten)
 *                               │  ▲
 *                               └──┘ the history changed under the head (failover, restore): the head and the ring are
 *                                    forgotten; watchers are told by their own next read to list again
 */
import type { Clock, Timer } from './clock.js';
import { TaskDashError } from './errors.js';
import { FairQueue, type Party } from './fair-queue.js';
import type { ChangeHints, FeedEvent, FeedPosition, FeedStore, Log, PageLimits } from './ports.js';
import { sentBytesOf, storedBytesOf } from './task.js';

/** Some events in order, at least one. */
export interface FeedSegment {
  readonly events: readonly FeedEvent[];
  /** The position after all. */
  readonly end: FeedPosition;
}

/** Settings of the feed. */
export interface TaskFeedOptions {
  /** How long a change waits at most when its hint was lost, in milliseconds. */
  readonly pollMs: number;
  /** What is read at once. */
  readonly page: PageLimits;
  /** What a watcher is given at once, and keeps until it has been told: so many bytes, one event at least. */
  readonly watcherBytes: number;
  /** Events that the ring keeps, and how many bytes their records may have together. */
  readonly ringSize: number;
  readonly ringBytes: number;
  /** Events that a watcher may be behind before it has to list again. */
  readonly maxCatchUp: number;
}

/** Reads of watchers that catch up. After a start all of them may come at once, and each comes again for every few events. */
const CATCH_UPS = { running: 2, waiting: 10_000, waitMs: 30_000 };

export class TaskFeed {
  readonly #catchUps: FairQueue;
  #head: FeedPosition | undefined;
  /** The events between `#ringStart` and the head. */
  #ring: FeedEvent[] = [];
  #ringStart: FeedPosition | undefined;
  #ringBytes = 0;
  #watchers = 0;
  #pumping: Promise<void> | undefined;
  #pumpAgain = false;
  #poll: Timer | undefined;
  #stopListening: (() => void) | undefined;
  #waiters = new Set<() => void>();
  #stopped = false;

  constructor(
    private readonly store: FeedStore,
    private readonly hints: ChangeHints,
    private readonly clock: Clock,
    private readonly options: TaskFeedOptions,
    private readonly log: Log,
  ) {
    this.#catchUps = new FairQueue(clock, CATCH_UPS);
  }

  /** Begins to listen for hints. */
  start(): void {
    this.#stopListening ??= this.hints.listen(() => this.#onHint());
  }

  /** Ends all watches with STOPPING. */
  stop(): void {
    this.#stopped = true;
    this.#stopListening?.();
    this.#poll?.cancel();
    this.#wakeAll();
  }

  /** How many watches are open. */
  get watchers(): number {
    return this.#watchers;
  }

  /**
   * Opens a watch of somebody at a position, or at now. `next` resolves with the following events, or with undefined when none came
   * within `timeoutMs` or the signal aborted. `close` must be called at the end.
   */
  async open(party: Party, position?: FeedPosition): Promise<FeedWatch> {
    if (this.#stopped) throw new TaskDashError('STOPPING');
    this.#watchers++;
    try {
      const head = await this.#ensureHead();
      if (!this.#poll) this.#armPoll();
      return new FeedWatch(this, party, position ?? head, () => this.#release());
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** What follows a position, or undefined at the end. Throws what FeedStore.after throws, OVERLOADED. For FeedWatch. */
  async read(position: FeedPosition, party: Party, signal: AbortSignal): Promise<FeedSegment | undefined> {
    if (this.#stopped) throw new TaskDashError('STOPPING');
    const head = await this.#ensureHead();
    if (isSame(position, head)) return undefined;
    // Another node gave it, or a page of the database went further than the head has come.
    if (position.id > head.id) await this.#pump();
    if (this.#head && isSame(position, this.#head)) return undefined;
    const inRing = this.#ringAfter(position);
    if (inRing) return segmentOf(inRing);
    const events = await this.#catchUp(position, party, signal);
    return events.length === 0 ? undefined : segmentOf(events);
  }

  async #catchUp(position: FeedPosition, party: Party, signal: AbortSignal): Promise<FeedEvent[]> {
    const { page, watcherBytes, maxCatchUp } = this.options;
    const end = await this.#catchUps.begin(party, signal);
    try {
      return await this.store.after(position, { ...page, bytes: watcherBytes }, maxCatchUp);
    } finally {
      end();
    }
  }

  /** Resolves when the head is beyond the position, the time is up or the signal aborts. For FeedWatch. */
  changed(position: FeedPosition, timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || this.#stopped || !this.#head || this.#head.id > position.id) return resolve();
      const finish = () => {
        timer.cancel();
        this.#waiters.delete(finish);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const timer = this.clock.schedule(timeoutMs, finish);
      this.#waiters.add(finish);
      signal.addEventListener('abort', finish, { once: true });
    });
  }

  #ringAfter(position: FeedPosition): readonly FeedEvent[] | undefined {
    const next = firstAfter(this.#ring, position.id);
    const before = next === 0 ? this.#ringStart : positionAfter(this.#ring[next - 1] as FeedEvent);
    if (!before || !isSame(before, position) || next === this.#ring.length) return undefined;
    return this.#ring.slice(next, this.#endOfPart(next));
  }

  /** Where what a watcher is given at once ends in the ring. */
  #endOfPart(from: number): number {
    const { page, watcherBytes } = this.options;
    const last = Math.min(this.#ring.length, from + page.records);
    let end = from;
    for (let bytes = 0; end < last && bytes < watcherBytes; end++)
      bytes += storedBytesOf((this.#ring[end] as FeedEvent).task);
    return end;
  }

  async #ensureHead(): Promise<FeedPosition> {
    if (this.#head) return this.#head;
    const head = await this.store.head();
    // Nobody watches any more: who comes next begins at their own now.
    if (this.#watchers === 0) return head;
    if (!this.#head) this.#head = this.#ringStart = head;
    return this.#head;
  }

  #onHint(): void {
    if (this.#watchers > 0) void this.#pump();
  }

  /** Reads on from the head; a call during a read makes one more read follow. */
  #pump(): Promise<void> {
    if (this.#pumping) {
      this.#pumpAgain = true;
      return this.#pumping;
    }
    this.#pumping = this.#pumpUntilQuiet().finally(() => (this.#pumping = undefined));
    return this.#pumping;
  }

  async #pumpUntilQuiet(): Promise<void> {
    do {
      this.#pumpAgain = false;
      try {
        await this.#readPage();
      } catch (error) {
        // Watchers keep their positions; the poll tries again.
        this.log.warn({ err: error }, 'the change feed could not be read');
        if (isGone(error)) this.#forget();
        return;
      }
    } while (this.#pumpAgain && this.#watchers > 0 && !this.#stopped);
  }

  async #readPage(): Promise<void> {
    const head = await this.#ensureHead();
    const { page, maxCatchUp } = this.options;
    const events = await this.store.after(head, page, maxCatchUp);
    if (isFull(events, page)) this.#pumpAgain = true;
    if (this.#head === head && events.length > 0) this.#append(events);
  }

  #append(events: readonly FeedEvent[]): void {
    for (const event of events) {
      this.#ring.push(event);
      this.#ringBytes += sentBytesOf(event.task);
    }
    this.#head = positionAfter(events.at(-1) as FeedEvent);
    this.#trim();
    this.#wakeAll();
  }

  /** Takes the oldest events out until the ring keeps to its bounds. */
  #trim(): void {
    const { ringSize, ringBytes } = this.options;
    let excess = 0;
    for (; this.#ring.length - excess > ringSize || this.#ringBytes > ringBytes; excess++)
      this.#ringBytes -= sentBytesOf((this.#ring[excess] as FeedEvent).task);
    const last = this.#ring.splice(0, excess).at(-1);
    if (last) this.#ringStart = positionAfter(last);
  }

  #armPoll(): void {
    this.#poll?.cancel();
    if (this.#stopped || this.#watchers === 0) return;
    this.#poll = this.clock.schedule(this.options.pollMs, () => void this.#pump().finally(() => this.#armPoll()));
  }

  #release(): void {
    this.#watchers--;
    if (this.#watchers > 0) return;
    this.#poll?.cancel();
    this.#poll = undefined;
    this.#forget();
  }

  #forget(): void {
    this.#head = undefined;
    this.#ringStart = undefined;
    this.#ring = [];
    this.#ringBytes = 0;
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const wake of [...this.#waiters]) wake();
  }
}

/** One open watch: its position, and how to move on. */
export class FeedWatch {
  #closed = false;

  constructor(
    private readonly feed: TaskFeed,
    private readonly party: Party,
    private position: FeedPosition,
    private readonly onClose: () => void,
  ) {}

  /** The position after everything that `next` has returned. */
  get at(): FeedPosition {
    return this.position;
  }

  /**
   * The next events, or undefined when none came in time. Throws RESUME_TOKEN_EXPIRED when the watch is too far behind,
   * RESUME_TOKEN_INVALID when its place is gone, STOPPING, OVERLOADED, or what storage throws; trying again is safe then.
   */
  async next(timeoutMs: number, signal: AbortSignal): Promise<FeedSegment | undefined> {
    const segment = (await this.#read(signal)) ?? (await this.#readAfterChange(timeoutMs, signal));
    if (segment) this.position = segment.end;
    return segment;
  }

  async #readAfterChange(timeoutMs: number, signal: AbortSignal): Promise<FeedSegment | undefined> {
    await this.feed.changed(this.position, timeoutMs, signal);
    return signal.aborted ? undefined : this.#read(signal);
  }

  #read(signal: AbortSignal): Promise<FeedSegment | undefined> {
    return this.feed.read(this.position, this.party, signal);
  }

  /** Ends the watch; idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose();
  }
}

/** The position right after an event. */
export function positionAfter({ event, batch }: FeedEvent): FeedPosition {
  return { id: event.id, batch };
}

function segmentOf(events: readonly FeedEvent[]): FeedSegment {
  return { events, end: positionAfter(events.at(-1) as FeedEvent) };
}

function isSame(one: FeedPosition, other: FeedPosition): boolean {
  return one.id === other.id && one.batch === other.batch;
}

/** Whether a page is as long as it may be, so that more may follow. */
function isFull(events: readonly FeedEvent[], { records, bytes }: PageLimits): boolean {
  return events.length >= records || events.reduce((sum, { task }) => sum + storedBytesOf(task), 0) >= bytes;
}

/** Whether the history no longer has the place that was asked for, or too much follows it. */
function isGone(error: unknown): boolean {
  return error instanceof TaskDashError && error.code.startsWith('RESUME_TOKEN_');
}

/** The index of the first event with a larger number. */
function firstAfter(events: readonly FeedEvent[], id: number): number {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((events[middle] as FeedEvent).event.id > id) high = middle;
    else low = middle + 1;
  }
  return low;
}
