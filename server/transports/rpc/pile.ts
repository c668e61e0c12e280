/**
 * Bytes that arrived and belong together. They are copied, since a chunk is a view of a much larger piece of memory that it
 * would keep, into blocks, since chunks may be of a byte each. Blocks are used again: the collector takes its time with large
 * pieces, and whoever begins messages and ends none would have the memory grow meanwhile.
 */
const BLOCK_BYTES = 65_536;
/** 32 MiB: what a connection may have unfinished. */
const MAX_SPARE_BLOCKS = 512;
const spareBlocks: Buffer[] = [];

export class Pile {
  #blocks: Buffer[] = [];
  /** Where the bytes begin in the first block, and end in the last one. */
  #from = 0;
  #to = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** How much memory it takes. */
  get size(): number {
    const [first] = this.#blocks;
    return first ? first.length + (this.#blocks.length - 1) * BLOCK_BYTES : 0;
  }

  add(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      const block = this.#blockWithRoom(chunk.length - at);
      const end = Math.min(chunk.length, at + block.length - this.#to);
      block.set(chunk.subarray(at, end), this.#to);
      this.#to += end - at;
      at = end;
    }
    this.#length += chunk.length;
  }

  /** Takes the first bytes away, of which there must be so many. */
  take(length: number): Buffer {
    const taken = Buffer.allocUnsafeSlow(length);
    for (let at = 0; at < length;) {
      const [block = taken] = this.#blocks;
      const copied = block.copy(taken, at, this.#from, Math.min(block.length, this.#from + length - at));
      at += copied;
      this.#from += copied;
      if (this.#from === block.length) this.#dropFirst();
    }
    this.#length -= length;
    if (this.#length === 0) this.clear();
    return taken;
  }

  clear(): void {
    while (this.#blocks.length > 0) this.#dropFirst();
    this.#from = this.#to = this.#length = 0;
  }

  /** The last block, while it has room; small amounts have one block that grows. */
  #blockWithRoom(bytes: number): Buffer {
    const last = this.#blocks.at(-1);
    if (last && this.#to < last.length) return last;
    if (last && last.length < BLOCK_BYTES) return this.#grow(last, bytes);
    this.#to = 0;
    const block = last || bytes >= BLOCK_BYTES ? fullBlock() : Buffer.allocUnsafeSlow(bytes);
    this.#blocks.push(block);
    return block;
  }

  #grow(block: Buffer, bytes: number): Buffer {
    const size = Math.min(BLOCK_BYTES, Math.max(2 * block.length, block.length + bytes));
    const larger = size === BLOCK_BYTES ? fullBlock() : Buffer.allocUnsafeSlow(size);
    block.copy(larger);
    this.#blocks = [larger];
    return larger;
  }

  #dropFirst(): void {
    const block = this.#blocks.shift();
    this.#from = 0;
    if (block?.length === BLOCK_BYTES && spareBlocks.length < MAX_SPARE_BLOCKS) spareBlocks.push(block);
  }
}

function fullBlock(): Buffer {
  return spareBlocks.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
}
