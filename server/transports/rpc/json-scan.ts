/**
 * Looks through a message in JSON before anything is allocated for it, byte by byte: a message within its limit of bytes
 * could still be millions of objects, or nested so deeply that no stack has room for it. What is malformed is left to the
 * decoder, which has words for it.
 */
import { isUtf8 } from 'node:buffer';
import type { DescMessage } from '@bufbuild/protobuf';
import { FLAWS, type Flaw } from './flaws.js';
import { MAX_ELEMENTS, MAX_NESTING, MAX_TEXT_BYTES, OBJECT_ELEMENTS } from './limits.js';
import { shortTextsOf, type ShortTexts } from './short-texts.js';

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [ARRAY, ARRAY_END, OBJECT, OBJECT_END] = [0x5b, 0x5d, 0x7b, 0x7d];

/** How much there may be. */
export interface JsonBounds {
  /** Fields and elements; a field is two, for its name and its value, and an object or list four. */
  readonly elements: number;
  readonly nesting: number;
  readonly textBytes: number;
  /** Fields whose texts are shorter. */
  readonly shortTexts?: ShortTexts;
}

/** The longest text that may stand for anything. */
const SHORT_BYTES = 64;
/** The longest that a known name can be made by escapes. */
const MAX_NAME_BYTES = 512;

/** What a message may have. */
export function boundsOf(desc: DescMessage): JsonBounds {
  return {
    elements: MAX_ELEMENTS,
    nesting: MAX_NESTING,
    textBytes: MAX_TEXT_BYTES,
    shortTexts: shortTextsOf(desc),
  };
}

/** What is wrong with a message in JSON; undefined: nothing that is seen without decoding it. */
export function flawOfJson(bytes: Uint8Array, bounds: JsonBounds): Flaw | undefined {
  // A decoder would make one and the same character of whatever is none, and of two ids one.
  return isUtf8(bytes) ? flawOfText(bytes, bounds) : FLAWS.encoding;
}

function flawOfText(bytes: Uint8Array, bounds: JsonBounds): Flaw | undefined {
  let [elements, depth, tokenAt, stringAt, nameAt] = [0, 0, 0, 0, 0];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      stringAt = at;
      at = endOfString(bytes, at + 1);
      if (at - stringAt > SHORT_BYTES && isTooLong(bytes, stringAt, at, nameAt, bounds.shortTexts))
        return FLAWS.shortText;
    } else if (byte === COMMA) elements++;
    else if (byte === COLON) {
      elements++;
      nameAt = stringAt;
    } else if (byte === OBJECT || byte === ARRAY) {
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

/** Whether a text is longer than its field takes, whose name begins at `nameAt`. */
function isTooLong(
  bytes: Uint8Array,
  from: number,
  to: number,
  nameAt: number,
  texts: ShortTexts | undefined,
): boolean {
  if (!texts || isName(bytes, to + 1)) return false;
  const maxBytes = texts.get(nameIn(bytes, nameAt));
  return maxBytes !== undefined && to - from - 1 > maxBytes;
}

function isName(bytes: Uint8Array, from: number): boolean {
  let at = from;
  while (isBlank(bytes[at])) at++;
  return bytes[at] === COLON;
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
}

function nameIn(bytes: Uint8Array, at: number): string {
  const end = endOfString(bytes, at + 1);
  if (end - at > MAX_NAME_BYTES) return '';
  try {
    return String(JSON.parse(Buffer.from(bytes.subarray(at, end + 1)).toString()));
  } catch {
    // No text, and so no JSON: the decoder says that.
    return '';
  }
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
