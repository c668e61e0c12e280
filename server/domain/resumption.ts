/**
 * Gives a service its tasks back that only reconnected and beats, in the belief that it is still registered.
 *
 * An address is not an identity: hosts, NAT and proxies have many services behind one. So the return is believed only where
 * nobody else can be meant, and what is believed stays marked as unconfirmed until the service names it.
 *
 *   idle heartbeat ──settled──► asking ──the one return of the one lost session──► its tasks are claimed, unconfirmed
 *                     │           │ ├──somebody else may be meant, or nobody was lost──► decided: nothing
 *                     │           │ └──a node is missed, on which it depends──► asked again, until that is known
 *                     └───────────┴──a claim, or the connection closed──► forgotten
 *
 * The one return of the one lost session:
 * - the connection is the only one of its address, and nobody else from there has been heard within the last hour, on any
 *   node; the address is no proxy, and has not had more connections today than one service opens;
 * - the lost session was the same owner's, and was last heard before the connection was opened. Of a server that was
 *   killed only its last renewal is known, a few seconds earlier: nobody was connected to it from the address when it was
 *   asked, which it was as soon as the connection was opened (address-inquiries.ts);
 * - its tasks did not come to it in this way themselves within the hour: no guess stands on another one.
 *
 * The decision is made once, when the connection has had a moment to register by itself, since most clients beat first and
 * register right after; DECISION_MS later at most, or, where a node is missed, when it is known whether that is dead. While
 * it is out, what that address has lost waits for it: each lost session once, and no longer than that.
 *
 * However many ask, one statement asks for all of them. The claims of those who are believed run beside that: one that waits for a
 * task that somebody keeps locked holds up nobody else.
 */
import { AddressInquiries } from './address-inquiries.js';
import { MAX_VISITS_A_DAY, type AddressVisits } from './address-visits.js';
import type { Clock, Timer } from './clock.js';
import type { AddressQuestions, Neighbour, SessionStore } from './liveness-ports.js';
import { RESUMABLE_MS } from './liveness-ports.js';
import { isOpenedBy, type LiveSession } from './liveness-session.js';
import type { Log } from './ports.js';
import type { SessionEngine } from './session-engine.js';
import { SessionWork } from './session-work.js';
import type { TaskClaims } from './task-claims.js';

/** Whether tasks are ever given back by address. */
export type ResumeByAddress = 'single' | 'off';

/** Settings of resumption. */
export interface ResumptionOptions {
  readonly mode: ResumeByAddress;
  readonly nodeId: string;
  readonly store: Pick<SessionStore, 'neighbours'>;
  readonly questions: AddressQuestions;
  /** Whether other nodes live. */
  readonly hasPeers: () => boolean;
  readonly engine: Pick<SessionEngine, 'get' | 'all'>;
  readonly visits: AddressVisits;
  /** Whether an address is that of a proxy, which hides those of others. */
  readonly isProxy: (address: string) => boolean;
  readonly claims: TaskClaims;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a connection has to show that it registers by itself. */
  readonly settleMs: number;
  /** How long it takes at most until it is known whether a node is dead. */
  readonly windowMs: number;
  readonly onResumed: (tasks: number) => void;
  /** A lost session may have returned, or may not: nothing was done. */
  readonly onDoubt: (doubt: ReturnInDoubt) => void;
}

/** Why a possible return is not believed. */
export interface ReturnInDoubt {
  readonly address: string;
  readonly reason: string;
}

interface Asking {
  readonly session: LiveSession;
  readonly sinceMs: number;
  nextMs: number;
  /** What it holds, it holds by resumption. */
  isResuming: boolean;
}

/** `unknown`: asked again. */
type Decision = { readonly tasks: Neighbour['tasks'] } | { readonly doubt: string } | 'nothing' | 'unknown';

/** How long after settling the decision may take where no node is missed. */
export const DECISION_MS = 2000;
const ASK_AGAIN_MS = 500;
const ASK_AGAIN_LATER_MS = 5000;
const MAX_AT_ONCE = 1000;
const TOLD_EVERY_MS = 3_600_000;
const REMEDY = 'a service that registers its tasks after it has reconnected ends the doubt';

export class Resumption {
  readonly #asking = new Map<string, Asking>();
  /** Until when a decision about an address is out. */
  readonly #awaited = new Map<string, number>();
  #timer: Timer | undefined;
  #round: Promise<void> = Promise.resolve();
  #stopped = false;
  readonly #inquiries: AddressInquiries;
  readonly #claiming: SessionWork;

  constructor(private readonly options: ResumptionOptions) {
    this.#claiming = new SessionWork(options.clock, MAX_AT_ONCE);
    this.#inquiries = new AddressInquiries({ ...options, onMissed: () => this.#inquireAgain() });
  }

  /** Connections about which nothing is decided yet. */
  get size(): number {
    return this.#asking.size;
  }

  /** A connection is open. */
  onOpened({ address }: LiveSession): void {
    if (this.options.mode === 'off') return;
    const isOneTooMany = this.options.visits.came(address);
    if (this.looksAt(address)) this.#inquiries.ask(address);
    if (!isOneTooMany) return;
    this.options.log.warn(
      { address, connections: MAX_VISITS_A_DAY },
      `more connections came from an address today than one service opens: until tomorrow no task is given back to it for its address alone; ${REMEDY}`,
    );
  }

  /** A connection is gone. */
  onGone({ address, id, hasSpoken }: LiveSession): void {
    const { mode, visits } = this.options;
    if (mode === 'off') return;
    visits.went(address, id, hasSpoken);
    if (visits.openAt(address) === 0) this.#inquiries.forget(address);
  }

  #inquireAgain(): void {
    for (const { door, state, hasClaimed, address } of this.options.engine.all()) {
      const matters = door === 'tcp' && state === 'open' && !hasClaimed;
      if (matters && this.looksAt(address)) this.#inquiries.ask(address);
    }
  }

  /** A connection beats that never claimed anything. */
  onIdleHeartbeat(session: LiveSession): void {
    const { clock, settleMs, visits } = this.options;
    const { address } = session;
    if (!this.looksAt(address)) return;
    const isAlone = visits.openAt(address) <= 1;
    // Where others are there, nothing comes back: one of them asks, so that the doubt is told, and nobody waits for it.
    if (!isAlone && this.#awaited.has(address)) return;
    const nowMs = clock.monotonicMs();
    this.#asking.set(session.id, { session, sinceMs: nowMs, nextMs: nowMs + settleMs, isResuming: false });
    this.#awaited.set(address, isAlone ? nowMs + settleMs + DECISION_MS : nowMs);
    this.#arm();
  }

  /** Whether it matters who else is at an address. */
  looksAt(address: string): boolean {
    const { mode, visits, isProxy } = this.options;
    return mode !== 'off' && !visits.isCrowded(address) && !isProxy(address);
  }

  /** For how long a decision about an address may be out; 0: none is. */
  awaitedMs(address: string): number {
    const untilMs = this.#awaited.get(address) ?? 0;
    return Math.max(0, untilMs - this.options.clock.monotonicMs());
  }

  /** Decides no more; resolves when what is under way is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#round;
    await this.#claiming.stop();
  }

  #arm(): void {
    if (this.#timer || this.#stopped || this.#asking.size === 0) return;
    this.#timer = this.options.clock.schedule(this.#untilNextMs(), () => {
      this.#round = this.#ask().finally(() => {
        this.#timer = undefined;
        this.#arm();
      });
    });
  }

  #untilNextMs(): number {
    const nowMs = this.options.clock.monotonicMs();
    let nextMs = Infinity;
    for (const asking of this.#asking.values()) nextMs = Math.min(nextMs, asking.nextMs);
    return Math.max(100, nextMs - nowMs);
  }

  async #ask(): Promise<void> {
    for (let due = this.#takeDue(); due.length > 0; due = this.#takeDue()) {
      try {
        await this.#decideAll(due);
      } catch (error) {
        this.options.log.warn(
          { err: error, sessions: due.length },
          'lost sessions could not be looked up, tried again',
        );
        // The time in which the database was away is not held against anybody.
        for (const asking of due) this.#askAgain({ ...asking, sinceMs: this.options.clock.monotonicMs() });
      }
    }
  }

  /** Those whose turn it is, as many as may claim at once; who registered by itself or left is forgotten. */
  #takeDue(): Asking[] {
    const nowMs = this.options.clock.monotonicMs();
    const due: Asking[] = [];
    if (this.#stopped) return due;
    for (const asking of this.#asking.values()) {
      if (!isStillAsking(asking)) this.#forget(asking);
      else if (asking.nextMs <= nowMs && due.length < this.#claiming.room) due.push(asking);
    }
    for (const { session } of due) this.#asking.delete(session.id);
    return due;
  }

  async #decideAll(chunk: readonly Asking[]): Promise<void> {
    const { store, clock, nodeId } = this.options;
    const requests = chunk.map(({ session: { id, address, owner } }) => ({ sessionId: id, address, owner }));
    const { neighbours, missedForMs } = await store.neighbours(nodeId, requests);
    // Later than when the database looked, so that nobody seems to have come later than they did.
    const nowMs = clock.monotonicMs();
    const bySession = groupBySession(neighbours);
    for (const asking of chunk) {
      const found = bySession.get(asking.session.id) ?? [];
      if (isStillAsking(asking)) this.#carryOut(asking, this.#decide(asking, found, missedForMs, nowMs), found);
      else this.#forget(asking);
    }
  }

  /** What is to be done, by what is known of the other sessions of the address. */
  #decide({ session, sinceMs }: Asking, found: readonly Neighbour[], missedForMs: number, nowMs: number): Decision {
    const { visits } = this.options;
    const { address } = session;
    const waitsForMs = nowMs - sinceMs;
    const [other] = found;
    // A node that has not renewed since the connection beats may be dead, and its sessions not taken over yet.
    if (!other) return missedForMs > waitsForMs ? 'unknown' : 'nothing';
    // Who is written down as open may be lost: whether there is a doubt to tell of is known when that is.
    if (found.some((one) => one.isOpen && this.#isMissed(one, waitsForMs))) return 'unknown';
    if (found.length > 1) return { doubt: 'several sessions of the address are or were there' };
    if (visits.openAt(address) > 1) return { doubt: 'several connections of the address are open' };
    if (other.isOpen) return { doubt: 'another session of the address is open' };
    if (other.tasks.length === 0) return 'nothing';
    if (!other.isSameOwner) return { doubt: 'the lost session was somebody else’s' };
    if (visits.hasLeft(address, other.id, RESUMABLE_MS))
      return { doubt: 'others from the address left within the hour' };
    if (nowMs - session.openedAtMs >= this.#silentMsOf(other) || this.#wasThere(other, session))
      return { doubt: 'the connection was open before the loss' };
    if (other.isGuess) return { doubt: 'the tasks were given back by address before, within the hour' };
    return { tasks: other.tasks };
  }

  /** Whether a session that is written down as open may be over: here, where that is not written yet, or on a dead node. */
  #isMissed(other: Neighbour, waitsForMs: number): boolean {
    if (other.nodeId !== this.options.nodeId) return other.nodeRenewedAgoMs > waitsForMs;
    const session = this.options.engine.get(other.id);
    return session?.state !== 'open' && session?.state !== 'condemned';
  }

  /** How long a lost session has been silent; exactly, where it was here. */
  #silentMsOf(lost: Neighbour): number {
    return this.options.engine.get(lost.id)?.silentMs() ?? lost.silentMs;
  }

  /** Whether a session, of whose loss its own server tells nothing, may have been there when a connection was opened. */
  #wasThere(lost: Neighbour, { address, openedAtMs }: LiveSession): boolean {
    return !isOpenedBy(lost.nodeId, lost.id) && this.#inquiries.wasThere(address, lost.id, openedAtMs);
  }

  #carryOut(asking: Asking, decision: Decision, found: readonly Neighbour[]): void {
    if (decision === 'unknown') return this.#askAgain(asking);
    if (decision === 'nothing') return this.#forget(asking);
    if ('tasks' in decision) return this.#resume(asking, decision.tasks);
    this.#forget(asking);
    const { address } = asking.session;
    const isLoss = found.some(({ tasks }) => tasks.length > 0);
    if (!isLoss || !this.options.visits.mayTell(address, TOLD_EVERY_MS)) return;
    const doubt = { address, reason: decision.doubt };
    this.options.log.warn(doubt, `a service may have come back, or may not: its tasks stay as they are; ${REMEDY}`);
    this.options.onDoubt(doubt);
  }

  #resume(asking: Asking, tasks: Neighbour['tasks']): void {
    asking.isResuming = true;
    if (!this.#claiming.begin(asking.session.id, () => this.#claim(asking, tasks))) this.#askAgain(asking);
  }

  async #claim(asking: Asking, tasks: Neighbour['tasks']): Promise<void> {
    const { claimed, failed } = await this.options.claims.resume(asking.session, tasks);
    if (claimed > 0) this.options.onResumed(claimed);
    if (failed > 0) this.#askAgain(asking);
    else this.#forget(asking);
    this.#arm();
  }

  #askAgain(asking: Asking): void {
    const nowMs = this.options.clock.monotonicMs();
    const waitsForMs = nowMs - asking.sinceMs;
    if (waitsForMs > this.options.windowMs) return this.#forget(asking);
    const isSoon = waitsForMs < this.options.settleMs + DECISION_MS;
    asking.nextMs = nowMs + (isSoon ? ASK_AGAIN_MS : ASK_AGAIN_LATER_MS);
    this.#asking.set(asking.session.id, asking);
  }

  #forget({ session }: Asking): void {
    this.#asking.delete(session.id);
    this.#awaited.delete(session.address);
  }
}

/** Whether the connection is still there and has not registered by itself. */
function isStillAsking({ session, isResuming }: Asking): boolean {
  return session.state === 'open' && (isResuming || !session.hasClaimed);
}

function groupBySession(neighbours: readonly Neighbour[]): Map<string, Neighbour[]> {
  const groups = new Map<string, Neighbour[]>();
  for (const neighbour of neighbours) {
    const group = groups.get(neighbour.sessionId);
    if (group) group.push(neighbour);
    else groups.set(neighbour.sessionId, [neighbour]);
  }
  return groups;
}
