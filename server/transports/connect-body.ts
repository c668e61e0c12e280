/**
 * What a request carries over HTTP, judged before Connect decodes it: unpacked to no more bytes than a message may have,
 * then looked through. Connect gets it unpacked, and whatever is thrown here it tells in the form of the caller's protocol.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DescMethod } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { compressionBrotli, compressionGzip } from '@connectrpc/connect-node';
import type { Compression, UniversalServerRequest } from '@connectrpc/connect/protocol';
import { flawOfBinary } from './rpc/binary-scan.js';
import { refusalOf } from './rpc/flaws.js';
import { flawOfJson } from './rpc/json-scan.js';

/** How messages may be packed. */
export const COMPRESSIONS: readonly Compression[] = [compressionGzip, compressionBrotli];

/** In front of each message of a stream: flags, and four bytes of length. */
const ENVELOPE_BYTES = 5;
const PACKED = 1;
/** Larger messages are decoded in a turn after that in which they were looked through, so that neither takes long. */
const LARGE_BYTES = 65_536;

/** What a body is by the headers in front of it. */
interface BodyForm {
  readonly isJson: boolean;
  /** Whether it is a row of messages, each behind a head of its own. */
  readonly isStream: boolean;
  readonly compression: Compression | undefined;
}

/** How bodies are judged. */
export interface BodyRules {
  readonly method: DescMethod;
  readonly maxBytes: number;
}

/** The request with its body judged as it is read. */
export function screened(request: UniversalServerRequest, rules: BodyRules): UniversalServerRequest {
  const body = request.body as AsyncIterable<Uint8Array>;
  const form = formOf(request.header);
  // What it promises of its bytes is not true of them when they are unpacked.
  const header = new Headers(request.header);
  if (!form.isStream && form.compression)
    for (const name of ['content-encoding', 'content-length']) header.delete(name);
  if (form.isStream) return { ...request, header, body: screenedStream(body, form, rules, request.header) };
  return { ...request, header, body: screenedWhole(body, form, rules) };
}

function formOf(header: Headers): BodyForm {
  const type = header.get('content-type') ?? '';
  const isStream = /^application\/(connect|grpc-web)/i.test(type);
  const encodingHeader = /^application\/connect/i.test(type) ? 'connect-content-encoding' : 'grpc-encoding';
  const encoding = header.get(isStream ? encodingHeader : 'content-encoding');
  return {
    isStream,
    // As Connect reads the type: what says neither is binary.
    isJson: /\+json|\/json/i.test(type),
    compression: COMPRESSIONS.find(({ name }) => name === encoding),
  };
}

async function* screenedWhole(
  body: AsyncIterable<Uint8Array>,
  form: BodyForm,
  rules: BodyRules,
): AsyncGenerator<Uint8Array, void, undefined> {
  const pile = new Pile();
  for await (const chunk of body) {
    pile.add(chunk);
    refuseLong(pile.length, rules);
  }
  const whole = await unpacked(pile.take(pile.length), form.compression, rules);
  yield await judged(whole, form, rules);
}

async function* screenedStream(
  body: AsyncIterable<Uint8Array>,
  form: BodyForm,
  rules: BodyRules,
  header: Headers,
): AsyncGenerator<Uint8Array, void, undefined> {
  refuseEncoding(header.get('content-encoding'));
  const pile = new Pile();
  let head: Buffer | undefined;
  for await (const chunk of body) {
    pile.add(chunk);
    for (;;) {
      if (!head && pile.length >= ENVELOPE_BYTES) head = pile.take(ENVELOPE_BYTES);
      const length = head?.readUInt32BE(1) ?? 0;
      refuseLong(length, rules);
      if (!head || pile.length < length) break;
      yield await screenedEnvelope(head, pile.take(length), form, rules);
      head = undefined;
    }
  }
  // Connect knows what to say to half a message.
  if (head) yield head;
  if (pile.length > 0) yield pile.take(pile.length);
}

/** Bytes that arrived and belong together; each is copied once, in however small pieces they come. */
class Pile {
  length = 0;
  #chunks: Uint8Array[] = [];

  add(chunk: Uint8Array): void {
    this.length += chunk.length;
    this.#chunks.push(chunk);
  }

  /** The first bytes, of which there must be so many. */
  take(length: number): Buffer {
    const [first = new Uint8Array(0)] = this.#chunks;
    const all = this.#chunks.length > 1 ? Buffer.concat(this.#chunks, this.length) : bufferOf(first);
    this.#chunks = [all.subarray(length)];
    this.length -= length;
    return all.subarray(0, length);
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

async function screenedEnvelope(head: Buffer, content: Buffer, form: BodyForm, rules: BodyRules): Promise<Buffer> {
  const flags = head[0] ?? 0;
  const isPacked = flags === PACKED && form.compression !== undefined;
  // What else has flags is no message: Connect refuses it unread.
  if (flags !== 0 && !isPacked) return Buffer.concat([head, content]);
  const message = isPacked ? await unpacked(content, form.compression, rules) : content;
  await judged(message, form, rules);
  const plain = Buffer.alloc(ENVELOPE_BYTES);
  plain.writeUInt32BE(message.length, 1);
  return Buffer.concat([plain, message]);
}

function unpacked(bytes: Uint8Array, compression: Compression | undefined, rules: BodyRules): Promise<Uint8Array> {
  if (!compression) return Promise.resolve(bytes);
  return compression.decompress(bytes, rules.maxBytes);
}

/** Throws INVALID_ARGUMENT for what is no message of the method, and for what would become more than any caller needs. */
async function judged(bytes: Uint8Array, { isJson }: BodyForm, { method }: BodyRules): Promise<Uint8Array> {
  const flaw = isJson ? flawOfJson(bytes) : flawOfBinary(method.input, bytes);
  if (flaw !== undefined) throw refusalOf(flaw);
  if (bytes.length > LARGE_BYTES) await nextTurn();
  return bytes;
}

function refuseLong(length: number, { maxBytes }: BodyRules): void {
  if (length <= maxBytes) return;
  const message = `the message has ${length} bytes or more, of which there may be ${maxBytes}; send less at once`;
  throw new ConnectError(message, Code.ResourceExhausted);
}

/** Messages of a stream are packed one by one; the body around them is not. */
function refuseEncoding(encoding: string | null): void {
  if (encoding === null || encoding === 'identity') return;
  const message = `content-encoding ${JSON.stringify(encoding)} is not known for streams; pack the messages instead`;
  throw new ConnectError(message, Code.Unimplemented);
}
