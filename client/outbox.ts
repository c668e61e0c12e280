/**
 * What a client still has to tell the registry: for every task the latest report, and who waits for it to arrive.
 *
 *   clean ──a report──► due ──taken──► on its way ──confirmed──► clean, or forgotten when the task has ended
 *     │                  ▲                 ├──returned (not reached)──► due
 *     └──registered again┘                 └──refused──► clean, as it was before; forgotten where it was to be registered
 *
 * Invariants
 * - Whoever takes reports answers for all of them before the next are taken: of one task at most one is on its way, so
 *   reports arrive in the order in which they were made. What comes meanwhile is merged into one that follows.
 * - Memory is bounded by the number of tasks, however much is reported while the registry is away: everybody who waits
 *   for the same report shares one promise.
 */
import { deferred, type Deferred } from './deferred.js';

/** A task as a service reports it; what is left out is empty. */
export interface TaskReport {
  readonly id: string;
  readonly name?: string;
  readonly url?: string;
  readonly user?: string;
  readonly groupId?: string;
  readonly description?: string;
  /** "running" by default. */
  readonly status?: string;
  readonly startTime?: string;
  readonly stopTime?: string;
}

/** A report on its way. */
export interface Parcel {
  readonly report: TaskReport;
  /** What the registry has of the task under the lease of now; undefined: it is to be registered. */
  readonly before: TaskReport | undefined;
}

interface Entry {
  report: TaskReport;
  /** The task ends with this report. */
  ends: boolean;
  /** It was registered under the lease of now, or that is on its way. */
  isRegistered: boolean;
  /** What the registry confirmed last. */
  confirmed: TaskReport | undefined;
  /** Those who wait for what is due, and for what is on its way. */
  waiting: Deferred | undefined;
  awaited: Deferred | undefined;
}

export class Outbox {
  readonly #entries = new Map<string, Entry>();
  readonly #due = new Set<Entry>();

  /** Tasks that have not ended, and those whose end has not arrived. */
  get size(): number {
    return this.#entries.size;
  }

  /** Whether anything is to be sent. */
  get hasDue(): boolean {
    return this.#due.size > 0;
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  /** The task as it was reported last; undefined: never, or it has ended. */
  find(id: string): TaskReport | undefined {
    const entry = this.#entries.get(id);
    return entry && !entry.ends ? entry.report : undefined;
  }

  /** Reports a whole task, as one that begins. Resolves when this, or a later report of it, has arrived. */
  begin(report: TaskReport): Promise<void> {
    return this.#post(report, { ends: false, isRegistered: false });
  }

  /** Reports a task that has begun. */
  change(report: TaskReport, ends: boolean): Promise<void> {
    return this.#post(report, { ends });
  }

  /** Up to `limit` reports that are due; each is to be confirmed, returned or refused before more are taken. */
  take(limit: number): Parcel[] {
    const parcels: Parcel[] = [];
    for (const entry of this.#due) {
      if (parcels.length >= limit) break;
      parcels.push({ report: entry.report, before: entry.isRegistered ? entry.confirmed : undefined });
      Object.assign(entry, { isRegistered: true, awaited: entry.waiting, waiting: undefined });
      this.#due.delete(entry);
    }
    return parcels;
  }

  /** It has arrived. */
  confirm({ report }: Parcel): void {
    const entry = this.#entries.get(report.id);
    if (!entry) return;
    entry.confirmed = report;
    if (entry.ends && !this.#due.has(entry)) this.#entries.delete(report.id);
    entry.awaited?.resolve();
    entry.awaited = undefined;
  }

  /** It may not have arrived: it, or what was reported since, is sent again. `isLost`: the registry knows no such task. */
  return({ report, before }: Parcel, isLost = false): void {
    const entry = this.#entries.get(report.id);
    if (!entry) return;
    if (!before || isLost) entry.isRegistered = false;
    this.#due.add(entry);
    const { awaited, waiting } = entry;
    if (awaited && waiting) waiting.promise.then(awaited.resolve, awaited.reject);
    entry.waiting = waiting ?? awaited;
    entry.awaited = undefined;
  }

  /** It was refused. False when nobody waits for it, who could be told. */
  refuse({ report, before }: Parcel, error: Error): boolean {
    const entry = this.#entries.get(report.id);
    if (!entry) return true;
    const { awaited } = entry;
    entry.awaited = undefined;
    if (!before) entry.isRegistered = false;
    if (!this.#due.has(entry)) {
      if (before) Object.assign(entry, { report: before, ends: false });
      else this.#entries.delete(report.id);
    }
    awaited?.reject(error);
    return awaited !== undefined;
  }

  /** The lease that vouched for the tasks is gone. */
  registerAllAgain(): void {
    for (const entry of this.#entries.values()) {
      entry.isRegistered = false;
      this.#due.add(entry);
    }
  }

  /** Rejects everybody who waits. What was never confirmed is forgotten. */
  rejectAll(error: Error): void {
    for (const [id, entry] of this.#entries) {
      entry.waiting?.reject(error);
      entry.waiting = undefined;
      if (entry.confirmed) continue;
      this.#entries.delete(id);
      this.#due.delete(entry);
    }
  }

  #post(report: TaskReport, change: Partial<Entry>): Promise<void> {
    const entry = this.#entries.get(report.id) ?? {
      ...{ report, ends: false, isRegistered: false },
      ...{ confirmed: undefined, waiting: undefined, awaited: undefined },
    };
    Object.assign(entry, change, { report });
    this.#entries.set(report.id, entry);
    this.#due.add(entry);
    entry.waiting ??= deferred();
    return entry.waiting.promise;
  }
}
