/**
 * Whether the caller of an open stream may still have it.
 *
 * It is looked up every `everyMs`, also while nothing is sent and while the caller takes nothing. What is told to the caller
 * waits for a look-up that is younger than that, so that nothing is told on one that has become old. A look-up that cannot be
 * made, because the database is away, refuses nobody: what there is to tell waits for it.
 */
import type { Clock, Timer } from './clock.js';
import { TaskDashError } from './errors.js';

export class Standing {
  readonly #refused = new AbortController();
  /** When the last look-up began that found the caller in good standing. */
  #confirmedAtMs: number;
  #isLooking = false;
  #timer: Timer | undefined;
  #isClosed = false;
  readonly #waiting = new Set<() => void>();

  /** Counts from now, when the caller has just been looked up. `lookUp` throws the refusal. */
  constructor(
    private readonly lookUp: () => Promise<void>,
    private readonly clock: Clock,
    private readonly everyMs: number,
  ) {
    this.#confirmedAtMs = clock.monotonicMs();
    this.#arm(everyMs);
  }

  /** Aborts when the caller may not have the stream any more, with the refusal as its reason. */
  get signal(): AbortSignal {
    return this.#refused.signal;
  }

  /** Resolves when the caller is known to be in good standing, or the stream is over; rejects with the refusal. */
  async confirmed(): Promise<void> {
    if (!this.#isFresh()) await this.#nextLook();
    this.signal.throwIfAborted();
  }

  /** Looks no more; idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#wakeAll();
  }

  #isFresh(): boolean {
    return this.#isClosed || this.clock.monotonicMs() - this.#confirmedAtMs < this.everyMs;
  }

  /** After a standstill of the process the timer may be late: then it is not waited for. */
  #nextLook(): Promise<void> {
    if (this.signal.aborted) return Promise.resolve();
    const looked = new Promise<void>((resolve) => this.#waiting.add(resolve));
    if (!this.#isLooking) void this.#look();
    return looked;
  }

  #arm(delayMs: number): void {
    if (this.#isClosed || this.signal.aborted) return;
    this.#timer = this.clock.schedule(Math.max(0, delayMs), () => void this.#look());
  }

  async #look(): Promise<void> {
    this.#timer?.cancel();
    this.#isLooking = true;
    const sinceMs = this.clock.monotonicMs();
    try {
      await this.lookUp();
      this.#confirmedAtMs = sinceMs;
      this.#wakeAll();
    } catch (thrown) {
      if (!isUnknown(thrown)) this.#refuse(thrown);
    }
    this.#isLooking = false;
    this.#arm(sinceMs + this.everyMs - this.clock.monotonicMs());
  }

  #refuse(thrown: unknown): void {
    this.#refused.abort(thrown);
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

/** Whether a failed look-up says nothing about the caller. */
function isUnknown(thrown: unknown): boolean {
  const { code } = TaskDashError.from(thrown);
  return code === 'STORAGE_UNAVAILABLE' || code === 'OVERLOADED';
}
