/**
 * Liveness: who keeps a task alive, and what happens when it goes silent. The rules, with their reasons: docs/liveness.md.
 *
 * A session is one live connection. It vouches for the tasks that it claimed by register or update.
 *
 *            beat (moves the deadline)
 *             ┌──┐
 *   ──open──► open ──silent for its TTL──────────────► condemned ──database took the lapse──► ended
 *              │                                           ▲                                   │
 *              └─socket closed─► closing ──grace over──────┘                                   │
 *                                  │  ▲                                                        │
 *         every task claimed anew, │  └───────── a claim that was under way is durable ────────┘
 *         or none held ────────────┴──► ended
 *
 * open       The deadline is the last sign of life plus the TTL.
 * closing    The connection is gone; the tasks wait for the reconnect grace, or for what was left of the TTL.
 * condemned  Judged dead: its tasks are being set to shutdown, for as long as the database needs to take it.
 * ended      Forgotten. After silence the connection is closed too, so that its client notices.
 *
 * Invariants
 * - A heartbeat writes one number. There is one timer for all sessions; a sweep visits sessions whose time has come and
 *   no others (deadline-wheel.ts).
 * - A task belongs to the session that claimed it last. A claim takes the task from the session that had it, here in
 *   memory and, for sessions elsewhere, by the epoch that every verdict carries and the database compares.
 * - Time is patient (patient-time.ts): a pause of this process is nobody else's silence. And between finding a session
 *   overdue and judging it, one turn of input is read, in which its sign of life may have been waiting.
 * - A claim that becomes durable after its session ended is judged like the session was: no task is left to nobody.
 */
import { randomUUID } from 'node:crypto';
import type { Clock, Timer } from './clock.js';
import { DeadlineWheel } from './deadline-wheel.js';
import { LiveSession, type SessionEngine } from './liveness-session.js';
import { PatientTime } from './patient-time.js';
import type { ChangeHints, Lapse, Log, TaskStore } from './ports.js';
import type { Session, SessionHost, SessionOpening } from './sessions.js';
import type { LapseCause } from './task.js';
import { VerdictQueue } from './verdict-queue.js';

/** What the engine needs. */
export interface LivenessOptions {
  readonly lapses: Pick<TaskStore, 'lapse'>;
  readonly hints: Pick<ChangeHints, 'announce'>;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a session may be silent, where it does not say so itself, in milliseconds. */
  readonly ttlMs: number;
  /** How long the tasks of a closed connection wait, in milliseconds; undefined: what is left of the TTL. */
  readonly reconnectGraceMs: number | undefined;
  /** How often is swept, in milliseconds; verdicts come at most two sweeps late. */
  readonly sweepMs?: number;
  /** How late a sweep may come before that counts as a pause of this process, in milliseconds. */
  readonly slackMs?: number;
  /** Told how many tasks the registry set to shutdown by itself, for the metrics. */
  readonly onLapsed?: (cause: LapseCause, tasks: number) => void;
}

const SWEEP_MS = 100;
const SLACK_MS = 100;

export class Liveness implements SessionHost, SessionEngine {
  readonly #sessions = new Map<string, LiveSession>();
  readonly #owners = new Map<string, LiveSession>();
  readonly #time: PatientTime;
  readonly #wheel: DeadlineWheel<LiveSession>;
  readonly #verdicts: VerdictQueue<LiveSession>;
  readonly #sweepMs: number;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(private readonly options: LivenessOptions) {
    this.#sweepMs = options.sweepMs ?? SWEEP_MS;
    this.#time = new PatientTime(options.clock, this.#sweepMs, options.slackMs ?? SLACK_MS);
    this.#wheel = new DeadlineWheel(this.#sweepMs, this.#time.nowMs());
    this.#verdicts = new VerdictQueue(options.lapses, options.clock, options.log, (session, lapses, changed) =>
      this.#onCarriedOut(session, lapses, changed),
    );
  }

  /** Begins to judge; idempotent. */
  start(): void {
    if (this.#timer || this.#stopped) return;
    this.#time.tick();
    this.#arm();
  }

  /**
   * Judges no more: what is open or closing now stays undecided. Call it before the doors close their connections, so
   * that the closing is not taken for the clients' doing. Resolves when the verdict under way, if any, is over.
   */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#verdicts.stop();
  }

  /** Sessions with a live connection, or whose tasks still wait for one. */
  get size(): number {
    return this.#sessions.size;
  }

  /** Opens a session whose first sign of life is now. */
  open(opening: SessionOpening): Session {
    const ttlMs = opening.ttlMs ?? this.options.ttlMs;
    const session = new LiveSession(this, randomUUID(), { ...opening, ttlMs });
    this.#sessions.set(session.id, session);
    this.#wheel.put(session, session.deadlineMs);
    return session;
  }

  /** The time on which sessions are judged. For LiveSession. */
  nowMs(): number {
    return this.#time.nowMs();
  }

  /** For LiveSession: its connection is gone. */
  onClosed(session: LiveSession): void {
    const { reconnectGraceMs } = this.options;
    session.graceEndsMs =
      reconnectGraceMs === undefined ? session.lastSeenMs + session.ttlMs : this.nowMs() + reconnectGraceMs;
    session.state = 'closing';
    session.cause = 'connection_closed';
    this.#settle(session);
  }

  /** For LiveSession: its claim of a task is durable. */
  onClaimed(session: LiveSession, taskId: string, epoch: number): void {
    const owner = this.#owners.get(taskId);
    if (owner && owner !== session) {
      if ((owner.tasks.get(taskId) ?? 0) > epoch) return;
      owner.drop(taskId);
      if (owner.state === 'closing') this.#settle(owner);
    }
    this.#owners.set(taskId, session);
    session.hold(taskId, epoch);
    if (session.state !== 'ended') return;
    session.state = 'closing';
    this.#settle(session);
  }

  /** A closing session waits for as long as it holds tasks. */
  #settle(session: LiveSession): void {
    if (session.tasks.size === 0) return this.#forget(session);
    this.#sessions.set(session.id, session);
    this.#wheel.put(session, session.graceEndsMs);
  }

  #forget(session: LiveSession): void {
    session.state = 'ended';
    this.#wheel.remove(session);
    this.#sessions.delete(session.id);
  }

  #arm(): void {
    this.#timer = this.options.clock.schedule(this.#sweepMs, () => this.#sweep());
  }

  #sweep(): void {
    const pausedMs = this.#time.tick();
    if (pausedMs > 0)
      this.options.log.warn({ pausedMs }, 'this process stood still; every deadline is moved by as much');
    const overdue = this.#overdue(this.#wheel.takeDue(this.nowMs()));
    // A timer comes after the input that is waiting now: signs of life in it still count.
    if (overdue.length > 0) this.options.clock.schedule(0, () => this.#judge(overdue));
    this.#arm();
  }

  /** Those of the visited that are past their deadline; the others are visited again when theirs comes. */
  #overdue(visited: readonly LiveSession[]): LiveSession[] {
    const nowMs = this.nowMs();
    return visited.filter((session) => {
      if (session.state !== 'open' && session.state !== 'closing') return false;
      if (session.deadlineMs <= nowMs) return true;
      this.#wheel.put(session, session.deadlineMs);
      return false;
    });
  }

  #judge(suspects: readonly LiveSession[]): void {
    if (this.#stopped) return;
    const condemned = this.#overdue(suspects);
    for (const session of condemned) session.state = 'condemned';
    this.#verdicts.submit(condemned);
  }

  #onCarriedOut(session: LiveSession, lapses: readonly Lapse[], changed: ReadonlySet<string>): void {
    for (const { taskId, epoch } of lapses) this.#release(session, taskId, epoch);
    const lapsed = lapses.filter(({ taskId }) => changed.has(taskId)).length;
    if (lapsed > 0) {
      this.options.hints.announce();
      this.options.onLapsed?.(session.cause, lapsed);
    }
    const silent = session.graceEndsMs === Infinity;
    session.graceEndsMs = Math.min(session.graceEndsMs, this.nowMs());
    session.state = 'closing';
    this.#settle(session);
    if (silent) session.onExpired();
  }

  #release(session: LiveSession, taskId: string, epoch: number): void {
    if (session.tasks.get(taskId) !== epoch) return;
    session.drop(taskId);
    this.#owners.delete(taskId);
  }
}
