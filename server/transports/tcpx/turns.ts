/**
 * How much the door does in one turn of the event loop, of all connections together. Who finds the turn used up goes on in one
 * of the next, in line, and there for a slice at a time while others wait: however many frames come in one piece, or large
 * ones at once, nobody else waits for all of them.
 */
import type { Flushable } from './outbox.js';

/** What a turn has, in bytes that are read and bytes of frames that are taken: some five milliseconds. */
const TURN_BYTES = 1_048_576;
const SLICE_BYTES = TURN_BYTES / 32;
/** What a frame counts at least: it takes as long to answer a small one as to look through so much. */
const FRAME_BYTES = 8_192;

export class Turns {
  readonly #waiting = new Set<Flushable>();
  #leftBytes = TURN_BYTES;
  #isCounting = false;
  /** Who is having its slice, and what is left of the turn at the end of it. */
  #served: Flushable | undefined;
  #sliceEndsAtBytes = 0;

  /** Whether somebody may go on; else it is flushed when it may. */
  admits(who: Flushable): boolean {
    const isIn = this.#leftBytes > 0 && (this.#waiting.size === 0 || this.#isInSlice(who));
    if (!isIn) this.#waiting.add(who);
    return isIn;
  }

  /** So many bytes were read. */
  onRead(bytes: number): void {
    this.#leftBytes -= bytes;
    this.#count();
  }

  /** A frame of so many bytes was taken. */
  onTaken(bytes: number): void {
    this.onRead(Math.max(bytes, FRAME_BYTES));
  }

  #isInSlice(who: Flushable): boolean {
    return who === this.#served && this.#leftBytes > this.#sliceEndsAtBytes;
  }

  #count(): void {
    if (this.#isCounting) return;
    this.#isCounting = true;
    setImmediate(() => this.#onNextTurn());
  }

  #onNextTurn(): void {
    this.#isCounting = false;
    this.#leftBytes = TURN_BYTES;
    for (let next = this.#nextInLine(); next && this.#leftBytes > 0; next = this.#nextInLine()) this.#serve(next);
    if (this.#waiting.size > 0) this.#count();
  }

  #nextInLine(): Flushable | undefined {
    const [next] = this.#waiting;
    return next;
  }

  #serve(who: Flushable): void {
    this.#waiting.delete(who);
    this.#served = who;
    this.#sliceEndsAtBytes = this.#leftBytes - SLICE_BYTES;
    who.flush();
    this.#served = undefined;
  }
}
