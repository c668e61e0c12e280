/**
 * Passwords as Argon2id hashes (19 MiB, two passes, one lane: the first recommendation of the OWASP password storage
 * cheat sheet), computed off the event loop.
 *
 * Every hash costs memory and a core for some milliseconds: only a few run at once, a bounded number waits for a bounded
 * time in a fair queue (server/domain/fair-queue.ts), and the rest is refused, so that a flood of logins can take neither
 * the machine nor the turn of somebody who logs in from where they always do. At most half of the processors and two of
 * the four threads of Node's pool work on hashes; files and name look-ups need the others.
 */
import { availableParallelism } from 'node:os';
import { hash, verify } from '@node-rs/argon2';
import { systemClock, type Clock } from '../domain/clock.js';
import { FairQueue, type FairQueueLimits, type Party } from '../domain/fair-queue.js';
import type { PasswordHasher } from '../domain/ports.js';

/** The library's number for Argon2id; its enum cannot be imported under isolated modules. */
const ARGON2ID = 2;
const PARAMETERS = { algorithm: ARGON2ID, memoryCost: 19 * 1024, timeCost: 2, parallelism: 1 };
const MAX_RUNNING = 2;

/** Sixty-four hashes take some seconds where one runs at once. */
export const HASHER_LIMITS: FairQueueLimits = {
  running: Math.max(1, Math.min(MAX_RUNNING, Math.floor(availableParallelism() / 2))),
  waiting: 64,
  waitMs: 10_000,
};

/** Operators, and the server itself. */
const THE_HOUSE: Party = { network: '', account: '', isKnown: true };

export class Argon2Hasher implements PasswordHasher {
  readonly #queue: FairQueue;

  constructor(clock: Clock = systemClock, limits: FairQueueLimits = HASHER_LIMITS) {
    this.#queue = new FairQueue(clock, limits);
  }

  /** A hash in PHC form. Throws OVERLOADED. */
  hash(password: string, party: Party = THE_HOUSE): Promise<string> {
    return this.#queue.run(party, () => hash(password, PARAMETERS));
  }

  /** Whether a password has this hash. Throws OVERLOADED. */
  verify(passwordHash: string, password: string, party: Party = THE_HOUSE): Promise<boolean> {
    return this.#queue.run(party, () => verify(passwordHash, password));
  }
}
