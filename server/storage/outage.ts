/**
 * Whether the database can be used, for the log: one line when it fails, by what is wrong with it, and one when that is over. What
 * fails on and on is told ever more seldom, with a count, by the log itself (server/quiet-log.ts).
 *
 *   fine ──a failure──► failing ──an answer, and no failure for some seconds──► fine
 */
import type { Clock, Timer } from '../domain/clock.js';
import type { Log } from '../domain/ports.js';
import { causeInWords } from './causes.js';
import { asUnavailable } from './postgres-errors.js';

/** Answers and failures may alternate while a database comes back. */
const SETTLED_AFTER_MS = 3_000;

export class Outage {
  #since: number | undefined;
  #failures = 0;
  #settling: Timer | undefined;

  constructor(
    private readonly log: Log,
    private readonly clock: Clock,
  ) {}

  failed(error: unknown): void {
    this.#since ??= this.clock.monotonicMs();
    this.#failures++;
    this.#settling?.cancel();
    this.#settling = undefined;
    this.log.warn({ err: asUnavailable(error) }, causeInWords(error));
  }

  answered(): void {
    if (this.#since === undefined || this.#settling) return;
    const lastedMs = Math.round(this.clock.monotonicMs() - this.#since);
    this.#settling = this.clock.schedule(SETTLED_AFTER_MS, () => {
      this.log.info({ lastedMs, failures: this.#failures }, 'the database can be used again');
      this.#since = undefined;
      this.#failures = 0;
      this.#settling = undefined;
    });
  }

  /** Tells nothing more. */
  stop(): void {
    this.#settling?.cancel();
  }
}
