/**
 * How a server stops: what has been started is undone, latest first, all of it by one deadline.
 *
 * What is acknowledged is committed, so nothing of it can get lost; the rest goes in the order of what would be missed most:
 *
 *   watches end, nobody is judged any more
 *   → doors answer what was asked; where the database does not answer, with an error; what is left then is cut
 *   → sessions are written down, the node's lease is given up; what the database does not take, others find out by themselves
 *   → connections to the database are closed
 *
 * Beyond the deadline nothing is waited for, but for the embedded database, which has times of its own to end.
 */
import type { Clock } from './domain/clock.js';
import { Deadline } from './domain/deadline.js';

/** A stop takes so long at least, if the database needs it: without a goodbye the others would have to wait for the lease to end. */
const LEAST_MS = 1_000;
/** What the doors leave of the time to those after them, and calls to the doors, so that their answers can be sent. */
const GOODBYE = { part: 0.2, atMostMs: 2_000 };
const LAST_ANSWERS = { part: 0.05, atMostMs: 500 };

/** When a stop that begins now is over. */
export class StopDeadline extends Deadline {
  /** When the doors have cut what is left. */
  readonly doors: Deadline;
  /** When no call waits for the database any more. */
  readonly answers: Deadline;

  constructor(clock: Clock, stopTimeoutMs: number) {
    const wholeMs = Math.max(stopTimeoutMs, LEAST_MS);
    super(clock, wholeMs);
    this.doors = this.earlier(Math.min(GOODBYE.atMostMs, wholeMs - stopTimeoutMs * (1 - GOODBYE.part)));
    this.answers = this.doors.earlier(Math.min(LAST_ANSWERS.atMostMs, stopTimeoutMs * LAST_ANSWERS.part));
  }
}

/** Undoes one thing; what takes longer than the deadline, it leaves as it is. */
type Step = (deadline: StopDeadline) => Promise<unknown> | void;

/** What has been started, and how each of it is undone. */
export class Undo {
  readonly #steps: Step[] = [];
  #running: Promise<void> | undefined;

  add(step: Step): void {
    this.#steps.push(step);
  }

  /** Goes on after a failure, and throws the first one at the end. Idempotent: the first deadline counts. */
  run(deadline: StopDeadline): Promise<void> {
    this.#running ??= this.#runAll(deadline);
    return this.#running;
  }

  async #runAll(deadline: StopDeadline): Promise<void> {
    const failures: unknown[] = [];
    for (const step of this.#steps.reverse()) {
      try {
        await step(deadline);
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
