/**
 * The one timer of the door. A connection that waits for something of its client has a deadline and is watched; one that
 * the server itself does not read for now is held, and asked at every sweep to speak for its silent client.
 *
 * Time is patient (server/domain/patient-time.ts), and between finding a connection overdue and telling it so one turn
 * of input is read: a pause of this process is not the client's slowness.
 */
import type { Clock, Timer } from '../../domain/clock.js';
import { PatientTime } from '../../domain/patient-time.js';

/** A connection, as the sweep knows it. */
export interface Swept {
  /** When it is overdue, on the sweep's time. */
  readonly deadlineAtMs: number;
  onOverdue(): void;
  onStillHeld(): void;
}

const PERIOD_MS = 250;

export class Sweep {
  readonly #watched = new Set<Swept>();
  readonly #held = new Set<Swept>();
  readonly #time: PatientTime;
  #timer: Timer | undefined;

  /** `onSweep` is told of every sweep. */
  constructor(
    private readonly clock: Clock,
    private readonly onSweep: () => void = () => {},
  ) {
    this.#time = new PatientTime(clock, PERIOD_MS, PERIOD_MS);
  }

  start(): void {
    if (this.#timer) return;
    this.#time.tick();
    this.#arm();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** The time that deadlines count on, in milliseconds. */
  nowMs(): number {
    return this.#time.nowMs();
  }

  watch(connection: Swept): void {
    this.#watched.add(connection);
  }

  unwatch(connection: Swept): void {
    this.#watched.delete(connection);
  }

  hold(connection: Swept): void {
    this.#held.add(connection);
  }

  release(connection: Swept): void {
    this.#held.delete(connection);
  }

  #arm(): void {
    this.#timer = this.clock.schedule(PERIOD_MS, () => this.#run());
  }

  #run(): void {
    this.#time.tick();
    this.onSweep();
    for (const connection of this.#held) connection.onStillHeld();
    const overdue = this.#overdue(this.#watched);
    if (overdue.length > 0) {
      this.clock.schedule(0, () => this.#overdue(overdue).forEach((connection) => connection.onOverdue()));
    }
    this.#arm();
  }

  #overdue(connections: Iterable<Swept>): Swept[] {
    const nowMs = this.nowMs();
    return [...connections].filter((connection) => connection.deadlineAtMs <= nowMs && this.#watched.has(connection));
  }
}
