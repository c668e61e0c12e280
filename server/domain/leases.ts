/**
 * Leases: sessions without a connection of their own, which their clients keep alive by calls, at any node.
 *
 * A lease that is not open here may be at another node, or waiting after that died. Calls that write fetch it
 * (lease-moves.ts). A beat does not: as long as the node that holds it lives and hears us, it is only told (LeaseBeats), so
 * that a lease whose beats a balancer spreads over several nodes costs no row. Where telling takes too long, the lease is
 * fetched after all, or its client told that it cannot be: no beat is taken for long that the holder cannot know of. Before a
 * lease is judged, the other nodes are asked (lease-inquiries.ts). It belongs to the owner that it was granted to: for
 * everybody else it does not exist.
 */
import { randomBytes } from 'node:crypto';
import { doneWithin, type Clock } from './clock.js';
import { leaseNotFound, TaskDashError } from './errors.js';
import type { Farewells } from './farewells.js';
import { LeaseInquiries } from './lease-inquiries.js';
import type { LeaseMoves } from './lease-moves.js';
import type { LeaseBeats, LeaseHolder, PeerNode, SessionStore } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { Log } from './ports.js';
import type { SessionEngine } from './session-engine.js';

/** What leases need. */
export interface LeasesOptions {
  readonly engine: SessionEngine;
  readonly moves: Pick<LeaseMoves, 'fetch'>;
  readonly farewells: Pick<Farewells, 'has' | 'isPending' | 'say' | 'sayAgain'>;
  readonly store: Pick<SessionStore, 'holderOf'>;
  readonly beats: LeaseBeats;
  readonly clock: Clock;
  readonly log: Log;
  readonly nodeId: string;
  /** The other nodes that live, as the last renewal told; none while this node is not sure to live itself. */
  readonly peers: () => readonly PeerNode[];
  /** How long other nodes are waited for to tell whether they heard a lease that is silent here. */
  readonly maxDoubtMs: number;
  /** How long a lease may be silent, where its client does not say so itself, in milliseconds. */
  readonly ttlMs: number;
  /** How many leases one owner may have at this node. */
  readonly maxPerOwner: number;
  /** An owner wanted more. */
  readonly onExceeded: (owner: string) => void;
  /** Resolves when a lease has been written down, if the database takes it now. */
  readonly onGranted: (session: LiveSession) => Promise<void>;
}

/** A lease as its client is told of it. */
export interface LeaseTerms {
  readonly sessionId: string;
  readonly ttlMs: number;
  /** When the next beat is expected; a little different each time, so that clients spread. */
  readonly nextBeatInMs: number;
}

/** What a client asks for. */
export interface LeaseRequest {
  readonly address: string;
  readonly owner: string;
  /** 0 or absent: the configured one. */
  readonly ttlMs?: number;
  readonly onExpired?: () => void;
}

/** What a lease may ask for, in milliseconds. */
export const LEASE_TTL_LIMITS = { min: 5_000, max: 600_000 } as const;

/** A lease of another node that beats here: who may use it, and who holds it. */
interface Guest extends LeaseHolder {
  readonly owner: string;
  /** When the database was asked. */
  readonly askedAtMs: number;
  /** When it was last heard here. */
  heardAtMs: number;
}

/** How long a client waits until its new lease is known everywhere. */
const WRITTEN_WITHIN_MS = 2000;
/** More than a node has leases; those that were asked about first are asked about anew. */
const MAX_GUESTS = 50_000;
const BEATS_IN_A_TTL = 3;
/** By how much a next beat may be hinted earlier, as a share. */
const BEAT_SPREAD = 0.2;

export class Leases {
  /** In the order in which they were asked about. */
  readonly #guests = new Map<string, Guest>();
  /** The leases that were granted here by their owners, some of which may be over. */
  readonly #granted = new Map<string, Set<string>>();
  readonly #inquiries: LeaseInquiries;

  constructor(private readonly options: LeasesOptions) {
    const { beats, nodeId, maxDoubtMs, clock, engine } = options;
    this.#inquiries = new LeaseInquiries({ engine, beats, clock, maxDoubtMs });
    beats.join(nodeId, {
      onBeats: (from, ids) => this.#onHeardElsewhere(from, ids),
      onOver: (ids) => this.#onOverElsewhere(ids),
      onAsked: (from, id, question) => beats.answer(from, id, question, this.#heardAgoMs(id)),
      onAnswered: (from, id, question, agoMs) => this.#inquiries.onAnswered(from, id, question, agoMs),
    });
  }

  /**
   * Opens a lease, and waits until it is written down, so that every node knows it; where the database does not take it in
   * time, it works at this node alone until it does. Throws REQUEST_INVALID for a TTL outside of LEASE_TTL_LIMITS, OVERLOADED
   * for one too many.
   */
  async grant(request: LeaseRequest): Promise<LeaseTerms> {
    const { address, owner, onExpired = () => {} } = request;
    const ttlMs = request.ttlMs === undefined ? this.options.ttlMs : checkTtl(request.ttlMs);
    const granted = this.#requireRoom(owner);
    const session = this.options.engine.open({ door: 'grpc', address, owner, ttlMs, onExpired });
    granted.add(session.id);
    await doneWithin(this.options.clock, WRITTEN_WITHIN_MS, this.options.onGranted(session));
    return termsOf(session);
  }

  /** The leases of an owner. Throws OVERLOADED when they are as many as they may be. */
  #requireRoom(owner: string): Set<string> {
    const { engine, farewells, maxPerOwner, onExceeded } = this.options;
    const isOver = (id: string) => !engine.get(id) && !farewells.isPending(id);
    const granted = this.#granted.get(owner) ?? new Set<string>();
    this.#granted.set(owner, granted);
    if (granted.size >= maxPerOwner) for (const id of granted) if (isOver(id)) granted.delete(id);
    if (granted.size < maxPerOwner) return granted;
    onExceeded(owner);
    throw new TaskDashError('OVERLOADED', {
      message:
        `${owner} has ${maxPerOwner} leases at this server, as many as one owner may: one lease vouches for any number of ` +
        'tasks, so use what is there, or revoke some; operators set TASKDASH_LEASES_PER_OWNER.',
      retryAfterMs: 10_000,
    });
  }

  /** A sign of life on a lease, wherever it was until now. Throws LEASE_NOT_FOUND. */
  async renew(id: string, owner: string): Promise<LeaseTerms> {
    const guest = await this.#beatElsewhere(id, owner);
    return termsOf(guest ? { id, ttlMs: guest.ttlMs } : await this.sessionOf(id, owner));
  }

  /** A sign of life on a lease of a node that hears us; undefined where it is here, is to be fetched, or there is none. */
  async #beatElsewhere(id: string, owner: string): Promise<Guest | undefined> {
    if (this.#isHere(id, owner) || this.options.farewells.has(id)) return undefined;
    const guest = await this.#guestOf(id, owner);
    if (!guest) return undefined;
    guest.heardAtMs = this.options.clock.monotonicMs();
    this.options.beats.tell(id);
    return guest;
  }

  /** A call that could not fetch its lease is a sign of life all the same. */
  async #tellHolder(id: string, owner: string): Promise<void> {
    try {
      await this.#beatElsewhere(id, owner);
    } catch (error) {
      // The call itself is answered with what it met.
      this.options.log.debug({ err: error }, 'who holds a lease could not be looked up');
    }
  }

  #isHere(id: string, owner: string): boolean {
    const session = this.options.engine.get(id);
    return session?.owner === owner && session.state !== 'ended' && !session.isContested;
  }

  /** The lease of a node that hears us; undefined where it is to be fetched, or there is none. The answer holds for a TTL. */
  async #guestOf(id: string, owner: string): Promise<Guest | undefined> {
    const { clock, store, beats } = this.options;
    const nowMs = clock.monotonicMs();
    let guest = this.#guests.get(id);
    if (guest?.owner !== owner || nowMs - guest.askedAtMs >= guest.ttlMs) {
      const holder = isUuid(id) ? await store.holderOf(id, owner) : undefined;
      if (!holder) return undefined;
      guest = { ...holder, owner, askedAtMs: nowMs, heardAtMs: this.#guests.get(id)?.heardAtMs ?? -Infinity };
      this.#remember(id, guest);
    }
    const isToldInTime = beats.untoldForMs < guest.ttlMs / BEATS_IN_A_TTL;
    if (guest.isOpen && isToldInTime && this.#peer(guest.nodeId)?.report.hearsBeats) return guest;
    return undefined;
  }

  /** How long ago a lease was heard here; undefined: not within its TTL, or it is not known here. */
  #heardAgoMs(id: string): number | undefined {
    const { engine, clock } = this.options;
    const session = engine.get(id);
    if (session?.state === 'open' && !session.isContested) return session.silentMs();
    const guest = this.#guests.get(id);
    const agoMs = clock.monotonicMs() - (guest?.heardAtMs ?? -Infinity);
    return guest && agoMs < guest.ttlMs ? Math.round(agoMs) : undefined;
  }

  #remember(id: string, guest: Guest): void {
    this.#guests.delete(id);
    this.#guests.set(id, guest);
    if (this.#guests.size <= MAX_GUESTS) return;
    for (const [first] of this.#guests) return void this.#guests.delete(first);
  }

  #peer(nodeId: string): PeerNode | undefined {
    return this.options.peers().find(({ id }) => id === nodeId);
  }

  /** Leases of ours that another node has heard. */
  #onHeardElsewhere(nodeId: string, ids: readonly string[]): void {
    const { engine } = this.options;
    for (const id of ids) {
      const session = engine.get(id);
      if (session?.door !== 'grpc' || session.isContested) continue;
      session.beat();
      session.heardAt = nodeId;
      engine.continue(session);
    }
  }

  /** Leases that were revoked at another node: whoever uses one here asks the database first. */
  #onOverElsewhere(ids: readonly string[]): void {
    for (const id of ids) {
      this.#guests.delete(id);
      const session = this.options.engine.get(id);
      if (session) session.isContested = true;
    }
  }

  /** What the last renewal told of other nodes is new. Leases that were last heard at one that died wait like its own. */
  onRenewed(): void {
    const { engine } = this.options;
    this.#inquiries.tidy();
    for (const session of [...engine.suspects]) {
      if (session.heardAt !== undefined && !this.#peer(session.heardAt)) engine.orphan(session);
    }
  }

  /** Whether a lease that is silent here may have been heard elsewhere: the others that live are asked. */
  mayBeHeardElsewhere(session: LiveSession): boolean {
    if (session.door !== 'grpc') return false;
    // Dead: the next renewal makes it an orphan.
    if (session.heardAt !== undefined && !this.#peer(session.heardAt)) return true;
    const peers = this.options.peers();
    return peers.length > 0 && !this.#inquiries.isOver(session, peers);
  }

  /** The session of a lease, for a call on it, which is a sign of life. Throws LEASE_NOT_FOUND. */
  async sessionOf(id: string, owner: string): Promise<LiveSession> {
    const { engine, moves, farewells } = this.options;
    const session = engine.get(id);
    if (session && this.#isHere(id, owner)) {
      session.beat();
      session.heardAt = undefined;
      engine.continue(session);
      return session;
    }
    const isLost = !isUuid(id) || farewells.has(id);
    const fetched = isLost ? undefined : await moves.fetch(id, owner, () => void this.#tellHolder(id, owner));
    // It was on its way here when it was revoked.
    if (fetched && farewells.has(id)) engine.revoke(fetched);
    if (!fetched || fetched.isRevoked) throw leaseNotFound(id);
    return fetched;
  }

  /**
   * Ends a lease with a goodbye: its tasks that still run become shutdown, as the client's word. Returns how many. Throws
   * LEASE_NOT_FOUND; and STORAGE_UNAVAILABLE or STORAGE_LOCKED where that is not all done yet: it goes on, and may be asked for
   * again here.
   */
  async revoke(id: string, owner: string): Promise<number> {
    const { farewells } = this.options;
    return farewells.sayAgain(id, owner) ?? farewells.say(await this.sessionOf(id, owner));
  }
}

function termsOf(session: Pick<LiveSession, 'id' | 'ttlMs'>): LeaseTerms {
  const spread = 1 - BEAT_SPREAD * (randomBytes(1).readUInt8() / 255);
  const nextBeatInMs = Math.round((session.ttlMs / BEATS_IN_A_TTL) * spread);
  return { sessionId: session.id, ttlMs: session.ttlMs, nextBeatInMs };
}

function checkTtl(ttlMs: number): number {
  const { min, max } = LEASE_TTL_LIMITS;
  if (Number.isInteger(ttlMs) && ttlMs >= min && ttlMs <= max) return ttlMs;
  const violation = { field: 'ttl', description: `must be ${min / 1000} to ${max / 1000} seconds, is ${ttlMs / 1000}` };
  throw new TaskDashError('REQUEST_INVALID', { message: `ttl ${violation.description}.`, violations: [violation] });
}

function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
}
