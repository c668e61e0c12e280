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
import { TaskDashError, type ErrorKind } from '../../domain/errors.js';
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
  INTERNAL: Code.Internal,
};

/** Anything thrown as the error that the caller gets. What is our own fault is logged with its cause; nothing of it is told. */
export function toConnectError(thrown: unknown, log: Log, method: string): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  const error = TaskDashError.from(thrown);
  if (error.kind === 'INTERNAL') log.error({ err: error.cause ?? error, method }, 'a call failed');
  else if (error.code === 'STORAGE_UNAVAILABLE')
    log.warn({ err: error.cause ?? error, method }, 'a call could not be served');
  return describeError(error);
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
