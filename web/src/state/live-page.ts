/**
 * The page of the list that is shown: asked for, kept true by the stream, asked for again when that is not enough.
 *
 *   loading ──answer──► ready ◄──open──► (busy: the former view is shown until the answer for the next one is there)
 *      └────failure───► failed ──by itself after a while, or `retry`──► loading again
 *
 * - A list is asked for only after the stream has opened, so that no change can fall between the two; changes that arrive
 *   while it is under way are merged into the answer (live-list.ts).
 * - `reload` asks for the same view unseen: when the page ran short of rows, when too many changes wait, when the stream
 *   began anew after the rows were asked for, and now and then while somebody looks, since the stream does not tell of
 *   marks. While rows may not move, its answer counts like changes that the stream told of.
 * - `refresh` does so where no stream gets through, every few seconds, unless an answer is under way already.
 */
import type { Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { Alarms } from './alarms.js';
import { BackOff } from './back-off.js';
import { LiveList, type LiveChange, type LiveMode } from './live-list.js';
import type { ListView } from './location.js';
import { parseQuery, type TaskQuery } from './task-query.js';
import type { WatchTime } from './watch-loop.js';

/** How many tasks match; `isExact` is false for a lower bound. */
export interface Total {
  readonly count: number;
  readonly isExact: boolean;
}

/** A page as the server lists it. */
export interface ListAnswer {
  readonly tasks: readonly Task[];
  readonly nextPageToken: string;
  readonly totalSize: number;
  readonly totalSizeExceeded: boolean;
}

/** What became of a request that failed. */
export interface ListFailure {
  /** Whether the view itself is at fault, so that asking again makes no sense. */
  readonly isFinal: boolean;
  /** How long the server asked to wait, in milliseconds. */
  readonly retryAfterMs: number;
}

/** What the page needs from outside. */
export interface PageDoor {
  list(view: ListView, query: TaskQuery, signal: AbortSignal): Promise<ListAnswer>;
  /** Resolves when the stream is open, or when waiting for that makes no sense any more. */
  whenOpened(): Promise<void>;
  /** A request for a view failed. Undefined: it was seen to (the login is over), nothing follows. */
  onFailure(thrown: unknown): ListFailure | undefined;
  /** There is something new to show. */
  onShow(): void;
  /** Whether anybody can see the page. */
  isSeen(): boolean;
}

export type ListPhase = 'loading' | 'ready' | 'failed';

export const PAGE_TIMES = { reloadAfterMs: 1_000, goodForMs: 15_000, firstRetryMs: 2_000, maxRetryMs: 30_000 } as const;
/** Pages whose beginnings are remembered. */
const MAX_BOUNDARIES = 500;

export class LivePage {
  #view: ListView;
  #list: LiveList;
  #incoming: LiveList | undefined;
  #phase: ListPhase = 'loading';
  #isBusy = false;
  #listed: Total = { count: 0, isExact: true };
  #isHeld = false;
  #isPaused = false;
  /** Whether the marks of the rows may have changed since the rows were asked for. */
  #isAged = false;
  /** How often the stream began anew, and after how many of those times the rows were asked for. */
  #streams = 0;
  #listedInStream = 0;
  #asking = new AbortController();
  #isReloading = false;
  /** The last task before a page, by the token of the page. */
  readonly #boundaries = new Map<string, Task>();
  readonly #alarms: Alarms<'reload' | 'retry' | 'age'>;
  readonly #backOff: BackOff;

  constructor(
    view: ListView,
    private readonly door: PageDoor,
    time: WatchTime,
  ) {
    this.#view = view;
    this.#list = this.#newList();
    this.#alarms = new Alarms(time);
    const { firstRetryMs: firstMs, maxRetryMs: maxMs } = PAGE_TIMES;
    this.#backOff = new BackOff({ firstMs, maxMs, random: () => time.random() });
  }

  /** The rows that are shown, with what waits and what follows. */
  get list(): LiveList {
    return this.#list;
  }

  get phase(): ListPhase {
    return this.#phase;
  }

  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** How many tasks matched when the list was asked for. */
  get listed(): Total {
    return this.#listed;
  }

  /** Asks for a view; the former one is shown until the answer is there. */
  async open(view: ListView): Promise<void> {
    this.#view = view;
    this.#isBusy = true;
    const signal = this.#begin();
    this.door.onShow();
    await this.door.whenOpened();
    if (signal.aborted) return;
    const incoming = this.#newList();
    incoming.beginLoad();
    this.#incoming = incoming;
    try {
      const stream = this.#streams;
      const answer = await this.#ask(signal);
      if (!signal.aborted) this.#take(incoming, answer, stream);
    } catch (thrown) {
      if (!signal.aborted) this.#fail(thrown);
    }
  }

  /** Asks for the failed view again. */
  retry(): void {
    void this.open(this.#view);
  }

  /** Changes arrived. */
  offer(changes: readonly LiveChange[]): void {
    for (const change of changes) {
      this.#list.offer(change);
      this.#incoming?.offer(change);
    }
    this.#planReload();
  }

  /** The stream began anew: rows that were asked for before it may be incomplete. */
  onRestart(): void {
    this.#streams += 1;
    if (this.#phase === 'failed') this.retry();
    else this.#planReload();
  }

  /** The marks of the rows may have changed; or somebody looks again, who is to see them as they are. */
  age(): void {
    this.#isAged = true;
    this.#planReload();
  }

  /** No change is told of: asks again now, unless that is under way or failed just before, or nobody is to see it. */
  refresh(): void {
    if (this.#phase !== 'ready' || this.#isReloading || this.#isPaused || !this.door.isSeen()) return;
    this.#alarms.set('reload', 0, () => void this.#reload());
  }

  /** The pointer or the focus is in the rows, or the viewer has paused the page. */
  restrain(reasons: { isHeld?: boolean; isPaused?: boolean }): void {
    this.#isHeld = reasons.isHeld ?? this.#isHeld;
    this.#isPaused = reasons.isPaused ?? this.#isPaused;
    this.#list.setMode(this.#mode());
    this.#planReload();
  }

  /** Applies the changes that wait, whatever restrains the rows. */
  apply(): void {
    const isStale = this.#list.isStale;
    this.#list.apply();
    if (isStale || this.#list.isStale) void this.#askAgain(() => true);
  }

  /**
   * The token of the next page, or undefined where there is none. When rows were pushed over the end since the list was
   * asked for, it is asked for again first: the next page comes after the last row that is shown.
   */
  async nextPageToken(): Promise<string | undefined> {
    if (this.#list.nextPageToken === undefined) await this.#askAgain(() => true);
    const token = this.#list.nextPageToken;
    const last = this.#list.lastTask;
    if (!token || !last) return undefined;
    if (this.#boundaries.size >= MAX_BOUNDARIES) this.#boundaries.clear();
    this.#boundaries.set(token, last);
    return token;
  }

  /** Ends every request and timer. */
  stop(): void {
    this.#asking.abort();
    this.#alarms.clearAll();
  }

  #newList(): LiveList {
    const { text, order, pageSize, pageToken } = this.#view;
    const after = this.#boundaries.get(pageToken);
    return new LiveList({ query: parseQuery(text), order, pageSize, after, isFirstPage: pageToken === '' });
  }

  #mode(): LiveMode {
    if (this.#isPaused) return 'paused';
    return this.#isHeld ? 'held' : 'flowing';
  }

  #planReload(): void {
    const isAged = this.#isAged && this.door.isSeen();
    const isStale = isAged || this.#list.isStale || this.#listedInStream !== this.#streams;
    if (this.#phase !== 'ready' || !isStale || this.#mode() !== 'flowing') return;
    this.#alarms.set('reload', PAGE_TIMES.reloadAfterMs, () => void this.#reload());
  }

  #reload(): Promise<void> {
    return this.#askAgain(() => this.#mode() === 'flowing');
  }

  /** Asks for the same view unseen. Of an answer that is not welcome any more, the rows count like changes. */
  async #askAgain(isWelcome: () => boolean): Promise<void> {
    if (this.#isBusy || this.#phase !== 'ready') return;
    const signal = this.#begin();
    const list = this.#list;
    const stream = this.#streams;
    list.beginLoad();
    this.#isReloading = true;
    try {
      const answer = await this.#ask(signal);
      if (signal.aborted) return;
      this.#isReloading = false;
      if (isWelcome()) this.#take(list, answer, stream);
      else this.#takeAsChanges(list, answer);
    } catch (thrown) {
      list.abandonLoad();
      if (!signal.aborted) this.#failToReload(thrown);
    }
  }

  #takeAsChanges(list: LiveList, answer: ListAnswer): void {
    list.abandonLoad();
    this.offer(answer.tasks.map((task) => ({ taskId: task.id, revision: task.revision, task })));
    this.door.onShow();
  }

  #begin(): AbortSignal {
    this.#alarms.clearAll();
    this.#asking.abort();
    this.#incoming = undefined;
    this.#isReloading = false;
    this.#asking = new AbortController();
    return this.#asking.signal;
  }

  #ask(signal: AbortSignal): Promise<ListAnswer> {
    return this.door.list(this.#view, parseQuery(this.#view.text), signal);
  }

  #take(list: LiveList, answer: ListAnswer, stream: number): void {
    list.load(answer);
    this.#list = list;
    this.#incoming = undefined;
    this.#listedInStream = stream;
    this.#listed = { count: answer.totalSize, isExact: !answer.totalSizeExceeded };
    this.#phase = 'ready';
    this.#isBusy = false;
    this.#isAged = false;
    this.#backOff.reset();
    this.#alarms.set('age', PAGE_TIMES.goodForMs, () => this.age());
    list.setMode(this.#mode());
    this.#planReload();
    this.door.onShow();
  }

  #fail(thrown: unknown): void {
    this.#incoming = undefined;
    this.#isBusy = false;
    const failure = this.door.onFailure(thrown);
    if (!failure) return;
    this.#phase = 'failed';
    if (!failure.isFinal) this.#alarms.set('retry', this.#backOff.nextMs(failure.retryAfterMs), () => this.retry());
    this.door.onShow();
  }

  #failToReload(thrown: unknown): void {
    this.#isReloading = false;
    const failure = this.door.onFailure(thrown);
    if (failure) this.#alarms.set('reload', this.#backOff.nextMs(failure.retryAfterMs), () => void this.#reload());
  }
}
