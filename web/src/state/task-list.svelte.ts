/**
 * The list page's state as components see it. The rules are in live-page.ts and live-counts.ts; this façade hands on what
 * the stream tells in a few portions a second, shows the outcome, and turns wishes into addresses. It outlives the page,
 * so that coming back from a task shows the list at once, where it was left.
 */
import type { Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import type { TaskChange } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import * as api from '../api/api.js';
import { failureOf, isLoginOver, type Failure } from '../api/failure.js';
import { Alarms } from './alarms.js';
import { browserTime } from './browser-time.js';
import { live, type LiveViewer } from './live.svelte.js';
import { LiveCounts } from './live-counts.js';
import { MAX_WAITING } from './live-list.js';
import { LivePage, type ListFailure, type ListPhase, type Total } from './live-page.js';
import { isSameView, PLAIN_VIEW, tasksHref, type ListView } from './location.js';
import { navigation } from './navigation.svelte.js';
import { session } from './session.svelte.js';
import type { Count } from './status-counts.js';
import { orderAfterClick, type OrderField } from './task-order.js';
import {
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

/** What components show; replaced as a whole, a few times a second at most. */
interface Shown {
  readonly phase: ListPhase;
  /** Whether another view is on its way while the former one is still shown. */
  readonly isBusy: boolean;
  readonly rows: readonly Task[];
  /** How many rows stand before these; undefined for a page that was opened by a link. */
  readonly rowsBefore: number | undefined;
  readonly hasMore: boolean;
  readonly total: Total;
  /** The counts by status, of what matches the search whatever its status; empty before the first answer. */
  readonly counts: readonly Count[];
  readonly countedTotal: number;
  /** How many tasks have changes that wait until the viewer applies them. */
  readonly pending: number;
}

class TaskList implements LiveViewer {
  /** Where the table was scrolled to, for coming back. */
  scrollTop = 0;

  readonly #alarms = new Alarms<'gather'>(browserTime);
  readonly #counts = new LiveCounts(
    {
      count: (query, signal) => this.#count(query, signal),
      whenOpened: () => live.whenOpened(),
      onFailure: (thrown) => void this.#onFailure(thrown),
      onShow: () => this.#show(),
    },
    browserTime,
  );
  #page = this.#newPage();
  #isOpen = false;
  #gathered: TaskChange[] = [];
  #rowsBefore: number | undefined = 0;

  #view = $state.raw<ListView>(PLAIN_VIEW);
  readonly #query = $derived(parseQuery(this.#view.text));
  #shown = $state.raw<Shown>(this.#look());
  #failure = $state.raw<Failure | undefined>();
  #pausedAtMs = $state(0);

  constructor() {
    live.subscribe(this);
  }

  get view(): ListView {
    return this.#view;
  }

  get query(): TaskQuery {
    return this.#query;
  }

  get shown(): Shown {
    return this.#shown;
  }

  /** Why the view could not be listed, while `phase` is failed. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Whether more changes wait than are counted. */
  get isPendingMore(): boolean {
    return this.#shown.pending >= MAX_WAITING;
  }

  get isPaused(): boolean {
    return this.#pausedAtMs > 0;
  }

  /** As of when everything is shown while paused, in milliseconds since 1970; else 0. */
  get pausedAtMs(): number {
    return this.#pausedAtMs;
  }

  /** A number that grows each time a row changes before the viewer's eyes; 0 for a row that did not. */
  highlightOf(taskId: string): number {
    return this.#shown.rows.length === 0 ? 0 : this.#page.list.highlightOf(taskId);
  }

  /** Whether a row is still shown although its task no longer belongs here. */
  isLeaving(taskId: string): boolean {
    return this.#shown.pending > 0 && this.#page.list.isLeaving(taskId);
  }

  /** Shows a view: from memory when it is the one that was shown last, else from the server. */
  open(view: ListView): void {
    if (this.#isOpen && isSameView(view, this.#view)) return;
    this.#isOpen = true;
    this.scrollTop = 0;
    this.#view = view;
    this.#counts.open(parseQuery(view.text));
    void this.#page.open(view);
  }

  /** Forgets everything: somebody else may log in. */
  reset(): void {
    this.#page.stop();
    this.#counts.reset();
    this.#alarms.clearAll();
    this.#gathered = [];
    this.#isOpen = false;
    this.#pausedAtMs = 0;
    this.#failure = undefined;
    this.#page = this.#newPage();
    this.#show();
  }

  search(text: string, options: { replace: boolean }): void {
    this.#go({ ...this.#view, text: text.trim(), pageToken: '' }, options);
  }

  toggleStatus(status: string): void {
    this.#searchFor(withStatusToggled(this.#query, status));
  }

  /** Shows all statuses. */
  clearStatuses(): void {
    this.#searchFor({ ...this.#query, statuses: [] });
  }

  remove(condition: Condition): void {
    this.#searchFor(withoutCondition(this.#query, condition));
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

  async nextPage(): Promise<void> {
    const pageToken = await this.#page.nextPageToken();
    if (pageToken === undefined) return;
    const trail = this.#view.pageToken === '' ? [] : navigation.entry?.trail;
    const entry = trail && { entry: { trail: [...trail, this.#view.pageToken] } };
    navigation.go(tasksHref({ ...this.#view, pageToken }), entry);
  }

  /** The pointer or the focus came into the rows, or left them. */
  hold(isHeld: boolean): void {
    this.#handOn();
    this.#page.restrain({ isHeld });
    this.#show();
  }

  togglePause(): void {
    this.#handOn();
    this.#pausedAtMs = this.isPaused ? 0 : Date.now();
    this.#page.restrain({ isPaused: this.isPaused });
    this.#show();
  }

  /** Applies the changes that wait. */
  apply(): void {
    this.#handOn();
    this.#page.apply();
    this.#show();
  }

  /** Asks again after a failure. */
  retry(): void {
    this.#page.retry();
    void this.#counts.recount();
  }

  /** The marks of tasks may have changed, which the stream does not tell; or somebody looks at the page again. */
  age(): void {
    if (this.#isOpen) this.#page.age();
  }

  onChange(change: TaskChange): void {
    if (!this.#isOpen) return;
    this.#gathered.push(change);
    if (this.#gathered.length > MAX_GATHERED) this.#handOn();
    else this.#alarms.set('gather', GATHER_MS, () => this.#handOn());
  }

  onRestart(): void {
    if (!this.#isOpen) return;
    this.#page.onRestart();
    void this.#counts.recount();
  }

  onRefresh(): void {
    if (!this.#isOpen) return;
    this.#page.refresh();
    this.#counts.refresh();
  }

  #newPage(): LivePage {
    const door = {
      list: (view: ListView, query: TaskQuery, signal: AbortSignal) => this.#list(view, query, signal),
      whenOpened: () => live.whenOpened(),
      onFailure: (thrown: unknown) => this.#onFailure(thrown),
      onShow: () => this.#show(),
      isSeen: () => document.visibilityState === 'visible',
    };
    return new LivePage(PLAIN_VIEW, door, browserTime);
  }

  async #list(view: ListView, query: TaskQuery, signal: AbortSignal): ReturnType<typeof api.listTasks> {
    const { order, pageSize, pageToken } = view;
    const answer = await api.listTasks(query, order, { pageSize, pageToken }, signal);
    // What was gathered belongs to the rows as they were, and is merged into the answer.
    this.#handOn();
    if (signal.aborted) return answer;
    live.confirm();
    this.#failure = undefined;
    this.#rowsBefore = pageToken === '' ? 0 : navigation.entry && navigation.entry.trail.length * pageSize;
    if (this.isPaused) this.#pausedAtMs = Date.now();
    return answer;
  }

  async #count(query: TaskQuery, signal: AbortSignal): Promise<readonly Count[]> {
    const counts = await api.countTasks(query, signal);
    // What was gathered is in the answer already, most of it; the counts remember that they are to be asked for again.
    this.#handOn();
    return counts;
  }

  #onFailure(thrown: unknown): ListFailure | undefined {
    const failure = failureOf(thrown);
    if (isLoginOver(failure)) {
      session.end();
      return undefined;
    }
    if (failure.reason === 'PAGE_TOKEN_INVALID') {
      this.#go({ ...this.#view, pageToken: '' }, { replace: true });
      return undefined;
    }
    this.#failure = failure;
    return { isFinal: failure.reason === 'REQUEST_INVALID', retryAfterMs: failure.retryAfterMs };
  }

  #searchFor(query: TaskQuery): void {
    this.search(formatQuery(query), { replace: false });
  }

  #go(view: ListView, options: { replace?: boolean } = {}): void {
    if (!isSameView(view, this.#view)) navigation.go(tasksHref(view), options);
  }

  /** Hands what was gathered to the rows and the counts. */
  #handOn(): void {
    this.#alarms.clear('gather');
    const changes = this.#gathered.flatMap(({ event, task }) => (event ? [{ event, task }] : []));
    this.#gathered = [];
    if (changes.length === 0) return;
    this.#page.offer(
      changes.map(({ event, task }) => ({ taskId: event.taskId, revision: task?.revision ?? event.revision, task })),
    );
    for (const { event, task } of changes) this.#counts.offer(event, task);
    this.#show();
  }

  #show(): void {
    this.#shown = this.#look();
  }

  #look(): Shown {
    const { list, phase, isBusy, listed } = this.#page;
    const counted = this.#counts.of(parseQuery(this.#view.text).statuses);
    return {
      phase,
      isBusy,
      rows: list.rows,
      rowsBefore: this.#rowsBefore,
      hasMore: list.hasMore,
      // The counts follow the stream, the list's own total does not; beyond its bound the total stays a bound.
      total: listed.isExact && counted !== undefined ? { count: counted, isExact: true } : listed,
      counts: this.#counts.list,
      countedTotal: this.#counts.total,
      pending: list.pendingCount,
    };
  }
}

/** The one list of the page. */
export const taskList = new TaskList();
