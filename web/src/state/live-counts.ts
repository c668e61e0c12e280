/**
 * The counts above the list, and when the server is asked for them again.
 *
 * They are of everything that the search matches whatever its status: the statuses are what they are there to choose
 * from. What `StatusCounts` cannot know by itself is asked for soon or eventually, but never so often that counting for
 * one viewer takes more than a twentieth of the server's time.
 */
import type { Task, TaskEvent } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { Alarms } from './alarms.js';
import { StatusCounts, type Count, type Urgency } from './status-counts.js';
import { formatQuery, type TaskQuery } from './task-query.js';
import type { WatchTime } from './watch-loop.js';

/** What the counts need from outside. */
export interface CountsDoor {
  count(query: TaskQuery, signal: AbortSignal): Promise<readonly Count[]>;
  /** Resolves when the stream is open, so that no change can fall between it and the counts. */
  whenOpened(): Promise<void>;
  /** The server was asked and failed; asking again is seen to. */
  onFailure(thrown: unknown): void;
  /** There is something new to show. */
  onShow(): void;
}

export const COUNT_TIMES = { soonMs: 2_000, eventuallyMs: 10_000, share: 1 / 20 } as const;

export class LiveCounts {
  #counts = new StatusCounts();
  #query: TaskQuery | undefined;
  #asking = new AbortController();
  #isAsking = false;
  #countedAtMs = -Infinity;
  #tookMs = 0;
  #planned: Urgency = 'no';
  readonly #alarms: Alarms<'recount'>;

  constructor(
    private readonly door: CountsDoor,
    private readonly time: WatchTime,
  ) {
    this.#alarms = new Alarms(time);
  }

  /** The counts in their order on the page; empty before the first answer. */
  get list(): readonly Count[] {
    return this.#counts.isLoaded ? this.#counts.list : [];
  }

  get total(): number {
    return this.#counts.total;
  }

  /** How many tasks have one of these statuses (none: any); undefined where the counts do not say. */
  of(statuses: readonly string[]): number | undefined {
    // Beyond the server's twenty statuses the rest is added up under "…".
    if (!this.#counts.isLoaded || this.#counts.of('…') > 0) return undefined;
    if (statuses.length === 0) return this.#counts.total;
    return statuses.reduce((sum, status) => sum + this.#counts.of(status), 0);
  }

  /** Shows the counts of a search; asks the server only when they are others than before. */
  open(query: TaskQuery): void {
    const counted = { ...query, statuses: [] };
    const isSame = this.#query !== undefined && formatQuery(this.#query) === formatQuery(counted);
    this.#query = counted;
    if (!isSame) void this.recount();
  }

  /** A change arrived. */
  offer(event: TaskEvent, task: Task | undefined): void {
    this.#counts.offer(event, task);
    this.#plan();
  }

  /** Asks the server now. */
  async recount(): Promise<void> {
    const query = this.#query;
    if (!query) return;
    const signal = this.#begin();
    await this.door.whenOpened();
    if (signal.aborted) return;
    const startedAtMs = this.time.nowMs();
    this.#counts.beginLoad(query);
    try {
      const counts = await this.door.count(query, signal);
      if (!signal.aborted) this.#take(counts, startedAtMs);
    } catch (thrown) {
      if (!signal.aborted) this.#fail(thrown);
    }
  }

  /** No change is told of: asks the server again, unless it is asked already or took too long for that. */
  refresh(): void {
    const isDue = this.time.nowMs() - this.#countedAtMs >= this.#tookMs / COUNT_TIMES.share;
    if (isDue && !this.#isAsking) void this.recount();
  }

  /** Forgets everything. */
  reset(): void {
    this.#asking.abort();
    this.#alarms.clearAll();
    this.#counts = new StatusCounts();
    this.#query = undefined;
    this.#isAsking = false;
    this.#planned = 'no';
  }

  #begin(): AbortSignal {
    this.#alarms.clear('recount');
    this.#planned = 'no';
    this.#asking.abort();
    this.#asking = new AbortController();
    this.#isAsking = true;
    return this.#asking.signal;
  }

  #take(counts: readonly Count[], startedAtMs: number): void {
    this.#isAsking = false;
    this.#counts.load(counts);
    this.#countedAtMs = this.time.nowMs();
    this.#tookMs = this.#countedAtMs - startedAtMs;
    this.#plan();
    this.door.onShow();
  }

  #fail(thrown: unknown): void {
    this.#isAsking = false;
    this.#alarms.set('recount', COUNT_TIMES.eventuallyMs, () => void this.recount());
    this.door.onFailure(thrown);
  }

  /** Sets the alarm for the next asking; an earlier wish replaces a later one, never the other way round. */
  #plan(): void {
    const { urgency } = this.#counts;
    if (urgency === 'no' || this.#isAsking || this.#planned === 'soon' || this.#planned === urgency) return;
    this.#alarms.clear('recount');
    this.#planned = urgency;
    const afterMs = urgency === 'soon' ? COUNT_TIMES.soonMs : COUNT_TIMES.eventuallyMs;
    const dueAtMs = this.#countedAtMs + Math.max(afterMs, this.#tookMs / COUNT_TIMES.share);
    this.#alarms.set('recount', Math.max(0, dueAtMs - this.time.nowMs()), () => void this.recount());
  }
}
