/**
 * One page of tasks that stays true while changes arrive.
 *
 *   beginLoad ──► (changes are kept) ──► load(page): kept changes are merged, the highest revision of a task wins
 *
 *   flowing   changes are applied as they come
 *   held      the pointer or the focus is in the table: fields of visible rows change in place, but rows that would come,
 *             go or move wait as pending until `apply`
 *   paused    everything waits as pending
 *
 * Invariants: rows are always sorted by the last applied order; a task stands at most once; no row ever goes back to a
 * lower revision; pending and kept changes are bounded, and beyond the bound the page asks to be loaded again instead.
 */
import type { Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { matchesQuery } from './task-match.js';
import { compareTasks, type TaskOrder } from './task-order.js';
import type { TaskQuery } from './task-query.js';

/** A change as the stream tells it; `task` is absent when the task left what the viewer may see. */
export interface LiveChange {
  readonly taskId: string;
  readonly revision: bigint;
  readonly task: Task | undefined;
}

/** A page as the server listed it. */
export interface LoadedPage {
  readonly tasks: readonly Task[];
  readonly nextPageToken: string;
}

/** What decides which tasks stand on the page, and in which order. */
export interface ListFrame {
  readonly query: TaskQuery;
  readonly order: TaskOrder;
  readonly pageSize: number;
  /** The last task of the page before, where it is known: whatever does not come after it does not stand here. */
  readonly after: Task | undefined;
  /** Whether this is the first page, so that new tasks may come in above its first row. */
  readonly isFirstPage: boolean;
}

export type LiveMode = 'flowing' | 'held' | 'paused';

/** How many tasks may have changes waiting before the page is loaded again instead. */
export const MAX_WAITING = 1000;

export class LiveList {
  #rows: readonly Task[] = [];
  #nextPageToken = '';
  /** The first task of the page as loaded, where the page before is not known. */
  #first: Task | undefined;
  /** The last task that stands here at most; whatever comes after it stands on the next page. */
  #last: Task | undefined;
  #wasCut = false;
  #mode: LiveMode = 'flowing';
  #waiting = new Map<string, LiveChange>();
  #kept: Map<string, LiveChange> | undefined;
  #stale = false;
  #highlights = new Map<string, number>();
  #tick = 0;

  readonly #frame: ListFrame;

  constructor(frame: ListFrame) {
    this.#frame = frame;
  }

  /** The rows as they are to be shown. */
  get rows(): readonly Task[] {
    return this.#rows;
  }

  /** Whether there is a page after this one. */
  get hasMore(): boolean {
    return this.#last !== undefined;
  }

  /** How many tasks have changes that wait for `apply`. */
  get pendingCount(): number {
    return this.#waiting.size;
  }

  /** Whether more changed than could be kept, or the page ran short of rows: it is to be loaded again. */
  get isStale(): boolean {
    return this.#stale;
  }

  /** The token of the next page; undefined when rows were pushed over the end since the list was loaded: load again first. */
  get nextPageToken(): string | undefined {
    return this.#wasCut ? undefined : this.#nextPageToken;
  }

  /** The task that the next page comes after; undefined without one. */
  get lastTask(): Task | undefined {
    return this.#last;
  }

  /** A number that grows each time a row changes before the viewer's eyes; 0 for a row that did not. */
  highlightOf(taskId: string): number {
    return this.#highlights.get(taskId) ?? 0;
  }

  /** A list request starts now: changes from here on are merged into its answer. */
  beginLoad(): void {
    this.#kept = new Map();
  }

  /** The list request failed or its answer is not wanted: the rows stay as they are. */
  abandonLoad(): void {
    this.#kept = undefined;
  }

  /** The answer of the list request that began with `beginLoad`. */
  load(page: LoadedPage): void {
    const kept = this.#kept;
    this.#kept = undefined;
    this.#waiting.clear();
    this.#highlights.clear();
    this.#stale = (kept?.size ?? 0) > MAX_WAITING;
    this.#rows = page.tasks;
    this.#nextPageToken = page.nextPageToken;
    this.#first = page.tasks[0];
    this.#last = page.nextPageToken === '' ? undefined : page.tasks.at(-1);
    this.#wasCut = false;
    this.#settleAll([...(kept?.values() ?? [])].filter((change) => !this.#isKnown(change)));
  }

  /** A change arrived. Says whether it concerns this page at all. */
  offer(change: LiveChange): boolean {
    if (this.#kept) keepNewest(this.#kept, change);
    if (this.#isKnown(change) || !this.#concerns(change)) return false;
    if (this.#mode === 'flowing') {
      this.#settleAll([change]);
      return true;
    }
    if (this.#mode === 'held') this.#changeInPlace(change);
    if (this.#mode === 'paused' || this.#wouldMove(change)) this.#wait(change);
    else this.#waiting.delete(change.taskId);
    return true;
  }

  /** Switches the mode; back in `flowing`, what waited is applied. */
  setMode(mode: LiveMode): void {
    this.#mode = mode;
    if (mode === 'flowing') this.apply();
  }

  /** Applies what waits, whatever the mode. */
  apply(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#settleAll(waiting);
  }

  /** Whether the row is still shown although its task left the page; it goes with `apply`. */
  isLeaving(taskId: string): boolean {
    const change = this.#waiting.get(taskId);
    return change !== undefined && (change.task === undefined || !matchesQuery(this.#frame.query, change.task));
  }

  #isKnown(change: LiveChange): boolean {
    const row = this.#rowOf(change.taskId);
    const waiting = this.#waiting.get(change.taskId);
    // A row changed in place has its newest revision already, though its move may wait.
    return (row !== undefined && row.revision >= change.revision) || (waiting?.revision ?? -1n) >= change.revision;
  }

  #concerns(change: LiveChange): boolean {
    if (this.#rowOf(change.taskId) || this.#waiting.has(change.taskId)) return true;
    return change.task !== undefined && this.#belongs(change.task);
  }

  #rowOf(taskId: string): Task | undefined {
    return this.#rows.find((row) => row.id === taskId);
  }

  #wait(change: LiveChange): void {
    if (this.#waiting.size >= MAX_WAITING && !this.#waiting.has(change.taskId)) {
      this.#stale = true;
      return;
    }
    this.#waiting.set(change.taskId, change);
  }

  /** Whether the page's rows would come, go or change places. */
  #wouldMove(change: LiveChange): boolean {
    const { order } = this.#frame;
    const index = this.#rows.findIndex((row) => row.id === change.taskId);
    const { task } = change;
    if (task === undefined || !this.#belongs(task)) return index >= 0;
    if (index < 0) return true;
    // Rows that wait to move say nothing about the order.
    const isSettled = (row: Task) => !this.#waiting.has(row.id);
    const above = this.#rows.slice(0, index).findLast(isSettled);
    const below = this.#rows.slice(index + 1).find(isSettled);
    return (
      (above !== undefined && compareTasks(order, above, task) > 0) ||
      (below !== undefined && compareTasks(order, task, below) > 0)
    );
  }

  #changeInPlace(change: LiveChange): void {
    const { task } = change;
    if (!task || !this.#rowOf(task.id)) return;
    this.#rows = this.#rows.map((row) => (row.id === task.id ? task : row));
    this.#highlight(task.id);
  }

  /** Puts tasks where they belong now, or takes them away. All of them leave their places first: those may be wrong. */
  #settleAll(changes: readonly LiveChange[]): void {
    const before = this.#rows;
    const changed = new Set(changes.map((change) => change.taskId));
    const belonging = changes.filter((change) => change.task !== undefined && this.#belongs(change.task));
    this.#rows = before.filter((row) => !changed.has(row.id));
    for (const { task } of belonging) if (task) this.#insert(task);
    this.#rememberMoves(before);
  }

  #insert(task: Task): void {
    this.#rows = this.#rows.toSpliced(this.#placeOf(task, this.#rows), 0, task);
    this.#highlight(task.id);
  }

  /** Cuts the page to its size, and notes when it ran short although there is more. */
  #rememberMoves(before: readonly Task[]): void {
    const { pageSize } = this.#frame;
    if (this.#rows.length > pageSize) {
      this.#rows = this.#rows.slice(0, pageSize);
      this.#last = this.#rows.at(-1);
      this.#wasCut = true;
    }
    if (this.hasMore && this.#rows.length < before.length) this.#stale = true;
  }

  #placeOf(task: Task, rows: readonly Task[]): number {
    const place = rows.findIndex((row) => compareTasks(this.#frame.order, task, row) < 0);
    return place < 0 ? rows.length : place;
  }

  /** Whether the task matches and stands within the bounds of this page. */
  #belongs(task: Task): boolean {
    const { query, order, after, isFirstPage } = this.#frame;
    if (!matchesQuery(query, task)) return false;
    if (this.#last && compareTasks(order, task, this.#last) > 0) return false;
    if (isFirstPage) return true;
    if (after) return compareTasks(order, task, after) > 0;
    return this.#first === undefined || compareTasks(order, task, this.#first) >= 0;
  }

  #highlight(taskId: string): void {
    // Rows that left leave a mark behind; it is not worth more than this to find them.
    if (this.#highlights.size > 4 * this.#frame.pageSize) this.#highlights.clear();
    this.#tick += 1;
    this.#highlights.set(taskId, this.#tick);
  }
}

function keepNewest(changes: Map<string, LiveChange>, change: LiveChange): void {
  const known = changes.get(change.taskId);
  if (known && known.revision >= change.revision) return;
  // One more than the bound is kept, as the sign that it was passed.
  if (!known && changes.size > MAX_WAITING) return;
  changes.set(change.taskId, change);
}
