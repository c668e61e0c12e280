/**
 * The live side of the event table: what changed, to everybody who watches, nothing lost and nothing twice.
 *
 * The event table is the truth. A *position* names a place in it: `{from}` lies right after everything that the mark
 * `from` has seen; `{from, until, afterId}` lies inside the set of events between two marks, after one of them. A
 * position means the same on every node, so that a watcher may go on anywhere.
 *
 * While anybody watches, one *pump* per node reads what became visible since its head, upon a hint or at the latest
 * after `pollMs`, and appends it to a bounded ring of segments. Watchers walk the ring by position, so that a thousand
 * of them cost one read of the database. A watcher whose position is not in the ring (it resumed from elsewhere, or is
 * slower than the ring is long) reads the database by itself until it has caught up with the head. No queue belongs to a
 * watcher: a slow one costs no memory, only its own reads.
 *
 *   asleep ──first watcher──► pumping ──last watcher gone──► asleep (ring forgotten)
 */
import type { Clock, Timer } from './clock.js';
import { TaskDashError } from './errors.js';
import type { ChangeHints, FeedEvent, FeedMark, FeedStore, Log } from './ports.js';

/** A place in the event table. */
export interface FeedPosition {
  readonly from: FeedMark;
  readonly until?: FeedMark;
  readonly afterId?: number;
}

/** Some events and the position after each of them; `end` is the position after all. */
export interface FeedSegment {
  readonly events: readonly FeedEvent[];
  /** The position right after the event with this index. */
  readonly positionAfter: (index: number) => FeedPosition;
  readonly end: FeedPosition;
}

/** Settings of the feed. */
export interface TaskFeedOptions {
  /** How long a change waits at most when its hint was lost, in milliseconds. */
  readonly pollMs: number;
  /** Events in one read. */
  readonly pageSize: number;
  /** Events that the ring keeps. */
  readonly ringSize: number;
  /** Events that a watcher may be behind before it has to list again. */
  readonly maxCatchUp: number;
}

export class TaskFeed {
  #head: FeedPosition | undefined;
  #ring = new Map<string, FeedSegment>();
  #ringEvents = 0;
  #watchers = 0;
  #pumping: Promise<void> | undefined;
  #pumpAgain = false;
  /** A watcher stands beyond the head: the next read moves it there though it finds nothing. */
  #mustMove = false;
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
  ) {}

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
   * Opens a watch at a position, or at now. `next` resolves with the following events, or with undefined when none came
   * within `timeoutMs` or the signal aborted. `close` must be called at the end.
   */
  async open(position?: FeedPosition): Promise<FeedWatch> {
    if (this.#stopped) throw new TaskDashError('STOPPING');
    this.#watchers++;
    try {
      const head = await this.#ensureHead();
      if (!this.#poll) this.#armPoll();
      return new FeedWatch(this, position ?? head, () => this.#release());
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** What follows a position: a segment of the ring, a page of the database, or undefined at the head. For FeedWatch. */
  async read(position: FeedPosition): Promise<FeedSegment | undefined> {
    if (this.#stopped) throw new TaskDashError('STOPPING');
    const segment = this.#ring.get(keyOf(position));
    if (segment) return segment;
    if (keyOf(position) === keyOf(await this.#ensureHead())) return undefined;
    return this.#readBehind(position);
  }

  /** Resolves when the head is no longer at the position, the time is up or the signal aborts. For FeedWatch. */
  changed(position: FeedPosition, timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || this.#stopped || !this.#isAtHead(position)) return resolve();
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

  /** Whether what follows a position is in memory. For FeedWatch. */
  holds(position: FeedPosition): boolean {
    return this.#ring.has(keyOf(position));
  }

  /** How far a watcher may be behind. */
  get maxCatchUp(): number {
    return this.options.maxCatchUp;
  }

  #isAtHead(position: FeedPosition): boolean {
    return this.#head !== undefined && keyOf(this.#head) === keyOf(position);
  }

  async #readBehind(position: FeedPosition): Promise<FeedSegment> {
    const until = position.until ?? (await this.#headBeyond(position.from));
    const { events } = await this.store.between(position.from, until, position.afterId ?? 0, this.options.pageSize);
    return segmentOf(position.from, until, events, events.length < this.options.pageSize);
  }

  /**
   * A mark of this node's head that lies at or after `from`, so that reading up to it never goes back. A head that lies
   * before is moved, over an empty segment where nothing has changed: else the watcher would read on for ever, from one
   * mark of its own to the next, and never meet the head.
   */
  async #headBeyond(from: FeedMark): Promise<FeedMark> {
    const head = await this.#ensureHead();
    if (!head.until && this.store.reaches(head.from, from)) return head.from;
    this.#mustMove = true;
    await this.#pump();
    const pumped = await this.#ensureHead();
    if (!pumped.until && this.store.reaches(pumped.from, from)) return pumped.from;
    return this.store.mark();
  }

  async #ensureHead(): Promise<FeedPosition> {
    if (this.#head) return this.#head;
    const from = await this.store.mark();
    // Nobody watches any more: who comes next begins at their own now.
    if (this.#watchers === 0) return { from };
    return (this.#head ??= { from });
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
        return;
      }
    } while (this.#pumpAgain && this.#watchers > 0 && !this.#stopped);
  }

  async #readPage(): Promise<void> {
    const head = await this.#ensureHead();
    const page = await this.store.between(head.from, head.until, head.afterId ?? 0, this.options.pageSize);
    const complete = page.events.length < this.options.pageSize;
    if (!complete) this.#pumpAgain = true;
    if (this.#head !== head) return;
    const segment = segmentOf(head.from, page.until, page.events, complete);
    // An empty read moves nothing: the old head still bounds the same events, and idle watchers keep their place.
    if (segment.events.length === 0 && !head.until && !this.#mustMove) return;
    this.#mustMove = false;
    this.#append(head, segment);
  }

  #append(head: FeedPosition, segment: FeedSegment): void {
    this.#ring.set(keyOf(head), segment);
    this.#ringEvents += sizeOf(segment);
    this.#head = segment.end;
    for (const [key, oldest] of this.#ring) {
      if (this.#ringEvents <= this.options.ringSize || oldest === segment) break;
      this.#ring.delete(key);
      this.#ringEvents -= sizeOf(oldest);
    }
    this.#wakeAll();
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
    this.#head = undefined;
    this.#ring.clear();
    this.#ringEvents = 0;
  }

  #wakeAll(): void {
    for (const wake of [...this.#waiters]) wake();
  }
}

/** One open watch: its position, and how to move on. */
export class FeedWatch {
  #behind = 0;
  #closed = false;

  constructor(
    private readonly feed: TaskFeed,
    private position: FeedPosition,
    private readonly onClose: () => void,
  ) {}

  /** The position after everything that `next` has returned. */
  get at(): FeedPosition {
    return this.position;
  }

  /**
   * The next events, or undefined when none came in time. Throws RESUME_TOKEN_EXPIRED when the watch began too far
   * behind, STOPPING, or what storage throws; trying again after that is safe.
   */
  async next(timeoutMs: number, signal: AbortSignal): Promise<FeedSegment | undefined> {
    const segment = (await this.#read()) ?? (await this.#readAfterChange(timeoutMs, signal));
    if (segment) this.position = segment.end;
    return segment;
  }

  async #readAfterChange(timeoutMs: number, signal: AbortSignal): Promise<FeedSegment | undefined> {
    await this.feed.changed(this.position, timeoutMs, signal);
    return signal.aborted ? undefined : this.#read();
  }

  /** Reads on, counting what had to come from the database: a watch that stays behind too long is better begun anew. */
  async #read(): Promise<FeedSegment | undefined> {
    const live = this.feed.holds(this.position);
    const segment = await this.feed.read(this.position);
    this.#behind = live || !segment ? 0 : this.#behind + segment.events.length;
    if (this.#behind > this.feed.maxCatchUp) throw new TaskDashError('RESUME_TOKEN_EXPIRED');
    return segment;
  }

  /** Ends the watch; idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose();
  }
}

function segmentOf(from: FeedMark, until: FeedMark, events: readonly FeedEvent[], complete: boolean): FeedSegment {
  const inside = (index: number): FeedPosition => ({ from, until, afterId: (events[index] as FeedEvent).event.id });
  const end: FeedPosition = complete ? { from: until } : inside(events.length - 1);
  return { events, positionAfter: (index) => (complete && index === events.length - 1 ? end : inside(index)), end };
}

/** What a segment counts in the ring; an empty one takes room too. */
function sizeOf({ events }: FeedSegment): number {
  return Math.max(1, events.length);
}

function keyOf(position: FeedPosition): string {
  return `${position.from}|${position.until ?? ''}|${position.afterId ?? ''}`;
}
