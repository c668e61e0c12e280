/** One session in memory: a last sign of life, the tasks it vouches for, and where it stands. Rules: session-engine.ts. */
import { randomUUID } from 'node:crypto';
import { NOT_IN_WHEEL, type WheelEntry } from './deadline-wheel.js';
import type { SessionRecord } from './liveness-ports.js';
import type { Lapse } from './ports.js';
import type { Door, Session } from './sessions.js';
import type { LapseCause, TaskMark } from './task.js';
import type { Condemned } from './verdict-queue.js';

/** Where a session stands; the transitions are told in session-engine.ts. */
export type SessionState = 'open' | 'closing' | 'orphan' | 'condemned' | 'ended';

/** How a session has been heard lately: as it should, not for more than its interval, or not for its whole TTL. */
export type Hearing = 'fresh' | 'suspect' | 'held';

/** The engine, as its sessions see it. */
export interface SessionKeeper {
  /** Patient time. */
  nowMs(): number;
  onIdentified(session: LiveSession): void;
  onClosed(session: LiveSession): void;
  onClaimed(session: LiveSession, taskId: string, epoch: number): void;
  onConcluded(session: LiveSession, taskId: string, epoch: number): void;
  /** A sign of life of a session that was not fresh. */
  onHeardAgain(session: LiveSession, gapMs: number): void;
  /** The first heartbeat of a session that never claimed a task. */
  onIdleHeartbeat(session: LiveSession): void;
}

/** What a session is made of. */
export interface SessionBirth {
  readonly id: string;
  readonly door: Door;
  readonly address: string;
  readonly owner: string;
  readonly ttlMs: number;
  readonly onExpired: () => void;
  /** When it was opened, on the clock's monotonic time; before this process began for sessions from elsewhere. */
  readonly openedAtMs: number;
  /** The latest sign of life, in patient time. */
  readonly lastSeenMs: number;
}

/** As much of a node's id as the ids of its sessions begin with. */
const RANGE_LENGTH = 13;

const NO_TASKS: ReadonlyMap<string, number> = new Map();

export class LiveSession implements Session, WheelEntry, Condemned {
  readonly id: string;
  readonly door: Door;
  readonly address: string;
  owner: string;
  readonly ttlMs: number;
  readonly openedAtMs: number;
  onExpired: () => void;
  lastSeenMs: number;
  bucket = NOT_IN_WHEEL;
  state: SessionState = 'open';
  hearing: Hearing = 'fresh';
  /** Why the session's tasks lapse when they do. */
  cause: LapseCause = 'heartbeat_timeout';
  /** When the connection was seen to be gone, in patient time. */
  closedAtMs = 0;
  /** When the wait of a closing session or an orphan is over, in patient time. */
  graceEndsMs = 0;
  /** The state before the verdict, and when the verdict was reached. */
  stateBefore: SessionState = 'open';
  condemnedAtMs = 0;
  /** Silence after which the session is suspect. */
  suspectAfterMs: number;
  /** How often in a row the session was heard only after it had become suspect. */
  lateReturns = 0;
  wasSuspect = false;
  /** Protection no longer holds it. */
  isReleased = false;
  /** Its tasks may have been set to shutdown by a verdict that was not carried out as far as we know. */
  isDoubtful = false;
  /** It said goodbye, and is over for good. */
  isRevoked = false;
  /** Another server says that it has it; who uses it here asks the database first. */
  isContested = false;
  /** The node that was the last to hear it, where that is another one. */
  heardAt: string | undefined;
  /** How often it claimed a task, and when the last time, on the clock's monotonic time. */
  claims = 0;
  claimedAtMs = 0;
  /** There is a record of it. */
  isWrittenDown = false;
  /** The record says that it holds tasks. */
  isHolderOnRecord = false;
  #isIdle = true;
  /** Anything complete was ever received on it. */
  hasSpoken = false;
  /** Until when it is awaited that a new connection turns out to be its return, in patient time; 0: it was never asked. */
  awaitedUntilMs = 0;
  #isClosed = false;
  /** Writes of a lease that are on their way. */
  #writes: Set<Promise<unknown>> | undefined;
  /** Made at the first claim: most connections of a crowd that only looks have none. */
  #tasks: Map<string, number> | undefined;

  constructor(
    private readonly keeper: SessionKeeper,
    birth: SessionBirth,
  ) {
    this.id = birth.id;
    this.door = birth.door;
    this.address = birth.address;
    this.owner = birth.owner;
    this.ttlMs = birth.ttlMs;
    this.onExpired = birth.onExpired;
    this.openedAtMs = birth.openedAtMs;
    this.lastSeenMs = birth.lastSeenMs;
    // One interval is a third of the TTL; half a one more is the network's.
    this.suspectAfterMs = birth.ttlMs / 2;
  }

  /** One number in memory, unless the session had been missed. */
  beat(): void {
    const heardMs = this.keeper.nowMs();
    const gapMs = heardMs - this.lastSeenMs;
    this.lastSeenMs = heardMs;
    this.hasSpoken = true;
    if (this.hearing !== 'fresh') this.keeper.onHeardAgain(this, gapMs);
  }

  /** Another node heard it so long ago; false when something later was known. */
  heardAgo(agoMs: number): boolean {
    const heardMs = this.keeper.nowMs() - agoMs;
    if (heardMs <= this.lastSeenMs) return false;
    this.lastSeenMs = heardMs;
    return true;
  }

  heartbeat(): void {
    this.beat();
    if (!this.#isIdle) return;
    this.#isIdle = false;
    this.keeper.onIdleHeartbeat(this);
  }

  identify(owner: string): void {
    this.owner = owner;
    this.keeper.onIdentified(this);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // The session may be remembered for long, and what had opened it is not to be with it.
    this.onExpired = () => {};
    this.keeper.onClosed(this);
  }

  get isLease(): boolean {
    return this.door === 'grpc';
  }

  began(write: Promise<unknown>): void {
    if (!this.isLease) return;
    const writes = (this.#writes ??= new Set());
    const isOver = () => void writes.delete(write);
    writes.add(write);
    write.then(isOver, isOver);
  }

  /** Whether writes of a lease are on their way. */
  get isWriting(): boolean {
    return (this.#writes?.size ?? 0) > 0;
  }

  /** Resolves when the writes of a lease that are on their way now are over. */
  async settled(): Promise<void> {
    await Promise.allSettled([...(this.#writes ?? [])]);
  }

  claimed(taskId: string, epoch: number): void {
    this.keeper.onClaimed(this, taskId, epoch);
  }

  concluded(taskId: string, epoch: number): void {
    this.keeper.onConcluded(this, taskId, epoch);
  }

  /** The tasks that the session vouches for, with the epoch of its claim. */
  get tasks(): ReadonlyMap<string, number> {
    return this.#tasks ?? NO_TASKS;
  }

  /** Whether the session ever claimed a task. */
  get hasClaimed(): boolean {
    return this.#tasks !== undefined;
  }

  hold(taskId: string, epoch: number, monotonicMs: number): void {
    this.#isIdle = false;
    this.claims++;
    this.claimedAtMs = monotonicMs;
    (this.#tasks ??= new Map()).set(taskId, epoch);
  }

  drop(taskId: string): void {
    this.#tasks?.delete(taskId);
  }

  lapses(): Lapse[] {
    const silentMs = this.silentMs();
    return [...this.tasks].map(([taskId, epoch]) => ({
      taskId,
      sessionId: this.id,
      epoch,
      cause: this.cause,
      silentMs,
    }));
  }

  /** Where it stands while its verdict, if there is one, is not carried out. */
  get stateBeneath(): SessionState {
    return this.state === 'condemned' ? this.stateBefore : this.state;
  }

  /** What people should know of the session's tasks. */
  get mark(): TaskMark | undefined {
    if (this.hearing === 'held') return 'protected';
    if (this.state === 'orphan') return 'unconfirmed';
    return this.hearing === 'suspect' ? 'suspect' : undefined;
  }

  /** The session as it is to be written down, at a monotonic time. */
  record(monotonicMs: number): SessionRecord {
    const { id, door, address, owner, ttlMs } = this;
    const state = this.state === 'closing' || this.state === 'orphan' ? this.state : 'open';
    const isProtected = this.hearing === 'held';
    return {
      ...{ id, door, address, owner, ttlMs, state, isProtected, holdsTasks: this.tasks.size > 0 },
      openedAgoMs: Math.round(monotonicMs - this.openedAtMs),
      silentMs: state === 'open' && !isProtected ? null : this.silentMs(),
    };
  }

  /** How long nothing has been heard. */
  silentMs(): number {
    return Math.max(0, Math.round(this.keeper.nowMs() - this.lastSeenMs));
  }
}

/** A new id in the range of the node that opens the session. */
export function newSessionId(nodeId: string): string {
  return nodeId.slice(0, RANGE_LENGTH) + randomUUID().slice(RANGE_LENGTH);
}

/** Whether a node opened a session; a connection stays where it was opened, whoever holds what is written down of it. */
export function isOpenedBy(nodeId: string, sessionId: string): boolean {
  return sessionId.startsWith(nodeId.slice(0, RANGE_LENGTH));
}
