/** What every handler shares: errors in the door's form, and a note for the metrics of how the call went. */
import { Code, ConnectError, type HandlerContext } from '@connectrpc/connect';
import { TaskDashError } from '../../domain/errors.js';
import type { Log } from '../../domain/ports.js';
import { isGone, toConnectError } from './errors.js';
import { callerKey, type Caller } from './guard.js';
import { MAX_CALLS } from './limits.js';

/** How a call went. */
export interface CallReport {
  readonly door: Caller['door'];
  readonly method: string;
  /** "OK" or the name of the status code. */
  readonly code: string;
  readonly durationMs: number;
}

/** What handlers report to. */
export interface CallObserver {
  onCall(report: CallReport): void;
  /** A stream opened (1) or closed (-1). */
  onStream(door: Caller['door'], change: 1 | -1): void;
}

export class Calls {
  #underWay = 0;

  constructor(
    private readonly log: Log,
    private readonly observer: CallObserver,
  ) {}

  /** Runs a unary handler. Its caller hears of a passed deadline though the work goes on; what a write did is not known then. */
  async unary<T>(context: HandlerContext, work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    try {
      const answer = await inTime(context, this.#bounded(work));
      this.#report(context, startedMs, 'OK');
      return answer;
    } catch (thrown) {
      throw this.#failed(context, startedMs, thrown);
    }
  }

  /** Runs a streaming handler, which ends by itself when its signal aborts; the caller hears why it did. */
  async *stream<T>(context: HandlerContext, work: () => AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    const startedMs = performance.now();
    const { door } = context.values.get(callerKey);
    this.observer.onStream(door, 1);
    let code = 'CANCELLED';
    try {
      yield* work();
      if (context.signal.aborted) throw ConnectError.from(context.signal.reason);
      code = 'OK';
    } catch (thrown) {
      const error = toConnectError(causeOf(context, thrown), this.log, context.method.name);
      code = nameOf(error.code);
      throw error;
    } finally {
      this.observer.onStream(door, -1);
      this.#report(context, startedMs, code);
    }
  }

  /** A call counts for as long as its work goes on, also when its caller waits no longer. */
  async #bounded<T>(work: () => Promise<T>): Promise<T> {
    if (this.#underWay >= MAX_CALLS) throw new TaskDashError('OVERLOADED', { retryAfterMs: 1_000 });
    this.#underWay++;
    try {
      return await work();
    } finally {
      this.#underWay--;
    }
  }

  #failed(context: HandlerContext, startedMs: number, thrown: unknown): ConnectError {
    const error = toConnectError(causeOf(context, thrown), this.log, context.method.name);
    this.#report(context, startedMs, nameOf(error.code));
    return error;
  }

  #report(context: HandlerContext, startedMs: number, code: string): void {
    const { door } = context.values.get(callerKey);
    this.observer.onCall({ door, method: context.method.name, code, durationMs: performance.now() - startedMs });
  }
}

/** Why a call failed: what ended it explains what its streams say of their end. */
function causeOf({ signal }: HandlerContext, thrown: unknown): unknown {
  return signal.aborted && isGone(thrown) ? signal.reason : thrown;
}

/** The outcome of some work, or the end of the caller's patience, whichever comes first. A stop alone does not end it. */
function inTime<T>(context: HandlerContext, work: Promise<T>): Promise<T> {
  if (context.timeoutMs() === undefined) return work;
  const late = new Promise<never>((_resolve, reject) => {
    const { signal } = context;
    const look = () => {
      const reason = ConnectError.from(signal.reason);
      if (reason.code === Code.DeadlineExceeded || reason.code === Code.Canceled) reject(reason);
    };
    if (signal.aborted) look();
    else signal.addEventListener('abort', look, { once: true });
  });
  return Promise.race([work, late]);
}

/** A code as gRPC writes it: NOT_FOUND. */
function nameOf(code: Code): string {
  if (code === Code.Canceled) return 'CANCELLED';
  return (Code[code] ?? 'Unknown').replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();
}
