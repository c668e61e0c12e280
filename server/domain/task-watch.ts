/**
 * One person's or service's view of the feed: only what their scope shows, with a resume token after every message.
 *
 *   marker ──► change, change, … idle, change … until the caller goes, access changes, or the server stops
 *
 * A change that moves a task out of the caller's sight is told as such, without the record; one that moves it in, without
 * what was before.
 */
import { eventIn, isVisible, ownerOf, readScope, type TaskOwner, type Principal } from './access.js';
import { delay, type Clock } from './clock.js';
import { TaskDashError } from './errors.js';
import type { FeedEvent, FeedPosition } from './ports.js';
import type { Standing } from './standing.js';
import type { Task, TaskEvent } from './task.js';
import { positionAfter, type FeedSegment, type FeedWatch, type TaskFeed } from './task-feed.js';
import type { TokenSealer } from './token-sealer.js';

/** What to watch; empty lists mean everything that the caller may see. */
export interface WatchQuery {
  readonly resumeToken: string;
  readonly groupIds: readonly string[];
  readonly taskIds: readonly string[];
}

/** One message of a watch. `task` is absent from a change that took the task out of the caller's sight. */
export type WatchMessage =
  | { kind: 'snapshot'; resumed: boolean; resumeToken: string }
  | { kind: 'change'; event: TaskEvent; task: Task | undefined; resumeToken: string; source: FeedEvent }
  | { kind: 'idle'; resumeToken: string };

/** How often a quiet stream says that it is alive. */
export interface TaskWatchOptions {
  readonly idleMs: number;
}

/** After how long the database is asked again when it was away. */
const RETRY_MS = 1_000;

export class TaskWatcher {
  constructor(
    private readonly feed: TaskFeed,
    private readonly sealer: TokenSealer,
    private readonly clock: Clock,
    private readonly options: TaskWatchOptions,
  ) {}

  /**
   * Streams changes to somebody in a network until the signal aborts; each waits until the caller's standing is confirmed.
   * Throws what ended that, RESUME_TOKEN_INVALID, RESUME_TOKEN_EXPIRED, OVERLOADED, STOPPING. An outage of the database ends no
   * stream that has begun.
   */
  async *watch(
    principal: Principal,
    query: WatchQuery,
    standing: Pick<Standing, 'confirmed'>,
    signal: AbortSignal,
    network = '',
  ): AsyncGenerator<WatchMessage, void, undefined> {
    const view = new View(principal, query);
    const party = { network, account: ownerOf(principal), isKnown: true };
    const watch = await this.feed.open(party, this.#positionOf(query.resumeToken));
    try {
      yield { kind: 'snapshot', resumed: query.resumeToken !== '', resumeToken: this.#seal(watch.at) };
      yield* this.#follow(watch, view, standing, signal);
    } finally {
      watch.close();
    }
  }

  async *#follow(
    watch: FeedWatch,
    view: View,
    standing: Pick<Standing, 'confirmed'>,
    signal: AbortSignal,
  ): AsyncGenerator<WatchMessage, void, undefined> {
    let toldAtMs = this.clock.monotonicMs();
    while (!signal.aborted) {
      const segment = await this.#next(watch, toldAtMs + this.options.idleMs - this.clock.monotonicMs(), signal);
      for (const source of segment?.events ?? []) {
        const seen = view.see(source);
        if (!seen) continue;
        await standing.confirmed();
        if (signal.aborted) return;
        const resumeToken = this.#seal(positionAfter(source));
        yield { kind: 'change', ...seen, resumeToken, source };
        toldAtMs = this.clock.monotonicMs();
      }
      if (!signal.aborted && this.clock.monotonicMs() - toldAtMs >= this.options.idleMs) {
        yield { kind: 'idle', resumeToken: this.#seal(watch.at) };
        toldAtMs = this.clock.monotonicMs();
      }
    }
  }

  /** What follows; undefined when nothing did in time, or the database is away. */
  async #next(watch: FeedWatch, timeoutMs: number, signal: AbortSignal): Promise<FeedSegment | undefined> {
    try {
      return await watch.next(timeoutMs, signal);
    } catch (error) {
      if (TaskDashError.from(error).code !== 'STORAGE_UNAVAILABLE') throw error;
      await delay(this.clock, RETRY_MS, signal);
      return undefined;
    }
  }

  #positionOf(resumeToken: string): FeedPosition | undefined {
    if (resumeToken === '') return undefined;
    const position = this.sealer.open('watch', null, resumeToken);
    if (!isPosition(position)) throw new TaskDashError('RESUME_TOKEN_INVALID');
    return position;
  }

  #seal(position: FeedPosition): string {
    return this.sealer.seal('watch', null, position);
  }
}

/** Throws ACCESS_CHANGED where the two, the same caller then and now, may not see the same. */
export function requireSameSight(then: Principal, now: Principal): void {
  if (JSON.stringify(readScope(then)) !== JSON.stringify(readScope(now))) throw new TaskDashError('ACCESS_CHANGED');
}

/** Tokens of other versions hold other things. */
function isPosition(opened: unknown): opened is FeedPosition {
  const { id, batch } = (opened ?? {}) as Partial<FeedPosition>;
  return Number.isSafeInteger(id) && typeof batch === 'string';
}

/** An event of a task that left the caller's sight: that it did, and nothing of what it became. */
function onlyThat(event: TaskEvent): TaskEvent {
  return { ...event, fromStatus: '', toStatus: '', actor: '', node: '', gapMs: null };
}

/** What one caller sees of the feed. */
class View {
  readonly #scope;
  readonly #groups: ReadonlySet<string>;
  readonly #ids: ReadonlySet<string>;

  constructor(principal: Principal, query: WatchQuery) {
    this.#scope = readScope(principal);
    this.#groups = new Set(query.groupIds);
    this.#ids = new Set(query.taskIds);
  }

  /** The change as this caller may know it: with the record, without it when it left their sight, or not at all. */
  see({ event, task, previous }: FeedEvent): { event: TaskEvent; task: Task | undefined } | undefined {
    if (this.#ids.size > 0 && !this.#ids.has(task.id)) return undefined;
    if (this.#shows(task)) return { event: eventIn(this.#scope, event, previous), task };
    return this.#shows(previous) ? { event: onlyThat(event), task: undefined } : undefined;
  }

  #shows(owner: TaskOwner): boolean {
    return isVisible(this.#scope, owner) && (this.#groups.size === 0 || this.#groups.has(owner.group_id));
  }
}
