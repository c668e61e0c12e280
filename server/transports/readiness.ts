/** Whether this server can serve: its database answers in time, and it does not stop. */
import { delay, type Clock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import type { StorageHealth } from '../domain/ports.js';
import { Kept } from './kept.js';

const DEADLINE_MS = 2_000;
/** What somebody else has thrown may name what is nobody's business. */
const UNKNOWN = 'something is wrong with the database; the log of the server says what';

export class Readiness {
  /** Everybody may ask, and asking must not become load on the database. */
  readonly #latest: Kept<string | undefined>;
  #isStopping = false;

  constructor(
    private readonly health: StorageHealth,
    private readonly clock: Clock,
  ) {
    this.#latest = new Kept(() => this.#look(), clock);
  }

  /**
   * Undefined when ready, else the reason in one line, for everybody's eyes. Never takes longer than two seconds, nor is older than
   * that.
   */
  problem(): Promise<string | undefined> {
    return this.#isStopping ? Promise.resolve('the server is stopping') : this.#latest.get();
  }

  /** From now on the server is not ready, since it stops. */
  stop(): void {
    this.#isStopping = true;
  }

  async #look(): Promise<string | undefined> {
    const done = new AbortController();
    const late = delay(this.clock, DEADLINE_MS, done.signal).then(
      () => `the database did not answer within ${DEADLINE_MS / 1000} s`,
    );
    const checked = this.health.check().then(
      () => undefined,
      (error: unknown) => (error instanceof TaskDashError ? error.message : UNKNOWN),
    );
    try {
      return await Promise.race([checked, late]);
    } finally {
      done.abort();
    }
  }
}
