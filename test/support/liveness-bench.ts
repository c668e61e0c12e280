import { Liveness, type LivenessOptions } from '../../server/domain/liveness.js';
import type { Lapse, Log } from '../../server/domain/ports.js';
import { TaskDashError } from '../../server/domain/errors.js';
import type { SessionOpening } from '../../server/domain/sessions.js';
import { ManualClock } from './manual-clock.js';

/** A log that keeps its lines. */
export class KeptLog implements Log {
  readonly lines: { level: string; message: string; details: object }[] = [];
  debug = this.#keep('debug');
  info = this.#keep('info');
  warn = this.#keep('warn');
  error = this.#keep('error');

  #keep(level: string) {
    return (details: object, message: string) => void this.lines.push({ level, message, details });
  }
}

/** The lapse part of a task store: knows who holds each task, and can be away. */
export class LapseStore {
  readonly holders = new Map<string, { sessionId: string; epoch: number }>();
  readonly lapsed: Lapse[] = [];
  statements = 0;
  failure: TaskDashError | undefined;

  async lapse(lapses: readonly Lapse[]): Promise<string[]> {
    this.statements++;
    await Promise.resolve();
    if (this.failure) throw this.failure;
    const held = lapses.filter(({ taskId, sessionId, epoch }) => {
      const holder = this.holders.get(taskId);
      return holder?.sessionId === sessionId && holder.epoch === epoch;
    });
    for (const lapse of held) {
      this.holders.delete(lapse.taskId);
      this.lapsed.push(lapse);
    }
    return held.map((lapse) => lapse.taskId);
  }

  /** A durable claim, as the registry reports it to the session. */
  claim(session: { id: string; claimed(taskId: string, epoch: number): void }, taskId: string): void {
    const epoch = (this.#epochs.get(taskId) ?? 0) + 1;
    this.#epochs.set(taskId, epoch);
    this.holders.set(taskId, { sessionId: session.id, epoch });
    session.claimed(taskId, epoch);
  }

  readonly #epochs = new Map<string, number>();
}

/** Lets everything that only waits for promises happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

/** A liveness engine on a manual clock, started. */
export function livenessBench(options: Partial<LivenessOptions> = {}) {
  const clock = new ManualClock();
  const store = new LapseStore();
  const log = new KeptLog();
  let hints = 0;
  const liveness = new Liveness({
    lapses: store,
    hints: { announce: () => void hints++ },
    clock,
    log,
    ttlMs: 30_000,
    reconnectGraceMs: undefined,
    ...options,
  });
  liveness.start();
  const expired: string[] = [];
  return {
    clock,
    store,
    log,
    liveness,
    expired,
    hints: () => hints,
    open(address = '10.0.0.1', opening: Partial<SessionOpening> = {}) {
      const session = liveness.open({ door: 'tcp', address, onExpired: () => expired.push(session.id), ...opening });
      return session;
    },
    /** Moves time on in steps shorter than the slack, so that nothing looks like a pause. */
    async pass(byMs: number) {
      for (let leftMs = byMs; leftMs > 0; leftMs -= 50) {
        clock.advance(Math.min(50, leftMs));
        await settle();
      }
    },
  };
}
