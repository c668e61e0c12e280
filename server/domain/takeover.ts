/**
 * Sessions on the move between servers.
 *
 * adopt     A server died or stopped: its sessions come here as orphans, with the failover grace. The same for this very
 *           server's sessions of before a restart: a run of a server is a node of its own. Where the answer is lost, they are looked
 *           for on record.
 * reclaim   This server's lease had run out and others took its sessions, while the connections lived on here.
 * take      A lease is used here that another server holds, or held: its client has moved (lease-moves.ts).
 * refresh   Sessions that are silent or waiting here may have gone elsewhere meanwhile: then nothing is to be decided
 *           about them here.
 * audit     A write whose answer was lost, or that came late, may have claimed a task without anybody noting it. Looked for
 *           after such a write, and now and then.
 * reassert  The database was away, and may be another one now: a standby that lacks the last of the history. Or it has lost
 *           what was written here, so quickly that nobody saw it go. What sessions hold here that have been heard since is
 *           claimed again where that was undone, and sessions on record that are over are judged. Who has not been heard may
 *           have gone elsewhere; what somebody has claimed in the history that is, is theirs (lost-claims.ts).
 *
 * What lapsed for the sake of a session that lives is claimed beside the rounds, which wait for that only for a moment: somebody may
 * keep a task locked.
 *
 * Whatever moves raises the epochs of its tasks, so that verdicts of where it came from are void. The epoch of a task that
 * somebody keeps locked stays as it is: a session does not wait for that. Whether such a verdict was stored is looked for
 * until none can be on its way any more.
 */
import { doneWithin, type Clock } from './clock.js';
import type { MovedSession, SessionStore, TakeoverLimits, TaskVersion } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import { LostClaims } from './lost-claims.js';
import { LAPSES_WITHIN_MS, type Log, type TaskStore } from './ports.js';
import type { SessionEngine } from './session-engine.js';
import { SessionWork } from './session-work.js';
import type { TaskClaims } from './task-claims.js';

/** What moving needs. */
export interface TakeoverOptions {
  readonly nodeId: string;
  readonly store: SessionStore;
  readonly history: Pick<TaskStore, 'hasLostWrites'>;
  readonly engine: SessionEngine;
  readonly claims: TaskClaims;
  readonly clock: Clock;
  readonly log: Log;
  readonly mayAdopt: () => boolean;
  readonly onAdopted: (sessions: number, tasks: number) => void;
  /** The record of a session may be gone. */
  readonly onUncertain: (session: LiveSession) => void;
}

/** What moves at once: the database is done with it soon, and this process too. */
const MAX_AT_ONCE: TakeoverLimits = { sessions: 1000, tasks: 5000 };
/** In every so many rounds, what late writes may have left is looked for: here, and at dead nodes that had nothing left. */
const SEARCH_EVERY = 20;
const MAX_REFRESHED = 20_000;
const MAX_RESTORING = 1000;
const RESTORE_PATIENCE_MS = 500;

export class Takeover {
  #round: Promise<void> = Promise.resolve();
  #rounds = 0;
  #isBusy = false;
  /** Open sessions that other nodes may have taken. */
  readonly #reclaimable = new Set<string>();
  /** Open sessions on which a verdict may have been stored, and until when it may still be. */
  readonly #doubtful = new Map<string, number>();
  #auditDue = false;
  #unsettleDue = false;
  #reassertDue = false;
  /** An answer was lost that told of sessions which are this node's now. */
  #straysDue = false;
  /** Open sessions whose claims may be lost, and since when, in patient time, they have not been heard. */
  readonly #unproved = new Map<string, number>();
  /** Steps of a round that failed the last time. */
  readonly #failing = new Set<string>();
  readonly #restoring: SessionWork;
  readonly #lostClaims: LostClaims;
  #stopped = false;

  constructor(private readonly options: TakeoverOptions) {
    this.#restoring = new SessionWork(options.clock, MAX_RESTORING);
    const onFailed = () => (this.#reassertDue = true);
    this.#lostClaims = new LostClaims({ ...options, work: this.#restoring, onFailed });
  }

  /**
   * One round after each renewal of the lease; a round that is still under way is enough. `regained`: the lease had been lost;
   * `wasAway`: renewals had failed.
   */
  onRenewed(regained: boolean, wasAway: boolean): void {
    if (regained) this.#onRegained();
    if (regained || wasAway) this.#reassertDue = true;
    if (this.#isBusy || this.#stopped) return;
    this.#isBusy = true;
    this.#round = this.#runRound().finally(() => (this.#isBusy = false));
  }

  /** A verdict on a session may have been stored although it lives; its tasks are brought back soon. */
  repair(session: LiveSession): void {
    this.#doubt(session.id);
  }

  /** Writes failed, and may have claimed tasks all the same. */
  auditSoon(): void {
    this.#auditDue = true;
  }

  /** Begins no more; resolves when what is under way is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#round;
    await this.#restoring.stop();
  }

  #onRegained(): void {
    const { engine, onUncertain } = this.options;
    this.#auditDue = true;
    for (const session of engine.all()) {
      if (session.state !== 'open' || !session.isWrittenDown) continue;
      this.#reclaimable.add(session.id);
      this.#doubt(session.id);
      onUncertain(session);
    }
  }

  async #runRound(): Promise<void> {
    if (this.#rounds++ % SEARCH_EVERY === 0) this.#auditDue = this.#unsettleDue = true;
    await this.#step('reclaim', () => this.#reclaim());
    await this.#step('repair', () => this.#repair());
    await this.#step('reassert', () => this.#reassert());
    await this.#step('refresh', () => this.#refresh());
    await this.#step('adopt', () => this.#adopt());
    await this.#step('audit', () => this.#audit());
  }

  /** Each fails for itself; that, and its end, is told once. */
  async #step(step: string, work: () => Promise<void>): Promise<void> {
    if (this.#stopped) return;
    const { log } = this.options;
    try {
      await work();
      if (this.#failing.delete(step)) log.info({ step }, 'sessions are moved between servers again');
    } catch (error) {
      if (this.#failing.has(step)) return;
      this.#failing.add(step);
      log.warn(
        { err: error, step },
        'sessions could not be moved between servers in one way; the others go on, and it is tried again with each renewal',
      );
    }
  }

  async #adopt(): Promise<void> {
    const { store, mayAdopt, log, onAdopted } = this.options;
    if (!mayAdopt()) return;
    if (this.#straysDue) await this.#judgeStrays();
    this.#straysDue = false;
    if (this.#unsettleDue) await store.unsettle();
    this.#unsettleDue = false;
    const adopted = { sessions: 0, tasks: 0 };
    try {
      while (mayAdopt() && !this.#stopped && (await this.#adoptSome(adopted)));
    } finally {
      if (adopted.sessions > 0) {
        log.info(adopted, 'took over sessions of a server that is gone');
        onAdopted(adopted.sessions, adopted.tasks);
      }
    }
  }

  /** False when there was nothing left. */
  async #adoptSome(adopted: { sessions: number; tasks: number }): Promise<boolean> {
    const { store, nodeId, engine } = this.options;
    const moved = await store.adopt(nodeId, MAX_AT_ONCE).catch((error: unknown) => {
      this.#straysDue = true;
      throw error;
    });
    for (const session of moved) engine.adopt(session);
    adopted.sessions += moved.length;
    adopted.tasks += moved.reduce((sum, session) => sum + session.tasks.length, 0);
    return moved.length > 0;
  }

  async #reclaim(): Promise<void> {
    const { store, nodeId } = this.options;
    const locked: string[] = [];
    try {
      for (const ids of this.#openAmong(this.#reclaimable)) {
        for (const moved of await store.reclaim(nodeId, ids, (id) => locked.push(id))) this.#takeBack(moved);
        await this.#contestLeases(ids.filter((id) => !locked.includes(id)));
        for (const id of ids) this.#reclaimable.delete(id);
      }
    } finally {
      for (const id of locked) this.#reclaimable.add(id);
    }
  }

  /** Leases that were not taken back are used elsewhere, or have been revoked there. */
  async #contestLeases(ids: readonly string[]): Promise<void> {
    const { store, nodeId, engine } = this.options;
    const leases = ids.filter((id) => engine.get(id)?.isLease);
    if (leases.length === 0) return;
    for (const [id, { isElsewhere }] of await store.whereabouts(nodeId, leases)) {
      const session = engine.get(id);
      if (session && isElsewhere) session.isContested = true;
    }
  }

  #takeBack(moved: MovedSession): void {
    const session = this.options.engine.get(moved.id);
    for (const { taskId, epoch } of moved.tasks) session?.claimed(taskId, epoch);
    // One that was locked for long may have been judged meanwhile.
    if (moved.locked.length > 0 || moved.lapsed.length > 0) this.#doubt(moved.id);
  }

  async #repair(): Promise<void> {
    const { store, clock } = this.options;
    const doubtful = new Map(this.#doubtful);
    const askedAtMs = clock.monotonicMs();
    for (const [id, untilMs] of doubtful) if (untilMs <= askedAtMs) this.#doubtful.delete(id);
    const asked = new Set(doubtful.keys());
    try {
      for (const ids of this.#openAmong(asked)) {
        const lapsed = await store.lapsedOf(ids);
        for (const id of ids) asked.delete(id);
        await Promise.all(ids.map((id) => this.restore(id, lapsed.get(id) ?? [])));
      }
    } finally {
      for (const id of asked) this.#doubtful.set(id, doubtful.get(id) ?? 0);
    }
  }

  /** What is found now is repaired; until the verdict cannot be stored any more, it is looked for again. */
  #doubt(id: string): void {
    this.#doubtful.set(id, this.options.clock.monotonicMs() + LAPSES_WITHIN_MS);
  }

  /**
   * Claims what lapsed for the sake of a session that lives; what the database does not take now is tried again. Resolves when that
   * is done, or is waited for no longer: it goes on beside.
   */
  async restore(id: string, lapsed: readonly TaskVersion[]): Promise<void> {
    const session = this.options.engine.get(id);
    if (!session || lapsed.length === 0) return;
    const restored = this.#restoring.begin(id, () => this.#claimLapsed(session, lapsed));
    if (restored) await doneWithin(this.options.clock, RESTORE_PATIENCE_MS, restored);
    else this.#doubt(id);
  }

  async #claimLapsed(session: LiveSession, lapsed: readonly TaskVersion[]): Promise<void> {
    const { failed } = await this.options.claims.claim(session, lapsed);
    if (failed > 0) this.#doubt(session.id);
  }

  /** The sessions of a set that are still open, in parts; the others leave the set. */
  *#openAmong(set: Set<string>): Generator<string[]> {
    while (set.size > 0 && !this.#stopped) {
      const open = this.#someOpen(set);
      if (open.length > 0) yield open;
    }
  }

  #someOpen(set: Set<string>): string[] {
    const open: string[] = [];
    let tasks = 0;
    for (const id of set) {
      const session = this.options.engine.get(id);
      if (session?.state !== 'open') set.delete(id);
      else if (open.length > 0 && tasks + session.tasks.size > MAX_AT_ONCE.tasks) break;
      else {
        tasks += session.tasks.size;
        if (open.push(id) === MAX_AT_ONCE.sessions) break;
      }
    }
    return open;
  }

  /** Forgets what has gone elsewhere: the session itself, or all of its tasks. */
  async #refresh(): Promise<void> {
    const { store, nodeId, engine } = this.options;
    const waiting = [...engine.orphans, ...engine.closing, ...engine.suspects];
    const asked = waiting.filter((session) => session.isWrittenDown).slice(0, MAX_REFRESHED);
    if (asked.length === 0) return;
    const claims = asked.map((session) => session.claims);
    const found = await store.whereabouts(
      nodeId,
      asked.map((session) => session.id),
    );
    asked.forEach((session, index) => {
      const { isElsewhere, hasTasks } = found.get(session.id) ?? { isElsewhere: false, hasTasks: true };
      if (isElsewhere) this.#onElsewhere(session);
      // Of what it claimed since it was asked about, the answer does not know; the next one will.
      if (hasTasks || session.claims !== claims[index]) return;
      for (const [taskId, epoch] of [...session.tasks]) engine.release(session, taskId, epoch);
    });
  }

  /** A live connection takes its session back, and what is locked may be; anything else follows the client to where it has gone. */
  #onElsewhere(session: LiveSession): void {
    if (session.state === 'open' && session.door === 'tcp') this.#reclaimable.add(session.id);
    else if (session.state === 'open' && this.#reclaimable.has(session.id)) return;
    else this.options.engine.forget(session);
  }

  async #reassert(): Promise<void> {
    const { engine, history, log, nodeId, onUncertain } = this.options;
    if (await history.hasLostWrites()) {
      log.warn(
        { node: nodeId },
        'the database has lost writes that it had acknowledged; sessions that live here are claimed again',
      );
      this.#reassertDue = true;
    }
    if (this.#reassertDue) {
      this.#reassertDue = false;
      const sinceMs = engine.nowMs();
      for (const session of engine.all()) {
        if (session.state === 'open' && session.tasks.size > 0) this.#unproved.set(session.id, sinceMs);
        if (session.isWrittenDown || session.hasClaimed) onUncertain(session);
      }
    } else if (this.#unproved.size === 0) return;
    const heard = this.#heardAgain();
    try {
      await this.#lostClaims.makeAgain(heard);
      await this.#judgeStrays();
    } catch (error) {
      this.#reassertDue = true;
      throw error;
    }
    for (const { id } of heard) this.#unproved.delete(id);
  }

  /** Those of the unproved that have been heard since; who has ended is forgotten. */
  #heardAgain(): LiveSession[] {
    const heard: LiveSession[] = [];
    for (const [id, sinceMs] of this.#unproved) {
      const session = this.options.engine.get(id);
      if (session?.state !== 'open') this.#unproved.delete(id);
      else if (session.lastSeenMs > sinceMs) heard.push(session);
    }
    return heard;
  }

  /**
   * Sessions that ended here, of whose end the database does not know any more; or that were taken over without an answer. A lease
   * may have been fetched without one, too: whoever tries that again finds it, or lets it lapse.
   */
  async #judgeStrays(): Promise<void> {
    const { store, nodeId, engine, onUncertain } = this.options;
    const known = [...engine.all()].map(({ id }) => id);
    for (const stray of await store.strays(nodeId, known)) {
      if (engine.get(stray.id)) continue;
      if (stray.state === 'orphan' || stray.door !== 'tcp') {
        engine.adopt(stray);
        continue;
      }
      const session = engine.revive(stray);
      session.isWrittenDown = true;
      for (const { taskId, epoch } of stray.tasks) session.claimed(taskId, epoch);
      onUncertain(session);
    }
  }

  async #audit(): Promise<void> {
    if (!this.#auditDue) return;
    const { store, nodeId, engine } = this.options;
    this.#auditDue = false;
    const unattended = await store.unattended(nodeId).catch((error: unknown) => {
      this.#auditDue = true;
      throw error;
    });
    for (const { session, taskId, epoch } of unattended)
      (engine.get(session.id) ?? engine.revive(session)).claimed(taskId, epoch);
  }
}
