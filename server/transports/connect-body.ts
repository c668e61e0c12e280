/**
 * What a request carries over HTTP, judged before Connect decodes it: read within what there is room for, unpacked to no
 * more bytes than a message may have, then looked through. Connect gets it unpacked, and whatever is thrown here it tells
 * in the form of the caller's protocol.
 */
import type { IncomingMessage } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DescMethod } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { UniversalServerRequest } from '@connectrpc/connect/protocol';
import { quoted } from '../domain/errors.js';
import type { Arrival, Arrivals, Sender } from './rpc/arrivals.js';
import { flawOfBinary } from './rpc/binary-scan.js';
import { refuseUnknownNames } from './rpc/enum-names.js';
import { FLAWS, refusalOf } from './rpc/flaws.js';
import { boundsOf, flawOfJson } from './rpc/json-scan.js';
import { Pile } from './rpc/pile.js';
import { HTTP_COMPRESSIONS, tooLong, unpack } from './rpc/unpacking.js';

/** In front of each message of a stream: flags, and four bytes of length. */
const HEAD_BYTES = 5;
const PACKED = 1;
/** What a request takes beside its body, about: with its connection and answer, for each header, and for each byte of them. */
const REQUEST_BYTES = 8_192;
const HEADER_BYTES = 128;
const HEADER_COPIES = 4;
/** Larger messages are decoded in a turn after that in which they were looked through, so that neither takes long. */
const LARGE_BYTES = 65_536;
/** How many portions of large bodies are read in a turn of the event loop: 128 kB, half a millisecond. */
const PORTIONS_A_TURN = 2;
/** Of both alphabets. */
const BASE64 = /^[\w+/-]*={0,2}$/;
const GONE = new ConnectError('the caller went away', Code.Canceled);

/** What a body is by the headers in front of it. */
interface BodyForm {
  readonly isJson: boolean;
  /** Whether it is a row of messages, each behind a head of its own. */
  readonly isStream: boolean;
  /** How it, or each of its messages, is packed. */
  readonly encoding: string | undefined;
}

/** How bodies are judged. */
export interface BodyRules {
  readonly method: DescMethod;
  readonly maxBytes: number;
  readonly arrivals: Arrivals;
  readonly sender: Sender;
  /** Calls back when the request is answered, or its caller gone. */
  readonly whenAnswered: (work: () => void) => void;
}

/** The request with its message judged before Connect has it. */
export async function screened(
  request: UniversalServerRequest,
  body: IncomingMessage,
  rules: BodyRules,
): Promise<UniversalServerRequest> {
  if (request.method === 'GET') return { ...request, url: await judgedAddress(request.url, rules) };
  const form = formOf(request.header);
  const header = new Headers(request.header);
  // What was true of the packed bytes is not true of what Connect gets.
  if (form.encoding !== undefined && !form.isStream) header.delete('content-encoding');
  if (form.encoding !== undefined) header.delete('content-length');
  return { ...request, header, body: judgedBody(body, form, rules, request.header.get('content-encoding')) };
}

/** A message that lies in the address, judged as a body is; plain and in base64 then, whatever it was. */
async function judgedAddress(address: string, rules: BodyRules): Promise<string> {
  const url = new URL(address);
  const query = url.searchParams;
  const compression = query.get('compression');
  const encoding = HTTP_COMPRESSIONS.find(({ name }) => name === compression)?.name;
  // How it is packed is for Connect to refuse, where nobody here can unpack it.
  if (compression !== null && compression !== 'identity' && encoding === undefined) return address;
  const bytes = bytesInQuery(url.search, query.get('base64') === '1');
  const form = { isStream: false, isJson: query.get('encoding') === 'json', encoding };
  const message = await judgedMessage(bytes, encoding, form, rules);
  query.delete('compression');
  query.set('base64', '1');
  query.set('message', Buffer.from(message).toString('base64url'));
  return url.toString();
}

/** The bytes of the message as they were sent: read as text, all that is no character would become one and the same. */
function bytesInQuery(search: string, isBase64: boolean): Buffer {
  const parameter = search
    .slice(1)
    .split('&')
    .find((part) => new URLSearchParams(part).has('message'));
  const escaped = parameter?.slice(parameter.indexOf('=') + 1).replaceAll('+', ' ') ?? '';
  const text = escaped.replace(/%([0-9a-f]{2})/gi, (_all, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  if (!isBase64) return Buffer.from(text, 'latin1');
  if (!BASE64.test(text) || text.replace(/=+$/, '').length % 4 === 1) throw refusalOf(FLAWS.base64);
  return Buffer.from(text, 'base64');
}

function formOf(header: Headers): BodyForm {
  const type = header.get('content-type') ?? '';
  const isStream = /^application\/(connect|grpc-web)/i.test(type);
  const encodingOfMessages = /^application\/connect/i.test(type) ? 'connect-content-encoding' : 'grpc-encoding';
  const encoding = header.get(isStream ? encodingOfMessages : 'content-encoding');
  return {
    isStream,
    // As Connect reads the type: what says neither is binary.
    isJson: /\+json|\/json/i.test(type),
    encoding: HTTP_COMPRESSIONS.find(({ name }) => name === encoding)?.name,
  };
}

async function* judgedBody(
  body: IncomingMessage,
  form: BodyForm,
  rules: BodyRules,
  contentEncoding: string | null,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (form.isStream) refuseEncoding(contentEncoding);
  const reading = new BodyReading(body, form.isStream ? rules.maxBytes + HEAD_BYTES : rules.maxBytes, rules);
  try {
    const bytes = await reading.whole;
    if (form.isStream) yield* judgedStream(bytes, form, rules);
    else yield await judgedMessage(bytes, form.encoding, form, rules);
  } finally {
    reading.end();
  }
}

/** Reads a body to its end, unless it has to make room for others. */
class BodyReading {
  /** All of its bytes; rejects with what the caller is told. */
  readonly whole: Promise<Buffer>;
  readonly #pile = new Pile();
  readonly #arrival: Arrival;
  /** What is kept beside the body. */
  readonly #headBytes: number;
  #wholeBytes = 0;
  #fail: (reason: unknown) => void = () => {};

  constructor(
    private readonly body: IncomingMessage,
    private readonly maxBytes: number,
    { arrivals, sender, whenAnswered }: BodyRules,
  ) {
    const arrival = arrivals.begin(sender, (error) => this.#fail(error));
    this.#arrival = arrival;
    whenAnswered(() => arrival.end());
    this.#headBytes = sizeOfHead(body);
    this.whole = new Promise<Buffer>((resolve, reject) => {
      this.#fail = reject;
      if (Number(body.headers['content-length'] ?? 0) > maxBytes)
        reject(tooLong(`has more than ${maxBytes} bytes`, maxBytes));
      if (body.destroyed) reject(GONE);
      body.on('data', this.#take);
      body.once('end', () => resolve(this.#takeWhole()));
      // The caller left, or sent what is no HTTP, which Node has told them.
      body.once('error', () => reject(GONE));
      body.once('close', () => reject(GONE));
    });
    arrival.hold(this.#headBytes);
  }

  #takeWhole(): Buffer {
    this.#wholeBytes = this.#pile.length;
    return this.#pile.take(this.#wholeBytes);
  }

  /**
   * Whatever is done with the message now, it takes about as much as it did; what still arrives of one that is refused is read
   * and forgotten, so that the connection can go on.
   */
  end(): void {
    this.#arrival.settle(this.#headBytes + this.#wholeBytes);
    this.#pile.clear();
    this.body.off('data', this.#take);
    this.body.on('data', () => this.#letOthersRead());
    this.body.resume();
  }

  /** A connection is read for as long as there is something to read: much comes in portions, a few in a turn. */
  #letOthersRead(): void {
    this.body.pause();
    readInTurn(this.body);
  }

  readonly #take = (chunk: Buffer): void => {
    this.#pile.add(chunk);
    if (this.#pile.length > this.maxBytes)
      return this.#fail(tooLong(`has more than ${this.maxBytes} bytes`, this.maxBytes));
    this.#arrival.hold(this.#headBytes + this.#pile.size);
    if (this.#pile.length >= LARGE_BYTES) this.#letOthersRead();
  };
}

function sizeOfHead({ rawHeaders }: IncomingMessage): number {
  const bytes = rawHeaders.reduce((sum, text) => sum + text.length, 0);
  return REQUEST_BYTES + HEADER_COPIES * bytes + HEADER_BYTES * rawHeaders.length;
}

const toRead: IncomingMessage[] = [];

/** Lets a body be read on, a few of all in each turn of the event loop. */
function readInTurn(body: IncomingMessage): void {
  if (toRead.push(body) === 1) setImmediate(readNext);
}

function readNext(): void {
  for (const body of toRead.splice(0, PORTIONS_A_TURN)) body.resume();
  if (toRead.length > 0) setImmediate(readNext);
}

async function* judgedStream(
  bytes: Buffer,
  form: BodyForm,
  rules: BodyRules,
): AsyncGenerator<Uint8Array, void, undefined> {
  let rest = bytes;
  while (rest.length >= HEAD_BYTES) {
    const end = HEAD_BYTES + rest.readUInt32BE(1);
    if (end > rest.length) break;
    yield await judgedEnvelope(rest.subarray(0, end), form, rules);
    rest = rest.subarray(end);
  }
  if (rest.length > 0) throw refusalOf(FLAWS.half);
}

async function judgedEnvelope(envelope: Buffer, form: BodyForm, rules: BodyRules): Promise<Uint8Array> {
  const flags = envelope[0] ?? 0;
  const isPacked = flags === PACKED && form.encoding !== undefined;
  if (flags !== 0 && !isPacked) throw refusalOf(FLAWS.flags);
  const content = envelope.subarray(HEAD_BYTES);
  const message = await judgedMessage(content, isPacked ? form.encoding : undefined, form, rules);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** The message, unpacked. Throws INVALID_ARGUMENT for what is none, or would become more than any caller needs. */
function judgedMessage(
  bytes: Uint8Array,
  encoding: string | undefined,
  { isJson }: BodyForm,
  { method, maxBytes }: BodyRules,
): Promise<Uint8Array> {
  const judge = async (message: Uint8Array) => {
    const flaw = isJson ? flawOfJson(message, boundsOf(method.input)) : flawOfBinary(method.input, message);
    if (flaw !== undefined) throw refusalOf(flaw);
    if (isJson) refuseUnknownNames(method.input, message);
    if (message.length > LARGE_BYTES) await nextTurn();
    return message;
  };
  return encoding === undefined || bytes.length === 0 ? judge(bytes) : unpack(encoding, bytes, maxBytes, judge);
}

/** Messages of a stream are packed one by one; the body around them is not. */
function refuseEncoding(encoding: string | null): void {
  if (encoding === null || encoding === 'identity') return;
  const message = `content-encoding ${quoted(encoding)} is not known for streams; pack the messages instead`;
  throw new ConnectError(message, Code.Unimplemented);
}
