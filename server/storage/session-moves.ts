/**
 * How sessions move between nodes: in one transaction, of statements that are short however many tasks there are.
 *
 *   the sessions (locked, now this node's) ─► the ids of their running tasks ─► epochs raised, part by part ─► what lapsed
 *
 * - The epochs make verdicts of where the sessions came from void. Tasks are locked in the order of their ids over all
 *   parts, like every batch of writes locks them.
 * - What is claimed or ends between two statements is left out; a claim that nobody noted is found when the session ends.
 * - What lapsed is read last: a verdict that was faster than its epoch is among it.
 * - A lease that is open at the very node that takes it does not move: nothing is raised, and it is answered as it stands.
 */
import type { HeldTask, MovedSession, TaskVersion } from '../domain/liveness-ports.js';
import type { RunStatement, Statement } from './postgres.js';
import { heldTaskOf, recordOf, versionsOf, type SessionRow, type TaskRow, type VersionsRow } from './session-rows.js';
import { HELD_LEASE, HELD_TASKS, LAPSED_OF, RAISE, RUNNING_TASKS, TAKE } from './session-statements.js';

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
  const tasks = await raiseEpochs(rows, ids, partSize);
  const lapsed = await lapsedOf(rows, ids);
  return records.map((record) => ({
    ...record,
    tasks: tasks.get(record.id) ?? [],
    lapsed: lapsed.get(record.id) ?? [],
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
  return [{ ...recordOf(staying), tasks, lapsed }];
}

async function lapsedOf(rows: RunStatement, ids: readonly string[]): Promise<Map<string, TaskVersion[]>> {
  return new Map((await rows<VersionsRow>(LAPSED_OF, [ids])).map((row) => [row.id, versionsOf(row)]));
}

async function raiseEpochs(rows: RunStatement, ids: readonly string[], partSize: number) {
  const held = new Map(ids.map((id) => [id, [] as HeldTask[]]));
  const running = (await rows<{ id: string }>(RUNNING_TASKS, [ids])).map(({ id }) => id);
  for (let start = 0; start < running.length; start += partSize) {
    const part = JSON.stringify(running.slice(start, start + partSize));
    for (const row of await rows<TaskRow>(RAISE, [part, ids])) held.get(row.session_id)?.push(heldTaskOf(row));
  }
  return held;
}
