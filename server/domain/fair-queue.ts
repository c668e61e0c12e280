/**
 * Turns at something scarce, such as a core that hashes passwords or the database's time for strangers, handed out so
 * that a crowd waits for itself and not everybody for the crowd.
 *
 * - Two lines: of those who are known, and of strangers. Turns alternate between them while both have somebody, so that
 *   neither waits for more than one turn of the other.
 * - In a line, networks take turns, and within a network accounts: whoever comes alone is next, however many others
 *   somebody else has sent.
 * - A line is bounded. When it is full, the newcomer takes the place of the latest of the largest crowd if that is larger
 *   than their own, and is refused otherwise: at once, like everybody who is refused.
 * - Nobody waits beyond a deadline, and whoever goes leaves the line.
 */
import type { Clock, Timer } from './clock.js';
import { TaskDashError } from './errors.js';

/** On whose behalf a turn is taken. */
export interface Party {
  readonly network: string;
  readonly account: string;
  /** Whether this account is known to come from this network, or has proved who it is. */
  readonly isKnown: boolean;
}

/** How many turns at once, how many may wait in each line, and for how long. */
export interface FairQueueLimits {
  readonly running: number;
  readonly waiting: number;
  readonly waitMs: number;
}

const RETRY_MS = 2_000;

class Waiter {
  #deadline: Timer | undefined;
  readonly #onGone = () => this.leave(() => this.#end(() => this.reject(this.gone?.reason)));

  constructor(
    readonly party: Party,
    private readonly gone: AbortSignal | undefined,
    private readonly resolve: () => void,
    private readonly reject: (reason: unknown) => void,
    /** Does the work if the waiter was still in line. */
    private readonly leave: (work: () => void) => void,
  ) {}

  wait(clock: Clock, waitMs: number): void {
    this.#deadline = clock.schedule(waitMs, () => this.leave(() => this.refuse()));
    this.gone?.addEventListener('abort', this.#onGone, { once: true });
  }

  begin(): void {
    this.#end(this.resolve);
  }

  refuse(): void {
    this.#end(() => this.reject(overloaded()));
  }

  #end(tell: () => void): void {
    this.#deadline?.cancel();
    this.gone?.removeEventListener('abort', this.#onGone);
    tell();
  }
}

/** Waiters by network and account; the maps are in the order of turns. */
class Line {
  readonly #networks = new Map<string, Map<string, Set<Waiter>>>();
  readonly #sizes = new Map<string, number>();
  size = 0;

  add(waiter: Waiter): void {
    const { network, account } = waiter.party;
    const accounts = this.#networks.get(network) ?? new Map<string, Set<Waiter>>();
    const waiters = accounts.get(account) ?? new Set();
    waiters.add(waiter);
    accounts.set(account, waiters);
    this.#networks.set(network, accounts);
    this.#count(network, 1);
  }

  /** Whether the waiter was still in line. */
  remove(waiter: Waiter): boolean {
    const { network, account } = waiter.party;
    const accounts = this.#networks.get(network);
    const waiters = accounts?.get(account);
    if (!accounts || !waiters?.delete(waiter)) return false;
    if (waiters.size === 0) accounts.delete(account);
    if (accounts.size === 0) this.#networks.delete(network);
    this.#count(network, -1);
    return true;
  }

  /** Whose turn it is; their network and account go to the end of the line. */
  next(): Waiter | undefined {
    for (const [network, accounts] of this.#networks) {
      for (const [account, waiters] of accounts) {
        const [waiter] = waiters;
        if (!waiter) continue;
        this.remove(waiter);
        toEnd(accounts, account);
        toEnd(this.#networks, network);
        return waiter;
      }
    }
    return undefined;
  }

  /** The latest of a crowd that is larger than the newcomer's would be with them; undefined where there is none. */
  latestOfLargerCrowd({ network, account }: Party): Waiter | undefined {
    const crowded = largest(this.#sizes);
    const accounts = crowded && this.#networks.get(crowded.key);
    if (!crowded || !accounts) return undefined;
    const isOwn = crowded.key === network;
    if (!isOwn && crowded.size <= (this.#sizes.get(network) ?? 0) + 1) return undefined;
    const sizes = new Map([...accounts].map(([name, { size }]) => [name, size]));
    const busiest = largest(sizes);
    if (!busiest || (isOwn && busiest.size <= (sizes.get(account) ?? 0) + 1)) return undefined;
    return [...(accounts.get(busiest.key) ?? [])].at(-1);
  }

  #count(network: string, change: number): void {
    this.size += change;
    const size = (this.#sizes.get(network) ?? 0) + change;
    if (size > 0) this.#sizes.set(network, size);
    else this.#sizes.delete(network);
  }
}

export class FairQueue {
  #running = 0;
  readonly #known = new Line();
  readonly #strangers = new Line();
  #knownHadLast = false;

  constructor(
    private readonly clock: Clock,
    private readonly limits: FairQueueLimits,
  ) {}

  /** Works when it is the party's turn. Throws OVERLOADED when it does not come, and whatever the work throws. */
  async run<T>(party: Party, work: () => Promise<T>): Promise<T> {
    if (!this.#beginsAtOnce()) await this.#turn(party);
    try {
      return await work();
    } finally {
      this.#passOn();
    }
  }

  /**
   * Resolves when it is the party's turn, with what ends the turn, which must be called once. Throws OVERLOADED when it does
   * not come, and the reason of `gone` when that aborts before.
   */
  async begin(party: Party, gone?: AbortSignal): Promise<() => void> {
    gone?.throwIfAborted();
    if (!this.#beginsAtOnce()) await this.#turn(party, gone);
    return () => this.#passOn();
  }

  #beginsAtOnce(): boolean {
    if (this.#running >= this.limits.running) return false;
    this.#running++;
    return true;
  }

  /** Resolves with a place among those that run. */
  #turn(party: Party, gone?: AbortSignal): Promise<void> {
    const line = party.isKnown ? this.#known : this.#strangers;
    if (line.size >= this.limits.waiting) {
      const giving = line.latestOfLargerCrowd(party);
      if (!giving) return Promise.reject(overloaded());
      line.remove(giving);
      giving.refuse();
    }
    return new Promise((resolve, reject) => {
      const leave = (work: () => void) => void (line.remove(waiter) && work());
      const waiter: Waiter = new Waiter(party, gone, resolve, reject, leave);
      waiter.wait(this.clock, this.limits.waitMs);
      line.add(waiter);
    });
  }

  /** The next one inherits the place. */
  #passOn(): void {
    const lines = this.#knownHadLast ? [this.#strangers, this.#known] : [this.#known, this.#strangers];
    for (const line of lines) {
      const next = line.next();
      if (!next) continue;
      this.#knownHadLast = line === this.#known;
      return next.begin();
    }
    this.#running--;
  }
}

function toEnd<V>(map: Map<string, V>, key: string): void {
  const value = map.get(key);
  if (value === undefined) return;
  map.delete(key);
  map.set(key, value);
}

function largest(sizes: ReadonlyMap<string, number>): { key: string; size: number } | undefined {
  let most: { key: string; size: number } | undefined;
  for (const [key, size] of sizes) if (!most || size > most.size) most = { key, size };
  return most;
}

function overloaded(): TaskDashError {
  return new TaskDashError('OVERLOADED', { retryAfterMs: RETRY_MS });
}
