/** What went wrong with a call, as the page needs to know it; the words for people are in `i18n/failure-words.ts`. */
import { Code, ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema, RetryInfoSchema } from '../../../proto/gen/google/rpc/error_details_pb.js';
import { durationMs } from '../state/timeline.js';
import type { WatchFailure } from '../state/watch-loop.js';

/** A call that failed. */
export interface Failure {
  /** The reason from the server's catalogue, such as "LOGIN_FAILED"; empty when the server did not say. */
  readonly reason: string;
  /** Whether the server could not be reached at all. */
  readonly isUnreachable: boolean;
  /** Whether the server was reached and took too long. */
  readonly isTimeout: boolean;
  /** How long the server asks to wait, in milliseconds; 0 when it does not ask. */
  readonly retryAfterMs: number;
  /** The server's own sentence. */
  readonly detail: string;
}

/** Reads any value that a call threw. */
export function failureOf(thrown: unknown): Failure {
  const error = ConnectError.from(thrown);
  const reason = error.findDetails(ErrorInfoSchema)[0]?.reason ?? '';
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason,
    isUnreachable: reason === '' && (error.code === Code.Unavailable || isNetworkError(error)),
    isTimeout: error.code === Code.DeadlineExceeded,
    retryAfterMs: delay ? durationMs(delay) : 0,
    detail: error.rawMessage,
  };
}

/** Whether a call failed because nobody is logged in (any more). */
export function isLoginOver(failure: Failure): boolean {
  return failure.reason === 'NOT_LOGGED_IN';
}

/** What a failed stream means for the loop that keeps it open. */
export function watchFailureOf(thrown: unknown): WatchFailure {
  const failure = failureOf(thrown);
  const refused = ['RESUME_TOKEN_EXPIRED', 'RESUME_TOKEN_INVALID', 'ACCESS_CHANGED'].includes(failure.reason);
  const kind = isLoginOver(failure) ? 'login-over' : refused ? 'token-refused' : 'lost';
  return { kind, retryAfterMs: failure.retryAfterMs };
}

/** fetch tells of a network failure by a TypeError, which Connect keeps as the cause. */
function isNetworkError(error: ConnectError): boolean {
  return error.cause instanceof TypeError;
}
