/**
 * Mounts Connect handlers on a grpc-js server: definitions are derived from the descriptors of the contract, messages are
 * encoded by protobuf-es, errors become status and details. All four shapes of a call are bridged.
 *
 * Streams push back: a message is taken from the handler only after the transport has taken the one before. A call that
 * is cancelled or past its deadline aborts the handler's signal; so does its end.
 */
import type { EventEmitter } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import {
  create,
  fromBinary,
  toBinary,
  type DescMethod,
  type DescService,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { Code, ConnectError, createContextValues, createHandlerContext, type ServiceImpl } from '@connectrpc/connect';
import { setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import {
  Metadata,
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type MethodDefinition,
  type Server,
  type ServerDuplexStream,
  type ServerErrorResponse,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
  type handleClientStreamingCall,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { callerKey, type Caller } from './rpc/guard.js';

type Context = ReturnType<typeof createHandlerContext>;
type AnyCall =
  | ServerUnaryCall<Buffer, Buffer>
  | ServerWritableStream<Buffer, Buffer>
  | ServerReadableStream<Buffer, Buffer>
  | ServerDuplexStream<Buffer, Buffer>;
type Message = MessageShape<DescMethod['input']>;
type UnaryHandler = (request: Message, context: Context) => Promise<object>;
type ServerStreamHandler = (request: Message, context: Context) => AsyncIterable<object>;
type ClientStreamHandler = (requests: AsyncIterable<Message>, context: Context) => Promise<object>;
type BidiHandler = (requests: AsyncIterable<Message>, context: Context) => AsyncIterable<object>;

const STATUS_DETAILS = 'grpc-status-details-bin';
const identity = (bytes: Buffer): Buffer => bytes;

/** Adds a service with its Connect implementation to a grpc-js server. */
export function addService<S extends DescService>(
  server: Pick<Server, 'addService'>,
  service: S,
  implementation: ServiceImpl<S>,
): void {
  const definition: Record<string, MethodDefinition<Buffer, Buffer>> = {};
  const handlers: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    definition[method.name] = definitionOf(method);
    const handler = (implementation as Record<string, (...args: never[]) => unknown>)[method.localName];
    if (!handler) throw new Error(`${service.typeName} has no handler for ${method.name}`);
    handlers[method.name] = bridge(method, handler.bind(implementation) as never);
  }
  server.addService(definition, handlers);
}

function definitionOf(method: DescMethod): MethodDefinition<Buffer, Buffer> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
    responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
    // Messages stay bytes in grpc-js: they are decoded here, where a bad one gets the same error as on the other door.
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

function bridge(
  method: DescMethod,
  handler: UnaryHandler & ServerStreamHandler & ClientStreamHandler & BidiHandler,
): UntypedServiceImplementation[string] {
  switch (method.methodKind) {
    case 'unary':
      return bridgeUnary(method, handler);
    case 'server_streaming':
      return bridgeServerStream(method, handler);
    case 'client_streaming':
      return bridgeClientStream(method, handler);
    case 'bidi_streaming':
      return bridgeBidi(method, handler);
  }
}

function bridgeUnary(method: DescMethod, handler: UnaryHandler): handleUnaryCall<Buffer, Buffer> {
  return (call, callback) => {
    const context = contextOf(method, call);
    void answer(method, call, context, callback, async () => handler(decode(method, call.request), context));
  };
}

function bridgeClientStream(
  method: DescMethod,
  handler: ClientStreamHandler,
): handleClientStreamingCall<Buffer, Buffer> {
  return (call, callback) => {
    const context = contextOf(method, call);
    void answer(method, call, context, callback, () => handler(decodeAll(method, call), context));
  };
}

function bridgeServerStream(
  method: DescMethod,
  handler: ServerStreamHandler,
): handleServerStreamingCall<Buffer, Buffer> {
  return (call) => {
    const context = contextOf(method, call);
    void sendAll(method, call, context, () => handler(decode(method, call.request), context));
  };
}

function bridgeBidi(method: DescMethod, handler: BidiHandler): handleBidiStreamingCall<Buffer, Buffer> {
  return (call) => {
    const context = contextOf(method, call);
    void sendAll(method, call, context, () => handler(decodeAll(method, call), context));
  };
}

async function answer(
  method: DescMethod,
  call: AnyCall,
  context: Context,
  callback: sendUnaryData<Buffer>,
  work: () => Promise<object>,
): Promise<void> {
  try {
    const bytes = encode(method, await work());
    sendHeaders(call, context);
    callback(null, bytes, metadataOf(context.responseTrailer));
  } catch (thrown) {
    sendHeaders(call, context);
    callback(statusOf(thrown, context));
  } finally {
    context.abort();
  }
}

async function sendAll(
  method: DescMethod,
  call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
  context: Context,
  work: () => AsyncIterable<object>,
): Promise<void> {
  try {
    for await (const message of work()) {
      if (context.signal.aborted) break;
      sendHeaders(call, context);
      if (!call.write(encode(method, message))) await drained(call, context.signal);
    }
    call.end(metadataOf(context.responseTrailer));
  } catch (thrown) {
    // grpc-js takes the status of a stream as an error event.
    call.emit('error', statusOf(thrown, context));
  } finally {
    context.abort();
  }
}

/** Resolves when the transport takes more, or will never again. */
function drained(call: Writable, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const finish = () => {
      call.off('drain', finish);
      call.off('close', finish);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    call.on('drain', finish);
    call.on('close', finish);
    signal.addEventListener('abort', finish);
  });
}

function contextOf(method: DescMethod, call: AnyCall): Context {
  const deadline = call.getDeadline();
  const deadlineMs = typeof deadline === 'number' ? deadline : deadline.getTime();
  const caller: Caller = { door: 'grpc', address: addressOf(call.getPeer()), isEncrypted: false };
  const contextValues = createContextValues().set(callerKey, caller);
  const context = createHandlerContext({
    service: method.parent,
    method,
    protocolName: 'grpc',
    requestMethod: 'POST',
    url: `https://grpc/${method.parent.typeName}/${method.name}`,
    requestHeader: headersOf(call.metadata),
    contextValues,
    ...(Number.isFinite(deadlineMs) && { timeoutMs: Math.max(0, deadlineMs - Date.now()) }),
  });
  // Every shape of a call emits it; the union of their types only hides that.
  (call as EventEmitter).on('cancelled', () => context.abort(new ConnectError('the caller went away', Code.Canceled)));
  return context;
}

/** A peer such as "127.0.0.1:4711" or "[::1]:4711" without its port, and without the prefix of IPv4 on an IPv6 socket. */
function addressOf(peer: string): string {
  return peer
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .replace(/^::ffff:(?=\d+\.)/, '');
}

function headersOf(metadata: Metadata): Headers {
  const headers = new Headers();
  for (const [key, value] of Object.entries(metadata.getMap())) {
    if (typeof value === 'string') headers.set(key, value);
  }
  return headers;
}

function metadataOf(headers: Headers): Metadata {
  const metadata = new Metadata();
  headers.forEach((value, key) => metadata.add(key, value));
  return metadata;
}

function sendHeaders(call: AnyCall, context: Context): void {
  if (!context.responseHeader.keys().next().done) call.sendMetadata(metadataOf(context.responseHeader));
}

function decode(method: DescMethod, bytes: Buffer): Message {
  try {
    return fromBinary(method.input, bytes);
  } catch (cause) {
    throw new ConnectError(
      'the request is not a message of this method',
      Code.InvalidArgument,
      undefined,
      undefined,
      cause,
    );
  }
}

/** The requests of a stream, as they come. Their end must not close the stream for the answers. */
async function* decodeAll(method: DescMethod, call: Readable): AsyncGenerator<Message, void, undefined> {
  for await (const bytes of call.iterator({ destroyOnReturn: false })) yield decode(method, bytes as Buffer);
}

function encode(method: DescMethod, message: object): Buffer {
  const bytes = toBinary(method.output, create(method.output, message as MessageInitShape<DescMethod['output']>));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A failure as grpc-js wants it (Connect numbers its codes as gRPC does): code, sentence, and the details as google.rpc.Status. */
function statusOf(thrown: unknown, context: Context): ServerErrorResponse {
  const error =
    context.signal.aborted && !(thrown instanceof ConnectError)
      ? ConnectError.from(context.signal.reason)
      : ConnectError.from(thrown);
  const trailer = new Headers();
  setTrailerStatus(trailer, error);
  const metadata = metadataOf(context.responseTrailer);
  const details = trailer.get(STATUS_DETAILS);
  if (details !== null) metadata.set(STATUS_DETAILS, Buffer.from(details, 'base64'));
  return {
    name: 'Error',
    message: error.rawMessage,
    code: error.code as number,
    details: error.rawMessage,
    metadata,
  };
}
