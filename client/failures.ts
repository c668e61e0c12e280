/** What failures mean to a client. */
import { Code, type ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../proto/gen/google/rpc/error_details_pb.js';

const PASSING: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Aborted,
  Code.Internal,
  Code.Canceled,
  Code.Unknown,
]);

/** Whether a failure may pass: trying again is the cure. */
export function isPassing({ code }: ConnectError): boolean {
  return PASSING.has(code);
}

/** The code of an error in TaskDash's catalogue (docs/errors.md); undefined: it comes from somewhere else. */
export function reasonOf(error: ConnectError): string | undefined {
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}
