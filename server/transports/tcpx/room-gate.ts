/**
 * Where requests wait for room in a batcher, first come first served among all connections, each until its deadline.
 *
 * One wake-up serves as many as there is room for. Another door may have taken the room meanwhile, or the batcher may
 * be stopping and never have room again; so a wake-up in vain leads to another try a moment later, never at once, and a
 * request that waited too long is refused.
 */
import type { Clock, Timer } from '../../domain/clock.js';

/** Says when a batcher takes more. */
export interface Room {
  readonly hasRoom: boolean;
  /** Resolves when there may be room. */
  whenRoom(): Promise<void>;
}

/** Somebody who waits. Exactly one of the two is called, once. */
export interface RoomWaiter {
  /** There is room now. */
  enter(): void;
  /** There was none for too long. */
  refuse(): void;
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

const RETRY_MS = 10;

export class RoomGate {
  #waiting: { readonly waiter: RoomWaiter; readonly deadlineAtMs: number }[] = [];
  #timer: Timer | undefined;
  #waking = false;

  /** `patienceMs`: how long a request waits before it is refused. */
  constructor(
    private readonly room: Room,
    private readonly clock: Clock,
    private readonly patienceMs: number,
  ) {}

  /** Whether a request may pass without waiting; nobody overtakes those who wait. */
  get isOpen(): boolean {
    return this.#waiting.length === 0 && this.room.hasRoom;
  }

  /** Requests that wait. */
  get size(): number {
    return this.#waiting.length;
  }

  wait(waiter: RoomWaiter): void {
    this.#waiting.push({ waiter, deadlineAtMs: this.clock.monotonicMs() + this.patienceMs });
    this.#arm();
    this.#wakeWhenRoom();
  }

  #wakeWhenRoom(): void {
    if (this.#waking) return;
    this.#waking = true;
    void this.room.whenRoom().then(() => {
      this.#waking = false;
      this.#admit();
    });
  }

  /** Keeps one timer while somebody waits. */
  #arm(): void {
    if (this.#timer) return;
    this.#timer = this.clock.schedule(RETRY_MS, () => {
      this.#timer = undefined;
      this.#admit();
      this.#refuseOverdue();
      if (this.#waiting.length > 0) this.#arm();
    });
  }

  #admit(): void {
    let admitted = 0;
    while (admitted < this.#waiting.length && this.room.hasRoom) this.#waiting[admitted++]?.waiter.enter();
    this.#waiting = this.#waiting.slice(admitted);
    if (admitted > 0 && this.#waiting.length > 0) this.#wakeWhenRoom();
  }

  #refuseOverdue(): void {
    const nowMs = this.clock.monotonicMs();
    const patient = this.#waiting.findIndex((entry) => entry.deadlineAtMs > nowMs);
    for (const { waiter } of this.#waiting.splice(0, patient < 0 ? this.#waiting.length : patient)) waiter.refuse();
  }
}
