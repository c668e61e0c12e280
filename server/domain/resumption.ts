/**
 * Gives a service its tasks back that only reconnected and beats, in the belief that it is still registered.
 *
 *   idle heartbeat ──settled──► looking ──exactly one lost session──► its tasks are claimed
 *                     │            ├──two or more──► given up: nothing is guessed
 *                     │            └──none──► looking again, until the time in which one may still turn up is over
 *                     └──a claim, or the connection closed──► no longer looked for
 *
 * A connection that beats without having claimed anything is looked at a moment later, because most clients beat first
 * and register right after. It may continue a session of the same address and owner that closed, lapsed or lost its
 * server within the last hour, and that was last heard before the connection was opened: whoever was there already when
 * the other fell silent is not the other's return. Sessions of a dead server turn up only when somebody has taken them
 * over, hence the looking again. While the decision is out, nothing from that address lapses for having closed.
 *
 * However many look, one statement asks for all of them.
 */
import type { Clock, Timer } from './clock.js';
import type { ResumeCandidate, SessionStore } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { Log } from './ports.js';
import type { TaskClaims } from './task-claims.js';

/** Settings of resumption. */
export interface ResumptionOptions {
  readonly store: Pick<SessionStore, 'resumable'>;
  readonly claims: TaskClaims;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a connection has to show that it registers by itself. */
  readonly settleMs: number;
  /** How long after its first heartbeat a connection is looked for. */
  readonly windowMs: number;
  readonly onResumed: (tasks: number) => void;
}

interface Looking {
  readonly session: LiveSession;
  readonly sinceMs: number;
  nextMs: number;
  /** What it holds, it holds by resumption. */
  isResuming: boolean;
}

const LOOK_AGAIN_MS = 5000;
const MAX_AT_ONCE = 1000;
/** How long after settling the first decision may take before the tasks lapse all the same. */
const DECISION_MS = 2000;

export class Resumption {
  readonly #looking = new Map<string, Looking>();
  /** Until when a decision about an address is out. */
  readonly #awaited = new Map<string, number>();
  #timer: Timer | undefined;
  #round: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(private readonly options: ResumptionOptions) {}

  /** Connections that are looked for. */
  get size(): number {
    return this.#looking.size;
  }

  /** A connection beats that never claimed anything. */
  onIdleHeartbeat(session: LiveSession): void {
    const { clock, settleMs } = this.options;
    const nowMs = clock.monotonicMs();
    this.#looking.set(session.id, { session, sinceMs: nowMs, nextMs: nowMs + settleMs, isResuming: false });
    this.#awaited.set(session.address, nowMs + settleMs + DECISION_MS);
    this.#arm(settleMs);
  }

  /** Whether a connection from this address may be the return of a lost one, and the decision is still out. */
  isAwaited(address: string): boolean {
    const untilMs = this.#awaited.get(address);
    if (untilMs === undefined) return false;
    if (this.options.clock.monotonicMs() < untilMs) return true;
    this.#awaited.delete(address);
    return false;
  }

  /** Looks no more; resolves when what is under way is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#round;
  }

  #arm(delayMs: number): void {
    if (this.#timer || this.#stopped || this.#looking.size === 0) return;
    this.#timer = this.options.clock.schedule(delayMs, () => {
      this.#round = this.#look().finally(() => {
        this.#timer = undefined;
        this.#arm(this.#untilNextMs());
      });
    });
  }

  #untilNextMs(): number {
    const nowMs = this.options.clock.monotonicMs();
    let nextMs = Infinity;
    for (const looking of this.#looking.values()) nextMs = Math.min(nextMs, looking.nextMs);
    return Math.max(100, nextMs - nowMs);
  }

  async #look(): Promise<void> {
    const due = this.#takeDue();
    for (let start = 0; start < due.length; start += MAX_AT_ONCE) {
      const chunk = due.slice(start, start + MAX_AT_ONCE);
      try {
        await this.#decide(chunk);
      } catch (error) {
        this.options.log.warn(
          { err: error, sessions: chunk.length },
          'lost sessions could not be looked up, tried again',
        );
        // The time in which the database was away is not held against anybody.
        for (const looking of chunk) this.#lookAgain({ ...looking, sinceMs: this.options.clock.monotonicMs() });
      }
    }
  }

  /** Those whose turn it is; who registered by itself or left is forgotten. */
  #takeDue(): Looking[] {
    const nowMs = this.options.clock.monotonicMs();
    const due: Looking[] = [];
    for (const [id, looking] of this.#looking) {
      if (!isLookedFor(looking)) this.#looking.delete(id);
      else if (looking.nextMs <= nowMs) due.push(looking);
    }
    for (const { session } of due) this.#looking.delete(session.id);
    for (const [address, untilMs] of this.#awaited) if (untilMs <= nowMs) this.#awaited.delete(address);
    return due;
  }

  async #decide(chunk: readonly Looking[]): Promise<void> {
    const nowMs = this.options.clock.monotonicMs();
    const requests = chunk.map(({ session: { id, address, owner, openedAtMs } }) => ({
      sessionId: id,
      address,
      owner,
      openedAgoMs: Math.round(nowMs - openedAtMs),
    }));
    const candidates = groupBySession(await this.options.store.resumable(requests));
    await Promise.all(chunk.map((looking) => this.#conclude(looking, candidates.get(looking.session.id) ?? [])));
  }

  async #conclude(looking: Looking, candidates: readonly ResumeCandidate[]): Promise<void> {
    const { session } = looking;
    const [candidate] = candidates;
    if (!candidate) return this.#lookAgain(looking);
    if (candidates.length > 1) {
      const lost = candidates.length;
      this.options.log.info(
        { address: session.address, lost },
        'a service beats without registering, and may be several',
      );
      return;
    }
    if (!isLookedFor(looking)) return;
    looking.isResuming = true;
    const { claimed, failed } = await this.options.claims.claim(session, candidate.tasks);
    if (claimed > 0) this.options.onResumed(claimed);
    if (failed > 0 || claimed === 0) this.#lookAgain(looking);
  }

  #lookAgain(looking: Looking): void {
    const nowMs = this.options.clock.monotonicMs();
    if (nowMs - looking.sinceMs > this.options.windowMs) return;
    looking.nextMs = nowMs + LOOK_AGAIN_MS;
    this.#looking.set(looking.session.id, looking);
  }
}

/** Whether the connection is still there and has not registered by itself. */
function isLookedFor({ session, isResuming }: Looking): boolean {
  return session.state === 'open' && (isResuming || !session.hasClaimed);
}

function groupBySession(candidates: readonly ResumeCandidate[]): Map<string, ResumeCandidate[]> {
  const groups = new Map<string, ResumeCandidate[]>();
  for (const candidate of candidates) {
    const group = groups.get(candidate.sessionId);
    if (group) group.push(candidate);
    else groups.set(candidate.sessionId, [candidate]);
  }
  return groups;
}
