/** Whether this server can serve: its database answers in time. */
import { delay, type Clock } from '../domain/clock.js';
import type { StorageHealth } from '../domain/ports.js';
import { Kept } from './kept.js';

const DEADLINE_MS = 2_000;

export class Readiness {
  /** Everybody may ask, and asking must not become load on the database. */
  readonly #latest: Kept<string | undefined>;

  constructor(
    private readonly health: StorageHealth,
    private readonly clock: Clock,
  ) {
    this.#latest = new Kept(() => this.#look(), clock);
  }

  /** Undefined when ready, else the reason in one line. Never takes longer than two seconds, nor is older than that. */
  problem(): Promise<string | undefined> {
    return this.#latest.get();
  }

  async #look(): Promise<string | undefined> {
    const done = new AbortController();
    const late = delay(this.clock, DEADLINE_MS, done.signal).then(
      () => `the database did not answer within ${DEADLINE_MS / 1000} s`,
    );
    const checked = this.health.check().then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    try {
      return await Promise.race([checked, late]);
    } finally {
      done.abort();
    }
  }
}
