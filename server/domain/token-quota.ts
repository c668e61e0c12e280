/**
 * How many ids a service token may take. Ids are unique among all groups, so that a token which takes very many takes them
 * from others: each may take so many a minute, and as many at once when it has taken none for a minute. What is registered
 * again counts nothing. Who goes beyond is refused, and operators are told, once in a while.
 */
import { ownerOf, type Principal } from './access.js';
import type { Clock } from './clock.js';
import { TaskDashError } from './errors.js';

/** Settings of the quota. */
export interface TokenQuotaOptions {
  /** New ids that a token may take in a minute; 0: any number. */
  readonly newTasksPerMinute: number;
  /** A token went beyond it. */
  readonly onExceeded: (owner: string) => void;
}

interface Bucket {
  left: number;
  atMs: number;
}

const MINUTE_MS = 60_000;
/** Tokens that are kept account of; more of them are as good as new. */
const MAX_BUCKETS = 10_000;

export class TokenQuota {
  /** Those that took something lately; the latest last. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(
    private readonly clock: Clock,
    private readonly options: TokenQuotaOptions,
  ) {}

  /** Throws OVERLOADED for a token that has taken too many ids lately. */
  check(principal: Principal): void {
    const { newTasksPerMinute, onExceeded } = this.options;
    if (principal.kind !== 'token' || newTasksPerMinute === 0) return;
    const owner = ownerOf(principal);
    const bucket = this.#buckets.get(owner);
    if (!bucket || this.#refilled(bucket).left >= 1) return;
    onExceeded(owner);
    throw new TaskDashError('OVERLOADED', {
      message:
        `The token ${JSON.stringify(principal.name)} has taken ${newTasksPerMinute} new ids within a minute, as many as a token may. ` +
        'Registering again what is there, and updates, go on; operators set TASKDASH_TOKEN_NEW_TASKS.',
      retryAfterMs: Math.ceil(MINUTE_MS / newTasksPerMinute),
    });
  }

  /** A token has taken an id that was free. */
  note(principal: Principal): void {
    const { newTasksPerMinute } = this.options;
    if (principal.kind !== 'token' || newTasksPerMinute === 0) return;
    const owner = ownerOf(principal);
    const known = this.#buckets.get(owner);
    const bucket = known ? this.#refilled(known) : { left: newTasksPerMinute, atMs: this.clock.monotonicMs() };
    // Those that are under way when it is used up are taken all the same, and count.
    bucket.left--;
    this.#buckets.delete(owner);
    this.#buckets.set(owner, bucket);
    if (this.#buckets.size <= MAX_BUCKETS) return;
    for (const [first] of this.#buckets) return void this.#buckets.delete(first);
  }

  #refilled(bucket: Bucket): Bucket {
    const { newTasksPerMinute } = this.options;
    const nowMs = this.clock.monotonicMs();
    bucket.left = Math.min(newTasksPerMinute, bucket.left + ((nowMs - bucket.atMs) / MINUTE_MS) * newTasksPerMinute);
    bucket.atMs = nowMs;
    return bucket;
  }
}
