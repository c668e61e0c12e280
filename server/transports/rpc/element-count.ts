/**
 * Counts what a message would become before anything is allocated for it: two bytes can be an element, so that a message
 * within its limit of bytes could still be millions of objects.
 */
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { MAX_ELEMENTS, MAX_NESTING } from './limits.js';

/** A place in the bytes. */
interface Reader {
  readonly bytes: Uint8Array;
  at: number;
  elements: number;
}

/**
 * Whether a message in binary form has more fields and elements, or is nested more deeply, than any caller needs. What is
 * malformed is left to the decoder, which has words for it.
 */
export function isTooLarge(desc: DescMessage, bytes: Uint8Array): boolean {
  return walk(desc, { bytes, at: 0, elements: 0 }, bytes.length, 0);
}

function walk(desc: DescMessage, reader: Reader, end: number, depth: number): boolean {
  if (depth > MAX_NESTING) return true;
  const fields = fieldsOf(desc);
  while (reader.at < end) {
    if (++reader.elements > MAX_ELEMENTS) return true;
    const tag = varint(reader);
    const wireType = tag & 7;
    if (wireType === 0) varint(reader);
    else if (wireType === 1) reader.at += 8;
    else if (wireType === 5) reader.at += 4;
    else if (wireType !== 2) return false;
    else {
      const next = varint(reader) + reader.at;
      const { message } = fields.get(tag >>> 3) ?? {};
      if (message && walk(message, reader, Math.min(next, end), depth + 1)) return true;
      reader.at = next;
    }
  }
  return false;
}

/** The lower 32 bits of a varint. */
function varint(reader: Reader): number {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = reader.bytes[reader.at++] ?? 0;
    if (shift < 32) value |= (byte & 0x7f) << shift;
    if (byte < 0x80 || shift > 63) return value >>> 0;
  }
}

const known = new WeakMap<DescMessage, ReadonlyMap<number, DescField>>();

function fieldsOf(desc: DescMessage): ReadonlyMap<number, DescField> {
  const fields = known.get(desc) ?? new Map(desc.fields.map((field) => [field.number, field]));
  known.set(desc, fields);
  return fields;
}
