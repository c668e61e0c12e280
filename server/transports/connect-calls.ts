/** Hands calls over HTTP to Connect, with their bodies judged before it decodes them. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  createConnectRouter,
  type ConnectError,
  type ConnectRouterOptions,
  type ContextValues,
} from '@connectrpc/connect';
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import type { UniversalHandler } from '@connectrpc/connect/protocol';
import { codeToHttpStatus, errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import { TaskDashError } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { screened } from './connect-body.js';
import { describedResponse, isCall, refuseUnknownMethod } from './connect-described.js';
import type { Arrivals } from './rpc/arrivals.js';
import { describeError, isGone, toConnectError } from './rpc/errors.js';
import { callerKey } from './rpc/guard.js';
import type { Held } from './rpc/held-bytes.js';
import type { RpcService } from './rpc/services.js';
import { HTTP_COMPRESSIONS } from './rpc/unpacking.js';
import { answerKey, AwaitedAnswer, type Unsent } from './rpc/unsent.js';

/** How much a caller has to take within the time that there is for it. */
const PORTION_BYTES = 65_536;

/** Answers a request. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** What calls are handed over with. */
export interface ConnectCallsOptions {
  readonly services: readonly RpcService[];
  /** Answers what is no call. */
  readonly fallback: Handler;
  readonly contextValues: (request: IncomingMessage) => ContextValues;
  readonly readMaxBytes: number;
  readonly writeMaxBytes: number;
  readonly maxTimeoutMs: number;
  readonly shutdownSignal: AbortSignal;
  readonly arrivals: Arrivals;
  readonly unsent: Unsent;
  readonly log: Log;
}

/** Answers calls of these services, whose messages have so many bytes at most. */
export function createConnectCalls(options: ConnectCallsOptions): Handler {
  const handlers = handlersOf(options);
  return (request, response) => {
    const handler = handlers.get(request.url?.split('?', 1)[0] ?? '');
    if (!handler && isCall(request)) return refuseUnknownMethod(request, response, options.log);
    if (!handler) return options.fallback(request, response);
    answer(handler, request, response, options).catch((thrown: unknown) => {
      const details = { err: thrown, method: handler.method.name };
      if (isGone(thrown)) options.log.debug(details, 'a caller went away before the answer was sent');
      else options.log.error(details, 'the answer to a call could not be sent');
      refuse(response, describeError(new TaskDashError('INTERNAL')));
    });
  };
}

/** Answers with an error in Connect's form; what has begun can only be cut off, and what is whole stands. */
export function refuse(response: ServerResponse, error: ConnectError): void {
  if (response.writableEnded) return;
  if (response.headersSent || response.destroyed) return void response.destroy();
  const body = errorToJsonBytes(error, undefined);
  // Of the headers of an answer that failed some may be set.
  response.removeHeader('content-encoding');
  response.writeHead(codeToHttpStatus(error.code), {
    'content-type': 'application/json',
    'content-length': body.length,
  });
  response.end(body);
}

async function answer(
  handler: UniversalHandler,
  request: IncomingMessage,
  response: ServerResponse,
  { contextValues, readMaxBytes, arrivals, unsent, log }: ConnectCallsOptions,
): Promise<void> {
  const values = contextValues(request);
  const sender = { connection: request.socket, address: values.get(callerKey).address };
  const whenAnswered = (work: () => void) => void response.once('close', work);
  const awaited = new AwaitedAnswer(unsent, sender);
  values.set(answerKey, awaited);
  whenAnswered(() => awaited.counted());
  const rules = { method: handler.method, maxBytes: readMaxBytes, arrivals, sender, whenAnswered };
  const universal = universalRequestFromNodeRequest(request, response, undefined, values);
  const judged = await screened(universal, request, rules).catch((thrown: unknown) => {
    refuse(response, toConnectError(thrown, log, handler.method.name));
  });
  if (!judged) return;
  const crowded = unsent.crowded(sender);
  if (crowded) return refuse(response, crowded);
  const answered = await handler(judged);
  const described = await describedResponse(answered, log, handler.method.name);
  if (response.writableEnded) return;
  const isStream = handler.method.methodKind !== 'unary';
  const cut = () => {
    log.warn(
      { address: sender.address, method: handler.method.name },
      'closed a connection that does not take its answer',
    );
    request.socket.destroy();
  };
  const begin = () => {
    awaited.counted();
    return unsent.begin(sender, cut);
  };
  const body = described.body && inPortions(described.body, begin, whenAnswered, () => response.destroyed, isStream);
  await universalResponseToNodeResponse({ ...described, ...(body && { body }) }, response);
}

/**
 * An answer in portions, each given when the one before it has been taken. It counts as long as some of it is left, and who takes nothing for long
 * or keeps others from their answers is cut off: the oldest is the one whose caller took nothing for longest.
 */
async function* inPortions(
  body: AsyncIterable<Uint8Array>,
  begin: () => Held,
  whenAnswered: (work: () => void) => void,
  hasClosed: () => boolean,
  isStream: boolean,
): AsyncGenerator<Uint8Array, void, undefined> {
  let held: Held | undefined;
  // The last portion is on its way until all of the answer is.
  whenAnswered(() => held?.end());
  for await (const chunk of body) {
    // Nobody takes anything any more, and nothing would end what begins to be kept now.
    if (hasClosed()) return;
    held ??= begin();
    for (let at = 0; at < chunk.length; at += PORTION_BYTES) {
      held.renew();
      // Portions are views of the whole.
      held.hold(chunk.length);
      yield chunk.subarray(at, at + PORTION_BYTES);
    }
    if (!isStream) continue;
    // Between two messages of a stream nobody has to take anything.
    held.end();
    held = undefined;
  }
}

function handlersOf({ services, ...options }: ConnectCallsOptions): ReadonlyMap<string, UniversalHandler> {
  const { readMaxBytes, writeMaxBytes, maxTimeoutMs, shutdownSignal } = options;
  const limits: ConnectRouterOptions = { readMaxBytes, writeMaxBytes, maxTimeoutMs, shutdownSignal };
  const router = createConnectRouter({ ...limits, acceptCompression: [...HTTP_COMPRESSIONS], grpc: false });
  for (const { service, implementation } of services) router.service(service, implementation);
  return new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
}
