/** What is open to everybody over gRPC, health and reflection: in small portions for each. */
import type { HandlerContext } from '@connectrpc/connect';
import type { Clock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import { networkOf } from '../domain/network.js';
import { describeError } from './rpc/errors.js';
import { callerKey } from './rpc/guard.js';
import { MAX_STRANGER_ANSWERS, MAX_STRANGER_STREAMS } from './rpc/limits.js';
import { Shares } from './rpc/shares.js';

export class StrangerPortions {
  readonly #streams = new Shares('open streams of health and reflection');
  readonly #answeredBytes = new Map<string, number>();
  #countedSinceMs = -Infinity;

  constructor(private readonly clock: Clock) {}

  /** Runs a stream while it has a place among those of its connection and its address. Throws OVERLOADED. */
  async *stream<T>({ values }: HandlerContext, work: () => AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    const { connection, address } = values.get(callerKey);
    const network = networkOf(address);
    const { perConnection, perAddress, together } = MAX_STRANGER_STREAMS;
    const giveBack = described(() =>
      this.#streams.take([
        { who: 'This connection', key: `connection ${connection}`, max: perConnection },
        { who: `The address ${network}`, key: `address ${network}`, max: perAddress },
        { who: 'The server', key: 'all', max: together },
      ]),
    );
    try {
      yield* work();
    } finally {
      giveBack();
    }
  }

  /** Counts an answer that is much longer than its question. Throws OVERLOADED where an address had too many. */
  spend({ values }: HandlerContext, bytes: number): void {
    const network = networkOf(values.get(callerKey).address);
    const { maxBytes, withinMs } = MAX_STRANGER_ANSWERS;
    const nowMs = this.clock.monotonicMs();
    if (nowMs - this.#countedSinceMs >= withinMs) {
      this.#answeredBytes.clear();
      this.#countedSinceMs = nowMs;
    }
    const spent = (this.#answeredBytes.get(network) ?? 0) + bytes;
    this.#answeredBytes.set(network, spent);
    if (spent > maxBytes) described(() => refuseMore(network));
  }
}

function refuseMore(network: string): never {
  const { maxBytes, withinMs } = MAX_STRANGER_ANSWERS;
  const seconds = withinMs / 1_000;
  const message = `The address ${network} was told ${maxBytes} bytes of descriptors within ${seconds} s; ask again after that.`;
  throw new TaskDashError('OVERLOADED', { message, retryAfterMs: withinMs });
}

function described<T>(work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw describeError(TaskDashError.from(thrown));
  }
}
