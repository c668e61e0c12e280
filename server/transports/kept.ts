/** An answer to a question that everybody may ask: found once at a time, and told again for a while. */
import type { Clock } from '../domain/clock.js';

/** How long an answer is told again. */
const KEPT_MS = 1_000;

export class Kept<T> {
  #latest: Promise<T> | undefined;
  #keptUntilMs = -Infinity;

  constructor(
    private readonly find: () => Promise<T>,
    private readonly clock: Clock,
  ) {}

  /** The answer that is being found, or was found within the last second; else a new one. */
  get(): Promise<T> {
    if (!this.#latest || this.clock.monotonicMs() >= this.#keptUntilMs) this.#latest = this.#found();
    return this.#latest;
  }

  async #found(): Promise<T> {
    this.#keptUntilMs = Infinity;
    const startedMs = this.clock.monotonicMs();
    try {
      return await this.find();
    } finally {
      this.#keptUntilMs = startedMs + KEPT_MS;
    }
  }
}
