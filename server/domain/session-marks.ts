/**
 * What people should know about a task beside its status, on every read and on every node, without asking the database:
 * the sessions of this node are in memory, and what other nodes know about theirs arrives with each renewal of the lease.
 *
 * suspect      missed a beat, or its connection is gone and it is waited for
 * protected    silent, and kept because many fell silent at once
 * unconfirmed  its server died, and its service has not come back yet
 * flapping     its status changed five times or more within ten minutes (the database counts, with each change)
 */
import type { Clock } from './clock.js';
import type { PeerNode, SessionStore } from './liveness-ports.js';
import type { Log } from './ports.js';
import type { SessionEngine } from './session-engine.js';
import type { Task, TaskMark } from './task.js';

/** The part of a task that its marks depend on. */
export type MarkedTask = Pick<Task, 'sessionId'> & { readonly flappingUntil?: Date | null };

/** Sessions of other nodes whose marks are kept. */
const MAX_MARKED = 50_000;

export class SessionMarks {
  #elsewhere: ReadonlyMap<string, TaskMark> = new Map();

  constructor(
    private readonly engine: SessionEngine,
    private readonly store: Pick<SessionStore, 'marked'>,
    private readonly nodeId: string,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** The marks of a task as it was read. */
  marksOf(task: MarkedTask): TaskMark[] {
    const marks: TaskMark[] = [];
    const mark = task.sessionId === null ? undefined : this.markOf(task.sessionId);
    if (mark) marks.push(mark);
    if (task.flappingUntil && task.flappingUntil > this.clock.now()) marks.push('flapping');
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
    const others = peers.some(({ report }) => report.marked > 0) ? await this.#read() : new Map<string, TaskMark>();
    this.#elsewhere = new Map([...suspects, ...others]);
  }

  async #read(): Promise<ReadonlyMap<string, TaskMark>> {
    try {
      return await this.store.marked(this.nodeId, MAX_MARKED);
    } catch (error) {
      this.log.warn({ err: error }, 'the marks of other nodes could not be read');
      return new Map();
    }
  }
}
