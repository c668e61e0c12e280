/** How the waiting time between attempts grows. */
export interface BackOffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** A number from 0 up to 1; Math.random, but for tests. */
  readonly random: () => number;
}

/** Waiting times that double with every failure, spread by half, so that many browsers do not come back at once. */
export class BackOff {
  #failures = 0;

  constructor(private readonly options: BackOffOptions) {}

  /** The next waiting time in milliseconds; never shorter than what the server asked for. */
  nextMs(atLeastMs = 0): number {
    const ceilingMs = Math.min(this.options.maxMs, this.options.firstMs * 2 ** this.#failures);
    this.#failures += 1;
    const spreadMs = ceilingMs * (0.5 + this.options.random() / 2);
    return Math.round(Math.max(atLeastMs, spreadMs));
  }

  /** The next failure counts as the first. */
  reset(): void {
    this.#failures = 0;
  }
}
