/**
 * How sessions move between nodes: in one transaction, of statements that are short however many tasks there are.
 *
 *   the sessions (locked, now this node's) ─► the ids of their running tasks ─► epochs raised, part by part ─► what lapsed
 *                                                                                └─ what others keep locked: left alone
 *
 * - The epochs make verdicts of where the sessions came from void. Tasks are locked in the order of their ids over all
 *   parts, like every batch of writes locks them.
 * - What others have locked is waited for in its turn, for a moment: whoever waited for it later would hold what comes after it.
 *   What somebody keeps locked moves with its epoch as it is, and is told.
 * - What is claimed or ends between two statements is left out; a claim that nobody noted is found when the session ends.
 * - What lapsed is read last: a verdict that was faster than its epoch is among it.
 * - A lease that is open at the very node that takes it does not move: nothing is raised, and it is answered as it stands.
 */
import type { HeldTask, MovedSession, TaskVersion } from '../domain/liveness-ports.js';
import { isLocked } from './locked-rows.js';
import type { RunStatement, Statement } from './postgres.js';
import { heldTaskOf, recordOf, versionsOf, type SessionRow, type TaskRow, type VersionsRow } from './session-rows.js';
import {
  HELD_LEASE,
  HELD_TASKS,
  LAPSED_OF,
  RAISE,
  RAISE_FREE,
  RUNNING_TASKS,
  STILL_RUNNING,
  TAKE,
} from './session-statements.js';

const SAVEPOINT: Statement = { name: 'moves_savepoint', text: 'SAVEPOINT moves' };
const ROLLBACK_TO_SAVEPOINT: Statement = { name: 'moves_rollback', text: 'ROLLBACK TO SAVEPOINT moves' };

/** Moves the sessions that a statement picks and answers with; changes so many tasks at once. */
export async function moveSessions(
  rows: RunStatement,
  picking: Statement,
  values: readonly unknown[],
  partSize: number,
): Promise<MovedSession[]> {
  const records = (await rows<SessionRow>(picking, values)).map(recordOf);
  if (records.length === 0) return [];
  const ids = records.map(({ id }) => id);
  const { raised, locked } = await raiseEpochs(rows, ids, partSize);
  const tasks = bySession([...raised, ...locked]);
  const lockedTasks = bySession(locked);
  const lapsed = await lapsedOf(rows, ids);
  return records.map((record) => ({
    ...record,
    tasks: tasks.get(record.id) ?? [],
    lapsed: lapsed.get(record.id) ?? [],
    locked: (lockedTasks.get(record.id) ?? []).map(({ taskId }) => taskId),
  }));
}

/** Takes a lease from wherever it is; $1 to $3 of TAKE. */
export async function takeLease(
  rows: RunStatement,
  values: readonly unknown[],
  partSize: number,
): Promise<MovedSession[]> {
  const [staying] = await rows<SessionRow>(HELD_LEASE, values);
  if (!staying) return moveSessions(rows, TAKE, values, partSize);
  const tasks = (await rows<TaskRow>(HELD_TASKS, [staying.id])).map(heldTaskOf);
  const lapsed = (await lapsedOf(rows, [staying.id])).get(staying.id) ?? [];
  return [{ ...recordOf(staying), tasks, lapsed, locked: [] }];
}

async function lapsedOf(rows: RunStatement, ids: readonly string[]): Promise<Map<string, TaskVersion[]>> {
  return new Map((await rows<VersionsRow>(LAPSED_OF, [ids])).map((row) => [row.id, versionsOf(row)]));
}

async function raiseEpochs(rows: RunStatement, sessions: readonly string[], partSize: number) {
  const raised: TaskRow[] = [];
  const running = (await rows<{ id: string }>(RUNNING_TASKS, [sessions])).map(({ id }) => id);
  for (let start = 0; start < running.length; start += partSize) {
    const part = JSON.stringify(running.slice(start, start + partSize));
    for (const row of await raisePart(rows, [part, sessions])) raised.push(row);
  }
  const passed = without(running, raised);
  return { raised, locked: passed.length === 0 ? [] : await rows<TaskRow>(STILL_RUNNING, [passed, sessions]) };
}

/** Waits for each task in its turn; or, where one is kept locked, gives the part's locks back and leaves such tasks alone. */
async function raisePart(rows: RunStatement, values: readonly unknown[]): Promise<TaskRow[]> {
  await rows(SAVEPOINT, []);
  try {
    return await rows<TaskRow>(RAISE, values);
  } catch (error) {
    if (!isLocked(error)) throw error;
    await rows(ROLLBACK_TO_SAVEPOINT, []);
    return rows<TaskRow>(RAISE_FREE, values);
  }
}

function without(ids: readonly string[], rows: readonly TaskRow[]): string[] {
  const done = new Set(rows.map(({ id }) => id));
  return ids.filter((id) => !done.has(id));
}

function bySession(rows: readonly TaskRow[]): Map<string, HeldTask[]> {
  const held = new Map<string, HeldTask[]>();
  for (const row of rows) {
    const { session_id: sessionId } = row;
    const tasks = held.get(sessionId) ?? [];
    tasks.push(heldTaskOf(row));
    held.set(sessionId, tasks);
  }
  return held;
}
