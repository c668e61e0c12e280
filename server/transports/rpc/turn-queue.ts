/**
 * Begins so many pieces of work in one turn of the event loop, and those that are left in the next ones, in their order. A
 * caller may send hundreds of calls in one piece; begun all at once they would keep everybody else waiting meanwhile.
 */
export class TurnQueue {
  #waiting: (() => void)[] = [];
  #begun = 0;
  #isCounting = false;

  constructor(private readonly perTurn: number) {}

  /** Does the work now, or in one of the next turns. It must not throw. */
  enter(work: () => void): void {
    if (!this.#isCounting) this.#count();
    if (this.#waiting.length > 0 || this.#begun >= this.perTurn) this.#waiting.push(work);
    else this.#begin(work);
  }

  #begin(work: () => void): void {
    this.#begun++;
    work();
  }

  #count(): void {
    this.#isCounting = true;
    setImmediate(() => this.#onNextTurn());
  }

  #onNextTurn(): void {
    this.#begun = 0;
    this.#isCounting = false;
    if (this.#waiting.length === 0) return;
    this.#count();
    for (const work of this.#waiting.splice(0, this.perTurn)) this.#begin(work);
  }
}
