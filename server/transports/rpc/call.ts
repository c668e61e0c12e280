/** What every handler shares: errors in the door's form, and a note for the metrics of how the call went. */
import { Code, type ConnectError, type HandlerContext } from '@connectrpc/connect';
import type { Log } from '../../domain/ports.js';
import { toConnectError } from './errors.js';
import { callerKey, type Caller } from './guard.js';

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
  constructor(
    private readonly log: Log,
    private readonly observer: CallObserver,
  ) {}

  /** Runs a unary handler. */
  async unary<T>(context: HandlerContext, work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    try {
      const answer = await work();
      this.#report(context, startedMs, 'OK');
      return answer;
    } catch (thrown) {
      throw this.#failed(context, startedMs, thrown);
    }
  }

  /** Runs a streaming handler. */
  async *stream<T>(context: HandlerContext, work: () => AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    const startedMs = performance.now();
    const { door } = context.values.get(callerKey);
    this.observer.onStream(door, 1);
    let code = 'CANCELLED';
    try {
      yield* work();
      code = 'OK';
    } catch (thrown) {
      const error = toConnectError(thrown, this.log, context.method.name);
      code = nameOf(error.code);
      throw error;
    } finally {
      this.observer.onStream(door, -1);
      this.#report(context, startedMs, code);
    }
  }

  #failed(context: HandlerContext, startedMs: number, thrown: unknown): ConnectError {
    const error = toConnectError(thrown, this.log, context.method.name);
    this.#report(context, startedMs, nameOf(error.code));
    return error;
  }

  #report(context: HandlerContext, startedMs: number, code: string): void {
    const { door } = context.values.get(callerKey);
    this.observer.onCall({ door, method: context.method.name, code, durationMs: performance.now() - startedMs });
  }
}

/** A code as gRPC writes it: NOT_FOUND. */
function nameOf(code: Code): string {
  return (Code[code] ?? 'Unknown').replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();
}
