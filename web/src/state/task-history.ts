/** Putting together what was listed and what the stream told of one task. */
import type { Task, TaskEvent } from '../../../proto/gen/taskdash/task/v1/task_pb.js';

/** Of two readings of a task, the one with the higher revision; of the same revision the later one, for its marks. */
export function newerTask(earlier: Task | undefined, later: Task | undefined): Task | undefined {
  if (!earlier || !later) return earlier ?? later;
  return later.revision >= earlier.revision ? later : earlier;
}

/** All events of both lists once, newest first. */
export function mergeEvents(a: readonly TaskEvent[], b: readonly TaskEvent[]): readonly TaskEvent[] {
  const byId = new Map([...a, ...b].map((event) => [event.id, event]));
  return [...byId.values()].sort((left, right) => (left.id < right.id ? 1 : -1));
}

/** The events that came after all of these; both lists are newest first. */
export function eventsAfter(events: readonly TaskEvent[], listed: readonly TaskEvent[]): readonly TaskEvent[] {
  const newest = listed[0];
  return newest ? events.filter((event) => event.id > newest.id) : events;
}
