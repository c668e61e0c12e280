/** What is sent to a store at once, and what its answers say of the writes in it. */
import type { BatchId } from './batch-id.js';
import type { TaskDashError } from './errors.js';
import type { TaskWrite, TaskWriteResult } from './ports.js';

/** A write that waits for its answer. */
export interface Waiting {
  readonly write: TaskWrite;
  readonly resolve: (result: TaskWriteResult) => void;
  readonly reject: (error: TaskDashError) => void;
  deadlineAtMs: number;
  answered: boolean;
  /** It may have been written, or be written yet, whatever its caller is told. */
  isSent: boolean;
  /** Why it could not be written the last time, for the log. */
  trouble: TaskDashError | undefined;
}

/** Writes that are sent together. */
export interface Attempt {
  readonly batch: readonly Waiting[];
  /** The batch that they were sent as before, when that may have written them; undefined: they become a new one. */
  readonly repeats: BatchId | undefined;
  /** Whether a run of that was never answered, and may still write them. */
  readonly mayArrive: boolean;
  /** Waits for hardly any lock: see TaskStore.writeBatch. */
  readonly isHurried: boolean;
}

/** What results mean for the writes of an attempt, each of which is in one of these. */
export interface Judgement {
  /** What their callers are told: `unknown` where another run may make untrue what the result says. */
  readonly answers: [Waiting, TaskWriteResult | 'unknown' | undefined][];
  /** Not written by any run, and to be written in a new batch. */
  readonly undecided: Waiting[];
  /** The same, but somebody keeps their tasks locked. */
  readonly locked: Waiting[];
  /** Not written by this run, but another one may still write them: nothing but the same batch finds out. */
  readonly doubtful: Waiting[];
}

export function newAttempt(batch: readonly Waiting[], isHurried = false): Attempt {
  return { batch, repeats: undefined, mayArrive: false, isHurried };
}

export function hasWrites({ batch }: Attempt): boolean {
  return batch.length > 0;
}

/** By these the batch is known to have been written, which keeps every other run of it out. */
const FENCING: ReadonlySet<string> = new Set(['written', 'unwritten']);
const UNDECIDED: ReadonlySet<string> = new Set(['raced', 'unwritten', 'late']);
/** What another run that is under way may make untrue, or may have made true by itself: the version has changed. */
const MAY_BE_WRITTEN: ReadonlySet<string> = new Set(['not_found', 'forbidden', 'late', 'changed', 'revoked']);

export function judge({ batch, repeats, mayArrive }: Attempt, results: readonly TaskWriteResult[]): Judgement {
  const isWritten = results.some(({ outcome }) => FENCING.has(outcome));
  const isFenced = isWritten || !mayArrive;
  const judgement: Judgement = { answers: [], undecided: [], locked: [], doubtful: [] };
  for (const [index, waiting] of batch.entries()) {
    const result = results[index];
    if (!isFenced && result && MAY_BE_WRITTEN.has(result.outcome)) judgement.answers.push([waiting, 'unknown']);
    else if (result && (!isFenced || (result.outcome === 'raced' && repeats && !isWritten)))
      judgement.doubtful.push(waiting);
    else if (result?.outcome === 'locked') judgement.locked.push(waiting);
    else if (result && UNDECIDED.has(result.outcome)) judgement.undecided.push(waiting);
    else judgement.answers.push([waiting, result]);
  }
  return judgement;
}
