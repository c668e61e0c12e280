/**
 * Where writes wait for room: for that of the batcher, and for that of their id. Many writes of one id wait apart, so that
 * they hold up nobody else. First come first served in each place, each until its deadline (room-gate.ts).
 */
import type { Clock } from '../../domain/clock.js';
import { bothRooms, RoomGate, type Room, type RoomWaiter } from './room-gate.js';

/** Says when a batcher takes more, and more of an id. */
export interface WriteRoom extends Room {
  hasRoomFor(id: string): boolean;
  whenRoomFor(id: string): Promise<void>;
}

/** Where requests about an id wait. */
export interface Gate {
  /** Whether a request may pass without waiting. */
  isOpen(id: string): boolean;
  wait(id: string, waiter: RoomWaiter): void;
}

/** A gate that is the same for every id. */
export function gateForAll(gate: RoomGate): Gate {
  return {
    isOpen: () => gate.isOpen,
    wait: (_id, waiter) => gate.wait(waiter),
  };
}

export class WriteGate implements Gate {
  readonly #all: RoomGate;
  /** Gates of ids that somebody waits for. */
  readonly #ids = new Map<string, RoomGate>();

  constructor(
    private readonly room: WriteRoom,
    private readonly clock: Clock,
    private readonly patienceMs: number,
  ) {
    this.#all = new RoomGate(room, clock, patienceMs);
  }

  isOpen(id: string): boolean {
    return this.#all.isOpen && this.#isFree(id);
  }

  wait(id: string, waiter: RoomWaiter): void {
    if (!this.#isFree(id)) return this.#waitForId(id, waiter);
    this.#all.wait({
      // Others of the same id may have come first.
      enter: () => (this.#isFree(id) ? waiter.enter() : this.#waitForId(id, waiter)),
      refuse: () => waiter.refuse(),
    });
  }

  #isFree(id: string): boolean {
    return !this.#ids.has(id) && this.room.hasRoomFor(id);
  }

  #waitForId(id: string, waiter: RoomWaiter): void {
    let gate = this.#ids.get(id);
    if (!gate) {
      const { room } = this;
      const ofId: Room = {
        get hasRoom() {
          return room.hasRoomFor(id);
        },
        whenRoom: () => room.whenRoomFor(id),
      };
      gate = new RoomGate(bothRooms(room, ofId), this.clock, this.patienceMs);
      this.#ids.set(id, gate);
    }
    const leave = (go: () => void) => {
      go();
      // The gate forgets who left it a moment later.
      queueMicrotask(() => {
        if (this.#ids.get(id)?.size === 0) this.#ids.delete(id);
      });
    };
    gate.wait({ enter: () => leave(() => waiter.enter()), refuse: () => leave(() => waiter.refuse()) });
  }
}
