/** Errors in the form of gRPC and Connect: a status code, a sentence, and google.rpc details; the same on both doors. */
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '../../../proto/gen/google/rpc/error_details_pb.js';
import { TaskDashError, type ErrorKind } from '../../domain/errors.js';
import type { Log } from '../../domain/ports.js';

const DOMAIN = 'taskdash';

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
  else if (error.kind === 'UNAVAILABLE') log.warn({ err: error.cause ?? error, method }, 'a call could not be served');
  return describe(error);
}

function describe(error: TaskDashError): ConnectError {
  const described = new ConnectError(error.message, CODES[error.kind]);
  described.details.push({
    desc: ErrorInfoSchema,
    value: { reason: error.code, domain: DOMAIN, metadata: { hint: error.hint } },
  });
  if (error.violations.length > 0) {
    const fieldViolations = error.violations.map(({ field, description }) => ({ field, description }));
    described.details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  }
  if (error.retryAfterMs !== undefined) {
    described.details.push({
      desc: RetryInfoSchema,
      value: { retryDelay: durationFromMs(Math.ceil(error.retryAfterMs)) },
    });
  }
  return described;
}
