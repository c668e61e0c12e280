/** The one stream of changes of the page, and how fresh that makes what is shown. */
import type { TaskChange } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import * as api from '../api/api.js';
import { failureOf, watchFailureOf } from '../api/failure.js';
import { browserTime } from './browser-time.js';
import { session } from './session.svelte.js';
import { WatchLoop, type WatchFailure, type WatchListener, type WatchState } from './watch-loop.js';

/** Somebody who shows tasks. */
export interface LiveViewer {
  onChange(change: TaskChange): void;
  /** The stream began anew: what was listed before may be incomplete. */
  onRestart(): void;
  /** No stream gets through: what is shown is to be asked for again, every few seconds. */
  onRefresh?(): void;
}

/** How long a list waits for the stream to open before it is asked for all the same. */
const MARKER_PATIENCE_MS = 2_000;

class Live {
  #state = $state<WatchState>('stopped');
  #signAtMs = $state(0);
  #loop: WatchLoop | undefined;
  readonly #viewers = new Set<LiveViewer>();
  #opened: Promise<void> = Promise.resolve();
  #tellOpened: () => void = () => {};
  #hasOpened = false;

  get state(): WatchState {
    return this.#state;
  }

  /** When the stream last gave a sign, or an answer stood in for it, in milliseconds since 1970; 0 before the first one. */
  get signAtMs(): number {
    return this.#signAtMs;
  }

  /** The server has answered with what is shown: while the stream is held, that is how fresh the page is. */
  confirm(): void {
    if (this.#state === 'held') this.#signAtMs = Date.now();
  }

  /** Tries to reconnect at once when the network is back or somebody looks at the page again, from now on. */
  listen(): void {
    addEventListener('online', () => this.#loop?.retryNow());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#loop?.retryNow();
    });
  }

  /** Opens the stream, if it is not open. */
  start(): void {
    if (this.#loop) return;
    const door = { open: api.watchTasks, explain };
    const loop: WatchLoop = new WatchLoop(
      door,
      this.#listener(() => this.#loop === loop),
      browserTime,
    );
    this.#loop = loop;
    this.#hasOpened = false;
    this.#opened = new Promise((resolve) => (this.#tellOpened = resolve));
    void loop.run();
  }

  stop(): void {
    this.#loop?.stop();
    this.#loop = undefined;
    this.#state = 'stopped';
  }

  /** Tells somebody of every change from now on; returns how to stop. */
  subscribe(viewer: LiveViewer): () => void {
    this.#viewers.add(viewer);
    return () => this.#viewers.delete(viewer);
  }

  /** Resolves when the stream has opened, so that no change can fall between a list and the stream; or when it does not. */
  async whenOpened(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, MARKER_PATIENCE_MS)));
    await Promise.race([this.#opened, patience]);
    clearTimeout(timer);
  }

  /** What a loop tells counts only while it is the current one: a former one may still be ending. */
  #listener(isCurrent: () => boolean): WatchListener {
    const whenCurrent =
      <A extends unknown[]>(act: (...told: A) => void) =>
      (...told: A) => {
        if (isCurrent()) act(...told);
      };
    return {
      onState: whenCurrent((state: WatchState) => (this.#state = state)),
      onMarker: whenCurrent((resumed: boolean) => this.#onMarker(resumed)),
      onChange: whenCurrent((change: TaskChange) => this.#tell(change)),
      onSign: whenCurrent(() => (this.#signAtMs = Date.now())),
      onRefresh: whenCurrent(() => this.#onRefresh()),
      onLoginOver: whenCurrent(() => session.end()),
    };
  }

  #tell(change: TaskChange): void {
    for (const viewer of this.#viewers) viewer.onChange(change);
  }

  #onRefresh(): void {
    this.#tellOpened();
    if (document.visibilityState !== 'visible') return;
    for (const viewer of this.#viewers) viewer.onRefresh?.();
  }

  /** A list that waited for the first marker needs no other word; one that did not is told like everybody. */
  #onMarker(resumed: boolean): void {
    const isFirst = !this.#hasOpened;
    this.#hasOpened = true;
    this.#tellOpened();
    if (resumed) return;
    if (!isFirst) void session.refresh();
    for (const viewer of this.#viewers) viewer.onRestart();
  }
}

/** Whoever has to change the password first is shown where, as soon as the page knows. */
function explain(thrown: unknown): WatchFailure {
  if (failureOf(thrown).reason === 'PASSWORD_CHANGE_REQUIRED') void session.refresh();
  return watchFailureOf(thrown);
}

/** The one stream of the page. */
export const live = new Live();
