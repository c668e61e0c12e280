/**
 * One patience for every caller: while the database is away, what a call asks of it is tried again with back-off until its time
 * is over, whichever door it came through, as writes are. Whether something was done is not known after a lost answer: so only
 * what reads is tried again here, and what done twice is as good as done once.
 *
 * Bounded: when too many wait already, an attempt that fails is the last.
 */
import { delay, type Clock } from './clock.js';
import type { Deadline } from './deadline.js';
import { TaskDashError } from './errors.js';

/** Settings of a patience. */
export interface PatienceOptions {
  /** How long something may take, outages included, in milliseconds. */
  readonly deadlineMs: number;
  /** How many may wait for the database to come back. */
  readonly maxWaiting: number;
}

const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 500;

export class Patience {
  #waiting = 0;
  /** Nothing is tried beyond. */
  #endsAtMs = Infinity;
  /** Each makes an end of something that is being tried. */
  readonly #trying = new Set<AbortController>();

  constructor(
    private readonly clock: Clock,
    private readonly options: PatienceOptions,
  ) {}

  /** How many wait for the database to come back. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Tries until there is an answer. Throws at the deadline what the last attempt threw, STORAGE_UNAVAILABLE where none has ended;
   * and what an attempt throws that another one does not help.
   */
  async keepTrying<T>(attempt: () => Promise<T>): Promise<T> {
    const nowMs = this.clock.monotonicMs();
    const deadlineAtMs = Math.min(nowMs + this.options.deadlineMs, this.#endsAtMs);
    const late = new AbortController();
    this.#trying.add(late);
    let failure: unknown = new TaskDashError('STORAGE_UNAVAILABLE', { retryAfterMs: 1000 });
    const end = delay(this.clock, Math.max(0, deadlineAtMs - nowMs), late.signal).then(() => {
      throw failure;
    });
    try {
      return await Promise.race([
        this.#tryUntil(deadlineAtMs, attempt, late.signal, (thrown) => (failure = thrown)),
        end,
      ]);
    } finally {
      end.catch(() => {}); // Nobody waits for it any more.
      this.#trying.delete(late);
      late.abort();
    }
  }

  /** Nothing is tried beyond this deadline, whether it has begun already or not. */
  endBy(deadline: Deadline): void {
    this.#endsAtMs = deadline.endsAtMs;
    this.clock.schedule(deadline.leftMs, () => {
      for (const late of this.#trying) late.abort();
    });
  }

  async #tryUntil<T>(
    deadlineAtMs: number,
    attempt: () => Promise<T>,
    stop: AbortSignal,
    onFailed: (thrown: unknown) => void,
  ): Promise<T> {
    for (let retryMs = RETRY_FIRST_MS; ; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      try {
        return await attempt();
      } catch (thrown) {
        const isOver = stop.aborted || this.clock.monotonicMs() + retryMs >= deadlineAtMs;
        if (!isPassing(thrown) || isOver || this.#waiting >= this.options.maxWaiting) throw thrown;
        onFailed(thrown);
      }
      this.#waiting++;
      await delay(this.clock, retryMs, stop);
      this.#waiting--;
    }
  }
}

/** The database is away, or somebody else is at what is asked for. */
function isPassing(thrown: unknown): boolean {
  const { code } = TaskDashError.from(thrown);
  return code === 'STORAGE_UNAVAILABLE' || code === 'STORAGE_LOCKED';
}

/** The methods of a store that answer later. */
export type Asked<S> = { [K in keyof S]: S[K] extends (...args: never[]) => Promise<unknown> ? K : never }[keyof S];

/** The same store, whose methods of these names are patient: such as may be repeated. */
export function patient<S extends object>(store: S, patience: Patience, repeatable: readonly Asked<S>[]): S {
  const names = new Set<PropertyKey>(repeatable);
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      const method = value.bind(target) as (...args: unknown[]) => Promise<unknown>;
      return names.has(name) ? (...args: unknown[]) => patience.keepTrying(() => method(...args)) : method;
    },
  });
}
