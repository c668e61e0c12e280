/**
 * A lazy bucket wheel: entries wait in the bucket of the moment at which they are to be looked at again.
 *
 * Moving a deadline further away costs nothing here: the owner only notes the new deadline, and puts the entry back when
 * its visit comes and finds it not due yet. So a heartbeat never touches the wheel, and a sweep touches only the buckets
 * whose time has come, whatever the number of entries.
 *
 * An entry counts in at most one bucket, the one that its `bucket` names; what other buckets still hold of it is
 * leftover and dropped when met.
 */

/** What an entry keeps for the wheel; nobody else writes it. */
export interface WheelEntry {
  /** The bucket that the entry waits in, or NOT_IN_WHEEL. */
  bucket: number;
}

export const NOT_IN_WHEEL = -1;

export class DeadlineWheel<T extends WheelEntry> {
  readonly #buckets = new Map<number, T[]>();
  #swept: number;

  /** Visits come at most `widthMs` late. */
  constructor(
    private readonly widthMs: number,
    nowMs: number,
  ) {
    this.#swept = Math.floor(nowMs / widthMs);
  }

  /** Has the entry visited at `atMs`, in place of any visit before. */
  put(entry: T, atMs: number): void {
    const bucket = Math.max(Math.ceil(atMs / this.widthMs), this.#swept + 1);
    if (entry.bucket === bucket) return;
    entry.bucket = bucket;
    const waiting = this.#buckets.get(bucket);
    if (waiting) waiting.push(entry);
    else this.#buckets.set(bucket, [entry]);
  }

  /** Forgets the entry's visit. */
  remove(entry: T): void {
    entry.bucket = NOT_IN_WHEEL;
  }

  /** Takes out every entry whose visit has come. */
  takeDue(nowMs: number): T[] {
    const due: T[] = [];
    for (const last = Math.floor(nowMs / this.widthMs); this.#swept < last;) {
      const bucket = ++this.#swept;
      for (const entry of this.#buckets.get(bucket) ?? []) {
        if (entry.bucket !== bucket) continue;
        entry.bucket = NOT_IN_WHEEL;
        due.push(entry);
      }
      this.#buckets.delete(bucket);
    }
    return due;
  }
}
