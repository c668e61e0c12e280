import type { WatchTime } from '../../web/src/state/watch-loop.js';

/** Time that moves only when told, and a chance that always says "the longest wait". */
export class WebTime implements WatchTime {
  #nowMs = 0;
  readonly #alarms = new Set<{ atMs: number; call: () => void }>();
  /** Every alarm that was ever set, in milliseconds from then. */
  readonly waits: number[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  random(): number {
    return 1;
  }

  after(ms: number, call: () => void): () => void {
    const alarm = { atMs: this.#nowMs + ms, call };
    this.waits.push(ms);
    this.#alarms.add(alarm);
    return () => this.#alarms.delete(alarm);
  }

  /** How many alarms are set. */
  get alarms(): number {
    return this.#alarms.size;
  }

  /** Lets time pass, then everything that waits on promises run. */
  async pass(ms: number): Promise<void> {
    this.#nowMs += ms;
    for (const alarm of [...this.#alarms].filter((due) => due.atMs <= this.#nowMs)) {
      this.#alarms.delete(alarm);
      alarm.call();
    }
    await settle();
  }
}

/** Lets everything that waits on promises run. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
