/**
 * Writes sessions down in bulk: when they first claim a task, when they have been there for a moment, when they close, when
 * they end; never for a heartbeat. The end of a lease that is revoked is written at once (farewells.ts).
 *
 * A session whose record is out of date is noted once, however often it changes before the next write; what is written is
 * how it stands then. So the journal is never longer than the sessions that changed, and a session that came and went in
 * between costs nothing unless it claimed a task, from which it is then taken off. While the database is away the notes
 * wait; one whose record somebody keeps locked waits by itself, and is tried again with every write.
 *
 * The records are for others: who takes over when this node dies, who looks for its tasks after a reconnect, who lists
 * sessions elsewhere. A record that is missing after a crash loses nothing: the tasks themselves name their session, and
 * the session's id names its node.
 */
import type { Clock, Timer } from './clock.js';
import type { HeldTask, OnLocked, SessionStore } from './liveness-ports.js';
import type { LiveSession } from './liveness-session.js';
import type { Log } from './ports.js';

/** Settings of the journal. */
export interface SessionJournalOptions {
  readonly store: Pick<SessionStore, 'save' | 'end'>;
  readonly nodeId: string;
  readonly clock: Clock;
  readonly log: Log;
  /** An ended session still has tasks in the database, by a claim whose answer was lost. */
  readonly onLeftover: (session: LiveSession, task: HeldTask) => void;
}

const FLUSH_MS = 250;
const RETRY_MS = 2000;
const MAX_RECORDS = 1000;

export class SessionJournal {
  /** By id: a session that ended and came back is another object, and what was noted of its end is out of date. */
  readonly #changed = new Map<string, LiveSession>();
  #timer: Timer | undefined;
  #dueAtMs = 0;
  #flushing: Promise<void> | undefined;
  #stopped = false;

  constructor(private readonly options: SessionJournalOptions) {}

  /** Sessions whose records are out of date. */
  get size(): number {
    return this.#changed.size;
  }

  /** Notes that a session's record is out of date. */
  note(session: LiveSession): void {
    const isNothingToSay = session.state === 'ended' && !session.isWrittenDown && !session.hasClaimed;
    if (isNothingToSay || session.isRevoked) this.#changed.delete(session.id);
    else this.#changed.set(session.id, session);
    this.#arm(FLUSH_MS);
  }

  /** Writes what is noted, once. */
  flush(): Promise<void> {
    this.#flushing ??= this.#writeAll().finally(() => {
      this.#flushing = undefined;
      this.#arm(RETRY_MS);
    });
    return this.#flushing;
  }

  /** Resolves when what is noted now has been tried to write, once. */
  async settled(): Promise<void> {
    await this.#flushing;
    await this.flush();
  }

  /**
   * Writes what is noted for a last time. False: the database did not take all of it, and the rest is left to those who take
   * over.
   */
  async stop(): Promise<boolean> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.settled();
    return this.#changed.size === 0;
  }

  #arm(delayMs: number): void {
    const { clock } = this.options;
    const dueAtMs = clock.monotonicMs() + delayMs;
    if (this.#stopped || this.#changed.size === 0 || (this.#timer && this.#dueAtMs <= dueAtMs)) return;
    this.#timer?.cancel();
    this.#dueAtMs = dueAtMs;
    this.#timer = clock.schedule(delayMs, () => {
      this.#timer = undefined;
      void this.flush();
    });
  }

  async #writeAll(): Promise<void> {
    for (const chunk of inChunks([...this.#changed.values()], MAX_RECORDS)) {
      for (const session of chunk) this.#changed.delete(session.id);
      const locked = new Set<string>();
      try {
        await this.#write(chunk, (id) => locked.add(id));
        for (const session of chunk)
          if (locked.has(session.id) && !this.#changed.has(session.id)) this.#changed.set(session.id, session);
      } catch (error) {
        for (const session of chunk) if (!this.#changed.has(session.id)) this.note(session);
        const level = this.#stopped ? 'debug' : 'warn';
        this.options.log[level]({ err: error, sessions: this.#changed.size }, 'sessions could not be written down yet');
        return;
      }
    }
  }

  async #write(chunk: readonly LiveSession[], onLocked: OnLocked): Promise<void> {
    const { store, nodeId, clock } = this.options;
    const ended = chunk.filter((session) => session.state === 'ended');
    const live = chunk.filter((session) => session.state !== 'ended');
    if (live.length > 0) {
      const nowMs = clock.monotonicMs();
      const records = live.map((session) => session.record(nowMs));
      // Before the answer, which may get lost: a session that ends meanwhile is to be taken out again.
      for (const session of live) {
        session.isWrittenDown = true;
        session.isHolderOnRecord = session.tasks.size > 0;
      }
      await store.save(nodeId, records, onLocked);
    }
    if (ended.length > 0) await this.#end(ended, onLocked);
  }

  async #end(ended: readonly LiveSession[], onLocked: OnLocked): Promise<void> {
    const byId = new Map(ended.map((session) => [session.id, session]));
    const records = ended.map((session) => ({ id: session.id, silentMs: session.silentMs() }));
    for (const task of await this.options.store.end(this.options.nodeId, records, onLocked)) {
      const session = byId.get(task.sessionId);
      if (session) this.options.onLeftover(session, task);
    }
  }
}

function* inChunks<T>(list: readonly T[], size: number): Generator<T[]> {
  for (let start = 0; start < list.length; start += size) yield list.slice(start, start + size);
}
