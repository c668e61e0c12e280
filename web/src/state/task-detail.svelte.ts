/** One task's page: its record and its history, kept true by the stream. */
import type { Task, TaskEvent } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import type { TaskChange } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import * as api from '../api/api.js';
import { failureOf, isLoginOver, type Failure } from '../api/failure.js';
import { BackOff } from './back-off.js';
import { live, type LiveViewer } from './live.svelte.js';
import { session } from './session.svelte.js';
import { mergeEvents, newerTask } from './task-history.js';

const HISTORY_PAGE_SIZE = 50;

export class TaskDetail implements LiveViewer {
  readonly id: string;
  #task = $state.raw<Task | undefined>();
  #events = $state.raw<readonly TaskEvent[]>([]);
  #olderToken = $state('');
  #failure = $state.raw<Failure | undefined>();
  #isGone = $state(false);
  #isLoadingMore = $state(false);
  #loading = new AbortController();
  /** What the stream told since the latest load began: its answer may be older. */
  #told: TaskEvent[] = [];
  #retry: ReturnType<typeof setTimeout> | undefined;
  readonly #backOff = new BackOff({ firstMs: 2_000, maxMs: 30_000, random: Math.random });

  constructor(id: string) {
    this.id = id;
  }

  get task(): Task | undefined {
    return this.#task;
  }

  /** The history as far as it is loaded, newest first. */
  get events(): readonly TaskEvent[] {
    return this.#events;
  }

  get hasOlder(): boolean {
    return this.#olderToken !== '';
  }

  get isLoadingMore(): boolean {
    return this.#isLoadingMore;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Whether the task left what the viewer may see while they looked. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** Loads and follows the task; returns how to stop. */
  start(): () => void {
    const unsubscribe = live.subscribe(this);
    void this.load();
    return () => {
      unsubscribe();
      this.#loading.abort();
      clearTimeout(this.#retry);
    };
  }

  /** Asks the server for the record and the latest history. */
  async load(): Promise<void> {
    clearTimeout(this.#retry);
    this.#loading.abort();
    this.#loading = new AbortController();
    const { signal } = this.#loading;
    await live.whenOpened();
    if (signal.aborted) return;
    this.#told = [];
    try {
      const page = { pageSize: HISTORY_PAGE_SIZE, pageToken: '' };
      const [task, history] = await Promise.all([
        api.getTask(this.id, signal),
        api.listTaskEvents(this.id, page, signal),
      ]);
      this.#task = newerTask(this.#task, task);
      this.#events = mergeEvents(history.events, this.#told);
      this.#olderToken = history.nextPageToken;
      this.#failure = undefined;
      this.#isGone = false;
      this.#backOff.reset();
    } catch (thrown) {
      if (!signal.aborted) this.#fail(failureOf(thrown));
    }
  }

  /** Loads the next older page of the history. */
  async loadOlder(): Promise<void> {
    if (!this.hasOlder || this.#isLoadingMore) return;
    this.#isLoadingMore = true;
    try {
      const page = { pageSize: HISTORY_PAGE_SIZE, pageToken: this.#olderToken };
      const older = await api.listTaskEvents(this.id, page, this.#loading.signal);
      this.#events = mergeEvents(this.#events, older.events);
      this.#olderToken = older.nextPageToken;
      this.#failure = undefined;
    } catch (thrown) {
      if (!this.#loading.signal.aborted) this.#fail(failureOf(thrown));
    } finally {
      this.#isLoadingMore = false;
    }
  }

  onChange({ event, task }: TaskChange): void {
    if (event?.taskId !== this.id) return;
    this.#isGone = task === undefined;
    if (!task) return;
    this.#task = newerTask(this.#task, task);
    this.#events = mergeEvents(this.#events, [event]);
    this.#told = [...this.#told, event].slice(-HISTORY_PAGE_SIZE);
  }

  onRestart(): void {
    if (this.#task || this.#failure) void this.load();
  }

  #fail(failure: Failure): void {
    if (isLoginOver(failure)) return session.end();
    if (failure.reason === 'TASK_NOT_FOUND' && this.#task) this.#isGone = true;
    else this.#failure = failure;
    if (failure.reason === 'TASK_NOT_FOUND') return;
    this.#retry = setTimeout(() => void this.load(), this.#backOff.nextMs(failure.retryAfterMs));
  }
}
