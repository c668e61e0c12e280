/**
 * What a client still has to tell the registry: for every task the latest report, and who waits for it to arrive.
 *
 *   clean ──a report──► due ──taken──► on its way ──confirmed──► clean, or forgotten when the task has ended
 *     │                  ▲                 ├──returned (not reached)──► due
 *     │                  │                 ├──set apart (slow)──► due apart ──its pause is over, taken alone──► on its way
 *     └──registered again┘                 └──refused──► clean, as it was before; forgotten where it was to be registered
 *
 * Invariants
 * - Of one task at most one report is on its way, so reports arrive in the order in which they were made. What comes
 *   meanwhile is merged into one that follows.
 * - A report that is slow, as one of a task that somebody keeps locked, goes apart: it has a pause of its own, longer each
 *   time, and is not taken with others until it has arrived. So it holds up none but those of its task.
 * - Memory is bounded by the number of tasks, however much is reported while the registry is away: everybody who waits
 *   for the same report shares one promise. So is what is on its way, together and alone.
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
  /** Something else was sent since, and it is not known whether that arrived: the registry may have that. */
  readonly isUncertain: boolean;
}

/** When a report that was slow is tried again. */
interface Rest {
  readonly untilMs: number;
  readonly pauseMs: number;
}

interface Entry {
  report: TaskReport;
  /** The task ends with this report. */
  ends: boolean;
  /** It was registered under the lease of now, or that is on its way. */
  isRegistered: boolean;
  /** What the registry confirmed last, and whether something may have arrived since that was not confirmed. */
  confirmed: TaskReport | undefined;
  isUncertain: boolean;
  /** What is on its way. */
  parcel: Parcel | undefined;
  /** Those who wait for what is due, and for what is on its way. */
  waiting: Deferred | undefined;
  awaited: Deferred | undefined;
}

/** Reports on their way at most, besides those sent alone. */
const MAX_TOGETHER = 1_000;
/** With those of other reports (reports.ts) fewer than the calls that a connection may have at once, so that beats find room. */
const MAX_ALONE = 48;
const PAUSE_FIRST_MS = 500;
const PAUSE_MAX_MS = 10_000;
const PAUSE_IN_HURRY_MS = 500;

export class Outbox {
  readonly #entries = new Map<string, Entry>();
  readonly #due = new Set<Entry>();
  /** Those of slow reports, until these have arrived; those that were tried longest ago come first. */
  readonly #apart = new Map<Entry, Rest>();
  readonly #together = new Set<Parcel>();
  readonly #alone = new Set<Parcel>();
  #pauseMaxMs = PAUSE_MAX_MS;

  /** Tasks that have not ended, and those whose end has not arrived. */
  get size(): number {
    return this.#entries.size;
  }

  /** Whether anything has not arrived. */
  get hasUnsent(): boolean {
    return this.#due.size + this.#together.size + this.#alone.size > 0;
  }

  /** Whether `take` has something. */
  get hasDue(): boolean {
    if (this.#together.size >= MAX_TOGETHER) return false;
    for (const entry of this.#due) if (this.#isReady(entry)) return true;
    return false;
  }

  /** When `takeAlone` has something; `Infinity`: not before something else happens. */
  get aloneDueMs(): number {
    if (this.#alone.size >= MAX_ALONE) return Infinity;
    let dueMs = Infinity;
    for (const [{ parcel }, { untilMs }] of this.#apart) if (!parcel) dueMs = Math.min(dueMs, untilMs);
    return dueMs;
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

  /**
   * Up to `limit` reports that are due, so many of them not to be registered; each is to be confirmed, returned, set apart or
   * refused.
   */
  take(limit: number, maxUpdates = limit): Parcel[] {
    const parcels: Parcel[] = [];
    const room = Math.min(limit, MAX_TOGETHER - this.#together.size);
    let updates = 0;
    for (const entry of this.#due) {
      if (parcels.length >= room) break;
      if (!this.#isReady(entry) || (entry.isRegistered && entry.confirmed && updates >= maxUpdates)) continue;
      const parcel = this.#send(entry, this.#together);
      if (parcel.before) updates++;
      parcels.push(parcel);
    }
    return parcels;
  }

  /** Those set apart whose pause is over, each to be sent alone. */
  takeAlone(nowMs: number): Parcel[] {
    const parcels: Parcel[] = [];
    for (const [entry, { untilMs }] of this.#apart) {
      if (this.#alone.size >= MAX_ALONE) break;
      if (!entry.parcel && untilMs <= nowMs) parcels.push(this.#send(entry, this.#alone));
    }
    return parcels;
  }

  /** It has arrived. */
  confirm(parcel: Parcel): void {
    const entry = this.#receive(parcel);
    if (!entry) return;
    const { report } = parcel;
    Object.assign(entry, { confirmed: report, isUncertain: false });
    this.#apart.delete(entry);
    if (entry.ends && !this.#due.has(entry)) this.#entries.delete(report.id);
    entry.awaited?.resolve();
    entry.awaited = undefined;
  }

  /** It may not have arrived: it, or what was reported since, is sent again. `isLost`: the registry knows no such task. */
  return(parcel: Parcel, isLost = false): void {
    const entry = this.#receive(parcel);
    if (!entry) return;
    this.#apart.delete(entry);
    this.#sendAgain(entry, parcel, isLost);
  }

  /** It may not have arrived, and is tried again alone: at once, or after a pause. */
  setApart(parcel: Parcel, when: 'at once' | 'later', nowMs = performance.now()): void {
    const entry = this.#receive(parcel);
    if (!entry) return;
    const lastMs = this.#apart.get(entry)?.pauseMs ?? 0;
    const pauseMs = when === 'later' ? Math.min(Math.max(PAUSE_FIRST_MS, lastMs * 2), this.#pauseMaxMs) : 0;
    this.#apart.delete(entry);
    this.#apart.set(entry, { pauseMs, untilMs: nowMs + pauseMs * (0.5 + Math.random()) });
    this.#sendAgain(entry, parcel, false);
  }

  /** From now on nothing rests for long: there is not much time left. */
  hurry(): void {
    this.#pauseMaxMs = PAUSE_IN_HURRY_MS;
    for (const entry of this.#apart.keys()) this.#apart.set(entry, { pauseMs: 0, untilMs: 0 });
  }

  /** It was refused. False when nobody waits for it, who could be told. */
  refuse(parcel: Parcel, error: Error): boolean {
    const entry = this.#receive(parcel);
    if (!entry) return true;
    const { report, before } = parcel;
    const { awaited } = entry;
    entry.awaited = undefined;
    this.#apart.delete(entry);
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
      for (const waiter of [entry.awaited, entry.waiting]) waiter?.reject(error);
      Object.assign(entry, { awaited: undefined, waiting: undefined });
      if (entry.confirmed) continue;
      this.#entries.delete(id);
      this.#due.delete(entry);
      this.#apart.delete(entry);
    }
  }

  #post(report: TaskReport, change: Partial<Entry>): Promise<void> {
    const entry = this.#entries.get(report.id) ?? {
      ...{ report, ends: false, isRegistered: false },
      ...{ confirmed: undefined, isUncertain: false, parcel: undefined, waiting: undefined, awaited: undefined },
    };
    Object.assign(entry, change, { report });
    this.#entries.set(report.id, entry);
    this.#due.add(entry);
    entry.waiting ??= deferred();
    return entry.waiting.promise;
  }

  #isReady(entry: Entry): boolean {
    return !entry.parcel && !this.#apart.has(entry);
  }

  #send(entry: Entry, among: Set<Parcel>): Parcel {
    const { report, isRegistered, confirmed, isUncertain } = entry;
    const parcel = { report, before: isRegistered ? confirmed : undefined, isUncertain };
    Object.assign(entry, { parcel, isRegistered: true, awaited: entry.waiting, waiting: undefined });
    this.#due.delete(entry);
    among.add(parcel);
    return parcel;
  }

  /** The entry of what was on its way; undefined: it was forgotten meanwhile. */
  #receive(parcel: Parcel): Entry | undefined {
    this.#together.delete(parcel);
    this.#alone.delete(parcel);
    const entry = this.#entries.get(parcel.report.id);
    if (entry?.parcel !== parcel) return undefined;
    entry.parcel = undefined;
    return entry;
  }

  #sendAgain(entry: Entry, { before }: Parcel, isLost: boolean): void {
    if (!before || isLost) entry.isRegistered = false;
    entry.isUncertain = true;
    this.#due.add(entry);
    const { awaited, waiting } = entry;
    if (awaited && waiting) waiting.promise.then(awaited.resolve, awaited.reject);
    entry.waiting = waiting ?? awaited;
    entry.awaited = undefined;
  }
}
