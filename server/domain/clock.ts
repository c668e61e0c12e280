/**
 * Time as a port: the only file of the domain that reads the system clock or sets a timer.
 *
 * `now` is the wall clock and only ever shown or stored; every deadline counts on `monotonicMs`, which no clock
 * adjustment moves.
 */
export interface Clock {
  /** The wall clock. */
  now(): Date;
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonicMs(): number;
  /** Calls `callback` once, at least `delayMs` from now. Does not keep the process alive by itself. */
  schedule(delayMs: number, callback: () => void): Timer;
}

/** A scheduled call. */
export interface Timer {
  /** Forgets the call; harmless after it happened. */
  cancel(): void;
}

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  schedule(delayMs, callback) {
    const handle = setTimeout(callback, delayMs);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Resolves in the next turn of the event loop, when others have had theirs. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Resolves after `delayMs`, or at once when the signal aborts. */
export function delay(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      timer.cancel();
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const timer = clock.schedule(delayMs, finish);
    signal?.addEventListener('abort', finish, { once: true });
  });
}

/** Resolves when something is done, or after `withinMs`; throws what that throws by then. */
export async function doneWithin(clock: Clock, withinMs: number, done: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([done, delay(clock, withinMs, over.signal)]);
  } finally {
    over.abort();
  }
}
