/**
 * Writes that may be sent now, each the first of its id: most of them in whatever batches they come to, in which actors take turns,
 * and some as they are, because they belong together or nobody is to suffer with them.
 */
import { hasWrites, newAttempt, type Attempt, type Waiting } from './write-attempts.js';
import { ReadyWrites, type BatchBounds } from './ready-writes.js';

/** Of what is sent as it is, so many at once, so that nobody waits long for a turn. */
const WHOLE_IN_A_TURN = 16;

export class WriteLine {
  readonly #ready = new ReadyWrites<Waiting>();
  readonly #whole: Attempt[] = [];

  get isEmpty(): boolean {
    return this.#ready.size === 0 && this.#whole.length === 0;
  }

  add(waiting: Waiting): void {
    this.#ready.add(waiting);
  }

  /** Has writes sent as they are: before others of the kind, or after them. */
  addWhole(attempt: Attempt, place: 'first' | 'last'): void {
    if (place === 'first') this.#whole.unshift(attempt);
    else this.#whole.push(attempt);
  }

  /** Takes what is to be sent next; what has been answered meanwhile comes along. */
  take(bounds: BatchBounds): Attempt[] {
    const batch = newAttempt(this.#ready.take(bounds));
    return [...this.#takeWhole(), batch].filter(hasWrites);
  }

  #takeWhole(): Attempt[] {
    let [count, open] = [0, 0];
    for (; count < this.#whole.length && open < WHOLE_IN_A_TURN; count++)
      if (this.#whole[count]?.batch.some(({ answered }) => !answered)) open++;
    return this.#whole.splice(0, count);
  }
}
