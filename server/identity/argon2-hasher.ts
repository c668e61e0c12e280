/**
 * Passwords as Argon2id hashes (19 MiB, two passes, one lane: the first recommendation of the OWASP password storage
 * cheat sheet), computed off the event loop.
 *
 * Every hash costs memory and a core for some milliseconds: only a few run at once, a bounded number waits, and the rest
 * is refused, so that a flood of logins cannot take the machine.
 */
import { hash, verify } from '@node-rs/argon2';
import { TaskDashError } from '../domain/errors.js';
import type { PasswordHasher } from '../domain/ports.js';

/** The library's number for Argon2id; its enum cannot be imported under isolated modules. */
const ARGON2ID = 2;
const PARAMETERS = { algorithm: ARGON2ID, memoryCost: 19 * 1024, timeCost: 2, parallelism: 1 };
const MAX_RUNNING = 2;
const MAX_WAITING = 64;

export class Argon2Hasher implements PasswordHasher {
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  /** A hash in PHC form. Throws OVERLOADED. */
  hash(password: string): Promise<string> {
    return this.#inTurn(() => hash(password, PARAMETERS));
  }

  /** Whether a password has this hash. Throws OVERLOADED. */
  verify(passwordHash: string, password: string): Promise<boolean> {
    return this.#inTurn(() => verify(passwordHash, password));
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= MAX_RUNNING) {
      if (this.#waiting.length >= MAX_WAITING) throw new TaskDashError('OVERLOADED', { retryAfterMs: 2000 });
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running++;
    }
    try {
      return await work();
    } finally {
      // Whoever waits inherits the place.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    }
  }
}
