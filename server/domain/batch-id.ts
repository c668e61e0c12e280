/**
 * Which batch of writes this is, so that one whose answer was lost can be sent again without being written twice.
 *
 * A *lane* writes one batch after the other and numbers them upwards. A store writes a batch only while it has seen
 * neither that number nor a later one of the lane: the second run of a batch finds the first, and a batch that was given
 * up cannot arrive behind its successor.
 */
import { randomBytes } from 'node:crypto';

/** The identity of one batch; the same whenever the same batch is sent again. */
export interface BatchId {
  /** A random positive 63-bit integer, as decimal text. */
  readonly lane: string;
  /** Larger than that of every earlier batch of the lane. */
  readonly number: number;
}

/** Numbers the batches of one writer. */
export class BatchLane {
  readonly #lane = randomLane();
  #last = 0;

  /** The identity of a batch that was not sent before. */
  next(): BatchId {
    return { lane: this.#lane, number: ++this.#last };
  }
}

/** The identity of a batch that nobody will send again. */
export function singleBatch(): BatchId {
  return { lane: randomLane(), number: 1 };
}

function randomLane(): string {
  return String(BigInt.asUintN(63, randomBytes(8).readBigUInt64BE()));
}
