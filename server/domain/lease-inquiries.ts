/**
 * Whether a lease that is silent here was heard by another node: all that live are asked before it is judged.
 *
 *   silent for its TTL ──► asked, and asked again ──every node that lives has answered──► over: it was heard then, or nowhere
 *                                    └──────────────some have not for so long───────────► over: the answer is not waited for
 *
 * A beat that was told may be lost or late: a connection stands still, or does not hear. So nobody is judged by what was told
 * alone. The wait is bounded, since a node that cannot tell stops to take beats in time (leases.ts).
 */
import type { Clock } from './clock.js';
import type { LeaseBeats, PeerNode } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { SessionEngine } from './session-engine.js';

/** What inquiries need. */
export interface LeaseInquiriesOptions {
  readonly engine: Pick<SessionEngine, 'get'>;
  readonly beats: Pick<LeaseBeats, 'ask' | 'probe'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** How long an answer is waited for. */
  readonly maxDoubtMs: number;
}

interface Inquiry {
  readonly question: number;
  /** The last sign of life that was known; a later one ends the inquiry. */
  readonly lastSeenMs: number;
  readonly sinceMs: number;
  askedAtMs: number;
  readonly answeredBy: Set<string>;
  /** When it was over; Infinity: it is not. */
  overAtMs: number;
}

const ASK_AGAIN_MS = 1000;
/** For how long what was found counts. */
const COUNTS_FOR_MS = 2000;

export class LeaseInquiries {
  #questions = 0;
  readonly #open = new Map<string, Inquiry>();

  constructor(private readonly options: LeaseInquiriesOptions) {}

  /** Leases that are asked about. */
  get size(): number {
    return this.#open.size;
  }

  /** Whether it is known of a silent lease that none of these nodes has heard it, or not known for too long. */
  isOver(session: LiveSession, peers: readonly PeerNode[]): boolean {
    const { clock, maxDoubtMs } = this.options;
    const nowMs = clock.monotonicMs();
    const inquiry = this.#inquiryOf(session, nowMs);
    const isAnswered = peers.every(({ id }) => inquiry.answeredBy.has(id));
    if (isAnswered || nowMs - inquiry.sinceMs >= maxDoubtMs) inquiry.overAtMs = Math.min(inquiry.overAtMs, nowMs);
    else this.#ask(session.id, inquiry, nowMs);
    return inquiry.overAtMs <= nowMs;
  }

  #inquiryOf(session: LiveSession, nowMs: number): Inquiry {
    const { id, lastSeenMs } = session;
    const known = this.#open.get(id);
    if (known && known.lastSeenMs === lastSeenMs && nowMs - known.overAtMs < COUNTS_FOR_MS) return known;
    const inquiry = {
      ...{ question: ++this.#questions, lastSeenMs, sinceMs: nowMs, askedAtMs: -Infinity },
      ...{ answeredBy: new Set<string>(), overAtMs: Infinity },
    };
    this.#open.set(id, inquiry);
    return inquiry;
  }

  #ask(id: string, inquiry: Inquiry, nowMs: number): void {
    if (nowMs - inquiry.askedAtMs < ASK_AGAIN_MS) return;
    const { beats } = this.options;
    // Without an answer it may be we who do not hear.
    if (inquiry.askedAtMs > -Infinity) beats.probe();
    inquiry.askedAtMs = nowMs;
    beats.ask(id, inquiry.question);
  }

  /** A node has heard a lease so long ago, or not at all. */
  onAnswered(nodeId: string, id: string, question: number, heardAgoMs: number | undefined): void {
    const inquiry = this.#open.get(id);
    const session = this.options.engine.get(id);
    if (inquiry?.question !== question || session?.state !== 'open') return;
    inquiry.answeredBy.add(nodeId);
    if (heardAgoMs !== undefined && session.heardAgo(heardAgoMs)) session.heardAt = nodeId;
  }

  /** Forgets what is not asked any more: leases that are over, or were heard. */
  tidy(): void {
    for (const [id, { lastSeenMs }] of this.#open) {
      const session = this.options.engine.get(id);
      if (session?.lastSeenMs !== lastSeenMs) this.#open.delete(id);
    }
  }
}
