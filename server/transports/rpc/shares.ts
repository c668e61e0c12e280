/** Streams that stay open, counted by whom they are for: nobody gets more than a share, so that others have theirs. */
import { TaskDashError } from '../../domain/errors.js';

/** Whose streams are counted together, and how many there may be. */
export interface Share {
  /** Who it is, as a sentence begins with it: "This connection", "The address 10.0.0.1". */
  readonly who: string;
  readonly key: string;
  readonly max: number;
}

/** When trying again makes sense: people and programs end streams by the second. */
const RETRY_AFTER_MS = 5_000;

export class Shares {
  readonly #open = new Map<string, number>();

  /** `what`: what is counted, in the plural. */
  constructor(private readonly what: string) {}

  /** Takes a place in each share; returns how to give them back, once. Throws OVERLOADED where a share is used up. */
  take(shares: readonly Share[]): () => void {
    const full = shares.find(({ key, max }) => (this.#open.get(key) ?? 0) >= max);
    if (full) throw this.#usedUp(full);
    for (const { key } of shares) this.#add(key, 1);
    return () => {
      for (const { key } of shares) this.#add(key, -1);
    };
  }

  #add(key: string, change: 1 | -1): void {
    const open = (this.#open.get(key) ?? 0) + change;
    if (open === 0) this.#open.delete(key);
    else this.#open.set(key, open);
  }

  #usedUp({ who, max }: Share): TaskDashError {
    const message = `${who} has ${max} ${this.what}, as many as it may; end some first.`;
    return new TaskDashError('OVERLOADED', { message, retryAfterMs: RETRY_AFTER_MS });
  }
}
