/**
 * What people should know about a task beside its status, on every read and on every node, without asking the database:
 * the sessions of this node are in memory, and what other nodes know about theirs arrives with each renewal of the lease.
 *
 * suspect      missed a beat, or its connection is gone and it is waited for
 * protected    silent, and kept because many fell silent at once
 * unconfirmed  its server died, and its service has not come back yet; or a connection from its address has, and has not
 *              named it
 * flapping     its status changed five times or more within ten minutes (the database counts, with each change)
 */
import type { Clock } from './clock.js';
import type { PeerNode, SessionStore } from './liveness-ports.js';
import type { Log } from './ports.js';
import type { SessionEngine } from './session-engine.js';
import { hasEnded, type Task, type TaskMark } from './task.js';

/** The part of a task that its marks depend on. */
export type MarkedTask = Pick<Task, 'id' | 'sessionId' | 'status' | 'unconfirmedSince'>;

/** Sessions of other nodes whose marks are kept, and flapping tasks. */
const MAX_MARKED = 50_000;
const MAX_FLAPPING = 10_000;

export class SessionMarks {
  #elsewhere: ReadonlyMap<string, TaskMark> = new Map();
  /** Until when tasks count as flapping, in monotonic time. */
  #flapping: ReadonlyMap<string, number> = new Map();

  constructor(
    private readonly engine: SessionEngine,
    private readonly store: Pick<SessionStore, 'marked' | 'flapping'>,
    private readonly nodeId: string,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** The marks of a task as it was read. */
  marksOf(task: MarkedTask): TaskMark[] {
    const marks: TaskMark[] = [];
    // Whether its service is still there says nothing about a task that has ended.
    const sessionId = hasEnded(task.status) ? null : task.sessionId;
    const mark = sessionId === null ? undefined : this.markOf(sessionId);
    if (mark) marks.push(mark);
    if (sessionId !== null && task.unconfirmedSince && mark !== 'unconfirmed') marks.push('unconfirmed');
    const flapsUntilMs = this.#flapping.size === 0 ? undefined : this.#flapping.get(task.id);
    if (flapsUntilMs !== undefined && flapsUntilMs > this.clock.monotonicMs()) marks.push('flapping');
    return marks;
  }

  /** The mark of a session, wherever it is. */
  markOf(sessionId: string): TaskMark | undefined {
    const session = this.engine.get(sessionId);
    return session ? session.mark : this.#elsewhere.get(sessionId);
  }

  /** Takes in what the other nodes tell. Records are read only where a node says that it has marked some. */
  async onRenewed(peers: readonly PeerNode[]): Promise<void> {
    const suspects = peers.flatMap(({ report }) => report.suspects.map((id) => [id, 'suspect'] as const));
    const anyMarked = peers.some(({ report }) => report.marked > 0);
    try {
      const marked = anyMarked ? await this.store.marked(this.nodeId, MAX_MARKED) : [];
      this.#elsewhere = new Map([...suspects, ...marked]);
      const flapping = await this.store.flapping(MAX_FLAPPING);
      const nowMs = this.clock.monotonicMs();
      this.#flapping = new Map([...flapping].map(([id, forMs]) => [id, nowMs + forMs]));
    } catch (error) {
      this.log.warn({ err: error }, 'the marks of tasks could not be read; they are as old as the last renewal');
    }
  }
}
