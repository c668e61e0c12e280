/** Connections whose replies are to leave at the end of this turn of the event loop, so that what was answered together leaves together. */

/** A connection, as the outbox knows it. Must not throw. */
export interface Flushable {
  flush(): void;
}

export class Outbox {
  #waiting = new Set<Flushable>();

  /** Flushes the connection once, after everything that this turn still answers. */
  add(connection: Flushable): void {
    this.#waiting.add(connection);
    if (this.#waiting.size === 1) process.nextTick(() => this.#flush());
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const connection of waiting) connection.flush();
  }
}
