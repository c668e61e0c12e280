/**
 * Time that stands still while this process does: the clock on which sessions are judged.
 *
 * A stopped process, a blocked event loop and a suspended machine look alike from inside: the tick that was due comes
 * late. Patient time therefore never runs further than one step and a little slack beyond the last tick. What the
 * machine's clock did beyond that is cut out, for every deadline at once, and signs of life that are read right after
 * the pause, before the late tick, are noted on the same shortened time.
 *
 * Lateness within the slack is not a pause: an event loop that is merely busy must not make time run slowly.
 */
import type { Clock } from './clock.js';

export class PatientTime {
  #cutOutMs = 0;
  #horizonMs: number;

  /** `stepMs`: how often `tick` is called; `slackMs`: how late it may come without being a pause. */
  constructor(
    private readonly clock: Clock,
    private readonly stepMs: number,
    private readonly slackMs: number,
  ) {
    this.#horizonMs = clock.monotonicMs() + stepMs + slackMs;
  }

  /** Milliseconds since the clock's start, without our own pauses; never goes back. */
  nowMs(): number {
    return Math.min(this.clock.monotonicMs() - this.#cutOutMs, this.#horizonMs);
  }

  /** Lets time run on for a step; returns how many milliseconds of a pause it cut out. */
  tick(): number {
    const rawMs = this.clock.monotonicMs() - this.#cutOutMs;
    const pausedMs = Math.max(0, rawMs - this.#horizonMs);
    this.#cutOutMs += pausedMs;
    this.#horizonMs = rawMs - pausedMs + this.stepMs + this.slackMs;
    return pausedMs;
  }
}
