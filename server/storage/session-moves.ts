/**
 * How sessions move between nodes: in one transaction, of statements that are short however many tasks there are.
 *
 *   the sessions (locked, now this node's) ─► the ids of their running tasks ─► epochs raised, part by part ─► what lapsed
 *
 * - The epochs make verdicts of where the sessions came from void. Tasks are locked in the order of their ids over all
 *   parts, like every batch of writes locks them.
 * - What is claimed or ends between two statements is left out; a claim that nobody noted is found when the session ends.
 * - What lapsed is read last: a verdict that was faster than its epoch is among it.
 */
import type { HeldTask, MovedSession } from '../domain/liveness-ports.js';
import type { RunStatement, Statement } from './postgres.js';
import { recordOf, versionsOf, type SessionRow, type VersionsRow } from './session-rows.js';
import { LAPSED_OF, RAISE, RUNNING_TASKS } from './session-statements.js';

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
  const lapsed = new Map((await rows<VersionsRow>(LAPSED_OF, [ids])).map((row) => [row.id, versionsOf(row)]));
  return records.map((record) => ({
    ...record,
    tasks: tasks.get(record.id) ?? [],
    lapsed: lapsed.get(record.id) ?? [],
  }));
}

interface RaisedRow {
  readonly id: string;
  readonly session_id: string;
  readonly epoch: string;
}

async function raiseEpochs(rows: RunStatement, ids: readonly string[], partSize: number) {
  const held = new Map(ids.map((id) => [id, [] as HeldTask[]]));
  const running = (await rows<{ id: string }>(RUNNING_TASKS, [ids])).map(({ id }) => id);
  for (let start = 0; start < running.length; start += partSize) {
    const part = JSON.stringify(running.slice(start, start + partSize));
    for (const { id, session_id: sessionId, epoch } of await rows<RaisedRow>(RAISE, [part, ids])) {
      held.get(sessionId)?.push({ taskId: id, epoch: Number(epoch) });
    }
  }
  return held;
}
