/**
 * The list page's state: one page of tasks with its counts, kept true by the stream.
 *
 * The rules are in live-list.ts and status-counts.ts; this façade asks the server, hands on what the stream tells in a
 * few portions a second, and lets components follow. It outlives the page, so that coming back from a task shows the
 * list at once, where it was left.
 */
import type { Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import type { TaskChange } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import * as api from '../api/api.js';
import { failureOf, isLoginOver, type Failure } from '../api/failure.js';
import { BackOff } from './back-off.js';
import { live, type LiveViewer } from './live.svelte.js';
import { LiveList, MAX_WAITING, type LiveMode } from './live-list.js';
import { isSameView, PLAIN_VIEW, tasksHref, type ListView } from './location.js';
import { navigation } from './navigation.svelte.js';
import { session } from './session.svelte.js';
import { StatusCounts, type Count, type Urgency } from './status-counts.js';
import { orderAfterClick, type OrderField } from './task-order.js';
import {
  EMPTY_QUERY,
  formatQuery,
  parseQuery,
  withoutCondition,
  withStatusToggled,
  type Condition,
  type TaskQuery,
} from './task-query.js';

/** How long changes are gathered before the page shows them. */
const GATHER_MS = 120;
/** Hidden pages get few timers: beyond this many, changes are handed on without waiting for one. */
const MAX_GATHERED = 5_000;
/** How long after a sign that the page should be loaded or counted again that is done, at the earliest. */
const RELOAD_AFTER_MS = 1_000;
const RECOUNT_SOON_MS = 2_000;
const RECOUNT_EVENTUALLY_MS = 10_000;
/** Counting must not take more than this share of the server's time for one viewer. */
const RECOUNT_SHARE = 1 / 20;
/** Pages whose beginnings are remembered. */
const MAX_BOUNDARIES = 500;

/** How many tasks match; `isExact` is false for a lower bound. */
export interface Total {
  readonly count: number;
  readonly isExact: boolean;
}

/** What components show; replaced as a whole, a few times a second at most. */
interface Shown {
  readonly rows: readonly Task[];
  readonly rowsBefore: number | undefined;
  readonly pending: number;
  readonly hasMore: boolean;
  readonly counts: readonly Count[];
  readonly countedTotal: number;
  readonly total: Total;
}

const NOTHING: Shown = {
  rows: [],
  rowsBefore: 0,
  pending: 0,
  hasMore: false,
  counts: [],
  countedTotal: 0,
  total: { count: 0, isExact: true },
};

/** A page, and the stream in which it was asked for. */
type Answer = Awaited<ReturnType<typeof api.listTasks>> & { readonly stream: number };

type TimerName = 'gather' | 'reload' | 'recount' | 'retry';

/** Whether the view has been answered. */
export type ListPhase = 'loading' | 'ready' | 'failed';

class TaskList implements LiveViewer {
  /** Where the table was scrolled to, for coming back. */
  scrollTop = 0;

  #view = $state.raw<ListView>(PLAIN_VIEW);
  #query = $state.raw<TaskQuery>(EMPTY_QUERY);
  #shown = $state.raw<Shown>(NOTHING);
  #phase = $state<ListPhase>('loading');
  #isBusy = $state(false);
  #failure = $state.raw<Failure | undefined>();
  #isHeld = $state(false);
  #pausedAtMs = $state(0);

  #boundaries = new Map<string, Task>();
  #list = this.#newList();
  #incoming: LiveList | undefined;
  #counts = new StatusCounts();
  #listed: Total = { count: 0, isExact: true };
  #rowsBefore: number | undefined = 0;
  #isOpen = false;
  #gathered: TaskChange[] = [];
  #listing = new AbortController();
  #counting = new AbortController();
  #countedAtMs = 0;
  #countTookMs = 0;
  #recountUrgency: Urgency = 'no';
  /** How often the stream began anew, and which of those streams the rows were asked for in. */
  #streams = 0;
  #listedInStream = 0;
  readonly #timers: Partial<Record<TimerName, ReturnType<typeof setTimeout>>> = {};
  readonly #backOff = new BackOff({ firstMs: 2_000, maxMs: 30_000, random: Math.random });

  constructor() {
    live.subscribe(this);
  }

  get view(): ListView {
    return this.#view;
  }

  get query(): TaskQuery {
    return this.#query;
  }

  get phase(): ListPhase {
    return this.#phase;
  }

  /** Whether another view is on its way while the former one is still shown. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  get rows(): readonly Task[] {
    return this.#shown.rows;
  }

  get hasMore(): boolean {
    return this.#shown.hasMore;
  }

  get total(): Total {
    return this.#shown.total;
  }

  /** The counts by status, of what matches the search whatever its status; empty before the first answer. */
  get counts(): readonly Count[] {
    return this.#shown.counts;
  }

  get countedTotal(): number {
    return this.#shown.countedTotal;
  }

  /** How many tasks have changes that wait until the viewer applies them. */
  get pending(): { readonly count: number; readonly isMore: boolean } {
    return { count: this.#shown.pending, isMore: this.#shown.pending >= MAX_WAITING };
  }

  get isPaused(): boolean {
    return this.#pausedAtMs > 0;
  }

  /** Since when nothing moves, in milliseconds since 1970; 0 while it does. */
  get pausedAtMs(): number {
    return this.#pausedAtMs;
  }

  /** How many rows stand before the ones that are shown; undefined for a page that was opened by a link. */
  get rowsBefore(): number | undefined {
    return this.#shown.rowsBefore;
  }

  /** A number that grows each time a row changes before the viewer's eyes; 0 for a row that did not. */
  highlightOf(taskId: string): number {
    return this.#shown === NOTHING ? 0 : this.#list.highlightOf(taskId);
  }

  /** Whether a row is still shown although its task no longer belongs here. */
  isLeaving(taskId: string): boolean {
    return this.#shown.pending > 0 && this.#list.isLeaving(taskId);
  }

  /** Shows a view: from memory when it is the one that was shown last, else from the server. */
  open(view: ListView): void {
    if (this.#isOpen && isSameView(view, this.#view)) return;
    const isRecountNeeded =
      !this.#isOpen || this.#countedText(parseQuery(view.text)) !== this.#countedText(this.#query);
    this.#isOpen = true;
    this.scrollTop = 0;
    this.#view = view;
    this.#query = parseQuery(view.text);
    void this.#loadView();
    if (isRecountNeeded) void this.#recount();
  }

  /** Forgets everything: somebody else may log in. */
  reset(): void {
    this.#listing.abort();
    this.#counting.abort();
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#isOpen = false;
    this.#incoming = undefined;
    this.#gathered = [];
    this.#boundaries.clear();
    this.#counts = new StatusCounts();
    this.#pausedAtMs = 0;
    this.#phase = 'loading';
    this.#failure = undefined;
    this.#list = this.#newList();
    this.#shown = NOTHING;
  }

  search(text: string, options: { replace: boolean }): void {
    this.#go({ ...this.#view, text: text.trim(), pageToken: '' }, options);
  }

  toggleStatus(status: string): void {
    this.search(formatQuery(withStatusToggled(this.#query, status)), { replace: false });
  }

  /** Shows all statuses. */
  clearStatuses(): void {
    this.search(formatQuery({ ...this.#query, statuses: [] }), { replace: false });
  }

  remove(condition: Condition): void {
    this.search(formatQuery(withoutCondition(this.#query, condition)), { replace: false });
  }

  clear(): void {
    this.search('', { replace: false });
  }

  sortBy(field: OrderField): void {
    this.#go({ ...this.#view, order: orderAfterClick(this.#view.order, field), pageToken: '' });
  }

  resize(pageSize: number): void {
    this.#go({ ...this.#view, pageSize, pageToken: '' });
  }

  firstPage(): void {
    this.#go({ ...this.#view, pageToken: '' });
  }

  previousPage(): void {
    const trail = navigation.entry?.trail ?? [];
    const pageToken = trail.at(-1) ?? '';
    navigation.go(tasksHref({ ...this.#view, pageToken }), { entry: { trail: trail.slice(0, -1) } });
  }

  /** The next page comes after the last row that is shown: when rows were pushed over the end, a fresh token is needed. */
  async nextPage(): Promise<void> {
    if (this.#list.nextPageToken === undefined) await this.#askAgain(() => true);
    const pageToken = this.#list.nextPageToken;
    const last = this.#list.lastTask;
    if (!pageToken || !last) return;
    if (this.#boundaries.size >= MAX_BOUNDARIES) this.#boundaries.clear();
    this.#boundaries.set(pageToken, last);
    const trail = this.#view.pageToken === '' ? [] : navigation.entry?.trail;
    const entry = trail && { entry: { trail: [...trail, this.#view.pageToken] } };
    navigation.go(tasksHref({ ...this.#view, pageToken }), entry);
  }

  /** The pointer or the focus came into the rows, or left them. */
  hold(isHeld: boolean): void {
    if (isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    this.#setMode();
  }

  togglePause(): void {
    this.#pausedAtMs = this.isPaused ? 0 : Date.now();
    this.#setMode();
  }

  /** Applies the changes that wait. */
  apply(): void {
    this.#handOn();
    this.#list.apply();
    if (this.#list.isStale) void this.#askAgain(() => true);
    this.#show();
  }

  /** Asks again after a failure. */
  retry(): void {
    void this.#loadView();
    void this.#recount();
  }

  onChange(change: TaskChange): void {
    if (!this.#isOpen) return;
    this.#gathered.push(change);
    if (this.#gathered.length > MAX_GATHERED) this.#handOn();
    else this.#later('gather', GATHER_MS, () => this.#handOn());
  }

  onRestart(): void {
    this.#streams += 1;
    if (!this.#isOpen || this.#phase === 'loading') return;
    if (this.#phase === 'failed') return this.retry();
    this.#show();
    void this.#recount();
  }

  #go(view: ListView, options: { replace?: boolean } = {}): void {
    if (!isSameView(view, this.#view)) navigation.go(tasksHref(view), options);
  }

  #newList(): LiveList {
    const { order, pageSize, pageToken } = this.#view;
    const after = this.#boundaries.get(pageToken);
    return new LiveList({ query: this.#query, order, pageSize, after, isFirstPage: pageToken === '' });
  }

  #setMode(): void {
    const mode: LiveMode = this.isPaused ? 'paused' : this.#isHeld ? 'held' : 'flowing';
    this.#handOn();
    this.#list.setMode(mode);
    this.#show();
  }

  /** Hands what was gathered to the rows and the counts, and sees what follows from it. */
  #handOn(): void {
    clearTimeout(this.#timers.gather);
    delete this.#timers.gather;
    const changes = this.#gathered;
    this.#gathered = [];
    for (const { event, task } of changes) {
      if (!event) continue;
      const change = { taskId: event.taskId, revision: task?.revision ?? event.revision, task };
      this.#list.offer(change);
      this.#incoming?.offer(change);
      this.#counts.offer(event, task);
    }
    this.#show();
  }

  #show(): void {
    const { rows, pendingCount, hasMore } = this.#list;
    this.#shown = {
      rows,
      rowsBefore: this.#rowsBefore,
      pending: pendingCount,
      hasMore,
      counts: this.#counts.isLoaded ? this.#counts.list : [],
      countedTotal: this.#counts.total,
      total: this.#totalNow(),
    };
    if (this.#isStale() && this.#mayMove()) this.#later('reload', RELOAD_AFTER_MS, () => void this.#reload());
    if (this.#counts.urgency !== 'no') this.#recountLater();
  }

  /** Whether the rows may be incomplete: too much changed, or the stream began anew after they were asked for. */
  #isStale(): boolean {
    return this.#phase === 'ready' && (this.#list.isStale || this.#listedInStream !== this.#streams);
  }

  #countBefore(): number | undefined {
    if (this.#view.pageToken === '') return 0;
    return navigation.entry && navigation.entry.trail.length * this.#view.pageSize;
  }

  #mayMove(): boolean {
    return !this.#isHeld && !this.isPaused;
  }

  /** The counts follow the stream, the list's own total does not; beyond its bound the total stays a bound. */
  #totalNow(): Total {
    if (!this.#counts.isLoaded || !this.#listed.isExact || this.#counts.of('…') > 0) return this.#listed;
    const { statuses } = this.#query;
    const count =
      statuses.length === 0 ? this.#counts.total : statuses.reduce((sum, status) => sum + this.#counts.of(status), 0);
    return { count, isExact: true };
  }

  /** Asks for another view; the former one is shown until the answer is there. */
  async #loadView(): Promise<void> {
    this.#isBusy = true;
    const signal = this.#beginListing();
    await live.whenOpened();
    if (signal.aborted) return;
    const incoming = this.#newList();
    this.#incoming = incoming;
    incoming.beginLoad();
    try {
      this.#take(incoming, await this.#ask(signal));
    } catch (thrown) {
      if (!signal.aborted) this.#fail(failureOf(thrown));
    }
  }

  /** Asks for the same view again, unseen, as long as the rows may move. */
  #reload(): Promise<void> {
    return this.#askAgain(() => this.#mayMove());
  }

  /** What is shown stays until the answer is there, and also then when it is not welcome any more. */
  async #askAgain(isWelcome: () => boolean): Promise<void> {
    if (this.#incoming || this.#phase !== 'ready') return;
    const signal = this.#beginListing();
    const list = this.#list;
    list.beginLoad();
    try {
      const answer = await this.#ask(signal);
      if (signal.aborted) return;
      if (isWelcome()) this.#take(list, answer);
      else list.abandonLoad();
    } catch (thrown) {
      list.abandonLoad();
      if (!signal.aborted) this.#failToReload(failureOf(thrown));
    }
  }

  #failToReload(failure: Failure): void {
    if (isLoginOver(failure)) return session.end();
    this.#later('reload', this.#backOff.nextMs(failure.retryAfterMs), () => void this.#reload());
  }

  #beginListing(): AbortSignal {
    clearTimeout(this.#timers.reload);
    clearTimeout(this.#timers.retry);
    delete this.#timers.reload;
    delete this.#timers.retry;
    this.#listing.abort();
    this.#incoming = undefined;
    this.#listing = new AbortController();
    return this.#listing.signal;
  }

  async #ask(signal: AbortSignal): Promise<Answer> {
    const { order, pageSize, pageToken } = this.#view;
    const stream = this.#streams;
    return { ...(await api.listTasks(this.#query, order, { pageSize, pageToken }, signal)), stream };
  }

  #take(list: LiveList, answer: Answer): void {
    this.#handOn();
    list.load(answer);
    this.#listedInStream = answer.stream;
    this.#rowsBefore = this.#countBefore();
    this.#list = list;
    this.#incoming = undefined;
    this.#listed = { count: answer.totalSize, isExact: !answer.totalSizeExceeded };
    this.#phase = 'ready';
    this.#isBusy = false;
    this.#failure = undefined;
    this.#backOff.reset();
    if (this.isPaused) this.#pausedAtMs = Date.now();
    this.#setMode();
  }

  #fail(failure: Failure): void {
    this.#incoming = undefined;
    this.#isBusy = false;
    if (isLoginOver(failure)) return session.end();
    if (failure.reason === 'PAGE_TOKEN_INVALID') return this.#go({ ...this.#view, pageToken: '' }, { replace: true });
    this.#failure = failure;
    this.#phase = 'failed';
    if (failure.reason === 'REQUEST_INVALID') return;
    this.#later('retry', this.#backOff.nextMs(failure.retryAfterMs), () => this.retry());
  }

  /** Counts what the search matches, whatever its status: the statuses are what the counts are there to choose from. */
  async #recount(): Promise<void> {
    clearTimeout(this.#timers.recount);
    delete this.#timers.recount;
    this.#recountUrgency = 'no';
    this.#counting.abort();
    this.#counting = new AbortController();
    const { signal } = this.#counting;
    const query = { ...this.#query, statuses: [] };
    const startedAtMs = performance.now();
    try {
      this.#handOn();
      this.#counts.beginLoad(query);
      const counts = await api.countTasks(query, signal);
      if (signal.aborted) return;
      this.#handOn();
      this.#counts.load(counts);
      this.#countTookMs = performance.now() - startedAtMs;
      this.#countedAtMs = performance.now();
      this.#show();
    } catch (thrown) {
      if (signal.aborted) return;
      if (isLoginOver(failureOf(thrown))) return session.end();
      this.#later('recount', RECOUNT_EVENTUALLY_MS, () => void this.#recount());
    }
  }

  #recountLater(): void {
    if (this.#counts.urgency === 'soon' && this.#recountUrgency === 'eventually') {
      clearTimeout(this.#timers.recount);
      delete this.#timers.recount;
    }
    this.#recountUrgency = this.#counts.urgency;
    const afterMs = this.#counts.urgency === 'soon' ? RECOUNT_SOON_MS : RECOUNT_EVENTUALLY_MS;
    const dueAtMs = this.#countedAtMs + Math.max(afterMs, this.#countTookMs / RECOUNT_SHARE);
    this.#later('recount', Math.max(200, dueAtMs - performance.now()), () => void this.#recount());
  }

  #countedText(query: TaskQuery): string {
    return formatQuery({ ...query, statuses: [] });
  }

  /** Does something once after a while; a timer that runs already stays. */
  #later(name: TimerName, ms: number, act: () => void): void {
    this.#timers[name] ??= setTimeout(() => {
      delete this.#timers[name];
      act();
    }, ms);
  }
}

/** The one list of the page. */
export const taskList = new TaskList();
