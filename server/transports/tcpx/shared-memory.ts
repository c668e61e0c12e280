/**
 * What the connections of the door hold together of one kind, against its bound. Each connection has a small share, which it
 * may always use, so that the small pay nothing for the large; what is left beside all shares is for those that need more,
 * first come first served. Whoever has to wait for it stands in line.
 */
import type { Room } from './room-gate.js';

/** Who stands in line. Must not throw. */
export interface MemoryWaiter {
  /** It may be its turn: it asks again, or leaves. */
  wake(): void;
}

/**
 * At most, and less where there may be very many connections: a share has room for an ordinary record, some three hundred
 * bytes.
 */
const SHARE_BYTES = 1_024;

export class SharedMemory implements Room {
  readonly #shareBytes: number;
  /** For what connections hold beyond their shares. */
  readonly #maxBeyondBytes: number;
  readonly #line = new Set<MemoryWaiter>();
  #bytes = 0;
  #beyondBytes = 0;
  #waiting: (() => void)[] = [];

  constructor(maxBytes: number, maxConnections: number) {
    this.#shareBytes = Math.min(SHARE_BYTES, maxBytes / 2 / maxConnections);
    this.#maxBeyondBytes = maxBytes - this.#shareBytes * maxConnections;
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether anybody may hold more than a share. */
  get hasRoom(): boolean {
    return this.#beyondBytes < this.#maxBeyondBytes;
  }

  /** Resolves when there is room. */
  whenRoom(): Promise<void> {
    if (this.hasRoom) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Whether somebody may hold so many bytes. */
  fits(bytes: number): boolean {
    return bytes <= this.#shareBytes || this.hasRoom;
  }

  /** The same for somebody who else stands in line, and is woken when its turn comes. */
  admits(who: MemoryWaiter, bytes: number): boolean {
    const [first = who] = this.#line;
    const isIn = bytes <= this.#shareBytes || (this.hasRoom && first === who);
    if (isIn) this.leave(who);
    else this.#line.add(who);
    return isIn;
  }

  /** Stands in line no longer; harmless for who does not. */
  leave(who: MemoryWaiter): void {
    if (this.#line.delete(who)) this.#wake();
  }

  /** For holdings: one of them is `toBytes` instead of `fromBytes` now. */
  move(fromBytes: number, toBytes: number): void {
    this.#bytes += toBytes - fromBytes;
    this.#beyondBytes += this.#beyond(toBytes) - this.#beyond(fromBytes);
    if (toBytes < fromBytes) this.#wake();
  }

  #beyond(bytes: number): number {
    return Math.max(0, bytes - this.#shareBytes);
  }

  #wake(): void {
    if (!this.hasRoom) return;
    const [first] = this.#line;
    first?.wake();
    if (this.#waiting.length > 0) for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** What one connection, or one piece of work, holds. */
export class Holding {
  #bytes = 0;

  constructor(private readonly memory: SharedMemory) {}

  get bytes(): number {
    return this.#bytes;
  }

  set bytes(bytes: number) {
    this.memory.move(this.#bytes, bytes);
    this.#bytes = bytes;
  }
}
