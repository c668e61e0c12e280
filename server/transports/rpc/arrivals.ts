/**
 * What is arriving and not whole yet, of all callers together: each message has its limit, but a caller may begin many and
 * end none. Where those of one connection, of one address, or of all grow beyond what there is room for, the oldest one has
 * to go, since whoever means it sends what they began. So does one that takes too long. The HTTP door bounds in the same way
 * what is leaving and not taken yet.
 */
import { Code, ConnectError } from '@connectrpc/connect';
import type { Clock, Timer } from '../../domain/clock.js';
import { TaskDashError } from '../../domain/errors.js';
import { networkOf } from '../../domain/network.js';
import { describeError } from './errors.js';
import { MAX_ARRIVING, MAX_ARRIVING_MS, type RpcLimits } from './limits.js';

/** Who is sending. */
export interface Sender {
  /** The same object for all that comes over one connection. */
  readonly connection: object;
  readonly address: string;
}

/** One message, or the wait for one. */
export interface Arrival {
  /** So many bytes are kept for it now. */
  hold(bytes: number): void;
  /** It is whole, and so many bytes are kept until it ends: it counts, but is neither late any more nor made to go. */
  settle(bytes: number): void;
  /** Nothing is kept for it, or nobody waits for it any more. */
  end(): void;
}

interface Entry {
  readonly groups: readonly Group[];
  readonly sinceMs: number;
  readonly refuse: (error: ConnectError) => void;
  bytes: number;
}

/** What is arriving over one connection, or from one address. */
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
}

/** How often late ones are looked for. */
const SWEEP_MS = 1_000;
/** Making room makes a little more of it, so that it is not made anew for every byte. */
const LEFT_WHEN_FULL = 7 / 8;

export class Arrivals {
  readonly #connections = new Map<unknown, Group>();
  readonly #addresses = new Map<unknown, Group>();
  /** Oldest first. */
  readonly #all = new Set<Entry>();
  readonly #settled = new Set<Entry>();
  readonly #max: { readonly connection: number; readonly address: number; readonly together: number };
  #bytes = 0;
  #sweep: Timer | undefined;

  constructor(
    private readonly clock: Clock,
    { maxMessageBytes }: RpcLimits,
  ) {
    // Whatever the limits: a connection may be sending some messages of the largest size at once.
    const atLeast = (bytes: number, messages: number) => Math.max(bytes, messages * maxMessageBytes);
    this.#max = {
      connection: atLeast(MAX_ARRIVING.connection, 2),
      address: atLeast(MAX_ARRIVING.address, 4),
      together: atLeast(MAX_ARRIVING.together, 8),
    };
  }

  /** Bytes that are kept now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How much is arriving now. */
  get count(): number {
    return this.#all.size;
  }

  /** Something begins to arrive; `refuse` is called at most once, and must let go of what is kept. */
  begin({ connection, address }: Sender, refuse: (error: ConnectError) => void): Arrival {
    const network = networkOf(address);
    const groups = [
      groupOf(this.#connections, connection, this.#max.connection, 'This connection'),
      groupOf(this.#addresses, network, this.#max.address, `The address ${network}`),
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
      end: () => this.#remove(entry),
    };
  }

  #hold(entry: Entry, bytes: number): void {
    if (!this.#all.has(entry)) return;
    this.#add(entry, bytes - entry.bytes);
    for (const group of entry.groups) {
      while (group.bytes > group.maxBytes && group.entries.size > 0)
        this.#refuseOldest(group, group.words, group.maxBytes);
    }
    if (this.#bytes > this.#max.together) this.#makeRoom();
  }

  #settle(entry: Entry, bytes: number): void {
    if (!this.#all.delete(entry)) return;
    this.#settled.add(entry);
    for (const { entries } of entry.groups) entries.delete(entry);
    this.#add(entry, bytes - entry.bytes);
  }

  /** Those go who have most, so that nobody takes the room of others. */
  #makeRoom(): void {
    const { together } = this.#max;
    const largestFirst = [...this.#addresses.values()].sort((one, other) => other.bytes - one.bytes);
    for (const group of largestFirst) {
      while (group.entries.size > 0) {
        if (this.#bytes <= together * LEFT_WHEN_FULL) return;
        this.#refuseOldest(group, 'All callers together', together);
      }
    }
  }

  #refuseOldest({ entries }: Group, who: string, maxBytes: number): void {
    const [oldest] = entries;
    if (!oldest) return;
    const message =
      `${who} had more than ${maxBytes} bytes of unfinished messages, and this one was the oldest: ` +
      'send fewer at once, and each to its end.';
    this.#refuse(oldest, describeError(new TaskDashError('OVERLOADED', { message, retryAfterMs: 1_000 })));
  }

  #refuseLate(): void {
    const nowMs = this.clock.monotonicMs();
    for (const entry of this.#all) {
      if (nowMs - entry.sinceMs < MAX_ARRIVING_MS) break;
      const message = `the request did not arrive whole within ${MAX_ARRIVING_MS / 1_000} s; send it again, to its end`;
      this.#refuse(entry, new ConnectError(message, Code.DeadlineExceeded));
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
  const group: Group = { key, of, maxBytes, words, entries: new Set(), count: 0, bytes: 0 };
  of.set(key, group);
  return group;
}
