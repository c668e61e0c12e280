/**
 * The order of requests about one id on one connection. Requests run side by side, so that group commit sees them
 * together, but what one of them does to an id is seen by the next: a find waits for the writes before it, and a write
 * for the finds before it. Writes follow each other at once, since the write batcher keeps their order.
 */

/** How a request touches its id. */
export type Touch = 'read' | 'write';

interface Tail {
  readonly touch: Touch;
  /** Whether the latest request has been handed on. */
  started: boolean;
  readonly done: Promise<unknown>;
}

export class RequestOrder {
  readonly #tails = new Map<string, Tail>();

  /** Runs `start` as soon as the order allows it. Rejects as `start` does. */
  run<T>(id: string, touch: Touch, start: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(id);
    const free = before === undefined || (before.touch === touch && before.started);
    const result = free ? start() : before.done.then(() => begin(tail, start));
    const settled = result.then(ignore, ignore);
    const tail: Tail = { touch, started: free, done: before ? Promise.all([before.done, settled]) : settled };
    this.#tails.set(id, tail);
    void tail.done.then(() => {
      if (this.#tails.get(id) === tail) this.#tails.delete(id);
    });
    return result;
  }
}

function begin<T>(tail: Tail, start: () => Promise<T>): Promise<T> {
  tail.started = true;
  return start();
}

function ignore(): void {
  // The caller has the outcome; the order only needs the end.
}
