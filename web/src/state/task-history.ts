/** Putting together what was listed and what the stream told of one task. */
import type { Task, TaskEvent } from '../../../proto/gen/taskdash/task/v1/task_pb.js';

/** Of two versions of a task, the one with the higher revision. */
export function newerTask(a: Task | undefined, b: Task | undefined): Task | undefined {
  if (!a || !b) return a ?? b;
  return b.revision > a.revision ? b : a;
}

/** All events of both lists once, newest first. */
export function mergeEvents(a: readonly TaskEvent[], b: readonly TaskEvent[]): readonly TaskEvent[] {
  const byId = new Map([...a, ...b].map((event) => [event.id, event]));
  return [...byId.values()].sort((left, right) => (left.id < right.id ? 1 : -1));
}
