/** Streams that end when their caller may not have them any more. */
import type { HandlerContext } from '@connectrpc/connect';
import type { Clock, Timer } from '../../domain/clock.js';
import type { Log } from '../../domain/ports.js';
import { Standing } from '../../domain/standing.js';
import { toConnectError } from './errors.js';
import { hangUpKey } from './guard.js';

/** How long a refused caller has to take what has been sent, and then the refusal. */
const HANG_UP_MS = 500;

export class AllowedStreams {
  constructor(
    private readonly clock: Clock,
    private readonly everyMs: number,
    private readonly log: Log,
  ) {}

  /**
   * A stream that ends with what `lookUp` throws, soon after it does: `signal` aborts then, and a caller who takes nothing is
   * hung up on.
   */
  async *run<T>(
    context: HandlerContext,
    lookUp: () => Promise<void>,
    work: (standing: Standing, signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    const standing = new Standing(lookUp, this.clock, this.everyMs);
    let hangingUp: Timer | undefined;
    const onRefused = () => (hangingUp = this.clock.schedule(HANG_UP_MS, () => this.#hangUp(context, standing)));
    standing.signal.addEventListener('abort', onRefused, { once: true });
    try {
      yield* work(standing, AbortSignal.any([context.signal, standing.signal]));
      standing.signal.throwIfAborted();
    } finally {
      standing.close();
      standing.signal.removeEventListener('abort', onRefused);
      hangingUp?.cancel();
    }
  }

  #hangUp(context: HandlerContext, standing: Standing): void {
    context.values.get(hangUpKey)(toConnectError(standing.signal.reason, this.log, context.method.name));
  }
}

/** What a caller sends, as it comes; ends when the signal aborts, also while nothing comes. */
export async function* until<T>(signal: AbortSignal, sent: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  const iterator = sent[Symbol.asyncIterator]();
  let interrupt: () => void = () => {};
  signal.addEventListener('abort', () => interrupt(), { once: true });
  while (!signal.aborted) {
    const next = await new Promise<IteratorResult<T, unknown>>((resolve, reject) => {
      interrupt = () => resolve({ done: true, value: undefined });
      iterator.next().then(resolve, reject);
    });
    if (next.done === true) return;
    yield next.value;
  }
}
