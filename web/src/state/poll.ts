/**
 * Asks the server the same question again and again, for as long as somebody looks at the page.
 *
 *   stopped ──start──► asking ──answer───► resting ──time is up, or `askNow`──► asking
 *                        └─────failure──► waiting (longer each time) ─────────────┘
 *
 * Asking never takes more than a twentieth of the server's time: a slow answer makes the rest longer. A page that cannot
 * be seen asks nothing (`pollWhileVisible`).
 */
import { Alarms } from './alarms.js';
import { BackOff } from './back-off.js';
import type { WatchTime } from './watch-loop.js';

/** What is asked, and who is told. */
export interface PollDoor<A> {
  ask(signal: AbortSignal): Promise<A>;
  /** Returns for how long the answer is good, in milliseconds. */
  onAnswer(answer: A): number;
  /** Returns how long the server asked to wait, in milliseconds; undefined: it makes no sense to ask again. */
  onFailure(thrown: unknown): number | undefined;
}

export const POLL_TIMES = { share: 1 / 20, firstRetryMs: 2_000, maxRetryMs: 30_000 } as const;

export class Poll<A> {
  #isRunning = false;
  /** When it may be asked again at the earliest; never while there is no answer. */
  #mayAskAtMs = Infinity;
  #asking = new AbortController();
  readonly #alarms: Alarms<'ask'>;
  readonly #backOff: BackOff;

  constructor(
    private readonly door: PollDoor<A>,
    private readonly time: WatchTime,
  ) {
    this.#alarms = new Alarms(time);
    const { firstRetryMs: firstMs, maxRetryMs: maxMs } = POLL_TIMES;
    this.#backOff = new BackOff({ firstMs, maxMs, random: () => time.random() });
  }

  /** Asks at once, and again and again from then on. */
  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#ask();
  }

  /** Asks no more; an answer that is under way is not wanted. */
  stop(): void {
    this.#isRunning = false;
    this.#asking.abort();
    this.#alarms.clearAll();
  }

  /** Asks at once instead of at the planned time. An answer that is under way is dropped: it may be too old. */
  askNow(): void {
    if (this.#isRunning) void this.#ask();
  }

  /** Asks before the planned time: not while an answer is under way or failed, nor sooner than its share of time allows. */
  askSooner(): void {
    if (this.#isRunning && this.time.nowMs() >= this.#mayAskAtMs) void this.#ask();
  }

  async #ask(): Promise<void> {
    this.#alarms.clearAll();
    this.#mayAskAtMs = Infinity;
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const waitMs = await this.#waitAfter(signal);
    if (!signal.aborted && waitMs !== undefined) this.#alarms.set('ask', waitMs, () => void this.#ask());
  }

  /** Asks once; answers how long to wait before the next time. */
  async #waitAfter(signal: AbortSignal): Promise<number | undefined> {
    const startedAtMs = this.time.nowMs();
    try {
      const answer = await this.door.ask(signal);
      if (signal.aborted) return undefined;
      const restMs = (this.time.nowMs() - startedAtMs) / POLL_TIMES.share;
      this.#mayAskAtMs = this.time.nowMs() + restMs;
      this.#backOff.reset();
      return Math.max(this.door.onAnswer(answer), restMs);
    } catch (thrown) {
      if (signal.aborted) return undefined;
      const retryAfterMs = this.door.onFailure(thrown);
      return retryAfterMs === undefined ? undefined : this.#backOff.nextMs(retryAfterMs);
    }
  }
}
