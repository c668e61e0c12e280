/**
 * The sessions of this node: their deadlines, their tasks, and the verdicts on them. All in memory.
 *
 * A session is one live connection, or a lease. It vouches for the tasks that it claimed by register or update.
 *
 *             beat (moves the deadline)
 *              ┌──┐
 *   ──open───► open ──silent for its TTL─────────────────────► condemned ──the database took the lapse──► ended
 *               │  ▲                                             ▲  │                                      │
 *               │  └─heard again, or verdict withdrawn───────────┼──┘                                      │
 *               └─socket closed─► closing ──grace over───────────┤                                         │
 *                                   ▲                            │                                         │
 *                                   └──a claim that was under way is durable───────────────────────────────┘
 *   ──adopt───► orphan ──failover grace over─────────────────────┘
 *
 * open       The deadline is the last sign of life plus the TTL. Missed for more than an interval it is `suspect`.
 * closing    The connection is gone; the tasks wait for the reconnect grace, or for what was left of the TTL.
 * orphan     The server that held it died or stopped; the tasks wait for the failover grace.
 * condemned  Judged dead: its tasks are being set to shutdown, for as long as the database needs to take it.
 * ended      Forgotten. After silence the connection is closed too, so that its client notices. A lease that was revoked is so for
 *            good (farewells.ts).
 * A closing session or an orphan ends as soon as others have claimed its last task. A lease that is used again is open
 * again, whether it was closing, an orphan, or condemned by a verdict that the database has not taken yet.
 *
 * Invariants
 * - A heartbeat writes one number. There is one timer for all sessions; a sweep visits sessions whose time has come and
 *   no others (deadline-wheel.ts), each living one about twice in a TTL.
 * - A task belongs to the session that claimed it last. A claim takes the task from the session that had it, here in
 *   memory and, for sessions elsewhere, by the epoch that every verdict carries and the database compares.
 * - Time is patient (patient-time.ts): a pause of this process is nobody else's silence. And between finding a session
 *   overdue and judging it, one turn of input is read, in which its sign of life may have been waiting.
 * - Nothing is judged while the node may not judge (node-lease.ts); verdicts that are not carried out by then are
 *   withdrawn. What may nevertheless have been stored is made good when the session is heard again.
 * - A claim that becomes durable after its session ended is judged like the session was: no task is left to nobody.
 * - A task that has ended is kept for nobody. Sessions without tasks end without a verdict. There are as many closing
 *   sessions and orphans as hold tasks, so that memory is bounded by connections and tasks.
 */
import type { Clock, Timer } from './clock.js';
import { DeadlineWheel } from './deadline-wheel.js';
import type { FoundSession, HeldTask, MovedSession, ProtectionView } from './liveness-ports.js';
import { LiveSession, newSessionId, type SessionKeeper, type SessionState } from './liveness-session.js';
import { PatientTime } from './patient-time.js';
import type { Lapse, Log, TaskStore } from './ports.js';
import { Protection, type Census, type Censuses, type ProtectionEnd, type ProtectionEvent } from './protection.js';
import type { SessionOpening } from './sessions.js';
import type { LapseCause } from './task.js';
import { VerdictQueue } from './verdict-queue.js';

/** Settings of the engine; defaults are in liveness.ts. */
export interface SessionEngineOptions {
  readonly nodeId: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly lapses: Pick<TaskStore, 'lapse'>;
  readonly ttlMs: number;
  /** undefined: what is left of the TTL. */
  readonly reconnectGraceMs: number | undefined;
  readonly failoverGraceMs: number;
  readonly protectionMaxMs: number;
  readonly sweepMs: number;
  readonly slackMs: number;
  readonly staysAfterMs: number;
}

/** What the engine asks of, and tells, the parts around it. */
export interface SessionEngineHooks {
  /** Whether this node may decide shutdowns now. */
  mayJudge(): boolean;
  /** For how long a decision may be out whether a connection from this address is the return of a lost one; 0: none is. */
  awaitedMs(address: string): number;
  /** Whether an open session that is silent here may have been heard by another node all the same. */
  mayBeHeardElsewhere(session: LiveSession): boolean;
  /** A connection is gone, whatever its session was. */
  onGone(session: LiveSession): void;
  /** What is written down of a session is no longer what it is. */
  onChanged(session: LiveSession): void;
  onIdleHeartbeat(session: LiveSession): void;
  /** An open session that nobody has written down is still there: told some `staysAfterMs` after it came, and now and then. */
  onStays(session: LiveSession): void;
  /** A write claimed a task for a lease that was revoked while it was on its way. */
  onLate(session: LiveSession): void;
  /** A verdict on it may have been stored although it lives. */
  onDoubtful(session: LiveSession): void;
  onLapsed(cause: LapseCause, tasks: number): void;
  onPaused(pausedMs: number): void;
  onProtection(event: ProtectionEvent): void;
}

/** How many sessions stand how. */
export interface SessionCounts {
  readonly open: number;
  readonly closing: number;
  readonly orphan: number;
  readonly suspect: number;
  readonly held: number;
  readonly condemned: number;
}

/** How soon a session is looked at again that could not be judged: at most, and as a share of the TTL. */
const RECHECK_MAX_MS = 500;
const RECHECKS_IN_A_TTL = 50;
/** As services are asked to beat. */
const BEATS_IN_A_TTL = 3;
/** A session that was late this often in a row simply beats slower than its TTL suggests. */
const LATE_RETURNS = 2;
/** How much longer than its usual gap the silence of such a session may be. */
const LATE_FACTOR = 1.5;

/** The last part of the failover grace, as a share of it. */
const NEARLY_OVER = 0.25;

export class SessionEngine implements SessionKeeper {
  readonly #sessions = new Map<string, LiveSession>();
  readonly #owners = new Map<string, LiveSession>();
  readonly #suspects = new Set<LiveSession>();
  readonly #closing = new Set<LiveSession>();
  readonly #orphans = new Set<LiveSession>();
  readonly #held = new Set<LiveSession>();
  /** The sessions that vouch for a task. */
  readonly #holders = new Set<LiveSession>();
  /** Sessions that came from dead nodes and had tasks, and when: those who have come back since are among them. */
  readonly #adopted = new Map<string, number>();
  readonly #time: PatientTime;
  readonly #wheel: DeadlineWheel<LiveSession>;
  readonly #verdicts: VerdictQueue<LiveSession>;
  readonly #protection: Protection;
  #timer: Timer | undefined;
  #frozen = false;

  constructor(
    private readonly options: SessionEngineOptions,
    private readonly hooks: SessionEngineHooks,
  ) {
    const { nodeId, clock, log, ttlMs, sweepMs, slackMs, protectionMaxMs } = options;
    this.#time = new PatientTime(clock, sweepMs, slackMs);
    this.#wheel = new DeadlineWheel(sweepMs, this.#time.nowMs());
    this.#protection = new Protection({ ttlMs, maxMs: protectionMaxMs }, (event) => hooks.onProtection(event));
    const lapses = { lapse: (some: readonly Lapse[]) => options.lapses.lapse(some, nodeId) };
    this.#verdicts = new VerdictQueue(lapses, clock, log, {
      isReady: () => !this.#frozen && hooks.mayJudge(),
      stands: (session) => this.#verdictStands(session),
      onWithdrawn: (session) => this.#withdraw(session, this.#recheckMs),
      onUnknown: (session) => (session.isDoubtful = true),
      onCarriedOut: (session, given, changed) => this.#onCarriedOut(session, given, changed),
      onPartlyCarriedOut: (session, given, changed) => this.#onPartlyCarriedOut(session, given, changed),
    });
  }

  /** Begins to judge; idempotent. */
  start(): void {
    if (this.#timer || this.#frozen) return;
    this.#time.tick();
    this.#arm();
  }

  /** Judges no more, for good: what is open or closing now stays undecided. */
  freeze(): void {
    this.#frozen = true;
    this.#timer?.cancel();
  }

  /** Freezes, and resolves when the verdict under way, if any, is over. */
  async stop(): Promise<void> {
    this.freeze();
    await this.#verdicts.stop();
  }

  // ── Sessions come ──────────────────────────────────────────────────────────────────────────────────────────────────

  open(opening: SessionOpening): LiveSession {
    const { nodeId, clock, ttlMs } = this.options;
    const session = new LiveSession(this, {
      id: newSessionId(nodeId),
      ttlMs,
      owner: '',
      ...opening,
      openedAtMs: clock.monotonicMs(),
      lastSeenMs: this.nowMs(),
    });
    this.#sessions.set(session.id, session);
    this.#wheel.put(session, this.nowMs() + Math.min(this.options.staysAfterMs, session.suspectAfterMs));
    return session;
  }

  /**
   * Takes a session over from another server: its tasks wait for the failover grace. A connection that lives here goes on;
   * a lease that was here before had gone to that server, and what was found about it here counts no more.
   */
  adopt(moved: MovedSession): LiveSession {
    const session = this.#sessions.get(moved.id) ?? this.#fromRecord(moved);
    const isConnected = session.door === 'tcp' && (session.state === 'open' || session.state === 'condemned');
    if (!isConnected) this.#becomeOrphan(session);
    // Its server had judged it, at least in part, or may have.
    if (moved.lapsed.length > 0 || moved.locked.length > 0) session.isDoubtful = true;
    this.#holdAll(session, moved.tasks);
    if (session.state !== 'orphan') return session;
    // One whose tasks others have by now had come back before it was taken over.
    if (moved.holdsTasks || session.tasks.size > 0) this.#noteAdopted(session);
    this.#settle(session);
    return session;
  }

  /** In the order of their coming; those of long ago count no more, unless they are still waited for. */
  #noteAdopted({ id }: LiveSession): void {
    const nowMs = this.nowMs();
    for (const [other, atMs] of this.#adopted) {
      if (nowMs - atMs <= 2 * this.options.failoverGraceMs) break;
      if (this.#sessions.get(other)?.stateBeneath !== 'orphan') this.#adopted.delete(other);
    }
    this.#adopted.delete(id);
    this.#adopted.set(id, nowMs);
  }

  /** The node that an open session was last heard at is gone: it waits for the failover grace, like those of that node. */
  orphan(session: LiveSession): void {
    if (session.state !== 'open') return;
    this.#becomeOrphan(session);
    if (session.tasks.size > 0) this.#noteAdopted(session);
    this.hooks.onChanged(session);
    this.#settle(session);
  }

  #becomeOrphan(session: LiveSession): void {
    for (const set of [this.#suspects, this.#closing, this.#held]) set.delete(session);
    session.state = 'orphan';
    session.hearing = 'suspect';
    session.cause = 'node_failover';
    session.graceEndsMs = this.nowMs() + this.options.failoverGraceMs;
    this.#orphans.add(session);
  }

  /** Continues a session here that is not connected, or comes from another server: from now on it is open. */
  reopen(moved: MovedSession, onExpired: () => void): LiveSession {
    const session = this.#sessions.get(moved.id) ?? this.#fromRecord(moved);
    session.onExpired = onExpired;
    session.isContested = false;
    session.beat();
    this.#holdAll(session, moved.tasks);
    this.continue(session);
    return session;
  }

  /** A closing session or an orphan of this node is back; a verdict on it that is not carried out yet becomes void. */
  continue(session: LiveSession): void {
    const isCondemned = session.state === 'condemned';
    if (session.stateBeneath === 'open') return;
    for (const set of [this.#closing, this.#orphans, this.#held]) set.delete(session);
    session[isCondemned ? 'stateBefore' : 'state'] = 'open';
    session.cause = 'heartbeat_timeout';
    session.hearing = 'fresh';
    this.#sessions.set(session.id, session);
    this.hooks.onChanged(session);
    if (isCondemned) return;
    this.#wheel.put(session, session.lastSeenMs + session.suspectAfterMs);
    this.#resolveDoubt(session);
  }

  /** A session that nobody knows any more, of which a task has turned up that is to be judged. */
  revive(found: FoundSession): LiveSession {
    const openedAtMs = this.options.clock.monotonicMs();
    const { ttlMs } = this.options;
    const { id, door, address, owner } = found;
    const birth = { id, door, address, owner, ttlMs, openedAtMs, lastSeenMs: this.nowMs() };
    const session = new LiveSession(this, { ...birth, onExpired: () => {} });
    session.state = 'ended';
    session.cause = 'connection_closed';
    session.graceEndsMs = this.nowMs() + ttlMs;
    // It had been judged, or may have been.
    session.isDoubtful = true;
    return session;
  }

  #fromRecord(moved: MovedSession): LiveSession {
    const session = new LiveSession(this, {
      ...moved,
      onExpired: () => {},
      openedAtMs: this.options.clock.monotonicMs() - moved.openedAgoMs,
      lastSeenMs: this.nowMs() - (moved.silentMs ?? 0),
    });
    session.state = 'ended';
    session.isWrittenDown = true;
    return session;
  }

  #holdAll(session: LiveSession, tasks: readonly HeldTask[]): void {
    for (const { taskId, epoch } of tasks) this.#hold(session, taskId, epoch);
  }

  // ── What sessions say ──────────────────────────────────────────────────────────────────────────────────────────────

  nowMs(): number {
    return this.#time.nowMs();
  }

  onIdentified(session: LiveSession): void {
    if (session.isWrittenDown) this.hooks.onChanged(session);
  }

  onClosed(session: LiveSession): void {
    this.hooks.onGone(session);
    const { reconnectGraceMs } = this.options;
    if (session.state === 'condemned' && session.stateBefore === 'open') session.stateBefore = 'closing';
    if (session.state !== 'open') return;
    session.closedAtMs = this.nowMs();
    session.graceEndsMs =
      reconnectGraceMs === undefined ? session.lastSeenMs + session.ttlMs : session.closedAtMs + reconnectGraceMs;
    session.cause = 'connection_closed';
    this.#suspects.delete(session);
    this.#becomeClosing(session);
  }

  onClaimed(claimant: LiveSession, taskId: string, epoch: number): void {
    const session = this.#latest(claimant);
    if (session.isRevoked) return this.hooks.onLate(session);
    const isFirst = !session.hasClaimed;
    if (!this.#hold(session, taskId, epoch)) return;
    if (session.state === 'ended') this.#becomeClosing(session);
    else if (isFirst) this.hooks.onChanged(session);
  }

  /** The task is taken from whoever had it, and kept for nobody: a session that lives long may end any number of tasks. */
  onConcluded(claimant: LiveSession, taskId: string, epoch: number): void {
    const session = this.#latest(claimant);
    if (session.isRevoked) return;
    const isFirst = !session.hasClaimed;
    if (!this.#hold(session, taskId, epoch)) return;
    this.release(session, taskId, epoch);
    if (isFirst || session.state === 'ended') this.hooks.onChanged(session);
  }

  /** Somebody who claims nothing ended a task. One that is claimed again meanwhile has a later epoch. */
  onEnded(taskId: string, epoch: number): void {
    const owner = this.#owners.get(taskId);
    const claimed = owner?.tasks.get(taskId);
    if (owner && claimed !== undefined && claimed <= epoch) this.release(owner, taskId, claimed);
  }

  /** A session that ended here may have come back from the database, as another object. */
  #latest(session: LiveSession): LiveSession {
    return this.#sessions.get(session.id) ?? session;
  }

  onHeardAgain(session: LiveSession, gapMs: number): void {
    if (session.state !== 'open') return;
    if (session.hearing === 'held') this.#stopHolding(session);
    this.#learnInterval(session, gapMs);
    this.#suspects.delete(session);
    session.hearing = 'fresh';
    session.isReleased = false;
    this.#resolveDoubt(session);
  }

  #resolveDoubt(session: LiveSession): void {
    if (!session.isDoubtful) return;
    session.isDoubtful = false;
    this.hooks.onDoubtful(session);
  }

  onIdleHeartbeat(session: LiveSession): void {
    this.hooks.onIdleHeartbeat(session);
  }

  /** Some clients beat slower than a third of the TTL; once that is a habit they are not suspect for it. */
  #learnInterval(session: LiveSession, gapMs: number): void {
    session.lateReturns++;
    session.wasSuspect = true;
    if (session.lateReturns < LATE_RETURNS) return;
    session.suspectAfterMs = Math.min(session.ttlMs, Math.max(session.suspectAfterMs, gapMs * LATE_FACTOR));
  }

  // ── Who holds which task ───────────────────────────────────────────────────────────────────────────────────────────

  /** False when a later claim is known. */
  #hold(session: LiveSession, taskId: string, epoch: number): boolean {
    const owner = this.#owners.get(taskId);
    if (owner && (owner.tasks.get(taskId) ?? 0) > epoch) return false;
    if (owner && owner !== session) {
      this.#drop(owner, taskId);
      if (owner.state === 'closing' || owner.state === 'orphan') this.#settle(owner);
    }
    this.#owners.set(taskId, session);
    session.hold(taskId, epoch, this.options.clock.monotonicMs());
    this.#holders.add(session);
    this.#protection.noteBack(session.id);
    return true;
  }

  #drop(session: LiveSession, taskId: string): void {
    session.drop(taskId);
    if (session.tasks.size === 0) this.#holders.delete(session);
  }

  /** Forgets a claim that is void, unless the session has claimed the task again since. */
  release(session: LiveSession, taskId: string, epoch: number): void {
    if (session.tasks.get(taskId) !== epoch) return;
    this.#drop(session, taskId);
    this.#owners.delete(taskId);
    if (session.state === 'closing' || session.state === 'orphan') this.#settle(session);
  }

  #becomeClosing(session: LiveSession): void {
    session.state = 'closing';
    session.hearing = 'suspect';
    this.#orphans.delete(session);
    this.#closing.add(session);
    this.#settle(session);
    this.hooks.onChanged(session);
  }

  /** A closing session or an orphan waits for as long as it holds tasks. */
  #settle(session: LiveSession): void {
    if (session.tasks.size === 0) return this.forget(session);
    this.#sessions.set(session.id, session);
    if (session.hearing !== 'held') this.#wheel.put(session, session.graceEndsMs);
  }

  /** Ends a session without a word about its tasks: it has none, or they are somebody else's. */
  forget(session: LiveSession): void {
    if (session.state === 'ended') return;
    for (const taskId of session.tasks.keys()) this.#owners.delete(taskId);
    session.state = 'ended';
    session.hearing = 'suspect';
    this.#wheel.remove(session);
    this.#sessions.delete(session.id);
    for (const set of [this.#suspects, this.#closing, this.#orphans, this.#held, this.#holders]) set.delete(session);
    this.hooks.onChanged(session);
  }

  /** Ends a lease for good: whatever turns up of it later is no reason to judge it. */
  revoke(session: LiveSession): void {
    session.isRevoked = true;
    this.forget(session);
  }

  // ── The sweep ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #arm(): void {
    this.#timer = this.options.clock.schedule(this.options.sweepMs, () => this.#sweep());
  }

  #sweep(): void {
    const pausedMs = this.#time.tick();
    if (pausedMs > 0) this.hooks.onPaused(pausedMs);
    this.#reviewProtection();
    const overdue = this.#overdue(this.#wheel.takeDue(this.nowMs()));
    // A timer comes after the input that is waiting now: signs of life in it still count.
    if (overdue.length > 0) this.options.clock.schedule(0, () => this.#judge(overdue));
    this.#arm();
  }

  /** Those of the visited whose time is over; the others are visited again when theirs comes. */
  #overdue(visited: readonly LiveSession[]): LiveSession[] {
    const nowMs = this.nowMs();
    return visited.filter((session) => {
      const nextMs = session.state === 'open' ? this.#visitOpen(session, nowMs) : session.graceEndsMs;
      if (!isWaiting(session.state)) return false;
      if (nextMs <= nowMs) return true;
      this.#wheel.put(session, nextMs);
      return false;
    });
  }

  /** When an open session is to be looked at next; now or earlier: its TTL is over. */
  #visitOpen(session: LiveSession, nowMs: number): number {
    const suspectAtMs = session.lastSeenMs + session.suspectAfterMs;
    if (!session.isWrittenDown) this.hooks.onStays(session);
    // Seldom enough that jobs which come and go on a connection cost no row each.
    if (session.isWrittenDown && session.isHolderOnRecord !== session.tasks.size > 0) this.hooks.onChanged(session);
    if (nowMs >= suspectAtMs) {
      session.hearing = 'suspect';
      this.#suspects.add(session);
      return session.lastSeenMs + session.ttlMs;
    }
    if (session.hearing !== 'fresh') this.onHeardAgain(session, session.ttlMs);
    else if (!session.wasSuspect) session.lateReturns = 0;
    session.wasSuspect = false;
    return suspectAtMs;
  }

  // ── Verdicts ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #judge(overdue: readonly LiveSession[]): void {
    if (this.#frozen) return;
    const accused = this.#overdue(overdue);
    if (!this.hooks.mayJudge()) return this.#postpone(accused);
    const isEarly = (session: LiveSession) => this.#isAwaited(session) || this.#isInDoubt(session);
    this.#postpone(accused.filter(isEarly));
    const ripe = accused.filter((session) => !isEarly(session));
    const doubted = ripe.filter(isProtectable);
    if (doubted.length > 0) this.#protection.consider(this.#censuses(doubted), this.nowMs());
    const isHeld = (session: LiveSession) => this.#protection.isActive && isProtectable(session);
    for (const session of doubted) if (isHeld(session)) this.#holdBack(session);
    this.#condemn(ripe.filter((session) => !isHeld(session)));
  }

  #isAwaited(session: LiveSession): boolean {
    if (session.state === 'open' || session.tasks.size === 0) return false;
    // Asked once: whoever comes after that delays nothing any more.
    session.awaitedUntilMs ||= this.nowMs() + this.hooks.awaitedMs(session.address);
    return this.nowMs() < session.awaitedUntilMs && this.hooks.awaitedMs(session.address) > 0;
  }

  #isInDoubt(session: LiveSession): boolean {
    return session.state === 'open' && this.hooks.mayBeHeardElsewhere(session);
  }

  #postpone(sessions: readonly LiveSession[]): void {
    for (const session of sessions) this.#wheel.put(session, this.nowMs() + this.#recheckMs);
  }

  /** Short enough that a verdict which had to wait comes at most a tenth of the TTL late. */
  get #recheckMs(): number {
    return Math.min(RECHECK_MAX_MS, this.options.ttlMs / RECHECKS_IN_A_TTL);
  }

  #condemn(sessions: readonly LiveSession[]): void {
    const nowMs = this.nowMs();
    for (const session of sessions) {
      session.stateBefore = session.state;
      session.condemnedAtMs = nowMs;
      session.state = 'condemned';
      session.hearing = 'suspect';
    }
    this.#verdicts.submit(sessions);
  }

  /** A sign of life since the verdict makes it void, and so does a take-over. */
  #verdictStands(session: LiveSession): boolean {
    if (session.state !== 'condemned') return false;
    if (session.stateBefore !== 'open' || session.lastSeenMs < session.condemnedAtMs) return true;
    this.#withdraw(session, 0);
    this.onHeardAgain(session, session.ttlMs);
    return false;
  }

  #withdraw(session: LiveSession, recheckMs: number): void {
    if (session.state !== 'condemned') return;
    session.state = session.stateBefore;
    this.#wheel.put(session, this.nowMs() + recheckMs);
  }

  #countLapsed(session: LiveSession, given: readonly Lapse[], changed: ReadonlySet<string>): number {
    const lapsed = given.filter(({ taskId }) => changed.has(taskId)).length;
    if (lapsed > 0) this.hooks.onLapsed(session.cause, lapsed);
    return lapsed;
  }

  /** Should the session be heard before its verdict is whole, it gets these tasks back. */
  #onPartlyCarriedOut(session: LiveSession, given: readonly Lapse[], changed: ReadonlySet<string>): void {
    if (this.#countLapsed(session, given, changed) > 0) session.isDoubtful = true;
    if (session.state === 'condemned') for (const { taskId, epoch } of given) this.release(session, taskId, epoch);
  }

  #onCarriedOut(session: LiveSession, given: readonly Lapse[], changed: ReadonlySet<string>): void {
    this.#countLapsed(session, given, changed);
    if (session.state !== 'condemned') return;
    const { stateBefore } = session;
    if (isProtectable(session)) {
      const crowd = stateBefore === 'orphan' ? 'orphans' : 'own';
      this.#protection.noteExpired(crowd, session.id, lostAtMs(session));
      this.#adopted.delete(session.id);
    }
    for (const { taskId, epoch } of given) this.release(session, taskId, epoch);
    session.graceEndsMs = Math.min(session.graceEndsMs || Infinity, this.nowMs());
    session.isReleased = true;
    if (session.tasks.size === 0) this.forget(session);
    else this.#becomeClosing(session);
    if (stateBefore === 'open') session.onExpired();
  }

  // ── Protection ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An administrator decides; false when this node protects nothing. */
  decide(decision: 'expire_now' | 'hold', actor: string): boolean {
    if (decision === 'hold') return this.#protection.hold(actor, this.nowMs());
    if (!this.#protection.expireNow(actor, this.#held.size)) return false;
    this.#releaseHeld('operator');
    return true;
  }

  /** Mass silence as people see it, or null. */
  get protection(): ProtectionView | null {
    return this.#protection.view(this.#held.size, this.nowMs());
  }

  #reviewProtection(): void {
    if (!this.#protection.isActive) return;
    const end = this.#protection.review(this.#censuses(), this.#held.size, this.nowMs());
    if (end) this.#releaseHeld(end);
  }

  #censuses(accused: readonly LiveSession[] = []): Censuses {
    return { own: this.#census(accused), orphans: this.#censusOfOrphans() };
  }

  /**
   * Orphans whose grace is over or nearly so, among all that came with tasks in that time: of those who come back at all,
   * most have by then. One that is held stays lost until it is back; one that was judged does not, long as its verdict may wait.
   */
  #censusOfOrphans(): Census {
    const nearlyOverMs = this.nowMs() + this.options.failoverGraceMs * NEARLY_OVER;
    let [lost, of] = [0, this.#adopted.size];
    for (const { isReleased, graceEndsMs, condemnedAtMs } of this.#orphans) {
      if (condemnedAtMs >= graceEndsMs && graceEndsMs <= this.nowMs() - this.options.ttlMs) of--;
      else if (!isReleased && graceEndsMs <= nearlyOverMs) lost++;
    }
    return { lost, of };
  }

  /**
   * Sessions lost within one TTL, or held since before, among all that could have been. The TTL is the latest one, or an
   * earlier one in which the first of the accused was lost, where they were waited for so long. Who is silent counts where it
   * may have fallen silent with one of them: between two beats nobody knows, and a long TTL has long ones.
   */
  #census(accused: readonly LiveSession[] = []): Census {
    const { ttlMs } = this.options;
    const closedAtMs = accused.filter(({ state }) => state === 'closing').map((session) => session.closedAtMs);
    const sinceMs = closedAtMs.reduce((first, next) => Math.min(first, next), this.nowMs() - ttlMs);
    const lostAtMs = accused.map((session) => (session.state === 'closing' ? session.closedAtMs : session.lastSeenMs));
    const [firstMs, lastMs] = [Math.min(...lostAtMs), Math.max(...lostAtMs)];
    let lost = 0;
    for (const session of this.#suspects) {
      // Its verdict may wait for long, as for a task that somebody keeps locked.
      const wasLostBefore = session.state === 'condemned' && session.condemnedAtMs < sinceMs;
      const { lastSeenMs } = session;
      const grainMs = Math.max(ttlMs, session.ttlMs / BEATS_IN_A_TTL);
      const isAlone = accused.length > 0 && (lastSeenMs < firstMs - grainMs || lastSeenMs > lastMs + grainMs);
      const isOver = session.hearing !== 'held' && (wasLostBefore || isAlone);
      if (!session.isReleased && !isOver && session.tasks.size > 0) lost++;
    }
    for (const session of this.#closing) {
      const isRecent = session.closedAtMs >= sinceMs && session.closedAtMs <= sinceMs + ttlMs;
      if (!session.isReleased && (isRecent || session.hearing === 'held')) lost++;
    }
    return { lost, of: this.#holders.size - this.#orphans.size };
  }

  #holdBack(session: LiveSession): void {
    session.hearing = 'held';
    this.#held.add(session);
    this.hooks.onChanged(session);
  }

  #stopHolding(session: LiveSession): void {
    session.hearing = 'suspect';
    this.#held.delete(session);
    this.#wheel.put(session, this.nowMs());
    this.hooks.onChanged(session);
  }

  #releaseHeld(end: ProtectionEnd): void {
    const decided = end === 'calm' ? [] : [...this.#suspects, ...this.#closing, ...this.#orphans];
    for (const session of [...this.#held, ...decided]) session.isReleased = true;
    for (const session of [...this.#held]) this.#stopHolding(session);
  }

  // ── For those who look ─────────────────────────────────────────────────────────────────────────────────────────────

  get(id: string): LiveSession | undefined {
    return this.#sessions.get(id);
  }

  get size(): number {
    return this.#sessions.size;
  }

  all(): IterableIterator<LiveSession> {
    return this.#sessions.values();
  }

  get suspects(): ReadonlySet<LiveSession> {
    return this.#suspects;
  }

  get orphans(): ReadonlySet<LiveSession> {
    return this.#orphans;
  }

  get closing(): ReadonlySet<LiveSession> {
    return this.#closing;
  }

  counts(): SessionCounts {
    const [closing, orphan, held] = [this.#closing.size, this.#orphans.size, this.#held.size];
    const open = this.#sessions.size - closing - orphan;
    return { open, closing, orphan, suspect: this.#suspects.size, held, condemned: this.#verdicts.size };
  }
}

function isWaiting(state: SessionState): boolean {
  return state === 'open' || state === 'closing' || state === 'orphan';
}

/** Protection is about tasks that nobody has decided on. */
function isProtectable(session: LiveSession): boolean {
  return !session.isReleased && session.tasks.size > 0;
}

/**
 * When a session that is judged dead was lost: its connection, or, while that is open, the first beat that it missed; an
 * orphan when its grace was over.
 */
function lostAtMs({ stateBefore, closedAtMs, lastSeenMs, suspectAfterMs, graceEndsMs }: LiveSession): number {
  if (stateBefore === 'orphan') return graceEndsMs;
  return stateBefore === 'closing' ? closedAtMs : lastSeenMs + suspectAfterMs;
}
