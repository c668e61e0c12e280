/**
 * Who has been at an address lately, as this node saw it: the connections that are open there, the last two that left, and
 * how many came within a day. An address with many comers is a network or a proxy, and says nothing about who they are.
 *
 * Bounded: addresses that nobody is at are forgotten after a day, and the longest unvisited first when there are too many.
 */
import type { Clock } from './clock.js';

/** More connections than a service opens in a day, unless something is wrong with it. */
export const MAX_VISITS_A_DAY = 100;

const DAY_MS = 24 * 3_600_000;
const MAX_ADDRESSES = 50_000;

interface Visits {
  open: number;
  /** The last two that left, the latest first. */
  left: readonly Departure[];
  dayBeganMs: number;
  inADay: number;
  /** When something was last told about the address. */
  toldAtMs: number;
}

interface Departure {
  readonly id: string;
  readonly atMs: number;
}

export class AddressVisits {
  /** The address that was visited last is the last. */
  readonly #byAddress = new Map<string, Visits>();

  constructor(
    private readonly clock: Clock,
    private readonly maxAddresses = MAX_ADDRESSES,
  ) {}

  get size(): number {
    return this.#byAddress.size;
  }

  /** A connection is there. True when it is the first one too many of its day. */
  came(address: string): boolean {
    const visits = this.#visit(address);
    visits.open++;
    return ++visits.inADay === MAX_VISITS_A_DAY + 1;
  }

  /** A connection has gone; one that never said anything was no service, and leaves no trace. */
  went(address: string, id: string, hasSpoken: boolean): void {
    const visits = this.#visit(address);
    visits.open = Math.max(0, visits.open - 1);
    if (hasSpoken) visits.left = [{ id, atMs: this.clock.monotonicMs() }, ...visits.left.slice(0, 1)];
  }

  /** How many connections are open there. */
  openAt(address: string): number {
    return this.#byAddress.get(address)?.open ?? 0;
  }

  /** Whether more came within a day than one service would open. */
  isCrowded(address: string): boolean {
    const visits = this.#byAddress.get(address);
    return visits !== undefined && visits.inADay > MAX_VISITS_A_DAY && !this.#isOver(visits);
  }

  /** Whether somebody else than `id` has left within the last `withinMs`. */
  hasLeft(address: string, id: string, withinMs: number): boolean {
    const sinceMs = this.clock.monotonicMs() - withinMs;
    return (this.#byAddress.get(address)?.left ?? []).some(
      (departure) => departure.id !== id && departure.atMs >= sinceMs,
    );
  }

  /** Whether it is time to tell something about the address: true once in `everyMs`. */
  mayTell(address: string, everyMs: number): boolean {
    const visits = this.#visit(address);
    const nowMs = this.clock.monotonicMs();
    if (nowMs - visits.toldAtMs < everyMs) return false;
    visits.toldAtMs = nowMs;
    return true;
  }

  #visit(address: string): Visits {
    const nowMs = this.clock.monotonicMs();
    let visits = this.#byAddress.get(address);
    if (visits) this.#byAddress.delete(address);
    else {
      this.#makeRoom();
      visits = { open: 0, left: [], dayBeganMs: nowMs, inADay: 0, toldAtMs: -Infinity };
    }
    this.#byAddress.set(address, visits);
    if (this.#isOver(visits)) Object.assign(visits, { dayBeganMs: nowMs, inADay: 0 });
    return visits;
  }

  #isOver({ dayBeganMs }: Visits): boolean {
    return this.clock.monotonicMs() - dayBeganMs >= DAY_MS;
  }

  /** Each newcomer has two that are over forgotten, or one when there are too many: the cost of a visit stays constant. */
  #makeRoom(): void {
    let looked = 0;
    for (const [address, visits] of this.#byAddress) {
      const isIdle = visits.open === 0 && this.#isOver(visits);
      if (isIdle || (visits.open === 0 && this.#byAddress.size >= this.maxAddresses)) this.#byAddress.delete(address);
      if (++looked === 2) return;
    }
  }
}
