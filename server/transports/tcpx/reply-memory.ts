/**
 * What replies hold together that their clients have not taken yet, and those of finds that are under way, which may each
 * be as large as a record can be. While that is too much no find begins: it waits for room like one that waits for the
 * database, unread behind it whatever its connection sends.
 */
import type { Room } from './room-gate.js';

/** What the reply to a find is taken for until it is known. */
export const LARGE_REPLY_BYTES = 64 * 1024;

export class ReplyMemory implements Room {
  #bytes = 0;
  #waiting: (() => void)[] = [];

  constructor(private readonly maxBytes: number) {}

  /** Bytes held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether another find may begin. */
  get hasRoom(): boolean {
    return this.#bytes < this.maxBytes;
  }

  /** Resolves when there is room. */
  whenRoom(): Promise<void> {
    if (this.hasRoom) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** So many bytes more are held, or fewer. */
  change(byBytes: number): void {
    this.#bytes += byBytes;
    if (this.hasRoom && this.#waiting.length > 0) for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** Room in both of two places. */
export function bothRooms(one: Room, other: Room): Room {
  return {
    get hasRoom() {
      return one.hasRoom && other.hasRoom;
    },
    whenRoom: () => (one.hasRoom ? other : one).whenRoom(),
  };
}
