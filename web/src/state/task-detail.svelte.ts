/**
 * One task's page: its record and its history. The stream tells every change; what it does not tell, the marks, is asked
 * for now and then.
 */
import type { Task, TaskEvent } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import type { TaskChange } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import * as api from '../api/api.js';
import { failureOf, isLoginOver, type Failure } from '../api/failure.js';
import { browserTime } from './browser-time.js';
import { live, type LiveViewer } from './live.svelte.js';
import { Poll } from './poll.js';
import { pollWhileVisible } from './poll-while-visible.js';
import { session } from './session.svelte.js';
import { eventsAfter, mergeEvents, newerTask } from './task-history.js';

const HISTORY_PAGE_SIZE = 50;
const REFRESH_MS = 15_000;

interface Answer {
  readonly task: Task | undefined;
  readonly events: readonly TaskEvent[];
  readonly nextPageToken: string;
}

export class TaskDetail implements LiveViewer {
  readonly id: string;
  #task = $state.raw<Task | undefined>();
  #events = $state.raw<readonly TaskEvent[]>([]);
  #olderToken = $state('');
  #failure = $state.raw<Failure | undefined>();
  #isGone = $state(false);
  #isLoadingMore = $state(false);
  /** Whether nothing is missing among the events: they were listed since the stream began. */
  #isComplete = false;
  #ended = new AbortController();

  readonly #poll = new Poll<Answer>(
    {
      ask: (signal) => this.#ask(signal),
      onAnswer: (answer) => this.#take(answer),
      onFailure: (thrown) => this.#fail(failureOf(thrown)),
    },
    browserTime,
  );

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
    this.#ended = new AbortController();
    const { signal } = this.#ended;
    const unsubscribe = live.subscribe(this);
    let stopAsking = () => {};
    // Waiting for the stream is no time that the server takes to answer.
    void live.whenOpened().then(() => {
      if (!signal.aborted) stopAsking = pollWhileVisible(this.#poll);
    });
    return () => {
      unsubscribe();
      stopAsking();
      this.#ended.abort();
    };
  }

  /** Asks again after a failure. */
  retry(): void {
    this.#poll.askNow();
  }

  /** Loads the next older page of the history. */
  async loadOlder(): Promise<void> {
    if (!this.hasOlder || this.#isLoadingMore) return;
    this.#isLoadingMore = true;
    const { signal } = this.#ended;
    try {
      const page = { pageSize: HISTORY_PAGE_SIZE, pageToken: this.#olderToken };
      const older = await api.listTaskEvents(this.id, page, signal);
      this.#events = mergeEvents(this.#events, older.events);
      this.#olderToken = older.nextPageToken;
      this.#failure = undefined;
    } catch (thrown) {
      if (!signal.aborted) this.#fail(failureOf(thrown));
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
  }

  onRestart(): void {
    this.#isComplete = false;
    this.#poll.askNow();
  }

  onRefresh(): void {
    this.#poll.askSooner();
  }

  async #ask(signal: AbortSignal): Promise<Answer> {
    const page = { pageSize: HISTORY_PAGE_SIZE, pageToken: '' };
    const [task, history] = await Promise.all([
      api.getTask(this.id, signal),
      api.listTaskEvents(this.id, page, signal),
    ]);
    return { task, events: history.events, nextPageToken: history.nextPageToken };
  }

  #take({ task, events, nextPageToken }: Answer): number {
    this.#task = newerTask(this.#task, task);
    if (!this.#isComplete) {
      this.#events = eventsAfter(this.#events, events);
      this.#olderToken = nextPageToken;
      this.#isComplete = true;
    }
    this.#events = mergeEvents(this.#events, events);
    this.#failure = undefined;
    this.#isGone = false;
    live.confirm();
    return REFRESH_MS;
  }

  #fail(failure: Failure): number | undefined {
    if (isLoginOver(failure)) {
      session.end();
      return undefined;
    }
    const isMissing = failure.reason === 'TASK_NOT_FOUND';
    if (isMissing && this.#task) this.#isGone = true;
    else this.#failure = failure;
    return isMissing ? undefined : failure.retryAfterMs;
  }
}
