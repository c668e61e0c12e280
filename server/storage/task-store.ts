/** Tasks and their history in PostgreSQL. */
import type { Scope } from '../domain/access.js';
import type { BatchId } from '../domain/batch-id.js';
import type { Clock } from '../domain/clock.js';
import type { Lapse, TaskFilter, TaskPageQuery, TaskStore, TaskWrite } from '../domain/ports.js';
import type { Task } from '../domain/task.js';
import type { LockedRows } from './locked-rows.js';
import type { Postgres } from './postgres.js';
import { TaskQueries } from './task-queries.js';
import { TaskWrites } from './task-writes.js';

/** What a task store needs to know beside the database. */
export interface TaskStoreSettings {
  /** Stands in for the database's; undefined: the database tells the instants that are stored. */
  readonly clock: Clock | undefined;
  /** This node's name, as histories tell it. */
  readonly nodeId: string;
  /** The collation that knows the case of every letter, quoted. */
  readonly unicodeCollation: string;
}

export class PostgresTaskStore implements TaskStore {
  readonly #writes: TaskWrites;
  readonly #queries: TaskQueries;

  constructor(postgres: Postgres, lockedRows: LockedRows, settings: TaskStoreSettings) {
    this.#writes = new TaskWrites(postgres, lockedRows, settings.clock, settings.nodeId);
    this.#queries = new TaskQueries(postgres, settings.unicodeCollation);
  }

  writeBatch(writes: readonly TaskWrite[], batch?: BatchId, withinMs?: number, isHurried?: boolean) {
    return this.#writes.writeBatch(writes, batch, withinMs, isHurried);
  }

  lapse(lapses: readonly Lapse[], nodeId?: string) {
    return this.#writes.lapse(lapses, nodeId);
  }

  hasLostWrites() {
    return this.#writes.hasLostWrites();
  }

  async find(scope: Scope, id: string): Promise<Task | undefined> {
    return (await this.#queries.findMany(scope, [id]))[0];
  }

  findMany(scope: Scope, ids: readonly string[]) {
    return this.#queries.findMany(scope, ids);
  }

  list(scope: Scope, query: TaskPageQuery) {
    return this.#queries.list(scope, query);
  }

  count(scope: Scope, filter: TaskFilter, bound: number) {
    return this.#queries.count(scope, filter, bound);
  }

  stats(scope: Scope, filter: TaskFilter, maxGroups: number) {
    return this.#queries.stats(scope, filter, maxGroups);
  }

  events(scope: Scope, taskId: string, beforeId: number | undefined, limit: number) {
    return this.#queries.events(scope, taskId, beforeId, limit);
  }
}
