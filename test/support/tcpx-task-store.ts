import type { TaskDashError } from '../../server/domain/errors.js';
import type { LapseResult, TaskStore, TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import type { Task, TaskTexts } from '../../server/domain/task.js';

const NO_TEXTS: TaskTexts = {
  name: '',
  url: '',
  user: '',
  group_id: '',
  description: '',
  status: '',
  start_time: '',
  stop_time: '',
};

/** As much of a task store as the legacy door reaches, in memory; it can be slow, away, or refuse. */
export class TcpxTaskStore implements TaskStore {
  readonly tasks = new Map<string, Task>();
  /** The writes of every batch, and the ids of every read, in order. */
  readonly batches: (readonly TaskWrite[])[] = [];
  readonly reads: (readonly string[])[] = [];
  /** Thrown instead of answering, while set. */
  failure: TaskDashError | Error | undefined;
  readonly #gates = new Map<'reads' | 'writes', { readonly opened: Promise<void>; readonly open: () => void }>();

  /** Lets calls of this kind wait until `resume`. */
  pause(kind: 'reads' | 'writes'): void {
    let open = () => {};
    const opened = new Promise<void>((resolve) => (open = resolve));
    this.#gates.set(kind, { opened, open });
  }

  resume(): void {
    for (const gate of this.#gates.values()) gate.open();
    this.#gates.clear();
  }

  async writeBatch(writes: readonly TaskWrite[]): Promise<TaskWriteResult[]> {
    this.batches.push(writes);
    await this.#answer('writes');
    return writes.map((write) => this.#write(write));
  }

  async findMany(_scope: unknown, ids: readonly string[]): Promise<Task[]> {
    this.reads.push(ids);
    await this.#answer('reads');
    return ids.map((id) => this.tasks.get(id)).filter((task) => task !== undefined);
  }

  async find(scope: unknown, id: string): Promise<Task | undefined> {
    return (await this.findMany(scope, [id]))[0];
  }

  lapse(): Promise<LapseResult> {
    return Promise.resolve({ lapsed: [], locked: [] });
  }

  hasLostWrites(): Promise<boolean> {
    return Promise.resolve(false);
  }

  list(): Promise<Task[]> {
    return notHere();
  }

  count(): Promise<number> {
    return notHere();
  }

  stats(): ReturnType<TaskStore['stats']> {
    return notHere();
  }

  events(): ReturnType<TaskStore['events']> {
    return notHere();
  }

  async #answer(kind: 'reads' | 'writes'): Promise<void> {
    await this.#gates.get(kind)?.opened;
    // A database answers in a later turn.
    await new Promise((resolve) => setImmediate(resolve));
    if (this.failure) throw this.failure;
  }

  #write(write: TaskWrite): TaskWriteResult {
    const stored = this.tasks.get(write.id);
    if (!stored && (write.kind === 'update' || write.onlyKnown)) return { outcome: 'not_found' };
    if (write.groups !== 'every' && stored && !write.groups.includes(stored.group_id)) return { outcome: 'forbidden' };
    const now = new Date(0);
    const task: Task = {
      ...(stored ?? { ...NO_TEXTS, id: write.id, statusBefore: '', startedAt: null, stoppedAt: null, createdAt: now }),
      ...write.texts,
      addr: write.addr ?? stored?.addr ?? '',
      cause: write.cause,
      statusChangedAt: now,
      updatedAt: now,
      revision: (stored?.revision ?? 0) + 1,
      sessionId: write.sessionId === undefined ? (stored?.sessionId ?? null) : write.sessionId,
      unconfirmedSince: null,
      epoch: (stored?.epoch ?? 0) + (write.sessionId ? 1 : 0),
    };
    this.tasks.set(write.id, task);
    return { outcome: 'written', revision: task.revision, epoch: task.epoch, status: task.status };
  }
}

function notHere(): Promise<never> {
  return Promise.reject(new Error('the legacy door never asks for this'));
}
