/** Timers by name: each name has at most one, and all are cleared together. */
import type { WatchTime } from './watch-loop.js';

/** What alarms need of time. */
export type AlarmTime = Pick<WatchTime, 'after'>;

export class Alarms<Name extends string> {
  readonly #set = new Map<Name, () => void>();

  constructor(private readonly time: AlarmTime) {}

  /** Does something after a while. An alarm of that name that is set already stays as it is. */
  set(name: Name, ms: number, act: () => void): void {
    if (this.#set.has(name)) return;
    const takeBack = this.time.after(ms, () => {
      this.#set.delete(name);
      act();
    });
    this.#set.set(name, takeBack);
  }

  clear(name: Name): void {
    this.#set.get(name)?.();
    this.#set.delete(name);
  }

  clearAll(): void {
    for (const name of [...this.#set.keys()]) this.clear(name);
  }
}
