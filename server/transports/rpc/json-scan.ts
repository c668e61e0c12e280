/**
 * Looks through a message in JSON before anything is allocated for it, byte by byte: a message within its limit of bytes
 * could still be millions of objects, or nested so deeply that no stack has room for it. What is malformed is left to the
 * decoder, which has words for it.
 */
import { isUtf8 } from 'node:buffer';
import { FLAWS, type Flaw } from './flaws.js';
import { MAX_ELEMENTS, MAX_NESTING, MAX_TEXT_BYTES, OBJECT_ELEMENTS } from './limits.js';

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [ARRAY, ARRAY_END, OBJECT, OBJECT_END] = [0x5b, 0x5d, 0x7b, 0x7d];

/** How much there may be. */
export interface JsonBounds {
  /** Fields and elements; a field is two, for its name and its value, and an object or list four. */
  readonly elements: number;
  readonly nesting: number;
  readonly textBytes: number;
}

const MESSAGE_BOUNDS: JsonBounds = { elements: MAX_ELEMENTS, nesting: MAX_NESTING, textBytes: MAX_TEXT_BYTES };

/** What is wrong with a message in JSON; undefined: nothing that is seen without decoding it. */
export function flawOfJson(bytes: Uint8Array, bounds: JsonBounds = MESSAGE_BOUNDS): Flaw | undefined {
  // A decoder would make one and the same character of whatever is none, and of two ids one.
  return isUtf8(bytes) ? flawOfText(bytes, bounds) : FLAWS.encoding;
}

function flawOfText(bytes: Uint8Array, bounds: JsonBounds): Flaw | undefined {
  let [elements, depth, tokenAt] = [0, 0, 0];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) at = endOfString(bytes, at + 1);
    else if (byte === COMMA || byte === COLON) elements++;
    else if (byte === OBJECT || byte === ARRAY) {
      elements += OBJECT_ELEMENTS;
      if (++depth > bounds.nesting) return FLAWS.nesting;
    } else if (byte === OBJECT_END || byte === ARRAY_END) depth--;
    else continue;
    if (elements > bounds.elements) return FLAWS.elements;
    if (at - tokenAt > bounds.textBytes) return FLAWS.text;
    tokenAt = at;
  }
  return bytes.length - tokenAt > bounds.textBytes ? FLAWS.text : undefined;
}

/** Where the closing quote of a string is; the end of the bytes where there is none. */
function endOfString(bytes: Uint8Array, from: number): number {
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) at++;
  }
  return bytes.length;
}
