/** One session in memory: a last sign of life, the tasks it vouches for, and where it stands. Rules: liveness.ts. */
import { NOT_IN_WHEEL, type WheelEntry } from './deadline-wheel.js';
import type { Lapse } from './ports.js';
import type { Door, Session, SessionOpening } from './sessions.js';
import type { LapseCause } from './task.js';
import type { Condemned } from './verdict-queue.js';

/** Where a session stands; the transitions are told in liveness.ts. */
export type SessionState = 'open' | 'closing' | 'condemned' | 'ended';

/** The engine, as its sessions see it. */
export interface SessionEngine {
  nowMs(): number;
  onClosed(session: LiveSession): void;
  onClaimed(session: LiveSession, taskId: string, epoch: number): void;
}

const NO_TASKS: ReadonlyMap<string, number> = new Map();

export class LiveSession implements Session, WheelEntry, Condemned {
  readonly door: Door;
  readonly address: string;
  readonly ttlMs: number;
  readonly onExpired: () => void;
  bucket = NOT_IN_WHEEL;
  state: SessionState = 'open';
  /** The latest sign of life, in patient time. */
  lastSeenMs: number;
  /** When the wait of a closing session is over, in patient time. */
  graceEndsMs = Infinity;
  /** Why the session's tasks lapse when they do. */
  cause: LapseCause = 'heartbeat_timeout';
  /** Made at the first claim: most connections of a crowd that only looks have none. */
  #tasks: Map<string, number> | undefined;

  constructor(
    private readonly engine: SessionEngine,
    readonly id: string,
    opening: SessionOpening & { readonly ttlMs: number },
  ) {
    this.door = opening.door;
    this.address = opening.address;
    this.ttlMs = opening.ttlMs;
    this.onExpired = opening.onExpired;
    this.lastSeenMs = engine.nowMs();
  }

  /** A sign of life: one number in memory, nothing else. */
  beat(): void {
    if (this.state === 'open') this.lastSeenMs = this.engine.nowMs();
  }

  heartbeat(): void {
    this.beat();
  }

  close(): void {
    if (this.state === 'open') this.engine.onClosed(this);
  }

  claimed(taskId: string, epoch: number): void {
    this.engine.onClaimed(this, taskId, epoch);
  }

  /** When the session is to be judged, unless a sign of life moves it. */
  get deadlineMs(): number {
    return this.state === 'open' ? this.lastSeenMs + this.ttlMs : this.graceEndsMs;
  }

  /** The tasks that the session vouches for, with the epoch of its claim. */
  get tasks(): ReadonlyMap<string, number> {
    return this.#tasks ?? NO_TASKS;
  }

  hold(taskId: string, epoch: number): void {
    (this.#tasks ??= new Map()).set(taskId, epoch);
  }

  drop(taskId: string): void {
    this.#tasks?.delete(taskId);
  }

  lapses(): Lapse[] {
    const silentMs = Math.max(0, Math.round(this.engine.nowMs() - this.lastSeenMs));
    return [...this.tasks].map(([taskId, epoch]) => ({
      taskId,
      sessionId: this.id,
      epoch,
      cause: this.cause,
      silentMs,
    }));
  }
}
