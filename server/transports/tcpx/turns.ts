/**
 * How long the door works in one turn of the event loop, for all connections together. Who finds the turn used up goes on in
 * one of the next, in line, and there for a slice at a time while others wait: however many frames come in one piece, or large
 * ones at once, nobody else waits for all of them.
 */
import type { Clock } from '../../domain/clock.js';
import type { Flushable } from './outbox.js';

/** After how long no further frame is taken in a turn, reading included. */
const TURN_MS = 5;
/** The same for one of those in line, who takes one frame at least. */
const SLICE_MS = TURN_MS / 32;

export class Turns {
  readonly #waiting = new Set<Flushable>();
  #endsAtMs = 0;
  #isCounting = false;
  /** Who is having its slice, and when that is over: counted from its first frame. */
  #served: Flushable | undefined;
  #sliceEndsAtMs: number | undefined;

  constructor(private readonly clock: Pick<Clock, 'monotonicMs'>) {}

  /** Whether somebody may take a frame now; else it is flushed when it may. */
  admits(who: Flushable): boolean {
    const nowMs = this.clock.monotonicMs();
    this.#count(nowMs);
    const isIn = nowMs < this.#endsAtMs && (this.#waiting.size === 0 || this.#isInSlice(who, nowMs));
    if (!isIn) this.#waiting.add(who);
    return isIn;
  }

  #isInSlice(who: Flushable, nowMs: number): boolean {
    if (who !== this.#served) return false;
    this.#sliceEndsAtMs ??= nowMs + SLICE_MS;
    return nowMs < this.#sliceEndsAtMs;
  }

  /** A turn lasts from what is done first in it to the end of this turn of the event loop. */
  #count(nowMs: number): void {
    if (this.#isCounting) return;
    this.#isCounting = true;
    this.#endsAtMs = nowMs + TURN_MS;
    setImmediate(() => this.#onNextTurn());
  }

  #onNextTurn(): void {
    this.#isCounting = false;
    if (this.#waiting.size === 0) return;
    this.#count(this.clock.monotonicMs());
    for (let next = this.#nextInLine(); next && this.clock.monotonicMs() < this.#endsAtMs; next = this.#nextInLine())
      this.#serve(next);
  }

  #nextInLine(): Flushable | undefined {
    const [next] = this.#waiting;
    return next;
  }

  #serve(who: Flushable): void {
    this.#waiting.delete(who);
    this.#served = who;
    this.#sliceEndsAtMs = undefined;
    who.flush();
    this.#served = undefined;
  }
}
