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
/**
 * Errors travel in headers on gRPC, where clients take 8 kB of all headers together, and proxies add some: all of an error is
 * to be less than 6 kB there, so what a caller sent comes back only in part. The sentence as it travels:
 */
const MAX_SENTENCE_BYTES = 2_400;
/** All violations, before they are packed into base64. */
const MAX_VIOLATIONS_BYTES = 2_100;
/** The path of a field, and a rule. */
const MAX_RULE_BYTES = 240;
/** What encoding adds to a violation. */
const VIOLATION_BYTES = 9;

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
  else if (error.code === 'STORAGE_UNAVAILABLE') log.warn({ ...details, err: error }, 'a call could not be served');
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
  const described = new ConnectError(cut(error.message, MAX_SENTENCE_BYTES, bytesInHeaders), CODES[error.kind]);
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

/** The first violations, as many as there is room for. */
function badRequestOf({ violations }: TaskDashError): BadRequest {
  const fieldViolations: { field: string; description: string }[] = [];
  let bytes = 0;
  for (const violation of violations) {
    const field = cut(violation.field, MAX_RULE_BYTES, bytesInUtf8);
    const description = cut(violation.description, MAX_RULE_BYTES, bytesInUtf8);
    bytes += bytesInUtf8(field) + bytesInUtf8(description) + VIOLATION_BYTES;
    if (bytes > MAX_VIOLATIONS_BYTES) break;
    fieldViolations.push({ field, description });
  }
  return create(BadRequestSchema, { fieldViolations });
}

/** What a character of a sentence measures: percent-encoded in grpc-message, and once more in the details, in base64. */
function bytesInHeaders(character: string): number {
  return encodeURIComponent(character).length + (bytesInUtf8(character) * 4) / 3;
}

function bytesInUtf8(text: string): number {
  return Buffer.byteLength(text);
}

/** A text that measures so much at most, cut between two characters. Half a surrogate pair has no form in UTF-8. */
function cut(text: string, maxBytes: number, bytesOf: (character: string) => number): string {
  const whole = text.toWellFormed();
  const room = maxBytes - bytesOf('…');
  let bytes = 0;
  let kept = 0;
  for (const character of whole) {
    bytes += bytesOf(character);
    if (bytes <= room) kept += character.length;
    if (bytes > maxBytes) return `${whole.slice(0, kept)}…`;
  }
  return whole;
}
