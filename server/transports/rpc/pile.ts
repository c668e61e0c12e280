/**
 * Bytes that arrived and belong together. They are copied, since a chunk is a view of a much larger piece of memory that
 * it would keep, and into one piece, since chunks may be of a byte each.
 */
export class Pile {
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

  /** Doubles, so that each byte is copied twice at most. */
  #makeRoom(more: number): void {
    const { length } = this;
    const size = length + more;
    const roomy = Buffer.allocUnsafeSlow(length === 0 ? size : Math.max(size, 2 * this.#bytes.length));
    this.#bytes.copy(roomy, 0, this.#from, this.#to);
    this.#bytes = roomy;
    this.#from = 0;
    this.#to = length;
  }
}
