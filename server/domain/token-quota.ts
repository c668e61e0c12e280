/**
 * How many ids a service token may take. Ids are unique among all groups, so that a token which takes very many takes them
 * from others: each may take so many a minute, and as many at once when it has taken none for a minute. Who goes beyond is
 * refused, and operators are told, once in a while.
 *
 * Whether an id is new is known only after the write, and many may be under way: each takes one before, and gives it back
 * unless the id was new. What is registered again thus counts nothing, and goes on where no new id may be taken.
 */
import { actorOf, ownerOf, type Principal } from './access.js';
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

  /** Whether a caller has a quota. */
  isFor(principal: Principal): boolean {
    return principal.kind === 'token' && this.options.newTasksPerMinute > 0;
  }

  /** Takes a new id for a token, before it is known whether the id is new; false: it has taken too many lately. */
  take(principal: Principal): boolean {
    const { newTasksPerMinute } = this.options;
    if (!this.isFor(principal)) return true;
    const owner = ownerOf(principal);
    const known = this.#buckets.get(owner);
    const bucket = known ? this.#refilled(known) : { left: newTasksPerMinute, atMs: this.clock.monotonicMs() };
    if (bucket.left < 1) return false;
    bucket.left--;
    this.#buckets.delete(owner);
    this.#buckets.set(owner, bucket);
    if (this.#buckets.size > MAX_BUCKETS)
      for (const first of this.#buckets.keys()) if (this.#buckets.delete(first)) break;
    return true;
  }

  /** The id that was taken was not new, or is not taken after all. */
  giveBack(principal: Principal): void {
    const bucket = this.#buckets.get(ownerOf(principal));
    if (bucket) bucket.left++;
  }

  /** A token wanted a new id that it could not take: OVERLOADED. */
  exceeded(principal: Principal): TaskDashError {
    const { newTasksPerMinute, onExceeded } = this.options;
    onExceeded(ownerOf(principal));
    return new TaskDashError('OVERLOADED', {
      message:
        `${actorOf(principal)} has taken ${newTasksPerMinute} new ids within a minute, as many as a token may. ` +
        'Registering again what is there, and updates, go on; operators set TASKDASH_TOKEN_NEW_TASKS.',
      retryAfterMs: Math.ceil(MINUTE_MS / newTasksPerMinute),
    });
  }

  #refilled(bucket: Bucket): Bucket {
    const { newTasksPerMinute } = this.options;
    const nowMs = this.clock.monotonicMs();
    bucket.left = Math.min(newTasksPerMinute, bucket.left + ((nowMs - bucket.atMs) / MINUTE_MS) * newTasksPerMinute);
    bucket.atMs = nowMs;
    return bucket;
  }
}
