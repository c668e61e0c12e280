/**
 * Keeps one stream of changes open for as long as somebody looks.
 *
 *   connecting ──marker──► live ──lost──► waiting ──time is up, or `retryNow`──► connecting
 *        └───────────────refused───────────┘
 *   connecting ──nothing for `firstSignMs`──► held ──first message of a later stream──► live
 *
 * - Lost means: the stream failed, ended, or said nothing for `silenceMs` (the server says something every 15 s or so).
 * - Every message carries a resume token; the next stream continues after the last message that was handled, so nothing
 *   is missed and nothing is told twice.
 * - A token that the server no longer accepts, or access that changed, is dropped: the next stream begins anew, and its
 *   marker says that what was listed before may no longer be complete.
 * - Waiting times double up to `maxWaitMs`, are spread, and start small again only after a stream has lasted a while:
 *   a server that accepts and closes at once is not stormed.
 * - Held means: something between here and the server takes the stream, and passes nothing on before its end. Then the
 *   listener is told every `refreshMs` to ask for itself, while the stream is tried again now and then. Its place in the
 *   stream is dropped: what is asked for meanwhile would be told a second time.
 * - When the login is over the loop ends; it ends for good with `stop`.
 *
 * Time, chance and the stream itself are given, so that all of this is tested without a browser.
 */
import type { TaskChange, WatchTasksResponse } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { BackOff } from './back-off.js';

/** Where the loop stands; `stopped` is final. */
export type WatchState = 'connecting' | 'live' | 'waiting' | 'held' | 'stopped';

/** Why a stream ended, as far as the loop needs to know. */
export interface WatchFailure {
  readonly kind: 'login-over' | 'token-refused' | 'lost';
  /** How long the server asked to wait, in milliseconds. */
  readonly retryAfterMs: number;
}

/** What the loop needs from outside. */
export interface WatchDoor {
  /** Opens a stream; it ends with an error when the signal aborts. */
  open(resumeToken: string, signal: AbortSignal): AsyncIterable<WatchTasksResponse>;
  /** Reads any error that a stream ended with. */
  explain(error: unknown): WatchFailure;
}

/** What the loop tells. */
export interface WatchListener {
  onState(state: WatchState): void;
  /** The stream is open. Not resumed: what was listed before may be incomplete, list again. */
  onMarker(resumed: boolean): void;
  onChange(change: TaskChange): void;
  /** Any message arrived: what is shown is true as of now. */
  onSign(): void;
  /** The stream is held: whoever shows something is to ask for it again. */
  onRefresh(): void;
  onLoginOver(): void;
}

/** Timers and chance; the browser's, or a test's. */
export interface WatchTime {
  nowMs(): number;
  /** Calls back once after a while; returns how to take that back. */
  after(ms: number, call: () => void): () => void;
  random(): number;
}

export const WATCH_TIMES = {
  silenceMs: 40_000,
  firstWaitMs: 500,
  maxWaitMs: 30_000,
  steadyMs: 5_000,
  /** The server says something at once; what is silent for so long at the beginning is held. */
  firstSignMs: 5_000,
  refreshMs: 5_000,
  firstHeldWaitMs: 15_000,
  maxHeldWaitMs: 60_000,
} as const;

const LOST: WatchFailure = { kind: 'lost', retryAfterMs: 0 };

export class WatchLoop {
  readonly #backOff: BackOff;
  readonly #heldBackOff: BackOff;
  #resumeToken = '';
  #stopped = false;
  #abort = new AbortController();
  #endWait: (() => void) | undefined;
  #openedAtMs: number | undefined;
  #refusals = 0;
  #isHeld = false;
  #takeBackRefresh: (() => void) | undefined;

  constructor(
    private readonly door: WatchDoor,
    private readonly listener: WatchListener,
    private readonly time: WatchTime,
    private readonly times: Readonly<Record<keyof typeof WATCH_TIMES, number>> = WATCH_TIMES,
  ) {
    const random = () => time.random();
    this.#backOff = new BackOff({ firstMs: times.firstWaitMs, maxMs: times.maxWaitMs, random });
    this.#heldBackOff = new BackOff({ firstMs: times.firstHeldWaitMs, maxMs: times.maxHeldWaitMs, random });
  }

  /** Runs until `stop`, or until the login is over. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      this.#tell('connecting');
      const failure = await this.#followOne();
      if (this.#stopped) break;
      if (failure !== 'held' && failure.kind === 'login-over') {
        this.#stopped = true;
        this.listener.onLoginOver();
        break;
      }
      await this.#wait(this.#waitAfterMs(failure));
    }
    this.#letGo();
    this.listener.onState('stopped');
  }

  /** Ends the loop and its stream; idempotent. */
  stop(): void {
    this.#stopped = true;
    this.#abort.abort();
    this.#endWait?.();
  }

  /** Ends a waiting time early: the network is back, or somebody looks again. */
  retryNow(): void {
    this.#endWait?.();
  }

  /** While the stream is held, that is what there is to know, whatever the attempts to open another one are at. */
  #tell(state: 'connecting' | 'waiting'): void {
    this.listener.onState(this.#isHeld ? 'held' : state);
  }

  /** A server that refuses a token is well: the first time, the next stream begins at once. */
  #waitAfterMs(failure: WatchFailure | 'held'): number {
    if (failure === 'held') return this.#heldBackOff.nextMs();
    if (failure.kind !== 'token-refused') return this.#backOff.nextMs(failure.retryAfterMs);
    this.#resumeToken = '';
    this.#refusals += 1;
    return this.#refusals === 1 ? 0 : this.#backOff.nextMs(failure.retryAfterMs);
  }

  /** One stream from its opening to its end; answers why it ended. */
  async #followOne(): Promise<WatchFailure | 'held'> {
    this.#abort = new AbortController();
    this.#openedAtMs = undefined;
    const { signal } = this.#abort;
    let hasSpoken = false;
    let takeBack = this.#abortAfter(this.times.firstSignMs, () => this.#hold());
    try {
      for await (const message of this.door.open(this.#resumeToken, signal)) {
        hasSpoken = true;
        takeBack();
        if (this.#stopped) break;
        takeBack = this.#abortAfter(this.times.silenceMs);
        this.#handle(message);
      }
      return LOST;
    } catch (error) {
      return signal.aborted && !hasSpoken ? 'held' : this.door.explain(error);
    } finally {
      takeBack();
      this.#abort.abort();
      this.#forgiveIfSteady();
    }
  }

  #forgiveIfSteady(): void {
    if (this.#openedAtMs === undefined || this.time.nowMs() - this.#openedAtMs < this.times.steadyMs) return;
    this.#backOff.reset();
    this.#heldBackOff.reset();
    this.#refusals = 0;
  }

  #abortAfter(ms: number, tell = () => {}): () => void {
    const abort = this.#abort;
    return this.time.after(ms, () => {
      tell();
      abort.abort();
    });
  }

  #hold(): void {
    this.#resumeToken = '';
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.listener.onState('held');
    this.#refresh();
  }

  #refresh(): void {
    this.listener.onRefresh();
    this.#takeBackRefresh = this.time.after(this.times.refreshMs, () => this.#refresh());
  }

  #letGo(): void {
    this.#isHeld = false;
    this.#takeBackRefresh?.();
  }

  #handle(message: WatchTasksResponse): void {
    this.#letGo();
    const { message: told } = message;
    if (told.case === 'snapshot') {
      this.#openedAtMs = this.time.nowMs();
      this.listener.onMarker(told.value.resumed);
      this.listener.onState('live');
    }
    if (told.case === 'change') this.listener.onChange(told.value);
    this.#resumeToken = message.resumeToken;
    this.listener.onSign();
  }

  #wait(ms: number): Promise<void> {
    this.#tell('waiting');
    return new Promise((resolve) => {
      const takeBack = this.time.after(ms, () => this.#endWait?.());
      this.#endWait = () => {
        takeBack();
        this.#endWait = undefined;
        resolve();
      };
      if (this.#stopped) this.#endWait();
    });
  }
}
