/**
 * Passwords as Argon2id hashes (19 MiB, two passes, one lane: the first recommendation of the OWASP password storage
 * cheat sheet), computed off the event loop.
 *
 * Every hash costs memory and a core for some milliseconds: only a few run at once, a bounded number waits for a bounded
 * time, and the rest is refused, so that a flood of logins cannot take the machine. At most half of the processors and
 * two of the four threads of Node's pool work on hashes; files and name look-ups need the others.
 */
import { availableParallelism } from 'node:os';
import { hash, verify } from '@node-rs/argon2';
import { systemClock, type Clock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import type { PasswordHasher } from '../domain/ports.js';

/** The library's number for Argon2id; its enum cannot be imported under isolated modules. */
const ARGON2ID = 2;
const PARAMETERS = { algorithm: ARGON2ID, memoryCost: 19 * 1024, timeCost: 2, parallelism: 1 };
const MAX_RUNNING = 2;

/** How many hashes at once, how many may wait, and for how long. */
export interface HasherLimits {
  readonly running: number;
  readonly waiting: number;
  readonly waitMs: number;
}

export const HASHER_LIMITS: HasherLimits = {
  running: Math.max(1, Math.min(MAX_RUNNING, Math.floor(availableParallelism() / 2))),
  waiting: 64,
  waitMs: 10_000,
};

export class Argon2Hasher implements PasswordHasher {
  #running = 0;
  /** Who waits, longest first. */
  readonly #waiting = new Set<() => void>();

  constructor(
    private readonly clock: Clock = systemClock,
    private readonly limits: HasherLimits = HASHER_LIMITS,
  ) {}

  /** A hash in PHC form. Throws OVERLOADED. */
  hash(password: string): Promise<string> {
    return this.#inTurn(() => hash(password, PARAMETERS));
  }

  /** Whether a password has this hash. Throws OVERLOADED. */
  verify(passwordHash: string, password: string): Promise<boolean> {
    return this.#inTurn(() => verify(passwordHash, password));
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.limits.running) this.#running++;
    else await this.#turn();
    try {
      return await work();
    } finally {
      this.#passOn();
    }
  }

  /** Resolves with a place among those that run. */
  #turn(): Promise<void> {
    const overloaded = new TaskDashError('OVERLOADED', { retryAfterMs: 2000 });
    if (this.#waiting.size >= this.limits.waiting) return Promise.reject(overloaded);
    return new Promise((resolve, reject) => {
      const begin = () => {
        deadline.cancel();
        resolve();
      };
      const deadline = this.clock.schedule(this.limits.waitMs, () => {
        this.#waiting.delete(begin);
        reject(overloaded);
      });
      this.#waiting.add(begin);
    });
  }

  /** Whoever waits longest inherits the place. */
  #passOn(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
