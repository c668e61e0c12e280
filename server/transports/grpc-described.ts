/** What grpc-js itself tells callers, with a code of the catalogue as everything else has. */
import type { IncomingHttpHeaders } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { status as Status, type Metadata, type Server, type ServerInterceptor, type StatusObject } from '@grpc/grpc-js';
import { quoted } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { STATUS_DETAILS, statusOf } from './grpc-status.js';
import { toConnectError } from './rpc/errors.js';

type PartialStatus = Partial<StatusObject> & Pick<StatusObject, 'code' | 'details'>;

/** What grpc-js shows to nobody; a test notices when it no longer has it. */
interface Inside {
  sendStatus(status: PartialStatus): void;
  readonly metadata: Metadata;
  readonly stream: { readonly destroyed: boolean; readonly closed: boolean };
}
interface Lookup {
  _verifyContentType(stream: unknown, headers: IncomingHttpHeaders): boolean;
  _retrieveHandler(path: string): unknown;
}

/** Whatever else begins so is another protocol, or another form of messages, and grpc-js would take it for this one. */
const GRPC = /^application\/grpc(\+proto)?\s*(;|$)/i;

/** Calls that were answered with DEADLINE_EXCEEDED, by the metadata that they came with. */
const timedOut = new WeakSet<Metadata>();

/** Whether a call has been told that its deadline is over: grpc-js itself tells it, by a clock that nobody can set. */
export function hasTimedOut(metadata: Metadata): boolean {
  return timedOut.has(metadata);
}

/** The interceptor next to the wire: also what grpc-js refuses by itself goes through it. */
export function describeEveryStatus(log: Log): ServerInterceptor {
  return (method, call) => {
    const inside = call as unknown as Inside;
    const send = inside.sendStatus.bind(call);
    inside.sendStatus = (status) => {
      const isGone = inside.stream.destroyed || inside.stream.closed;
      if (!isGone && status.code === Status.DEADLINE_EXCEEDED) timedOut.add(inside.metadata);
      send(isGone ? status : described(status, log, method.path));
    };
    return call as never;
  };
}

/** Refuses methods that no service has, and types of content that are not gRPC: grpc-js would do so past every interceptor. */
export function refuseUnknownCalls(server: Server, log: Log): void {
  const lookup = server as unknown as Lookup;
  const verify = lookup._verifyContentType.bind(server);
  const retrieve = lookup._retrieveHandler.bind(server);
  let type = '';
  lookup._verifyContentType = (stream, headers) => {
    type = headers['content-type'] ?? '';
    return verify(stream, headers);
  };
  // Asked for right after that.
  lookup._retrieveHandler = (path) => {
    if (!GRPC.test(type)) return refusing(path, unknownType(type), log);
    return retrieve(path) ?? refusing(path, `The server has no method ${quoted(path)}.`, log);
  };
}

function unknownType(type: string): string {
  return `The content-type ${quoted(type)} is not spoken here: use application/grpc or application/grpc+proto, or the HTTP port for JSON.`;
}

/** The handler of a call that is refused. */
function refusing(path: string, why: string, log: Log) {
  const identity = (bytes: unknown) => bytes;
  const error = new ConnectError(why, Code.Unimplemented);
  return {
    ...{ type: 'bidi', path, serialize: identity, deserialize: identity },
    func: (call: NodeJS.EventEmitter) => call.emit('error', statusOf(toConnectError(error, log, path))),
  };
}

function described(status: PartialStatus, log: Log, method: string): PartialStatus {
  if (status.code === Status.OK || (status.metadata?.get(STATUS_DETAILS).length ?? 0) > 0) return status;
  const { code, details, metadata } = statusOf(toConnectError(errorOf(status), log, method));
  if (status.metadata) metadata.merge(status.metadata);
  return { code, details, metadata };
}

function errorOf({ code, details }: PartialStatus): ConnectError {
  // grpc-js takes a time-out that it cannot read for a fault of its own.
  const isCallers = code === Status.INTERNAL && details.startsWith('Invalid grpc-timeout');
  return new ConnectError(details, isCallers ? Code.InvalidArgument : (code as number));
}
