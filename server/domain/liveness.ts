/**
 * Liveness: who keeps a task alive, and what happens when it goes silent. The rules, with their reasons: docs/liveness.md.
 *
 * This file is the whole as the rest of the server sees it; its parts tell their own states and invariants:
 *
 *   session-engine   sessions, deadlines, verdicts: memory only (with deadline-wheel, patient-time, verdict-queue)
 *   protection       what mass silence means
 *   node-lease       whether the database trusts this node, hence what it may decide
 *   session-journal  writes sessions down in bulk, for other nodes and for the time after a crash
 *   takeover         sessions that move between servers, and a restart, which is the same
 *   resumption       services that reconnect and only beat (with address-visits, address-inquiries)
 *   session-marks    suspect, unconfirmed, protected, flapping
 *   session-list     the live sessions as people see them
 *   leases           sessions without a connection of their own (with lease-inquiries, lease-moves, farewells)
 *
 * Every renewal of the lease drives what looks beyond this node: taking over, taking back, marks, orders.
 */
import type { Principal } from './access.js';
import { AddressVisits } from './address-visits.js';
import type { Clock, Timer } from './clock.js';
import type { Deadline } from './deadline.js';
import { Farewells } from './farewells.js';
import { sayGoodbye } from './goodbye.js';
import type {
  AddressQuestions,
  LeaseBeats,
  NodeEvent,
  NodeEventKind,
  NodeIdentity,
  NodeRenewal,
  NodeReport,
  NodeStore,
  PeerNode,
  ProtectionOrder,
  ProtectionView,
  SessionStore,
  SessionView,
} from './liveness-ports.js';
import { LeaseMoves } from './lease-moves.js';
import { Leases } from './leases.js';
import type { LiveSession } from './liveness-session.js';
import { NodeLease } from './node-lease.js';
import type { Patience } from './patience.js';
import type { ChangeHints, Log, TaskStore } from './ports.js';
import type { ProtectionEvent } from './protection.js';
import { Resumption, type ResumeByAddress } from './resumption.js';
import { SessionEngine, type SessionCounts } from './session-engine.js';
import { SessionJournal } from './session-journal.js';
import { SessionList } from './session-list.js';
import { SessionMarks } from './session-marks.js';
import type { Session, SessionHost, SessionOpening } from './sessions.js';
import { Takeover } from './takeover.js';
import type { LapseCause } from './task.js';
import { TaskClaims } from './task-claims.js';
import type { WriteBatcher } from './write-batcher.js';

/** What liveness needs. */
export interface LivenessOptions {
  readonly node: NodeIdentity;
  readonly lapses: Pick<TaskStore, 'lapse' | 'hasLostWrites'>;
  readonly writes: Pick<WriteBatcher, 'submit'>;
  readonly nodes: NodeStore;
  readonly sessions: SessionStore;
  readonly hints: Pick<ChangeHints, 'announce'>;
  readonly beats: LeaseBeats;
  readonly questions: AddressQuestions;
  /** How long a call waits for its lease where the database is away, or another server is at it. */
  readonly patience: Patience;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a session may be silent, where it does not say so itself, in milliseconds. */
  readonly ttlMs: number;
  /** How long the tasks of a closed connection wait, in milliseconds; undefined: what is left of the TTL. */
  readonly reconnectGraceMs: number | undefined;
  /** How long the tasks of a server that ended wait; undefined: 60 s or twice the TTL, whichever is longer. */
  readonly failoverGraceMs?: number | undefined;
  /** How long the other nodes wait for this one to renew its lease; undefined: 10 s. */
  readonly leaseMs?: number | undefined;
  /** How long mass silence may hold shutdowns back; 0: not at all; undefined: 15 minutes. */
  readonly protectionMaxMs?: number | undefined;
  /** Whether a service that only reconnects and beats gets its tasks back by its address; undefined: `single`. */
  readonly resumeByAddress?: ResumeByAddress | undefined;
  /** How many leases may come from other servers at the same time, each by a connection to the database. */
  readonly leaseMovesAtOnce: number;
  /** How many leases one owner may have at this node; undefined: 2000. */
  readonly leasesPerOwner?: number | undefined;
  /** Whether an address is that of a proxy, which hides those of others. */
  readonly isProxy?: (address: string) => boolean;
  /** How often is swept; verdicts come at most two sweeps late. */
  readonly sweepMs?: number;
  /** How late a sweep may come before that counts as a pause of this process. */
  readonly slackMs?: number;
  readonly events?: LivenessEvents;
}

/** What metrics and histories may want to hear; all of it is also in the log. */
export interface LivenessEvents {
  readonly onLapsed?: (cause: LapseCause, tasks: number) => void;
  readonly onAdopted?: (sessions: number, tasks: number) => void;
  readonly onResumed?: (tasks: number) => void;
  readonly onPaused?: (pausedMs: number) => void;
  readonly onLease?: (state: 'held' | 'lost') => void;
  readonly onProtection?: (event: ProtectionEvent) => void;
}

/** Mass silence on one of the nodes. */
export interface NodeProtection {
  readonly node: string;
  readonly protection: ProtectionView;
}

const LEASE_MS = 10_000;
const FAILOVER_GRACE_MS = 60_000;
const PROTECTION_MAX_MS = 15 * 60_000;
const SWEEP_MS = 100;
const SLACK_MS = 100;
/** Shorter pauses are everyday life on a busy machine. */
const WORTH_A_WARNING_MS = 1000;
const MAX_SUSPECTS_TOLD = 1000;
const PURGE_EVERY_MS = 10 * 60_000;
const NODE_KEPT_MS = 24 * 3_600_000;
const MAX_EVENTS_LISTED = 1000;
const LEASES_PER_OWNER = 2000;
/** Longer than a statement takes that fails on a connection which stands still. */
const MIN_DOUBT_MS = 15_000;
/** How often it is told that an owner has reached a limit. */
const LIMIT_TOLD_EVERY_MS = 10 * 60_000;
const MAX_LIMITS_TOLD = 1000;

export class Liveness implements SessionHost {
  readonly #engine: SessionEngine;
  readonly #journal: SessionJournal;
  readonly #lease: NodeLease;
  readonly #takeover: Takeover;
  readonly #leaseMoves: LeaseMoves;
  readonly #farewells: Farewells;
  readonly #resumption: Resumption;
  readonly #claims: TaskClaims;
  readonly #list: SessionList;
  /** Marks for every read. */
  readonly marks: SessionMarks;
  readonly leases: Leases;
  #peers: readonly PeerNode[] = [];
  readonly #limitsTold = new Map<string, number>();
  #purge: Timer | undefined;
  #stopping: Promise<void> | undefined;

  constructor(private readonly options: LivenessOptions) {
    const { node, clock, log, sessions, ttlMs } = options;
    const leaseMs = options.leaseMs ?? LEASE_MS;
    const failoverGraceMs = options.failoverGraceMs ?? Math.max(FAILOVER_GRACE_MS, 2 * ttlMs);
    this.#claims = new TaskClaims(options.writes, options.hints, clock);
    this.#engine = this.#createEngine(failoverGraceMs);
    this.marks = new SessionMarks(this.#engine, sessions, node.id, clock, log);
    this.#journal = new SessionJournal({
      ...{ store: sessions, nodeId: node.id, clock, log },
      onLeftover: (session, { taskId, epoch }) => session.claimed(taskId, epoch),
    });
    this.#resumption = new Resumption({
      ...{ mode: options.resumeByAddress ?? 'single', nodeId: node.id, isProxy: options.isProxy ?? (() => false) },
      ...{ store: sessions, engine: this.#engine, visits: new AddressVisits(clock), claims: this.#claims, clock, log },
      ...{ questions: options.questions, hasPeers: () => this.#peers.length > 0 },
      settleMs: settleMsOf(ttlMs),
      windowMs: failoverGraceMs + 3 * leaseMs,
      onResumed: (tasks) => options.events?.onResumed?.(tasks),
      onDoubt: (doubt) => this.#note('return_in_doubt', { ...doubt }),
    });
    this.#takeover = new Takeover({
      ...{ nodeId: node.id, store: sessions, engine: this.#engine, claims: this.#claims, clock, log },
      history: options.lapses,
      mayAdopt: () => this.#lease.mayAdopt,
      onAdopted: (count, tasks) => this.#onAdopted(count, tasks),
      onUncertain: (session) => this.#journal.note(session),
    });
    this.#lease = this.#createLease(leaseMs);
    this.#leaseMoves = new LeaseMoves({
      ...{ nodeId: node.id, store: sessions, engine: this.#engine, takeover: this.#takeover, clock },
      ...{ patience: options.patience, atOnce: options.leaseMovesAtOnce },
    });
    this.#farewells = new Farewells({
      ...{ nodeId: node.id, store: sessions, engine: this.#engine, claims: this.#claims, clock, log },
      onRevoked: (leaseId) => options.beats.tellOver(leaseId),
    });
    this.leases = new Leases({
      ...{ engine: this.#engine, moves: this.#leaseMoves, farewells: this.#farewells, store: sessions, ttlMs },
      ...{ nodeId: node.id, beats: options.beats, clock, log, peers: () => (this.#lease.isHeld ? this.#peers : []) },
      // A node that does not answer is missed within a lease, and that is known here with the next renewal.
      maxDoubtMs: Math.max(MIN_DOUBT_MS, 1.5 * leaseMs),
      maxPerOwner: options.leasesPerOwner ?? LEASES_PER_OWNER,
      onExceeded: (owner) => this.noteLimit(owner, 'leases'),
      onGranted: (session) => {
        this.#journal.note(session);
        return this.#journal.settled();
      },
    });
    this.#list = new SessionList({ store: sessions, engine: this.#engine, marks: this.marks, clock, nodeId: node.id });
  }

  #createEngine(failoverGraceMs: number): SessionEngine {
    const { node, clock, log, lapses, ttlMs, reconnectGraceMs, events } = this.options;
    const protectionMaxMs = this.options.protectionMaxMs ?? PROTECTION_MAX_MS;
    const pace = { sweepMs: this.options.sweepMs ?? SWEEP_MS, slackMs: this.options.slackMs ?? SLACK_MS };
    return new SessionEngine(
      {
        ...{ nodeId: node.id, clock, log, lapses, ttlMs, reconnectGraceMs, failoverGraceMs, protectionMaxMs, ...pace },
        // So that who came before a connection is on record when it is decided whether that is a return.
        staysAfterMs: settleMsOf(ttlMs) / 3,
      },
      {
        mayJudge: () => this.#lease.mayJudge,
        awaitedMs: (address) => this.#resumption.awaitedMs(address),
        mayBeHeardElsewhere: (session) => this.leases.mayBeHeardElsewhere(session),
        onGone: (session) => this.#resumption.onGone(session),
        onChanged: (session) => this.#journal.note(session),
        onIdleHeartbeat: (session) => this.#onIdleHeartbeat(session),
        onStays: (session) => this.#resumption.looksAt(session.address) && this.#journal.note(session),
        onLate: (session) => this.#farewells.onLate(session),
        onDoubtful: (session) => this.#takeover.repair(session),
        onLapsed: (cause, tasks) => this.#onLapsed(cause, tasks),
        onPaused: (pausedMs) => {
          const level = pausedMs >= WORTH_A_WARNING_MS ? 'warn' : 'debug';
          log[level]({ pausedMs }, 'this process stood still; every deadline is moved by as much');
          events?.onPaused?.(pausedMs);
        },
        onProtection: (event) => this.#onProtection(event),
      },
    );
  }

  #createLease(leaseMs: number): NodeLease {
    const { node, nodes, clock, log, ttlMs, events } = this.options;
    return new NodeLease({
      ...{ store: nodes, clock, log, node, leaseMs, ttlMs },
      report: () => this.#report(),
      onRenewed: (renewal, regained, wasAway) => this.#onRenewed(renewal, regained, wasAway),
      onLost: () => {
        log.warn(
          {},
          'the lease of this node has run out: no shutdown is decided until it has been held for a whole TTL',
        );
        events?.onLease?.('lost');
      },
    });
  }

  // ── Life ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes the node's lease and begins to judge. Throws when the database does not give the lease. */
  async start(): Promise<void> {
    await this.#lease.start();
    this.#engine.start();
    this.#armPurge();
  }

  /**
   * Judges no more. Call it before the doors close their connections, so that the closing is not taken for the clients'
   * doing: what is open or closing now becomes an orphan.
   */
  beginStop(): void {
    this.#engine.freeze();
  }

  /**
   * Says goodbye: writes down what there is and gives the lease up, so that others take the sessions over at once. What the
   * database does not take by the deadline is left to them as after a crash. Idempotent.
   */
  stop(deadline: Deadline): Promise<void> {
    this.#stopping ??= this.#stop(deadline);
    return this.#stopping;
  }

  async #stop(deadline: Deadline): Promise<void> {
    this.#purge?.cancel();
    const work = [this.#engine, this.#resumption, this.#takeover, this.#farewells];
    const parts = [
      { what: 'work under way', say: async () => void (await Promise.all(work.map((part) => part.stop()))) },
      { what: 'sessions', say: () => this.#journal.stop() },
      { what: 'lease', say: () => this.#lease.stop() },
    ];
    await sayGoodbye(parts, deadline, this.options.log);
  }

  // ── Sessions of connections ────────────────────────────────────────────────────────────────────────────────────────

  /** Opens a session whose first sign of life is now. */
  open(opening: SessionOpening): Session {
    const session = this.#engine.open(opening);
    this.#resumption.onOpened(session);
    return session;
  }

  /** Sessions with a live connection, or whose tasks still wait for one. */
  get size(): number {
    return this.#engine.size;
  }

  /** How many sessions stand how, for the metrics. */
  counts(): SessionCounts {
    return this.#engine.counts();
  }

  /** Whether this node holds its lease, and may decide shutdowns. */
  get trust(): { readonly isHeld: boolean; readonly mayJudge: boolean } {
    return { isHeld: this.#lease.isHeld, mayJudge: this.#lease.mayJudge };
  }

  /** Tells that somebody who claims nothing, such as a person, ended a task. */
  onEnded(taskId: string, epoch: number): void {
    this.#engine.onEnded(taskId, epoch);
  }

  /** Tells that writes failed: tasks may have been claimed without an answer, which is looked into. */
  onWritesFailed(): void {
    this.#takeover.auditSoon();
  }

  // ── For people ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A page of live sessions by id: see session-list.ts. */
  listSessions(principal: Principal, afterId: string | undefined, limit: number): Promise<SessionView[]> {
    return this.#list.page(principal, afterId, limit);
  }

  /** The latest events of all nodes, newest first: protection, lost leases, sessions taken over. */
  nodeEvents(limit: number): Promise<NodeEvent[]> {
    return this.options.nodes.events(Math.min(limit, MAX_EVENTS_LISTED));
  }

  /** The nodes that protect tasks from mass silence now, this one first. */
  protections(): NodeProtection[] {
    const own = this.#engine.protection;
    const others = this.#peers.flatMap(({ name, report: { protection } }) =>
      protection ? [{ node: name, protection }] : [],
    );
    return own ? [{ node: this.options.node.name, protection: own }, ...others] : others;
  }

  /** What is still silent on a protected node expires at once. False when the node protects nothing. */
  expireNow(node: string, actor: string): Promise<boolean> {
    return this.#decide(node, { decision: 'expire_now', actor });
  }

  /** A node's protection begins its longest time anew. False when the node protects nothing. */
  hold(node: string, actor: string): Promise<boolean> {
    return this.#decide(node, { decision: 'hold', actor });
  }

  async #decide(node: string, order: ProtectionOrder): Promise<boolean> {
    if (node === this.options.node.name) return this.#engine.decide(order.decision, order.actor);
    return this.options.nodes.order(node, order);
  }

  // ── What the parts tell ────────────────────────────────────────────────────────────────────────────────────────────

  #onIdleHeartbeat(session: LiveSession): void {
    this.#journal.note(session);
    if (session.door === 'tcp') this.#resumption.onIdleHeartbeat(session);
  }

  #onLapsed(cause: LapseCause, tasks: number): void {
    this.options.hints.announce();
    this.options.events?.onLapsed?.(cause, tasks);
  }

  #onProtection(event: ProtectionEvent): void {
    const { log, events } = this.options;
    if (event.kind === 'began') log.error(event, 'many sessions fell silent at once: their tasks are protected');
    else log.warn(event, event.kind === 'held' ? 'protection is held by an administrator' : 'protection has ended');
    events?.onProtection?.(event);
    const { kind, ...details } = event;
    this.#note(`protection_${kind}`, details);
  }

  #onAdopted(sessions: number, tasks: number): void {
    this.options.events?.onAdopted?.(sessions, tasks);
    this.#note('sessions_adopted', { sessions, tasks });
  }

  /** Keeps an event for people to find; nothing depends on it. */
  #note(kind: NodeEventKind, details: NodeEvent['details']): void {
    const { nodes, node, log } = this.options;
    nodes
      .note(node.name, kind, details)
      .catch((error: unknown) => log.warn({ err: error, kind }, 'an event was not kept'));
  }

  /** An owner has reached a limit of this node: told now and then, in the log and as an event. */
  noteLimit(owner: string, limit: string): void {
    const nowMs = this.options.clock.monotonicMs();
    const key = `${limit} ${owner}`;
    if (nowMs - (this.#limitsTold.get(key) ?? -Infinity) < LIMIT_TOLD_EVERY_MS) return;
    if (this.#limitsTold.size >= MAX_LIMITS_TOLD) this.#limitsTold.clear();
    this.#limitsTold.set(key, nowMs);
    this.options.log.warn({ owner, limit }, 'an owner has reached a limit; more is refused for now');
    this.#note('limit_reached', { owner, limit });
  }

  #onRenewed(renewal: NodeRenewal, regained: boolean, wasAway: boolean): void {
    if (regained) this.#onRegained();
    this.#peers = renewal.peers;
    this.leases.onRenewed();
    if (renewal.order) this.#engine.decide(renewal.order.decision, renewal.order.actor);
    void this.marks.onRenewed(renewal.peers);
    for (const { report } of renewal.peers) this.#leaseMoves.onTakenElsewhere(report.taken);
    this.#takeover.onRenewed(regained, wasAway);
    void this.#farewells.onRenewed();
  }

  #onRegained(): void {
    this.options.log.info({}, 'this node holds its lease again; it decides shutdowns after a whole TTL');
    this.#note('lease_lost', { probationMs: this.options.ttlMs });
    this.options.events?.onLease?.('held');
  }

  #report(): NodeReport {
    const { orphan, held } = this.#engine.counts();
    const missed = [...this.#engine.suspects, ...this.#engine.closing].filter(({ mark }) => mark === 'suspect');
    missed.sort((a, b) => a.lastSeenMs - b.lastSeenMs);
    const suspects = missed.slice(0, MAX_SUSPECTS_TOLD).map(({ id }) => id);
    return {
      sessions: this.size,
      suspects,
      taken: this.#leaseMoves.tellTaken(),
      marked: orphan + held,
      protection: this.#engine.protection,
      hearsBeats: this.options.beats.heardForMs > 0,
    };
  }

  #armPurge(): void {
    this.#purge = this.options.clock.schedule(PURGE_EVERY_MS, () => {
      void this.#forgetOld();
      this.#armPurge();
    });
  }

  async #forgetOld(): Promise<void> {
    try {
      await this.options.sessions.purge();
      await this.options.nodes.purge(NODE_KEPT_MS);
    } catch (error) {
      this.options.log.warn({ err: error }, 'old sessions could not be removed; tried again later');
    }
  }
}

/** How long a connection has to show that it registers by itself. */
function settleMsOf(ttlMs: number): number {
  return Math.min(3000, Math.max(500, ttlMs / 10));
}
