/** Errors in the form of gRPC and Connect: a status code, a sentence, and google.rpc details; the same on both doors. */
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
  type BadRequest,
} from '../../../proto/gen/google/rpc/error_details_pb.js';
import { TaskDashError, type ErrorCode, type ErrorKind } from '../../domain/errors.js';
import type { Log } from '../../domain/ports.js';

const DOMAIN = 'taskdash';
/** Errors travel in headers on gRPC, where clients take 8 kB together: what a caller sent comes back only in part. */
const MAX_SENTENCE_LENGTH = 500;
const MAX_RULE_LENGTH = 200;
const MAX_VIOLATIONS = 16;

const CODES: Readonly<Record<ErrorKind, Code>> = {
  INVALID_ARGUMENT: Code.InvalidArgument,
  NOT_FOUND: Code.NotFound,
  ALREADY_EXISTS: Code.AlreadyExists,
  PERMISSION_DENIED: Code.PermissionDenied,
  UNAUTHENTICATED: Code.Unauthenticated,
  RESOURCE_EXHAUSTED: Code.ResourceExhausted,
  FAILED_PRECONDITION: Code.FailedPrecondition,
  ABORTED: Code.Aborted,
  OUT_OF_RANGE: Code.OutOfRange,
  UNAVAILABLE: Code.Unavailable,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  CANCELLED: Code.Canceled,
  UNIMPLEMENTED: Code.Unimplemented,
  INTERNAL: Code.Internal,
};

/** What the libraries beneath say with a status code alone, in the catalogue; everything else of theirs is our own fault. */
const CATALOGUED: Readonly<Partial<Record<Code, ErrorCode>>> = {
  [Code.Canceled]: 'CANCELLED',
  [Code.InvalidArgument]: 'REQUEST_INVALID',
  [Code.DeadlineExceeded]: 'DEADLINE_EXCEEDED',
  [Code.NotFound]: 'SERVICE_NOT_FOUND',
  [Code.PermissionDenied]: 'PERMISSION_DENIED',
  [Code.ResourceExhausted]: 'MESSAGE_TOO_LARGE',
  [Code.Unimplemented]: 'NOT_SUPPORTED',
  [Code.Unauthenticated]: 'NOT_LOGGED_IN',
};

/** What Node says of a stream or a socket whose other side is gone. */
const GONE: ReadonlySet<unknown> = new Set([
  ...['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'ABORT_ERR', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_PREMATURE_CLOSE'],
  ...['ERR_STREAM_WRITE_AFTER_END', 'ERR_STREAM_UNABLE_TO_PIPE', 'ERR_HTTP2_INVALID_STREAM', 'ERR_HTTP2_STREAM_ERROR'],
]);

/**
 * Anything thrown as the error that the caller gets, with a code of the catalogue. What is our own fault is logged with its
 * cause; nothing of it is told. A caller who went away is no fault.
 */
export function toConnectError(thrown: unknown, log: Log, method: string): ConnectError {
  if (isDescribed(thrown)) return thrown;
  const error = catalogued(thrown);
  const details = { err: error.cause ?? error, method };
  if (error.kind === 'INTERNAL') log.error(details, 'a call failed');
  else if (error.code === 'STORAGE_UNAVAILABLE') log.warn(details, 'a call could not be served');
  else if (error.code === 'CANCELLED') log.debug(details, 'a caller went away');
  return describeError(error);
}

/** Whether an error says that the caller is gone. */
export function isGone(thrown: unknown): boolean {
  for (let error: unknown = thrown, depth = 0; error instanceof Error && depth < 8; error = error.cause, depth++) {
    if (GONE.has((error as { code?: unknown }).code) || error.name === 'AbortError') return true;
    if (error instanceof ConnectError && (error.code === Code.Canceled || error.code === Code.Aborted))
      return !isDescribed(error) || reasonOf(error) === 'CANCELLED';
  }
  return false;
}

function catalogued(thrown: unknown): TaskDashError {
  if (thrown instanceof TaskDashError) return thrown;
  if (isGone(thrown)) return new TaskDashError('CANCELLED', { cause: thrown });
  const code = thrown instanceof ConnectError ? CATALOGUED[thrown.code] : undefined;
  if (!code) return TaskDashError.from(thrown);
  return new TaskDashError(code, { message: (thrown as ConnectError).rawMessage, cause: (thrown as Error).cause });
}

/** Whether an error has been through here. */
function isDescribed(thrown: unknown): thrown is ConnectError {
  return thrown instanceof ConnectError && reasonOf(thrown) !== undefined;
}

function reasonOf(error: ConnectError): string | undefined {
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}

/** A catalogue error with its details, bounded in size. */
export function describeError(error: TaskDashError): ConnectError {
  const described = new ConnectError(shorten(error.message, MAX_SENTENCE_LENGTH), CODES[error.kind]);
  described.details.push({
    desc: ErrorInfoSchema,
    value: { reason: error.code, domain: DOMAIN, metadata: { hint: error.hint } },
  });
  if (error.violations.length > 0) described.details.push({ desc: BadRequestSchema, value: badRequestOf(error) });
  if (error.retryAfterMs !== undefined) {
    const retryDelay = durationFromMs(Math.ceil(error.retryAfterMs));
    described.details.push({ desc: RetryInfoSchema, value: { retryDelay } });
  }
  return described;
}

function badRequestOf({ violations }: TaskDashError): BadRequest {
  const fieldViolations = violations.slice(0, MAX_VIOLATIONS).map(({ field, description }) => ({
    field: shorten(field, MAX_RULE_LENGTH),
    description: shorten(description, MAX_RULE_LENGTH),
  }));
  return create(BadRequestSchema, { fieldViolations });
}

function shorten(text: string, maxLength: number): string {
  // Half a surrogate pair at the cut would have no form in UTF-8.
  return text.length <= maxLength ? text : `${text.slice(0, maxLength - 1).replace(/[\uD800-\uDBFF]$/, '')}…`;
}
