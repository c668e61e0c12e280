/**
 * Many services, as a scenario sees them whatever door they use, and what they know that a verdict can be held against:
 * what was acknowledged to them, and when they fell silent.
 */

/** How some services stand. */
export interface FleetStatus {
  /** Services whose latest connection is up and, where they register, acknowledged. */
  readonly settled: number;
  /** How often a connection was made after the first. */
  readonly reconnects: number;
  /** Writes that were acknowledged, registrations included. */
  readonly writes: number;
  /** By task: the highest count that was acknowledged to be stored in its description. */
  readonly acknowledged: Readonly<Record<string, number>>;
  /** By task of a service that fell silent or died: when it sent its last byte, by the wall clock. */
  readonly silentSince: Readonly<Record<string, number>>;
  /** The longest time that the fleet's own process stood still, in milliseconds: it is no fault of the server. */
  readonly stoodStillMs: number;
}

/** Some services. */
export interface Fleet {
  /** Opens the connections; resolves when every service is settled. */
  start(deadlineMs: number): Promise<void>;
  /** Resolves when every living service is settled. */
  settled(deadlineMs: number): Promise<void>;
  status(): FleetStatus;
}

/** What every kind of fleet is planned by. */
export interface FleetPlan {
  /** The number of the first service; numbers are in ids. */
  readonly first: number;
  readonly count: number;
  /** Over how many milliseconds the first connections are spread. */
  readonly spreadMs: number;
  /** Every so many-th service reports a growing count, … */
  readonly workEvery: number;
  /** … with this pause after each answer. */
  readonly workPauseMs: number;
}

/** The id of a service's task. */
export function idOf(number: number): string {
  return `service-${number}`;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** Waits until a condition holds; throws with what `describe` says when it does not in time. */
export async function untilSettled(deadlineMs: number, isSo: () => boolean, describe: () => string): Promise<void> {
  const endsAt = Date.now() + deadlineMs;
  while (!isSo()) {
    if (Date.now() > endsAt) throw new Error(`not settled within ${deadlineMs} ms: ${describe()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const TICK_MS = 50;

/** Notices when this process stands still. */
export class StandstillWatch {
  longestMs = 0;
  #lastMs = performance.now();
  readonly #timer = setInterval(() => {
    const nowMs = performance.now();
    this.longestMs = Math.max(this.longestMs, Math.round(nowMs - this.#lastMs - TICK_MS));
    this.#lastMs = nowMs;
  }, TICK_MS);

  stop(): void {
    clearInterval(this.#timer);
  }
}
