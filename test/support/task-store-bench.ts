/** The stores of tasks, on memory and on PostgreSQL, as two nodes of one installation see them. */
import type { FeedStore, TaskStore } from '../../server/domain/ports.js';
import { openStorage } from '../../server/storage/storage.js';
import { createTestDatabase } from './database.js';
import { ManualClock } from './manual-clock.js';
import { MemoryFeedStore } from './memory-feed-store.js';
import { MemoryTaskDatabase, MemoryTaskStore } from './memory-task-store.js';
import { silentLog } from './silent-log.js';

/** Stores under test. */
export interface TaskStoreBench {
  /** What `node-a` writes and reads. */
  readonly tasks: TaskStore;
  /** What `node-b` writes and reads. */
  readonly otherNode: TaskStore;
  readonly feed: FeedStore;
  /** Tells both nodes the time. */
  readonly clock: ManualClock;
  /** Removes every task and its history. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

/** Opens a bench; call `close` in `afterAll`. */
export const taskStoreBenches: readonly (readonly [name: string, open: () => Promise<TaskStoreBench>])[] = [
  ['memory', openOnMemory],
  ['PostgreSQL', openOnPostgres],
];

/** The bench on memory. */
export function openOnMemory(): Promise<TaskStoreBench> {
  const database = new MemoryTaskDatabase();
  const clock = new ManualClock();
  return Promise.resolve({
    tasks: new MemoryTaskStore(database, clock, 'node-a'),
    otherNode: new MemoryTaskStore(database, clock, 'node-b'),
    feed: new MemoryFeedStore(database),
    clock,
    clear() {
      database.tasks.clear();
      database.history.length = 0;
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  });
}

/** The bench on a PostgreSQL database of its own. */
export async function openOnPostgres(): Promise<TaskStoreBench> {
  const database = await createTestDatabase();
  const clock = new ManualClock();
  const settings = { url: database.url, poolSize: 4, log: silentLog, clock };
  const storage = await openStorage({ ...settings, nodeId: 'node-a' });
  const other = await openStorage({ ...settings, nodeId: 'node-b' });
  return {
    tasks: storage.tasks,
    otherNode: other.tasks,
    feed: storage.feed,
    clock,
    clear: async () => {
      await storage.dataSource.query('DELETE FROM task_event');
      await storage.dataSource.query('DELETE FROM task');
    },
    close: async () => {
      await storage.close();
      await other.close();
      await database.drop();
    },
  };
}
