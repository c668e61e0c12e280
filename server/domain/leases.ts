/**
 * Leases: sessions without a connection of their own, which their clients keep alive by calls, at any node.
 *
 * A lease that is not open here may be at another node, or waiting after that died; whoever uses it here fetches it
 * (takeover.ts). It belongs to the owner that it was granted to: for everybody else it does not exist.
 */
import { randomBytes } from 'node:crypto';
import { TaskDashError } from './errors.js';
import type { SessionStore } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { SessionEngine } from './session-engine.js';
import type { Takeover } from './takeover.js';
import type { TaskClaims } from './task-claims.js';

/** What leases need. */
export interface LeasesOptions {
  readonly engine: SessionEngine;
  readonly takeover: Takeover;
  readonly claims: TaskClaims;
  readonly store: Pick<SessionStore, 'tasksOf'>;
  /** How long a lease may be silent, where its client does not say so itself, in milliseconds. */
  readonly ttlMs: number;
  readonly onGranted: (session: LiveSession) => void;
  /** Resolves when the end of a lease has been written down, if the database takes it now. */
  readonly onRevoked: () => Promise<void>;
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

const BEATS_IN_A_TTL = 3;
/** By how much a next beat may be hinted earlier, as a share. */
const BEAT_SPREAD = 0.2;

export class Leases {
  constructor(private readonly options: LeasesOptions) {}

  /** Opens a lease. Throws REQUEST_INVALID for a TTL outside of LEASE_TTL_LIMITS. */
  grant(request: LeaseRequest): LeaseTerms {
    const { address, owner, onExpired = () => {} } = request;
    const ttlMs = request.ttlMs ? checkTtl(request.ttlMs) : this.options.ttlMs;
    const session = this.options.engine.open({ door: 'grpc', address, owner, ttlMs, onExpired });
    this.options.onGranted(session);
    return termsOf(session);
  }

  /** A sign of life on a lease, wherever it was until now. Throws LEASE_NOT_FOUND. */
  async renew(id: string, owner: string): Promise<LeaseTerms> {
    return termsOf(await this.sessionOf(id, owner));
  }

  /** The session of a lease, for a call on it, which is a sign of life. Throws LEASE_NOT_FOUND. */
  async sessionOf(id: string, owner: string): Promise<LiveSession> {
    const { engine, takeover } = this.options;
    const session = engine.get(id);
    if (session?.owner === owner && session.state !== 'ended' && !session.isContested) {
      session.beat();
      engine.continue(session);
      return session;
    }
    const taken = isUuid(id) ? await takeover.take(id, owner, () => {}) : undefined;
    if (!taken) throw leaseNotFound(id);
    return taken;
  }

  /**
   * Ends a lease with a goodbye: its tasks that still run become shutdown, as the client's word. Returns how many. The end is
   * written down before the answer, since a record that is still open would let the lease be taken up again.
   */
  async revoke(id: string, owner: string): Promise<number> {
    const { engine, claims, store } = this.options;
    const session = await this.sessionOf(id, owner);
    const { claimed, failed } = await claims.farewell(session, await store.tasksOf(id));
    if (failed > 0) throw new TaskDashError('STORAGE_UNAVAILABLE', { retryAfterMs: 1000 });
    engine.forget(session);
    await this.options.onRevoked();
    return claimed;
  }
}

function termsOf(session: LiveSession): LeaseTerms {
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

function leaseNotFound(id: string): TaskDashError {
  return new TaskDashError('LEASE_NOT_FOUND', { message: `There is no lease with the id ${JSON.stringify(id)}.` });
}

function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
}
