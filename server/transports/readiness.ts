/** Whether this server can serve: its database answers in time. */
import { delay, type Clock } from '../domain/clock.js';
import type { StorageHealth } from '../domain/ports.js';

const DEADLINE_MS = 2_000;
/** How long an answer may be told again: everybody may ask, and asking must not become load on the database. */
const KEPT_MS = 1_000;

export class Readiness {
  #latest: Promise<string | undefined> = Promise.resolve(undefined);
  #lookedAtMs = -Infinity;

  constructor(
    private readonly health: StorageHealth,
    private readonly clock: Clock,
  ) {}

  /** Undefined when ready, else the reason in one line. Never takes longer than two seconds, nor is older than that. */
  problem(): Promise<string | undefined> {
    const nowMs = this.clock.monotonicMs();
    if (nowMs - this.#lookedAtMs >= KEPT_MS) {
      this.#lookedAtMs = nowMs;
      this.#latest = this.#look();
    }
    return this.#latest;
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
