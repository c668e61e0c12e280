/** Tasks and changes as the page sees them, for tests of the page's logic. */
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { TaskSchema, type Task } from '../../proto/gen/taskdash/task/v1/task_pb.js';

/** The instant that tests count from. */
export const START_MS = Date.UTC(2026, 0, 15, 8, 0, 0);

/** A task of the contract; what is not given is plain. `updatedMs` counts from START_MS. */
export function aTask(
  given: Partial<Omit<Task, '$typeName' | 'revision'>> & { revision?: number; updatedMs?: number } = {},
): Task {
  const { revision = 1, updatedMs = 0, ...fields } = given;
  return create(TaskSchema, {
    id: '1',
    name: 'import',
    user: 'ssx',
    groupId: 'mx',
    status: 'running',
    updatedAt: timestampFromMs(START_MS + updatedMs),
    ...fields,
    revision: BigInt(revision),
  });
}
