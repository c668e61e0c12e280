/**
 * Work for sessions that goes on beside everything else, since it may have to wait for what somebody keeps locked: one piece at a
 * time for each session, and a bounded number at once. A stop waits for what is under way, for a moment.
 */
import { doneWithin, type Clock } from './clock.js';

const STOP_PATIENCE_MS = 1000;

export class SessionWork {
  /** By session. */
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(
    private readonly clock: Clock,
    private readonly maxAtOnce: number,
  ) {}

  /** How many pieces may begin now. */
  get room(): number {
    return this.maxAtOnce - this.#underWay.size;
  }

  /** Begins a piece for a session, which does not throw; undefined where one is under way already, or too many are. */
  begin(sessionId: string, work: () => Promise<void>): Promise<void> | undefined {
    if (this.room <= 0 || this.#underWay.has(sessionId)) return undefined;
    const piece = work().finally(() => this.#underWay.delete(sessionId));
    this.#underWay.set(sessionId, piece);
    return piece;
  }

  /** Resolves when nothing is under way any more, or has been waited for long enough. */
  stop(): Promise<void> {
    return doneWithin(this.clock, STOP_PATIENCE_MS, Promise.all(this.#underWay.values()));
  }
}
