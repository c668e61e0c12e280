/**
 * Moves of leases to this node, on behalf of calls that cannot do without: a client has come here from another server.
 *
 * - A client that moves comes with all of its calls at once. They are one move: whoever needs a lease that is on its way waits
 *   for it, and shares the outcome.
 * - An attempt that fails because the database is away, or because another server is at the same lease, is made again while
 *   anybody who waits has patience left. In between nothing is held: no connection, no lock. The server that has the lease is told
 *   that its client was heard.
 * - Few leases move at the same time, owners in turn, so that a crowd of them leaves connections to writes and everybody else.
 *
 * The other nodes are told with the next renewals. Until then the node that had the lease may believe that it still has it;
 * it asks the database when the client comes back there, which costs nothing but the question where nothing has moved.
 */
import type { Clock } from './clock.js';
import { FairQueue } from './fair-queue.js';
import type { SessionStore } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { Patience } from './patience.js';
import type { SessionEngine } from './session-engine.js';
import type { Takeover } from './takeover.js';

/** What moving leases needs. */
export interface LeaseMovesOptions {
  readonly nodeId: string;
  readonly store: Pick<SessionStore, 'take'>;
  readonly engine: SessionEngine;
  readonly takeover: Pick<Takeover, 'restore' | 'repair'>;
  readonly clock: Clock;
  readonly patience: Patience;
  /** How many leases may move at the same time: each takes a connection to the database. */
  readonly atOnce: number;
}

/** Leases that wait for their turn, and how long one does, in milliseconds. */
const TURNS = { waiting: 10_000, waitMs: 5_000 } as const;
/** Every other server renews its own lease at least once while so many renewals tell of a lease. */
const TOLD_IN_RENEWALS = 3;
const MAX_TOLD = 1000;

export class LeaseMoves {
  /** By id and owner. */
  readonly #underWay = new Map<string, Promise<LiveSession | undefined>>();
  readonly #turns: FairQueue;
  /** Leases that came here, and how many renewals are still to tell of them. */
  readonly #taken = new Map<string, number>();

  constructor(private readonly options: LeaseMovesOptions) {
    this.#turns = new FairQueue(options.clock, { ...TURNS, running: options.atOnce });
  }

  /**
   * Fetches a lease to this node; undefined when nobody knows it (any more). Each attempt that fails is told. Throws
   * STORAGE_UNAVAILABLE or STORAGE_LOCKED when patience is over, OVERLOADED when too many leases wait for their turn.
   */
  fetch(id: string, owner: string, onFailed: () => void): Promise<LiveSession | undefined> {
    return this.options.patience.keepTrying(async () => {
      try {
        return await this.#share(id, owner);
      } catch (error) {
        onFailed();
        throw error;
      }
    });
  }

  #share(id: string, owner: string): Promise<LiveSession | undefined> {
    const key = id + owner;
    const underWay = this.#underWay.get(key);
    if (underWay) return underWay;
    const move = this.#move(id, owner).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, move);
    return move;
  }

  async #move(id: string, owner: string): Promise<LiveSession | undefined> {
    const { store, nodeId, engine, takeover } = this.options;
    const party = { network: '', account: owner, isKnown: true };
    const [moved] = await this.#turns.run(party, () => store.take(nodeId, id, owner));
    if (!moved) return undefined;
    // Also where it was here: that may be the work of an attempt whose answer was lost.
    this.#taken.set(id, TOLD_IN_RENEWALS);
    const session = engine.reopen(moved, () => {});
    if (moved.locked.length > 0) takeover.repair(session);
    await takeover.restore(session.id, moved.lapsed);
    return session;
  }

  /** The leases to tell of with a renewal. */
  tellTaken(): string[] {
    const told = [...this.#taken].slice(0, MAX_TOLD);
    for (const [id, left] of told) {
      if (left > 1) this.#taken.set(id, left - 1);
      else this.#taken.delete(id);
    }
    return told.map(([id]) => id);
  }

  /** Leases have gone to another server: what is known of them here may be out of date. */
  onTakenElsewhere(ids: readonly string[]): void {
    for (const id of ids) {
      const session = this.options.engine.get(id);
      if (session) session.isContested = true;
    }
  }
}
