/** Changing tasks: batches of writes, and shutdowns that the registry decided. */
import { singleBatch, type BatchId } from '../domain/batch-id.js';
import type { Clock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import {
  LAPSES_WITHIN_MS,
  type Lapse,
  type LapseResult,
  type TaskWrite,
  type TaskWriteResult,
} from '../domain/ports.js';
import { parseInstant } from '../domain/reported-time.js';
import { DatabaseClock } from './database-clock.js';
import { isLocked, type LockedRows } from './locked-rows.js';
import { codeOf } from './postgres-errors.js';
import type { Postgres, Statement } from './postgres.js';
import { feedEventOf, taskOf, type FeedRow, type TaskRow } from './task-rows.js';
import {
  LAPSE,
  LAPSE_FREE,
  LOST,
  RECALL,
  WRITE,
  WRITE_AND_RETURN,
  WRITE_FREE,
  WRITE_FREE_AND_RETURN,
  WRITE_HURRIED,
  WRITE_HURRIED_AND_RETURN,
} from './task-write-statements.js';
import { compareTexts } from './text-order.js';

/** How often a batch is run again because another, or itself, inserted one of its ids meanwhile. */
const RACE_RETRIES = 5;
/** More events than a batch has. */
const MAX_BATCH = 10_000;
const DUPLICATE_KEY = '23505';
/** The history is kept or lost from its end, so that the latest batches tell of all; as many as may be in flight together. */
const WITNESSES = 4;

type AnswerRow =
  | ({ readonly n: number; readonly outcome: 'written' } & Pick<TaskRow, 'revision' | 'epoch' | 'status'> &
      Partial<TaskRow>)
  | { readonly n: number; readonly outcome: 'forbidden' | 'changed' | 'late' | 'locked' | 'revoked' | 'repeated' };

/** A statement, and the one that is run where a row stays locked. */
type Forms = readonly [statement: Statement, free?: Statement];

export class TaskWrites {
  readonly #databaseClock: DatabaseClock;
  /** The latest batches of which the database said that it has written them. */
  #witnesses: BatchId[] = [];

  constructor(
    private readonly postgres: Postgres,
    private readonly lockedRows: LockedRows,
    /** Stands in for the database's. */
    private readonly clock: Clock | undefined,
    private readonly nodeId: string,
  ) {
    this.#databaseClock = new DatabaseClock(postgres);
  }

  /** See TaskStore.writeBatch. */
  async writeBatch(
    writes: readonly TaskWrite[],
    batch: BatchId = singleBatch(),
    withinMs?: number,
    isHurried = false,
  ): Promise<TaskWriteResult[]> {
    if (writes.length === 0) return [];
    const lateFrom = await this.#lateFrom(withinMs);
    const forms = formsOf(
      writes.some((write) => write.returnsTask),
      isHurried,
    );
    const input = JSON.stringify(writes.map(inputOf).sort(byId));
    for (let retries = 0; ; retries++) {
      try {
        const values = [input, this.nodeId, this.clock?.now(), batch.lane, batch.number, lateFrom];
        const rows = await this.#rows<AnswerRow>(forms, values);
        if (rows[0]?.outcome === 'repeated') return await this.#recall(writes, batch);
        if (rows.some(({ outcome }) => outcome === 'written')) this.#witness(batch);
        const results = resultsOf(writes, rows);
        // Where there was time left, the database's clock is not what it was taken for.
        if (results.some(({ outcome }) => outcome === 'late')) this.#databaseClock.forget();
        // What a hurry passes over may be another server's, for a moment.
        if (!isHurried) this.lockedRows.tell(lockedOf(writes, results));
        return results;
      } catch (error) {
        if (isLocked(error)) {
          if (writes.length === 1) this.lockedRows.tell(writes.map(({ id }) => id));
          throw new TaskDashError('STORAGE_LOCKED', { cause: error, retryAfterMs: 1000 });
        }
        if (!isRace(error)) {
          // The next connection may lead to another database, with another clock.
          this.#databaseClock.forget();
          throw error;
        }
        if (retries === RACE_RETRIES) return writes.map(() => ({ outcome: 'raced' }));
      }
    }
  }

  /** When a batch comes too late, by the database's clock. What fails here fails before the batch is sent. */
  async #lateFrom(withinMs: number | undefined): Promise<Date | undefined> {
    if (withinMs === undefined) return undefined;
    try {
      return await this.#databaseClock.inMs(withinMs);
    } catch (error) {
      throw new TaskDashError('STORAGE_UNAVAILABLE', { cause: error, retryAfterMs: 1000, nothingSent: true });
    }
  }

  /** What an earlier run of the batch wrote; what it did not write nobody will in its name. */
  async #recall(writes: readonly TaskWrite[], { lane, number }: BatchId): Promise<TaskWriteResult[]> {
    const rows = await this.postgres.rows<FeedRow>(RECALL, [lane, number, MAX_BATCH]);
    // Its events were removed meanwhile.
    if (rows.length === 0) throw new TaskDashError('STORAGE_UNAVAILABLE');
    const tasks = new Map(rows.map((row) => [row.task_id, feedEventOf(row).task]));
    return writes.map(({ id, returnsTask }) => {
      const task = tasks.get(id);
      if (!task) return { outcome: 'unwritten' };
      const { revision, epoch, status } = task;
      const version = { outcome: 'written' as const, revision, epoch, status };
      return returnsTask ? { ...version, task } : version;
    });
  }

  /** See TaskStore.lapse. */
  async lapse(lapses: readonly Lapse[], nodeId?: string): Promise<LapseResult> {
    if (lapses.length === 0) return { lapsed: [], locked: [] };
    const input = lapses
      .map(({ taskId, sessionId, epoch, cause, silentMs }) => ({
        id: taskId,
        task_id: taskId,
        session_id: sessionId,
        epoch,
        cause,
        silent_ms: Math.round(silentMs),
      }))
      .sort(byId);
    const batch = singleBatch();
    const lateFrom = await this.#databaseClock.inMs(LAPSES_WITHIN_MS);
    const values = [JSON.stringify(input), this.nodeId, this.clock?.now(), batch.lane, batch.number, lateFrom, nodeId];
    const rows = await this.#rows<{ id: string; is_locked: boolean }>([LAPSE, LAPSE_FREE], values);
    const idsOf = (isLocked: boolean) => rows.filter((row) => row.is_locked === isLocked).map(({ id }) => id);
    const [lapsed, locked] = [idsOf(false), idsOf(true)];
    if (lapsed.length > 0) this.#witness(batch);
    this.lockedRows.tell(locked);
    return { lapsed, locked };
  }

  /** Runs a statement; where a row stays locked, the one instead that leaves such rows alone, if there is one. */
  async #rows<Row extends object>([statement, free]: Forms, values: readonly unknown[]): Promise<Row[]> {
    try {
      return await this.postgres.rows<Row>(statement, values);
    } catch (error) {
      if (!free || !isLocked(error)) throw error;
      return this.postgres.rows<Row>(free, values);
    }
  }

  /** See TaskStore.hasLostWrites. */
  async hasLostWrites(): Promise<boolean> {
    const witnesses = [...this.#witnesses];
    if (witnesses.length === 0) return false;
    const values = [witnesses.map(({ lane }) => lane), witnesses.map(({ number }) => number)];
    const [row] = await this.postgres.rows<{ lost: number }>(LOST, values);
    if (!row?.lost) return false;
    this.#witnesses = this.#witnesses.filter((batch) => !witnesses.includes(batch));
    return true;
  }

  #witness(batch: BatchId): void {
    if (this.#witnesses.push(batch) > WITNESSES) this.#witnesses.shift();
  }
}

function formsOf(returnsTasks: boolean, isHurried: boolean): Forms {
  if (isHurried) return [returnsTasks ? WRITE_HURRIED_AND_RETURN : WRITE_HURRIED];
  return returnsTasks ? [WRITE_AND_RETURN, WRITE_FREE_AND_RETURN] : [WRITE, WRITE_FREE];
}

/** The one order in which rows are locked. */
function byId(one: { id: string }, other: { id: string }): number {
  return compareTexts(one.id, other.id);
}

/** A write as the statement's input; what is undefined is left out of the JSON, and NULL there. */
function inputOf(write: TaskWrite, index: number) {
  const { texts } = write;
  return {
    n: index,
    id: write.id,
    registers: write.kind === 'register',
    only_known: write.onlyKnown,
    name: texts.name,
    url: texts.url,
    user_id: texts.user,
    group_id: texts.group_id,
    description: texts.description,
    status: texts.status,
    start_time: texts.start_time,
    stop_time: texts.stop_time,
    started_at: instantIn(texts.start_time),
    stopped_at: instantIn(texts.stop_time),
    addr: write.addr,
    claims: write.sessionId !== undefined,
    guess: write.guess,
    session_id: write.sessionId,
    is_lease: write.isLease,
    cause: write.cause,
    actor: write.actor,
    groups: write.groups === 'every' ? undefined : write.groups,
    expected_revision: write.expectedRevision,
  };
}

function instantIn(text: string | undefined): string | undefined {
  const instant = text === undefined ? null : parseInstant(text);
  return instant?.toISOString();
}

function resultsOf(writes: readonly TaskWrite[], rows: readonly AnswerRow[]): TaskWriteResult[] {
  const results = writes.map((write): TaskWriteResult => ({ outcome: isLateUnlessTold(write) ? 'late' : 'not_found' }));
  for (const row of rows) results[row.n] = resultOf(row, writes[row.n]?.returnsTask ?? false);
  return results;
}

function lockedOf(writes: readonly TaskWrite[], results: readonly TaskWriteResult[]): string[] {
  return writes.filter((_, index) => results[index]?.outcome === 'locked').map(({ id }) => id);
}

/** A registration of any id that the statement does not mention came too late: others are inserted, or their row exists. */
function isLateUnlessTold({ kind, onlyKnown }: TaskWrite): boolean {
  return kind === 'register' && !onlyKnown;
}

function resultOf(row: AnswerRow, returnsTask: boolean): TaskWriteResult {
  if (row.outcome === 'repeated') throw new Error('a batch is repeated as a whole');
  if (row.outcome !== 'written') return { outcome: row.outcome };
  const { outcome, status } = row;
  const version = { outcome, revision: Number(row.revision), epoch: Number(row.epoch), status };
  // The statement that returns records was run if any write of the batch wants one.
  return returnsTask ? { ...version, task: taskOf(row as TaskRow) } : version;
}

function isRace(error: unknown): boolean {
  return error instanceof TaskDashError && codeOf(error.cause) === DUPLICATE_KEY;
}
