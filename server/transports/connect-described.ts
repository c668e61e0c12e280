/**
 * What Connect itself tells callers over HTTP, with a code of the catalogue as everything else has: its refusals of what it
 * cannot decode, and failures to encode an answer, which are our own fault and logged.
 */
import { constants } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Code, ConnectError } from '@connectrpc/connect';
import type { UniversalServerResponse } from '@connectrpc/connect/protocol';
import {
  endStreamFlag,
  endStreamFromJson,
  endStreamToJson,
  errorFromJsonBytes,
  errorToJsonBytes,
} from '@connectrpc/connect/protocol-connect';
import { findTrailerError, setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import { trailerFlag, trailerParse, trailerSerialize } from '@connectrpc/connect/protocol-grpc-web';
import { quoted } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { toConnectError } from './rpc/errors.js';
import { HTTP_COMPRESSIONS } from './rpc/unpacking.js';

/** In front of each message of a stream: flags, and four bytes of length. */
const HEAD_BYTES = 5;
/** Set in the flags of a message that is packed. */
const PACKED = 1;
const UNREADABLE = new ConnectError('an error that cannot be read', Code.Internal);

type Describe = (error: ConnectError) => ConnectError;

/** The answer with its error, if it is one, described. */
export async function describedResponse(
  response: UniversalServerResponse,
  log: Log,
  method: string,
): Promise<UniversalServerResponse> {
  const describe: Describe = (error) => toConnectError(error, log, method);
  const type = response.header?.get('content-type') ?? '';
  if (response.body && /^application\/grpc-web/.test(type)) return withLast(response, trailerFlag, describedTrailer);
  if (response.body && /^application\/connect/.test(type)) return withLast(response, endStreamFlag, describedEnd);
  if (response.status >= 400) return describedError(response, describe);
  return response;

  function withLast(answer: UniversalServerResponse, flag: number, change: Change): UniversalServerResponse {
    const encodingHeader = flag === endStreamFlag ? 'connect-content-encoding' : 'grpc-encoding';
    const encoding = answer.header?.get(encodingHeader) ?? null;
    return { ...answer, body: changed(answer.body ?? noBytes(), flag, encoding, (last) => change(last, describe)) };
  }
}

/** A path that names a method: /package.Service/Method. */
const METHOD_PATH = /^\/(\w+\.)+\w+\/\w+$/;

/** Whether a request is a call, of whatever method. */
export function isCall({ method, url = '' }: IncomingMessage): boolean {
  return method === 'POST' && METHOD_PATH.test(pathOf(url));
}

/** Answers a call of a method that no service has, in the form in which its caller asked: Connect would not describe it. */
export function refuseUnknownMethod(request: IncomingMessage, response: ServerResponse, log: Log): void {
  const path = pathOf(request.url ?? '');
  const unknown = new ConnectError(`The server has no method ${quoted(path)}.`, Code.Unimplemented);
  const error = toConnectError(unknown, log, path);
  const type = request.headers['content-type'] ?? '';
  if (/^application\/grpc-web(?!-text)/.test(type)) {
    const trailer = setTrailerStatus(new Headers(), error);
    respond(200, type, enveloped(trailerFlag, trailerSerialize(trailer)));
  } else if (/^application\/connect\+/.test(type)) {
    const end = endStreamToJson(new Headers(), error, undefined);
    respond(200, type, enveloped(endStreamFlag, Buffer.from(JSON.stringify(end))));
  } else respond(404, 'application/json', errorToJsonBytes(error, undefined));

  function respond(status: number, contentType: string, body: Uint8Array): void {
    response.writeHead(status, { 'content-type': contentType, 'content-length': body.length });
    response.end(body);
  }
}

function pathOf(url: string): string {
  return url.split('?', 1)[0] ?? '';
}

/** The error of a single answer; one without a body, as for a type of content that is not known, gets one. */
async function describedError(response: UniversalServerResponse, describe: Describe): Promise<UniversalServerResponse> {
  const header = new Headers(response.header);
  const bytes = await wholeOf(response.body ?? noBytes(), header.get('content-encoding'));
  const error = bytes.length > 0 ? errorFromJsonBytes(bytes, undefined, UNREADABLE) : refusalOf(response.status);
  const body = errorToJsonBytes(describe(error), undefined);
  header.delete('content-encoding');
  header.set('content-type', 'application/json');
  header.set('content-length', String(body.length));
  return { ...response, header, body: only(body) };
}

function refusalOf(status: number): ConnectError {
  const why: Record<number, string> = {
    405: 'Calls are sent with POST.',
    415: 'The content-type of the request is none that this method takes: application/json or application/proto, for streams application/connect+json or application/connect+proto.',
    505: 'Messages both ways on one stream need HTTP/2: call this method on the gRPC port, or RenewLease for each beat.',
  };
  return new ConnectError(why[status] ?? `The request was refused with the HTTP status ${status}.`, Code.Unimplemented);
}

async function wholeOf(body: AsyncIterable<Uint8Array>, encoding: string | null): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return unpacked(Buffer.concat(chunks), encoding);
}

/** Connect may have packed what it says; as it does so itself, it cannot become more than Connect had. */
async function unpacked(bytes: Uint8Array, encoding: string | null): Promise<Uint8Array> {
  const packing = HTTP_COMPRESSIONS.find(({ name }) => name === encoding);
  return packing ? packing.decompress(bytes, constants.MAX_LENGTH) : bytes;
}

type Change = (bytes: Uint8Array, describe: Describe) => Uint8Array;

/** The chunks of a body, each a message with its head, and the one with this flag changed, which is plain then. */
async function* changed(
  body: AsyncIterable<Uint8Array>,
  flag: number,
  encoding: string | null,
  change: (bytes: Uint8Array) => Uint8Array,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of body) {
    const flags = chunk[0] ?? 0;
    const content = chunk.subarray(HEAD_BYTES);
    if (flags === flag) yield enveloped(flag, change(content));
    else if (flags === (flag | PACKED)) yield enveloped(flag, change(await unpacked(content, encoding)));
    else yield chunk;
  }
}

function enveloped(flag: number, content: Uint8Array): Uint8Array {
  const head = Buffer.alloc(HEAD_BYTES);
  head[0] = flag;
  head.writeUInt32BE(content.length, 1);
  return Buffer.concat([head, content]);
}

function describedEnd(bytes: Uint8Array, describe: Describe): Uint8Array {
  const { metadata, error } = endStreamFromJson(bytes);
  return error ? Buffer.from(JSON.stringify(endStreamToJson(metadata, describe(error), undefined))) : bytes;
}

function describedTrailer(bytes: Uint8Array, describe: Describe): Uint8Array {
  const trailer = trailerParse(bytes);
  const error = findTrailerError(trailer);
  return error ? trailerSerialize(setTrailerStatus(trailer, describe(error))) : bytes;
}

// eslint-disable-next-line @typescript-eslint/require-await -- a body is an async iterable
async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield bytes;
}

async function* noBytes(): AsyncGenerator<Uint8Array, void, undefined> {
  // Nothing.
}
