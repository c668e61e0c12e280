/**
 * One patience for every reader: while the database is away, a read is tried again with back-off until its time is over,
 * whichever door it came through, as writes are. What changes something is not tried again here: whether it was done is not
 * known after a lost answer.
 *
 * Bounded: when too many wait already, a read fails at once.
 */
import { delay, type Clock } from './clock.js';
import { TaskDashError } from './errors.js';

/** Settings of a patience. */
export interface PatienceOptions {
  /** How long a read may take, outages included, in milliseconds. */
  readonly deadlineMs: number;
  /** Reads that may wait for the database to come back. */
  readonly maxWaiting: number;
}

const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 500;

export class Patience {
  #waiting = 0;

  constructor(
    private readonly clock: Clock,
    private readonly options: PatienceOptions,
  ) {}

  /** Reads that wait for the database to come back. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Reads until there is an answer. Throws STORAGE_UNAVAILABLE at the deadline, and what a read throws otherwise. */
  async read<T>(attempt: () => Promise<T>): Promise<T> {
    const deadlineAtMs = this.clock.monotonicMs() + this.options.deadlineMs;
    const late = new AbortController();
    const end = delay(this.clock, this.options.deadlineMs, late.signal).then(() => {
      throw new TaskDashError('STORAGE_UNAVAILABLE', { retryAfterMs: 1000 });
    });
    try {
      return await Promise.race([this.#readUntil(deadlineAtMs, attempt, late.signal), end]);
    } finally {
      end.catch(() => {}); // Nobody waits for it any more.
      late.abort();
    }
  }

  async #readUntil<T>(deadlineAtMs: number, attempt: () => Promise<T>, stop: AbortSignal): Promise<T> {
    for (let retryMs = RETRY_FIRST_MS; ; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      try {
        return await attempt();
      } catch (thrown) {
        const isOver = stop.aborted || this.clock.monotonicMs() + retryMs >= deadlineAtMs;
        const isAway = TaskDashError.from(thrown).code === 'STORAGE_UNAVAILABLE';
        if (!isAway || isOver || this.#waiting >= this.options.maxWaiting) throw thrown;
      }
      this.#waiting++;
      await delay(this.clock, retryMs, stop);
      this.#waiting--;
    }
  }
}

type Reads<S> = { [K in keyof S]: S[K] extends (...args: never[]) => Promise<unknown> ? K : never }[keyof S];

/** The same store, whose methods of these names are patient. Name none that changes anything. */
export function patient<S extends object>(store: S, patience: Patience, reads: readonly Reads<S>[]): S {
  const names = new Set<PropertyKey>(reads);
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      const method = value.bind(target) as (...args: unknown[]) => Promise<unknown>;
      return names.has(name) ? (...args: unknown[]) => patience.read(() => method(...args)) : method;
    },
  });
}
