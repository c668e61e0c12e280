import type { Clock, Timer } from '../../server/domain/clock.js';

interface Pending {
  dueMs: number;
  callback: () => void;
}

/** A clock that stands still until a test advances it; timers fire in the order of their due times. */
export class ManualClock implements Clock {
  #elapsedMs = 0;
  readonly #startMs: number;
  readonly #pending = new Set<Pending>();

  constructor(start = new Date('2026-01-01T00:00:00Z')) {
    this.#startMs = start.getTime();
  }

  now(): Date {
    return new Date(this.#startMs + this.#elapsedMs);
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  schedule(delayMs: number, callback: () => void): Timer {
    const entry: Pending = { dueMs: this.#elapsedMs + Math.max(0, delayMs), callback };
    this.#pending.add(entry);
    return { cancel: () => void this.#pending.delete(entry) };
  }

  /** Moves time forward, firing what falls due on the way, each at its own due time. */
  advance(byMs: number): void {
    const targetMs = this.#elapsedMs + byMs;
    for (let next = this.#nextDue(targetMs); next; next = this.#nextDue(targetMs)) {
      this.#pending.delete(next);
      this.#elapsedMs = Math.max(this.#elapsedMs, next.dueMs);
      next.callback();
    }
    this.#elapsedMs = targetMs;
  }

  /** Moves time forward without firing anything on the way, as a stopped process sees it; then fires what is due, late. */
  jump(byMs: number): void {
    this.#elapsedMs += byMs;
    this.advance(0);
  }

  /** Moves time forward and fires nothing: what is read next is read before any late timer. */
  skip(byMs: number): void {
    this.#elapsedMs += byMs;
  }

  /** How many timers are set. */
  get pendingTimers(): number {
    return this.#pending.size;
  }

  #nextDue(untilMs: number): Pending | undefined {
    let earliest: Pending | undefined;
    for (const entry of this.#pending) {
      if (entry.dueMs <= untilMs && (!earliest || entry.dueMs < earliest.dueMs)) earliest = entry;
    }
    return earliest;
  }
}
