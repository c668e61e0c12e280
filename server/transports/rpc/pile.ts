/** Whoever has sent a sixteenth of what they announced will send the rest. */
const LIKELY_FROM = 16;

/**
 * Bytes that arrived and belong together. They are copied, since a chunk is a view of a much larger piece of memory that
 * it would keep, and into one piece, since chunks may be of a byte each.
 */
export class Pile {
  /** How many bytes it is to have, if anybody said so. */
  announced = 0;
  #bytes: Buffer = Buffer.alloc(0);
  /** Whether somebody has a view of the bytes. */
  #isShared = false;
  #from = 0;
  #to = 0;

  get length(): number {
    return this.#to - this.#from;
  }

  /** How much memory it takes. */
  get size(): number {
    return this.#bytes.length;
  }

  add(chunk: Uint8Array): void {
    if (this.#to + chunk.length > this.#bytes.length) this.#makeRoom(chunk.length);
    this.#bytes.set(chunk, this.#to);
    this.#to += chunk.length;
  }

  /** Takes the first bytes away, of which there must be so many. */
  take(length: number): Buffer {
    const taken = this.#bytes.subarray(this.#from, this.#from + length);
    this.#from += length;
    this.#isShared = true;
    if (this.length === 0) this.clear();
    return taken;
  }

  /** The same for a few, of which a copy is made. */
  takeCopy(length: number): Buffer {
    const taken = Buffer.from(this.#bytes.subarray(this.#from, this.#from + length));
    this.#from += length;
    return taken;
  }

  /** Forgets everything; what nobody has seen is good for others. */
  clear(): void {
    if (!this.#isShared) keepSpare(this.#bytes);
    this.#bytes = Buffer.alloc(0);
    this.#isShared = false;
    this.#from = this.#to = 0;
  }

  #makeRoom(more: number): void {
    const { length } = this;
    const roomy = roomFor(this.#sizeFor(length + more));
    this.#bytes.copy(roomy, 0, this.#from, this.#to);
    if (!this.#isShared) keepSpare(this.#bytes);
    this.#bytes = roomy;
    this.#isShared = false;
    this.#from = 0;
    this.#to = length;
  }

  /** Twice as much each time, so that no byte is copied often; all at once where it is announced and likely. */
  #sizeFor(length: number): number {
    const isLikely = length <= this.announced && length * LIKELY_FROM >= this.announced;
    return isLikely ? this.announced : Math.max(length, 2 * this.#bytes.length);
  }
}

/**
 * Large pieces that were given up: the collector takes its time with them, and whoever begins messages and ends none would
 * have the memory grow meanwhile.
 */
const spares: Buffer[] = [];
const MAX_SPARES = 8;
const LARGE_BYTES = 1_048_576;

function keepSpare(bytes: Buffer): void {
  if (bytes.length >= LARGE_BYTES && spares.length < MAX_SPARES) spares.push(bytes);
}

function roomFor(size: number): Buffer {
  const index = size < LARGE_BYTES ? -1 : spares.findIndex(({ length }) => length >= size && length <= 2 * size);
  return spares.splice(index, index < 0 ? 0 : 1)[0] ?? Buffer.allocUnsafeSlow(size);
}
