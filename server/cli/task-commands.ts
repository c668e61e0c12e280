/** `tasks list`, `tasks watch`. */
import { ConfigError, type Config } from '../config.js';
import { systemClock } from '../domain/clock.js';
import type { TaskFilter } from '../domain/ports.js';
import type { Task } from '../domain/task.js';
import { TaskFeed } from '../domain/task-feed.js';
import { createLog } from '../logging.js';
import { print, withStorage } from './session.js';

const MAX_LIMIT = 10_000;
const FEED = { pollMs: 500, pageSize: 500, ringSize: 2_000, maxCatchUp: 100_000 };

/** Prints tasks, the latest change first. */
export function listTasks(
  config: Config,
  options: { status?: string[]; group?: string[]; user?: string[]; text?: string; limit: string; json?: boolean },
): Promise<number> {
  const limit = Number(options.limit);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new ConfigError(
      `--limit: ${JSON.stringify(options.limit)} is not allowed; it must be a whole number from 1 to ${MAX_LIMIT}.`,
    );
  }
  const filter: TaskFilter = {
    ...(options.status && { statuses: options.status }),
    ...(options.group && { groupIds: options.group }),
    ...(options.user && { users: options.user }),
    ...(options.text && { words: options.text.split(/\s+/) }),
  };
  return withStorage(config, async (storage) => {
    const query = { filter, orderBy: 'updatedAt', ascending: false, limit } as const;
    const tasks = await storage.tasks.list('everything', query);
    if (options.json) for (const task of tasks) print(JSON.stringify(task));
    else printTable(tasks);
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
          if (options.json) print(JSON.stringify({ event, task }));
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

function printTable(tasks: readonly Task[]): void {
  const rows = [
    COLUMNS.map((column) => column.toUpperCase()),
    ...tasks.map((task) => COLUMNS.map((column) => task[column])),
  ];
  const widths = COLUMNS.map((_, index) => Math.min(40, Math.max(...rows.map((row) => row[index]?.length ?? 0))));
  for (const row of rows)
    print(
      row
        .map((cell, index) => printable(cell).padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    );
}

/** Texts come from anywhere: control characters must not reach the terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '·').slice(0, 40);
}
