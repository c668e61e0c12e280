/**
 * Makes claims again that the database has lost: of sessions that live here, as long as nobody else has claimed their tasks since.
 *
 * That goes on beside everything else, and is waited for only for a moment: somebody may keep a task locked. What the database does
 * not take is held on to, and told.
 */
import { doneWithin, type Clock } from './clock.js';
import type { ClaimedTask, HeldTask, SessionStore, TaskVersion, UndoneClaim } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { Log } from './ports.js';
import type { SessionEngine } from './session-engine.js';
import type { SessionWork } from './session-work.js';
import type { TaskClaims } from './task-claims.js';

/** What making claims again needs. */
export interface LostClaimsOptions {
  readonly store: Pick<SessionStore, 'undone'>;
  readonly engine: Pick<SessionEngine, 'get' | 'release'>;
  readonly claims: Pick<TaskClaims, 'claim'>;
  readonly work: SessionWork;
  readonly clock: Clock;
  readonly log: Log;
  /** A claim could not be made now. */
  readonly onFailed: () => void;
}

/** A claim that the database does not know any more, and what the task is there. */
type LostClaim = TaskVersion & HeldTask;

/** Claims that are asked about at once, sessions that claim at once, and claims of one of them. */
const MAX_ASKED = 5000;
const MAX_SESSIONS = 1000;
const MAX_AT_ONCE = 500;
const PATIENCE_MS = 500;

export class LostClaims {
  constructor(private readonly options: LostClaimsOptions) {}

  /** Resolves when what these sessions have lost is theirs again, or is waited for no longer. */
  async makeAgain(sessions: readonly LiveSession[]): Promise<void> {
    const held = claimsOf(sessions, this.options.clock.monotonicMs());
    for (const claims of inParts(held, MAX_ASKED)) await this.#makeSomeAgain(claims);
  }

  async #makeSomeAgain(claims: readonly ClaimedTask[]): Promise<void> {
    const { store, clock, log } = this.options;
    const undone = await store.undone(claims);
    if (undone.length === 0) return;
    const lost = undone.filter(({ isTheirs }) => !isTheirs).length;
    if (lost > 0)
      log.warn({ tasks: lost }, 'the database has lost claims of sessions that live here; they are made again');
    for (const some of inParts(this.#letGo(undone), MAX_SESSIONS)) {
      const pieces = some.flatMap(([session, claims]) => this.#claimAllAgain(session, claims) ?? []);
      await doneWithin(clock, PATIENCE_MS, Promise.all(pieces));
    }
  }

  /** Forgets claims, whose epochs begin anew where the history ends; returns those that are to be made again. */
  #letGo(undone: readonly UndoneClaim[]): Map<LiveSession, LostClaim[]> {
    const lost = new Map<LiveSession, LostClaim[]>();
    for (const { sessionId, taskId, revision, isTheirs } of undone) {
      const session = this.options.engine.get(sessionId);
      const epoch = session?.tasks.get(taskId);
      if (session?.state !== 'open' || epoch === undefined) continue;
      this.options.engine.release(session, taskId, epoch);
      if (isTheirs) continue;
      const claims = lost.get(session) ?? [];
      claims.push({ taskId, revision, epoch });
      lost.set(session, claims);
    }
    return lost;
  }

  #claimAllAgain(session: LiveSession, lost: readonly LostClaim[]): Promise<void> | undefined {
    const begun = this.options.work.begin(session.id, async () => {
      for (const some of inParts(lost, MAX_AT_ONCE))
        await Promise.all(some.map((claim) => this.#claimAgain(session, claim)));
    });
    if (!begun) for (const claim of lost) this.#keep(session, claim);
    return begun;
  }

  async #claimAgain(session: LiveSession, claim: LostClaim): Promise<void> {
    const { failed } = await this.options.claims.claim(session, [claim]);
    if (failed > 0) this.#keep(session, claim);
  }

  #keep(session: LiveSession, { taskId, epoch }: LostClaim): void {
    session.claimed(taskId, epoch);
    this.options.onFailed();
  }
}

/** What open sessions hold. */
function* claimsOf(sessions: Iterable<LiveSession>, monotonicMs: number): Generator<ClaimedTask> {
  for (const { id, state, tasks, claimedAtMs } of sessions) {
    const claimedAgoMs = Math.round(monotonicMs - claimedAtMs);
    if (state === 'open') for (const [taskId, epoch] of tasks) yield { sessionId: id, taskId, epoch, claimedAgoMs };
  }
}

function* inParts<T>(all: Iterable<T>, size: number): Generator<T[]> {
  let part: T[] = [];
  for (const one of all) {
    if (part.push(one) < size) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}
