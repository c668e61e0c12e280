/**
 * The live sessions of all nodes, as people see them. Of its own sessions a node knows when each was last heard; of others'
 * only what their last renewal implies, and the answer says how exactly that is.
 */
import { readScope, type Principal } from './access.js';
import type { Clock } from './clock.js';
import type { ListedSession, SessionStore, SessionView } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { SessionEngine } from './session-engine.js';
import type { SessionMarks } from './session-marks.js';

/** What listing needs. */
export interface SessionListOptions {
  readonly store: Pick<SessionStore, 'list'>;
  readonly engine: SessionEngine;
  readonly marks: SessionMarks;
  readonly clock: Clock;
  readonly nodeId: string;
}

const MAX_LISTED = 1000;

export class SessionList {
  constructor(private readonly options: SessionListOptions) {}

  /**
   * A page of live sessions by id, of all nodes: everything for administrators, else those with a task in the caller's
   * scope, and counting only such tasks.
   */
  async page(principal: Principal, afterId: string | undefined, limit: number): Promise<SessionView[]> {
    const { store, clock } = this.options;
    const listed = await store.list(readScope(principal), afterId, Math.min(limit, MAX_LISTED));
    const nowMs = clock.now().getTime();
    return listed.map((record) => this.#viewOf(record, nowMs));
  }

  #viewOf(record: ListedSession, nowMs: number): SessionView {
    const { engine, marks, nodeId } = this.options;
    const local = record.nodeId === nodeId ? engine.get(record.id) : undefined;
    const mark = marks.markOf(record.id);
    const silence = local ? silenceHere(local, engine.nowMs()) : silenceElsewhere(record, mark === 'suspect');
    return {
      ...{ id: record.id, door: record.door, address: record.address, owner: record.owner, node: record.nodeName },
      state: local ? local.record(0).state : record.state,
      tasks: record.tasks,
      ttlMs: record.ttlMs,
      openedAt: new Date(nowMs - record.openedAgoMs),
      lastSeenAt: new Date(nowMs - silence.atMostMs),
      lastSeenWithinMs: silence.atMostMs - silence.atLeastMs,
      marks: mark ? [mark] : [],
    };
  }
}

/** How long a session has been silent, at least and at most. */
interface Silence {
  readonly atLeastMs: number;
  readonly atMostMs: number;
}

function silenceHere(session: LiveSession, nowMs: number): Silence {
  const ms = Math.round(nowMs - session.lastSeenMs);
  return { atLeastMs: ms, atMostMs: ms };
}

/** What a node's last renewal says of a session there: had it missed a beat, it would have been told. */
function silenceElsewhere(record: ListedSession, isSuspect: boolean): Silence {
  if (record.silentMs !== null) return { atLeastMs: record.silentMs, atMostMs: record.silentMs };
  const renewedAgoMs = record.nodeRenewedAgoMs;
  if (isSuspect) return { atLeastMs: renewedAgoMs, atMostMs: renewedAgoMs + record.ttlMs };
  return { atLeastMs: 0, atMostMs: renewedAgoMs + Math.round(record.ttlMs / 2) };
}
