/**
 * Which batch of writes this is, so that one whose answer was lost can be sent again without being written twice.
 *
 * A *lane* numbers its batches. A store writes a batch only while it has not seen that number of the lane: the second run of
 * a batch finds the first. Numbers only tell batches apart. They have no order: a batch may be sent again, by whomever, when its
 * lane has long gone on.
 */
import { randomBytes } from 'node:crypto';

/** The identity of one batch; the same whenever the same batch is sent again. */
export interface BatchId {
  /** A random positive 63-bit integer, as decimal text. */
  readonly lane: string;
  /** No other batch of the lane has it. */
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
