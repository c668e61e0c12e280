/** Callers that wait until there is room for what they bring: for anything, or for something of one id. */
export class RoomWaiters {
  #any: (() => void)[] = [];
  readonly #byId = new Map<string, (() => void)[]>();

  wait(): Promise<void> {
    return new Promise((resolve) => this.#any.push(resolve));
  }

  waitFor(id: string): Promise<void> {
    return new Promise((resolve) => {
      const waiters = this.#byId.get(id);
      if (waiters) waiters.push(resolve);
      else this.#byId.set(id, [resolve]);
    });
  }

  wake(): void {
    // Mostly nobody waits, and this is called for every write.
    if (this.#any.length === 0) return;
    for (const wake of this.#any.splice(0)) wake();
  }

  wakeFor(id: string): void {
    const waiters = this.#byId.get(id);
    if (!waiters) return;
    this.#byId.delete(id);
    for (const wake of waiters) wake();
  }

  wakeAll(): void {
    this.wake();
    for (const id of [...this.#byId.keys()]) this.wakeFor(id);
  }
}
