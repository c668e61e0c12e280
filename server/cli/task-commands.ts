/** `tasks list`. */
import type { Config } from '../config.js';
import type { TaskFilter } from '../domain/ports.js';
import type { Task } from '../domain/task.js';
import { parseLimit, printJson, printTable } from './print.js';
import { withStorage } from './with-storage.js';

const COLUMNS = [
  'id',
  'name',
  'user',
  'group_id',
  'status',
  'start_time',
  'stop_time',
  'url',
] as const satisfies (keyof Task)[];

/** Prints tasks, the latest change first. */
export function listTasks(
  config: Config,
  options: { status?: string[]; group?: string[]; user?: string[]; text?: string; limit: string; json?: boolean },
): Promise<number> {
  const limit = parseLimit(options.limit);
  const filter: TaskFilter = {
    ...(options.status && { statuses: options.status }),
    ...(options.group && { groupIds: options.group }),
    ...(options.user && { users: options.user }),
    ...(options.text && { words: options.text.split(/\s+/) }),
  };
  return withStorage(config, async (storage) => {
    const query = { filter, orderBy: 'updatedAt', ascending: false, limit, maxBytes: Number.MAX_SAFE_INTEGER } as const;
    const tasks = await storage.tasks.list('everything', query);
    if (options.json) for (const task of tasks) printJson(task);
    else printTable(COLUMNS, tasks);
    return 0;
  });
}
