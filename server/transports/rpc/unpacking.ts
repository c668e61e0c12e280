/** Unpacks messages: to no more bytes than they may have, and few at once, since each may grow by a thousand. */
import { promisify } from 'node:util';
import { inflate } from 'node:zlib';
import { Code, ConnectError } from '@connectrpc/connect';
import { compressionBrotli, compressionGzip } from '@connectrpc/connect-node';
import type { Compression } from '@connectrpc/connect/protocol';

/** How messages may be packed over HTTP. */
export const HTTP_COMPRESSIONS: readonly Compression[] = [compressionGzip, compressionBrotli];

const inflated = promisify(inflate);
const unpackers: ReadonlyMap<string, (bytes: Uint8Array, maxBytes: number) => Promise<Uint8Array>> = new Map([
  ['gzip', (bytes, maxBytes) => compressionGzip.decompress(bytes, maxBytes)],
  ['br', (bytes, maxBytes) => compressionBrotli.decompress(bytes, maxBytes)],
  ['deflate', (bytes, maxBytes) => inflated(bytes, { maxOutputLength: maxBytes })],
]);

/** As many as Node has threads for it; more would only wait there, each with what it has unpacked so far. */
const MAX_UNPACKING = 4;

/** Whether a message that is packed so can be unpacked. */
export function canUnpack(encoding: string | null): encoding is string {
  return encoding !== null && unpackers.has(encoding);
}

/** A turn in unpacking: what `use` does with the bytes belongs to it. Throws INVALID_ARGUMENT and RESOURCE_EXHAUSTED. */
export function unpack<T>(
  encoding: string,
  bytes: Uint8Array,
  maxBytes: number,
  use: (unpacked: Uint8Array) => Promise<T> | T,
): Promise<T> {
  const unpacker = unpackers.get(encoding);
  if (!unpacker) throw new Error(`${encoding} is not among the encodings that can be unpacked`);
  return inTurn(async () => use(await unpacker(bytes, maxBytes).catch(refuse)));

  function refuse(cause: unknown): never {
    const { code } = (cause instanceof ConnectError ? cause.cause : cause) as { code?: string };
    if (code === 'ERR_BUFFER_TOO_LARGE') throw tooLong(`unpacks to more than ${maxBytes} bytes`, maxBytes);
    const message = `the message is not packed as it says, with ${encoding}; pack it again, or send it plain`;
    throw new ConnectError(message, Code.InvalidArgument, undefined, undefined, cause);
  }
}

/** The refusal of a message that is longer than it may be. */
export function tooLong(what: string, maxBytes: number): ConnectError {
  const message = `the message ${what}, of which there may be ${maxBytes}; send less at once`;
  return new ConnectError(message, Code.ResourceExhausted);
}

let unpacking = 0;
const waiting: (() => void)[] = [];

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (unpacking >= MAX_UNPACKING) await new Promise<void>((resolve) => waiting.push(resolve));
  else unpacking++;
  try {
    return await work();
  } finally {
    // Whoever waits has the place at once, so that nobody comes in between.
    const next = waiting.shift();
    if (next) next();
    else unpacking--;
  }
}
