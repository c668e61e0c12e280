/** Whoever has sent a sixteenth of what they announced will send the rest. */
const LIKELY_FROM = 16;

/**
 * Bytes that arrived and belong together. They are copied, since a chunk is a view of a much larger piece of memory that
 * it would keep, and into one piece, since chunks may be of a byte each.
 */
export class Pile {
  /** How many bytes it is to have, if anybody said so. */
  announced = 0;
  #bytes = Buffer.alloc(0);
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
    if (this.length === 0) this.clear();
    return taken;
  }

  clear(): void {
    this.#bytes = Buffer.alloc(0);
    this.#from = this.#to = 0;
  }

  #makeRoom(more: number): void {
    const { length } = this;
    const roomy = Buffer.allocUnsafeSlow(this.#sizeFor(length + more));
    this.#bytes.copy(roomy, 0, this.#from, this.#to);
    this.#bytes = roomy;
    this.#from = 0;
    this.#to = length;
  }

  /** Twice as much each time, so that no byte is copied often; all at once where it is announced and likely. */
  #sizeFor(length: number): number {
    const isLikely = length <= this.announced && length * LIKELY_FROM >= this.announced;
    return isLikely ? this.announced : Math.max(length, 2 * this.#bytes.length);
  }
}
