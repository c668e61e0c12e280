/**
 * Bytes that a server keeps until callers do their part, counted by connection, by address and together. Where they grow
 * beyond what there is room for, the one has to go for which nothing has been done for longest; so does one for which
 * nothing is done for too long. Each kind of bytes has its own count, and its own words.
 */
import type { ConnectError } from '@connectrpc/connect';
import type { Clock, Timer } from '../../domain/clock.js';
import { networkOf } from '../../domain/network.js';

/** Who has to do something: send the rest, or take what is there. */
export interface Peer {
  /** The same for all that goes over one connection, and for nothing else. */
  readonly connection: object | string;
  readonly address: string;
}

/** What is kept for one message. */
export interface Held {
  /** So many bytes are kept for it now. */
  hold(bytes: number): void;
  /** Nobody has to do anything more, and so many bytes are kept until it ends: it counts, but is neither late nor made to go. */
  settle(bytes: number): void;
  /** Something was done for it: its time begins anew. */
  renew(): void;
  /** Nothing is kept for it any more. */
  end(): void;
}

/** How much may be kept, how long, and how it is told whose message has to go. */
export interface HeldBytesOptions {
  readonly max: { readonly connection: number; readonly address: number; readonly together: number };
  readonly maxMs: number;
  readonly tooMuch: (who: string, maxBytes: number) => ConnectError;
  readonly tooLate: () => ConnectError;
}

interface Entry {
  readonly groups: readonly Group[];
  readonly refuse: (error: ConnectError) => void;
  sinceMs: number;
  bytes: number;
}

/** What is kept for one connection, or for one address. */
interface Group {
  readonly key: unknown;
  readonly of: Map<unknown, Group>;
  readonly maxBytes: number;
  readonly words: string;
  /** Those that can be made to go, oldest first. */
  readonly entries: Set<Entry>;
  /** Of these and of those that are settled. */
  count: number;
  bytes: number;
  /** What those are told that have to go: made once, as many may have to at once. */
  refusal: ConnectError | undefined;
}

/** How often late ones are looked for. */
const SWEEP_MS = 1_000;
/** Making room makes a little more of it, so that it is not made anew for every byte. */
const LEFT_WHEN_FULL = 7 / 8;

export class HeldBytes {
  readonly #connections = new Map<unknown, Group>();
  readonly #addresses = new Map<unknown, Group>();
  /** Oldest first. */
  readonly #all = new Set<Entry>();
  readonly #settled = new Set<Entry>();
  #bytes = 0;
  #refusalOfAll: ConnectError | undefined;
  #sweep: Timer | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly options: HeldBytesOptions,
  ) {}

  /** Bytes that are kept now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** For how many messages. */
  get count(): number {
    return this.#all.size;
  }

  /** Something begins to be kept; `refuse` is called at most once, and must let go of it. */
  begin({ connection, address }: Peer, refuse: (error: ConnectError) => void): Held {
    const { max } = this.options;
    const network = networkOf(address);
    const groups = [
      groupOf(this.#connections, connection, max.connection, 'This connection'),
      groupOf(this.#addresses, network, max.address, `The address ${network}`),
    ];
    const entry: Entry = { groups, sinceMs: this.clock.monotonicMs(), refuse, bytes: 0 };
    this.#all.add(entry);
    for (const group of groups) {
      group.entries.add(entry);
      group.count++;
    }
    if (!this.#sweep) this.#sweepSoon();
    return {
      hold: (bytes) => this.#hold(entry, bytes),
      settle: (bytes) => this.#settle(entry, bytes),
      renew: () => this.#renew(entry),
      end: () => this.#remove(entry),
    };
  }

  /** Why nothing more should be begun for somebody, for whom so much is kept that others would have to go. */
  crowded({ connection, address }: Peer): ConnectError | undefined {
    const groups = [this.#connections.get(connection), this.#addresses.get(networkOf(address))];
    const full = groups.find((group) => group && group.bytes > group.maxBytes * LEFT_WHEN_FULL);
    return full && this.#refusalOf(full);
  }

  #hold(entry: Entry, bytes: number): void {
    if (!this.#all.has(entry)) return;
    this.#add(entry, bytes - entry.bytes);
    for (const group of entry.groups) {
      while (group.bytes > group.maxBytes && group.entries.size > 0) this.#refuseOldest(group, this.#refusalOf(group));
    }
    if (this.#bytes > this.options.max.together) this.#makeRoom();
  }

  #settle(entry: Entry, bytes: number): void {
    if (!this.#all.delete(entry)) return;
    this.#settled.add(entry);
    for (const { entries } of entry.groups) entries.delete(entry);
    this.#add(entry, bytes - entry.bytes);
  }

  #renew(entry: Entry): void {
    if (!this.#all.delete(entry)) return;
    entry.sinceMs = this.clock.monotonicMs();
    this.#all.add(entry);
    for (const { entries } of entry.groups) {
      entries.delete(entry);
      entries.add(entry);
    }
  }

  /** Those go who have most, so that nobody takes the room of others. */
  #makeRoom(): void {
    const { together } = this.options.max;
    this.#refusalOfAll ??= this.options.tooMuch('All callers together', together);
    const largestFirst = [...this.#addresses.values()].sort((one, other) => other.bytes - one.bytes);
    for (const group of largestFirst) {
      while (group.entries.size > 0) {
        if (this.#bytes <= together * LEFT_WHEN_FULL) return;
        this.#refuseOldest(group, this.#refusalOfAll);
      }
    }
  }

  #refusalOf(group: Group): ConnectError {
    return (group.refusal ??= this.options.tooMuch(group.words, group.maxBytes));
  }

  #refuseOldest({ entries }: Group, refusal: ConnectError): void {
    const [oldest] = entries;
    if (oldest) this.#refuse(oldest, refusal);
  }

  #refuseLate(): void {
    const nowMs = this.clock.monotonicMs();
    for (const entry of this.#all) {
      if (nowMs - entry.sinceMs < this.options.maxMs) break;
      this.#refuse(entry, this.options.tooLate());
    }
    this.#sweep = undefined;
    if (this.#all.size > 0) this.#sweepSoon();
  }

  /** One timer for all: only when there is something to look at. */
  #sweepSoon(): void {
    this.#sweep = this.clock.schedule(SWEEP_MS, () => this.#refuseLate());
  }

  #refuse(entry: Entry, error: ConnectError): void {
    this.#remove(entry);
    entry.refuse(error);
  }

  #remove(entry: Entry): void {
    if (!this.#all.delete(entry) && !this.#settled.delete(entry)) return;
    this.#add(entry, -entry.bytes);
    for (const group of entry.groups) {
      group.entries.delete(entry);
      if (--group.count === 0) group.of.delete(group.key);
    }
  }

  #add(entry: Entry, bytes: number): void {
    entry.bytes += bytes;
    for (const group of entry.groups) group.bytes += bytes;
    this.#bytes += bytes;
  }
}

function groupOf(of: Map<unknown, Group>, key: unknown, maxBytes: number, words: string): Group {
  const known = of.get(key);
  if (known) return known;
  const group: Group = { key, of, maxBytes, words, entries: new Set(), count: 0, bytes: 0, refusal: undefined };
  of.set(key, group);
  return group;
}

/** So many bytes, and whatever the limits are, some messages of the largest size at once. */
export function roomFor(
  bytes: { readonly connection: number; readonly address: number; readonly together: number },
  maxMessageBytes: number,
): HeldBytesOptions['max'] {
  return {
    connection: Math.max(bytes.connection, 2 * maxMessageBytes),
    address: Math.max(bytes.address, 4 * maxMessageBytes),
    together: Math.max(bytes.together, 8 * maxMessageBytes),
  };
}
