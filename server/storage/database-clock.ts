/**
 * What the database's clock will say at a moment of ours, so that a statement can carry the moment after which it must not
 * write any more: a statement may arrive, or get its locks, long after whoever sent it has given it up.
 *
 * The clock was read between two moments of ours; the later one is taken for the moment of reading, so that the answer is
 * never later than the truth. It is read again now and then, and after a connection was lost, which may have led to another
 * database. Where the database's clock is set back meanwhile, statements may write that much later.
 */
import { systemClock } from '../domain/clock.js';
import type { Postgres, Statement } from './postgres.js';

const READ: Statement = {
  name: 'database_clock',
  text: 'SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms',
};
const READ_EVERY_MS = 10_000;

export class DatabaseClock {
  /** The database's time less our monotonic one, at most, and when it was read. */
  #aheadMs = 0;
  #readAtMs = -Infinity;

  constructor(private readonly postgres: Pick<Postgres, 'rows'>) {}

  /** The moment in `ms` from now, as the database will name it or a little before. Throws what the database throws. */
  async inMs(ms: number): Promise<Date> {
    const nowMs = systemClock.monotonicMs();
    if (nowMs - this.#readAtMs > READ_EVERY_MS) await this.#read();
    return new Date(nowMs + ms + this.#aheadMs);
  }

  /** What was read may not be true any more. */
  forget(): void {
    this.#readAtMs = -Infinity;
  }

  async #read(): Promise<void> {
    const [row] = await this.postgres.rows<{ ms: string }>(READ, []);
    const answeredAtMs = systemClock.monotonicMs();
    this.#aheadMs = Number(row?.ms) - answeredAtMs;
    this.#readAtMs = answeredAtMs;
  }
}
