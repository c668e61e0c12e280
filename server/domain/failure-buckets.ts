/**
 * How many wrong guesses a network may make: some at once, and from then on one every while. Bounded: of very many
 * networks the one that guessed longest ago is forgotten, which gives it back what it has not waited for yet.
 */
import type { Clock } from './clock.js';

/** The size of a bucket, how soon a guess comes back, and how many networks are kept. */
export interface BucketOptions {
  readonly size: number;
  readonly refillMs: number;
  readonly networks: number;
}

interface Bucket {
  /** The time after which all guesses are back, counted from `atMs`. */
  readonly restMs: number;
  readonly atMs: number;
}

export class FailureBuckets {
  readonly #buckets = new Map<string, Bucket>();

  constructor(
    private readonly clock: Clock,
    private readonly options: BucketOptions,
  ) {}

  /** How long a network has to wait for its next guess, in milliseconds; 0: it may guess. */
  waitMs(network: string): number {
    const { size, refillMs } = this.options;
    return Math.max(0, this.#restMs(network) - (size - 1) * refillMs);
  }

  /** Notes a wrong guess. */
  spend(network: string): void {
    const { size, refillMs } = this.options;
    const restMs = Math.min(this.#restMs(network) + refillMs, size * refillMs);
    this.#buckets.delete(network);
    this.#buckets.set(network, { restMs, atMs: this.clock.monotonicMs() });
    if (this.#buckets.size <= this.options.networks) return;
    const [oldest] = this.#buckets.keys();
    if (oldest !== undefined) this.#buckets.delete(oldest);
  }

  #restMs(network: string): number {
    const bucket = this.#buckets.get(network);
    if (!bucket) return 0;
    const restMs = bucket.restMs - (this.clock.monotonicMs() - bucket.atMs);
    if (restMs > 0) return restMs;
    this.#buckets.delete(network);
    return 0;
  }
}
