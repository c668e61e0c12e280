/**
 * Protection: when many sessions go silent at once, it is more likely our network or a load balancer than all of them.
 *
 * Only sessions with tasks that have not ended count, on both sides of the share. Connections and leases of this node
 * count among themselves, and so do those of dead nodes when their grace ends: that nobody of them comes back is as strange.
 *
 *   watching ──more than 15 % lost within one TTL, and at least ten──► protecting
 *   protecting ──few enough are lost for a whole TTL (calm)──────────► watching
 *              ──the longest time is over (limit)────────────────────► watching
 *              ──an administrator says 'expire now'──────────────────► watching
 *              ──an administrator says 'hold'────────────────────────► protecting, for the longest time from now on
 *
 * While protecting, nothing silent expires; explicit stops pass. At the end, what is still silent expires: after calm
 * those that were held, after limit or 'expire now' also those that had fallen silent and were not yet due, since the
 * decision was about them too.
 */
import type { ProtectionView } from './liveness-ports.js';

/** How many sessions were lost within one TTL, of how many. */
export interface Census {
  readonly lost: number;
  readonly of: number;
}

/** Who counts among themselves: the sessions of this node, and those that it took over and waits for. */
export type Crowd = 'own' | 'orphans';
export type Censuses = Readonly<Record<Crowd, Census>>;

/** Why protection ended. */
export type ProtectionEnd = 'calm' | 'limit' | 'operator';

/** What happens to protection, for log, metrics and history. */
export type ProtectionEvent =
  | { readonly kind: 'began'; readonly lost: number; readonly of: number }
  | { readonly kind: 'held'; readonly actor: string }
  | { readonly kind: 'ended'; readonly reason: ProtectionEnd; readonly actor: string; readonly held: number };

/** Settings of protection. */
export interface ProtectionOptions {
  readonly ttlMs: number;
  /** The longest time, in milliseconds; 0 switches protection off. */
  readonly maxMs: number;
}

const LOST_SHARE = 0.15;
const LOST_AT_LEAST = 10;

interface Incident {
  readonly beganAtMs: number;
  readonly lost: number;
  readonly of: number;
  endsAtMs: number;
  heldBy: string;
  /** Since when few enough are lost; Infinity while too many are. */
  calmSinceMs: number;
}

export class Protection {
  #incident: Incident | undefined;
  /** Who expired within the last TTL, and when they were lost: they count with the lost, each once. */
  readonly #expired: Record<Crowd, Map<string, number>> = { own: new Map(), orphans: new Map() };

  constructor(
    private readonly options: ProtectionOptions,
    private readonly onEvent: (event: ProtectionEvent) => void,
  ) {}

  get isActive(): boolean {
    return this.#incident !== undefined;
  }

  /** Begins when too many of a crowd are lost. `present`: the sessions that are still here. */
  consider(present: Censuses, nowMs: number): void {
    if (this.#incident || this.options.maxMs === 0) return;
    const census = this.#massive(present, nowMs);
    if (!census) return;
    const endsAtMs = nowMs + this.options.maxMs;
    this.#incident = { beganAtMs: nowMs, ...census, endsAtMs, heldBy: '', calmSinceMs: Infinity };
    this.onEvent({ kind: 'began', ...census });
  }

  /** Counts a session that expired unprotected, by when it was lost. */
  noteExpired(crowd: Crowd, id: string, lostAtMs: number): void {
    if (this.options.maxMs > 0) this.#expired[crowd].set(id, lostAtMs);
  }

  /** A session is there again: it counts as one of those who are present. */
  noteBack(id: string): void {
    this.#expired.own.delete(id);
    this.#expired.orphans.delete(id);
  }

  /** Whether it is over, and why; to be asked regularly while active. `held`: how many sessions are held. */
  review(present: Censuses, held: number, nowMs: number): ProtectionEnd | undefined {
    const incident = this.#incident;
    if (!incident) return undefined;
    if (this.#massive(present, nowMs)) incident.calmSinceMs = Infinity;
    else incident.calmSinceMs = Math.min(incident.calmSinceMs, nowMs);
    if (nowMs >= incident.endsAtMs) return this.#end('limit', '', held);
    const calm = nowMs - incident.calmSinceMs >= this.options.ttlMs;
    return calm && incident.heldBy === '' ? this.#end('calm', '', held) : undefined;
  }

  /** An administrator ends it; false when there is nothing to end. */
  expireNow(actor: string, held: number): boolean {
    if (!this.#incident) return false;
    this.#end('operator', actor, held);
    return true;
  }

  /** An administrator prolongs it: the longest time begins anew, and calm does not end it. False when not active. */
  hold(actor: string, nowMs: number): boolean {
    if (!this.#incident) return false;
    this.#incident.endsAtMs = nowMs + this.options.maxMs;
    this.#incident.heldBy = actor;
    this.onEvent({ kind: 'held', actor });
    return true;
  }

  /** What people see of it, or null. */
  view(held: number, nowMs: number): ProtectionView | null {
    const incident = this.#incident;
    if (!incident) return null;
    const { lost, of, heldBy } = incident;
    const endsInMs = Math.max(0, Math.round(incident.endsAtMs - nowMs));
    return { sinceMs: Math.round(nowMs - incident.beganAtMs), endsInMs, lost, of, held, heldBy };
  }

  /** The crowd that lost too many, if any. */
  #massive(present: Censuses, nowMs: number): Census | undefined {
    const crowds = (['own', 'orphans'] as const).map((crowd) => this.#withExpired(crowd, present[crowd], nowMs));
    return crowds.find(isMassive);
  }

  #withExpired(crowd: Crowd, { lost, of }: Census, nowMs: number): Census {
    const expired = this.#expired[crowd];
    for (const [id, lostAtMs] of expired) if (lostAtMs <= nowMs - this.options.ttlMs) expired.delete(id);
    return { lost: lost + expired.size, of: of + expired.size };
  }

  #end(reason: ProtectionEnd, actor: string, held: number): ProtectionEnd {
    this.#incident = undefined;
    this.onEvent({ kind: 'ended', reason, actor, held });
    return reason;
  }
}

function isMassive({ lost, of }: Census): boolean {
  return lost >= LOST_AT_LEAST && lost > of * LOST_SHARE;
}
