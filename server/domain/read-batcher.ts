/**
 * Finds of many callers in one query, the counterpart of the write batcher: what is asked while reads are under way is
 * read together next. There is no timer, so a lone caller never waits for company.
 *
 * Only finds without a scope share a query; the others are rare and go their own way.
 */
import type { Scope } from './access.js';
import { TaskDashError } from './errors.js';
import type { TaskStore } from './ports.js';
import type { Task } from './task.js';

interface Asked {
  readonly id: string;
  readonly resolve: (task: Task | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Settings of a reader. */
export interface ReadBatcherOptions {
  /** Ids in one query at most. */
  readonly maxBatch: number;
  /** Queries under way at once. */
  readonly lanes: number;
  /** Finds that may wait; more are refused with OVERLOADED. */
  readonly capacity: number;
}

const DEFAULTS: ReadBatcherOptions = { maxBatch: 500, lanes: 2, capacity: 50_000 };

export class ReadBatcher {
  #queue: Asked[] = [];
  #lanes = 0;

  constructor(
    private readonly store: Pick<TaskStore, 'find' | 'findMany'>,
    private readonly options: ReadBatcherOptions = DEFAULTS,
  ) {}

  /** One task as the database has it at some moment after the call. Throws OVERLOADED or what the store throws. */
  find(scope: Scope, id: string): Promise<Task | undefined> {
    if (scope !== 'everything') return this.store.find(scope, id);
    if (this.#queue.length >= this.options.capacity) {
      return Promise.reject(new TaskDashError('OVERLOADED', { retryAfterMs: 200 }));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ id, resolve, reject });
      if (this.#lanes < this.options.lanes) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#lanes++;
    // Callers of this turn of the event loop share the first query.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#read(this.#queue.splice(0, this.options.maxBatch));
    this.#lanes--;
  }

  async #read(batch: readonly Asked[]): Promise<void> {
    try {
      const tasks = await this.store.findMany('everything', [...new Set(batch.map((asked) => asked.id))]);
      const byId = new Map(tasks.map((task) => [task.id, task]));
      for (const asked of batch) asked.resolve(byId.get(asked.id));
    } catch (error) {
      for (const asked of batch) asked.reject(error);
    }
  }
}
