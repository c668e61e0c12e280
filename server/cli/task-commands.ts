/** `tasks list`, `tasks watch`. */
import type { Config } from '../config.js';
import { systemClock } from '../domain/clock.js';
import type { TaskFilter } from '../domain/ports.js';
import type { Task } from '../domain/task.js';
import { TaskFeed } from '../domain/task-feed.js';
import { createLog } from '../logging.js';
import { parseLimit, print, printJson, printTable } from './print.js';
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
const FEED = {
  pollMs: 500,
  page: { records: 500, bytes: 2 * 1024 * 1024 },
  ringSize: 2_000,
  ringBytes: 16 * 1024 * 1024,
  maxCatchUp: 100_000,
};

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

/** Prints every change until SIGINT or SIGTERM. */
export function watchTasks(config: Config, options: { json?: boolean }): Promise<number> {
  return withStorage(config, async (storage) => {
    const ended = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort());
    const feed = new TaskFeed(
      storage.feed,
      storage.hints,
      systemClock,
      FEED,
      createLog({ logLevel: 'warn', logFormat: config.logFormat }),
    );
    feed.start();
    const watch = await feed.open();
    const keepAlive = setInterval(() => {}, 60_000);
    try {
      while (!ended.signal.aborted) {
        for (const { event, task } of (await watch.next(1000, ended.signal))?.events ?? []) {
          if (options.json) printJson({ event, task });
          else
            print(
              `${event.at.toISOString()}  ${event.kind.padEnd(10)}  ${task.id}  ${event.fromStatus || '-'} → ${event.toStatus}  ${event.actor}`,
            );
        }
      }
      return 0;
    } finally {
      clearInterval(keepAlive);
      watch.close();
      feed.stop();
    }
  });
}
