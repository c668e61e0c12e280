/** One end for everything that has to be over together, such as the parts of a stop, which come one after the other. */
import { doneWithin, type Clock } from './clock.js';

export class Deadline {
  /** When it is over, on the monotonic clock. */
  readonly endsAtMs: number;

  constructor(
    private readonly clock: Clock,
    withinMs: number,
  ) {
    this.endsAtMs = clock.monotonicMs() + withinMs;
  }

  /** How much time is left. */
  get leftMs(): number {
    return Math.max(0, this.endsAtMs - this.clock.monotonicMs());
  }

  /** One that leaves so much of the time to others. */
  earlier(byMs: number): Deadline {
    return new Deadline(this.clock, this.leftMs - byMs);
  }

  /** Waits for something, but not beyond the end: whether it was done by then. Throws what it throws by then. */
  async holds(work: Promise<unknown>): Promise<boolean> {
    let isDone = false;
    await doneWithin(
      this.clock,
      this.leftMs,
      work.then(() => (isDone = true)),
    );
    return isDone;
  }
}
