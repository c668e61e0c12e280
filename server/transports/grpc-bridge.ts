/**
 * Mounts Connect handlers on a grpc-js server: definitions are derived from the descriptors of the contract, messages are
 * encoded by protobuf-es, errors become status and details. All four shapes of a call are bridged.
 *
 * Streams push back: a message is taken from the handler only after the transport has taken nearly all before it.
 *
 * The handler's signal aborts when the caller goes, at the deadline, when the server stops, and when the call has ended.
 * A stream whose signal aborted ends with the reason, never well; waiting for a request ends with it too.
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
import {
  status,
  type Metadata,
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
import type { Log } from '../domain/ports.js';
import { addressIn } from './connection-name.js';
import { hasTimedOut } from './grpc-described.js';
import { metadataOf, statusOf } from './grpc-status.js';
import { flawOfBinary } from './rpc/binary-scan.js';
import { bytesAtHand } from './rpc/encoded.js';
import { toConnectError } from './rpc/errors.js';
import { refusalOf } from './rpc/flaws.js';
import { callerKey, hangUpKey, type Caller } from './rpc/guard.js';
import { MAX_TIMEOUT_MS } from './rpc/limits.js';
import { answerKey, AwaitedAnswer, type Unsent } from './rpc/unsent.js';

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

/** Node's timers overflow beyond. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Why what still listens to an answered call may stop; one for all, since a new error costs more than a small call. */
const ANSWERED = new ConnectError('the call has been answered', Code.Canceled);
/** How much of a stream may wait for the transport. */
const MAX_AHEAD_BYTES = 16_384;
const identity = (bytes: Buffer): Buffer => bytes;

/** The server that calls run on. */
export interface CallHost {
  /** Aborts when the server stops. */
  readonly shutdown: AbortSignal;
  readonly unsent: Unsent;
  readonly log: Log;
  /** A call began (1) or has been answered (-1). */
  onCall(change: 1 | -1): void;
  /** A stream was refused because its caller has too many; by the name of the connection. */
  onRefusedStream(peer: string): void;
}

/** Adds a service with its Connect implementation to a grpc-js server, under its own name or another. */
export function addService<S extends DescService>(
  server: Pick<Server, 'addService'>,
  service: S,
  implementation: ServiceImpl<S>,
  host: CallHost,
  name = service.typeName,
): void {
  const definition: Record<string, MethodDefinition<Buffer, Buffer>> = {};
  const handlers: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    definition[method.name] = definitionOf(method, name);
    const handler = (implementation as Record<string, (...args: never[]) => unknown>)[method.localName];
    if (!handler) throw new Error(`${service.typeName} has no handler for ${method.name}`);
    handlers[method.name] = bridge({ method, host }, handler.bind(implementation) as never);
  }
  server.addService(definition, handlers);
}

function definitionOf(method: DescMethod, serviceName: string): MethodDefinition<Buffer, Buffer> {
  return {
    path: `/${serviceName}/${method.name}`,
    requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
    responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
    // Messages stay bytes in grpc-js: they are decoded here, where a bad one gets the same error as on the other door.
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

/** A method as it is mounted. */
interface Mount {
  readonly method: DescMethod;
  readonly host: CallHost;
}

function bridge(
  mount: Mount,
  handler: UnaryHandler & ServerStreamHandler & ClientStreamHandler & BidiHandler,
): UntypedServiceImplementation[string] {
  switch (mount.method.methodKind) {
    case 'unary':
      return bridgeUnary(mount, handler);
    case 'server_streaming':
      return bridgeServerStream(mount, handler);
    case 'client_streaming':
      return bridgeClientStream(mount, handler);
    case 'bidi_streaming':
      return bridgeBidi(mount, handler);
  }
}

function bridgeUnary(mount: Mount, handler: UnaryHandler): handleUnaryCall<Buffer, Buffer> {
  return (call, callback) => {
    const context = contextOf(mount, call);
    void answerOnce(mount, call, context, callback, async () => handler(decode(mount.method, call.request), context));
  };
}

function bridgeClientStream(mount: Mount, handler: ClientStreamHandler): handleClientStreamingCall<Buffer, Buffer> {
  return (call, callback) => {
    const context = contextOf(mount, call);
    void answerOnce(mount, call, context, callback, () => handler(decodeAll(mount, call, context), context));
  };
}

function bridgeServerStream(mount: Mount, handler: ServerStreamHandler): handleServerStreamingCall<Buffer, Buffer> {
  return (call) => {
    const context = contextOf(mount, call);
    void sendAll(mount, call, context, () => handler(decode(mount.method, call.request), context));
  };
}

function bridgeBidi(mount: Mount, handler: BidiHandler): handleBidiStreamingCall<Buffer, Buffer> {
  return (call) => {
    const context = contextOf(mount, call);
    void sendAll(mount, call, context, () => handler(decodeAll(mount, call, context), context));
  };
}

async function answerOnce(
  { method, host }: Mount,
  call: AnyCall,
  context: Context,
  callback: sendUnaryData<Buffer>,
  work: () => Promise<object>,
): Promise<void> {
  const answer = context.values.get(answerKey);
  host.onCall(1);
  try {
    refuseTimeout(context);
    const bytes = encode(method, await work());
    answer.counted();
    sendHeaders(call, context);
    callback(null, bytes, metadataOf(context.responseTrailer));
  } catch (thrown) {
    sendHeaders(call, context);
    callback(failureOf(thrown, context, host.log));
  } finally {
    answer.counted();
    host.onCall(-1);
    context.abort(ANSWERED);
  }
}

async function sendAll(
  { method, host }: Mount,
  call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
  context: Context,
  work: () => AsyncIterable<object> | Promise<AsyncIterable<object>>,
): Promise<void> {
  host.onCall(1);
  try {
    refuseTimeout(context);
    let began = false;
    const ahead = new Ahead(call);
    for await (const message of await work()) {
      if (context.signal.aborted) break;
      if (!began) sendHeaders(call, context);
      began = true;
      ahead.write(encode(method, message));
      if (ahead.isFar) await ahead.shorter(context.signal);
    }
    context.signal.throwIfAborted();
    if (!began) sendHeaders(call, context);
    call.end(metadataOf(context.responseTrailer));
  } catch (thrown) {
    const failure = failureOf(thrown, context, host.log);
    if (failure.code === status.RESOURCE_EXHAUSTED) host.onRefusedStream(call.getPeer());
    // grpc-js takes the status of a stream as an error event.
    call.emit('error', failure);
  } finally {
    host.onCall(-1);
    context.abort(ANSWERED);
  }
}

/** What a stream was given and the transport has not taken. grpc-js counts messages, however long they are. */
class Ahead {
  #bytes = 0;
  #onShorter: () => void = () => {};

  constructor(private readonly call: Writable) {}

  /** Whether nothing more should be given to it now. */
  get isFar(): boolean {
    return this.#bytes > MAX_AHEAD_BYTES;
  }

  write(bytes: Buffer): void {
    this.#bytes += bytes.length;
    this.call.write(bytes, () => {
      this.#bytes -= bytes.length;
      if (!this.isFar) this.#onShorter();
    });
  }

  /** Resolves when the transport has taken more, or will never again. */
  shorter(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const finish = () => {
        this.call.off('close', finish);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      this.#onShorter = finish;
      this.call.on('close', finish);
      signal.addEventListener('abort', finish);
    });
  }
}

function contextOf({ method, host }: Mount, call: AnyCall): Context {
  const deadline = call.getDeadline();
  const deadlineMs = typeof deadline === 'number' ? deadline : deadline.getTime();
  // The name of the connection: grpc-intake.ts sees to that.
  const peer = call.getPeer();
  const caller: Caller = { door: 'grpc', address: addressIn(peer), connection: peer, isEncrypted: false };
  const context: Context = createHandlerContext({
    service: method.parent,
    method,
    protocolName: 'grpc',
    requestMethod: 'POST',
    url: `https://grpc/${method.parent.typeName}/${method.name}`,
    requestHeader: headersOf(call.metadata),
    contextValues: createContextValues()
      .set(callerKey, caller)
      .set(answerKey, new AwaitedAnswer(host.unsent, caller))
      .set(hangUpKey, (reason) => context.abort(reason)),
    ...(Number.isFinite(deadlineMs) && { timeoutMs: Math.min(Math.max(0, deadlineMs - Date.now()), LONGEST_TIMER_MS) }),
    shutdownSignal: host.shutdown,
  });
  // Every shape of a call emits it; the union of their types only hides that. grpc-js keeps deadlines too and may be first,
  // and so may the caller, who leaves then.
  (call as EventEmitter).on('cancelled', () =>
    context.abort(
      hasTimedOut(call.metadata) || Date.now() >= deadlineMs
        ? new ConnectError('the operation timed out', Code.DeadlineExceeded)
        : new ConnectError('the caller went away', Code.Canceled),
    ),
  );
  return context;
}

/** Throws INVALID_ARGUMENT for a time-out that is longer than calls may name, in the words of the other door. */
function refuseTimeout(context: Context): void {
  const timeoutMs = context.timeoutMs();
  if (timeoutMs === undefined || timeoutMs <= MAX_TIMEOUT_MS) return;
  throw new ConnectError(`timeout ${timeoutMs}ms must be <= ${MAX_TIMEOUT_MS}`, Code.InvalidArgument);
}

function headersOf(metadata: Metadata): Headers {
  const headers = new Headers();
  // Binary values come as base64, which is how Connect's handlers read them.
  for (const [key, values] of Object.entries(metadata.toHttp2Headers())) {
    for (const value of [values].flat()) headers.append(key, String(value));
  }
  return headers;
}

function sendHeaders(call: AnyCall, context: Context): void {
  if (!context.responseHeader.keys().next().done) call.sendMetadata(metadataOf(context.responseHeader));
}

/** Throws INVALID_ARGUMENT for what is no message of the method, and for what would become more than any caller needs. */
function decode(method: DescMethod, bytes: Buffer): Message {
  const flaw = flawOfBinary(method.input, bytes);
  if (flaw !== undefined) throw refusalOf(flaw);
  return fromBinary(method.input, bytes);
}

/** The requests of a call, as they come. Throws the signal's reason when it aborts, also while nothing arrives. */
async function* decodeAll(mount: Mount, call: Readable, context: Context): AsyncGenerator<Message, void, undefined> {
  // Ending the iteration must not destroy the call: its answer goes out on the same stream.
  const { signal } = context;
  const requests = call.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  let interrupt: () => void = () => {};
  signal.addEventListener('abort', () => interrupt(), { once: true });
  for (;;) {
    signal.throwIfAborted();
    const request = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
      interrupt = () => reject(ConnectError.from(signal.reason));
      requests.next().then(resolve, reject);
    });
    if (request.done) return;
    yield decode(mount.method, request.value);
  }
}

function encode(method: DescMethod, message: object): Buffer {
  const known = bytesAtHand(message);
  if (known) return known;
  const bytes = toBinary(method.output, create(method.output, message as MessageInitShape<DescMethod['output']>));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A failure as grpc-js wants it. */
function failureOf(thrown: unknown, context: Context, log: Log): ServerErrorResponse {
  const isEnd = context.signal.aborted && !(thrown instanceof ConnectError);
  return statusOf(
    toConnectError(isEnd ? context.signal.reason : thrown, log, context.method.name),
    context.responseTrailer,
  );
}
