/**
 * Claims tasks on behalf of a session that did not name them: after a reconnect by address, for a lease that moved, and
 * to make a verdict good that should not have been stored. A claim is an update without any text, so that it takes the
 * same way as every other write: in order, durable, in the history, and undoing a shutdown of the registry's own.
 *
 * Each claim is for the version of the task that was looked at; whoever was faster keeps the task.
 */
import { delay, type Clock } from './clock.js';
import { TaskDashError } from './errors.js';
import type { TaskVersion } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { ChangeHints, TaskWrite } from './ports.js';
import { tellClaimant } from './task-registry.js';
import type { WriteBatcher } from './write-batcher.js';

const MAX_AT_ONCE = 500;
const CROWDED_MS = 200;
/** How often a claim is tried again while other writes crowd it out. */
const MAX_CROWDED = 50;

/** A session that says goodbye. */
export type Farer = Pick<LiveSession, 'id' | 'owner' | 'address'>;

/** What became of some claims. */
export interface ClaimReport {
  readonly claimed: number;
  /**
   * Those that are to be looked at again: they were not decided, because the database is away or too much waits, or the task
   * has another version. Whoever changed it need not have claimed it.
   */
  readonly failed: number;
  /** Of those the ones with another version. */
  readonly changed: number;
  /** Why the first of the others was not decided. */
  readonly failure: TaskDashError | undefined;
}

export class TaskClaims {
  constructor(
    private readonly writes: Pick<WriteBatcher, 'submit'>,
    private readonly hints: Pick<ChangeHints, 'announce'>,
    private readonly clock: Clock,
  ) {}

  /** Claims versions of tasks for a session that they were known to be of. */
  async claim(session: LiveSession, tasks: readonly TaskVersion[]): Promise<ClaimReport> {
    const writeOf = (task: TaskVersion) => ({
      ...claimOf(session, task),
      ...{ sessionId: session.id, isLease: session.isLease },
      guess: 'kept' as const,
    });
    return this.#submitAll(tasks, writeOf, session);
  }

  /** Claims versions of tasks for a session that is believed to be the return of the one that had them. */
  async resume(session: LiveSession, tasks: readonly TaskVersion[]): Promise<ClaimReport> {
    const writeOf = (task: TaskVersion) => ({
      ...claimOf(session, task),
      sessionId: session.id,
      guess: 'made' as const,
    });
    return this.#submitAll(tasks, writeOf, session);
  }

  /** Sets versions of tasks to shutdown as the session's own word: it says goodbye. */
  async farewell(session: Farer, tasks: readonly TaskVersion[]): Promise<ClaimReport> {
    const texts = { status: 'shutdown' };
    return this.#submitAll(tasks, (task) => ({ ...claimOf(session, task), texts, sessionId: null }), undefined);
  }

  async #submitAll(
    tasks: readonly TaskVersion[],
    writeOf: (task: TaskVersion) => TaskWrite,
    claimant: LiveSession | undefined,
  ): Promise<ClaimReport> {
    const report = { claimed: 0, failed: 0, changed: 0, failure: undefined as TaskDashError | undefined };
    for (let start = 0; start < tasks.length; start += MAX_AT_ONCE) {
      const chunk = tasks.slice(start, start + MAX_AT_ONCE).map((task) => this.#submit(writeOf(task), claimant));
      for (const outcome of await Promise.all(chunk)) {
        if (outcome === 'written') report.claimed++;
        if (outcome === 'changed') report.changed++;
        if (outcome === 'changed' || outcome instanceof TaskDashError) report.failed++;
        if (outcome instanceof TaskDashError) report.failure ??= outcome;
      }
    }
    if (report.claimed > 0) this.hints.announce();
    return report;
  }

  async #submit(
    write: TaskWrite,
    claimant: LiveSession | undefined,
  ): Promise<'written' | 'void' | 'changed' | TaskDashError> {
    for (let crowded = 0; ; crowded++) {
      try {
        const result = await this.writes.submit(write);
        if (result.outcome === 'changed') return 'changed';
        if (result.outcome !== 'written') return 'void';
        if (claimant) tellClaimant(claimant, write.id, result);
        return 'written';
      } catch (thrown) {
        const error = TaskDashError.from(thrown);
        if (error.code !== 'OVERLOADED' || crowded === MAX_CROWDED) return error;
        await delay(this.clock, CROWDED_MS);
      }
    }
  }
}

function claimOf(session: Farer, task: TaskVersion): Omit<TaskWrite, 'sessionId'> {
  return {
    kind: 'update',
    id: task.taskId,
    texts: {},
    addr: undefined,
    cause: 'client',
    actor: session.owner || `service:${session.address}`,
    groups: 'every',
    expectedRevision: task.revision,
    returnsTask: false,
  };
}
