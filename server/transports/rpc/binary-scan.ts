/**
 * Looks through a message in binary form before anything is allocated for it: two bytes can be an element, so that a
 * message within its limit of bytes could still be millions of objects.
 *
 * It is stricter than the decoder, which reads on by the fields it expects, whatever types and lengths the bytes tell:
 * what is let through here both read alike, so that nothing can hide from being counted, and the decoder finds no fault.
 */
import { isUtf8 } from 'node:buffer';
import { ScalarType, type DescField, type DescMessage } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import { FLAWS, type Flaw } from './flaws.js';
import { MAX_ELEMENTS, MAX_NESTING, MAX_TEXT_BYTES, OBJECT_ELEMENTS } from './limits.js';

/** What is wrong with a message in binary form; undefined: nothing. */
export function flawOfBinary(desc: DescMessage, bytes: Uint8Array): Flaw | undefined {
  const scan = new BinaryScan(bytes);
  return scan.message(shapeOf(desc), bytes.length, 0) ? undefined : scan.flaw;
}

/** A field as it lies in the bytes. */
interface FieldShape {
  readonly wireType: WireType;
  readonly isText: boolean;
  /** Whether numbers of this wire type may also lie one behind the other in one field. */
  readonly packs: boolean;
  readonly message?: Shape;
}

type Shape = ReadonlyMap<number, FieldShape>;

class BinaryScan {
  flaw: Flaw = FLAWS.malformed;
  #at = 0;
  #elements = 0;

  constructor(private readonly bytes: Uint8Array) {}

  /** Whether the bytes up to `end` are such a message. */
  message(shape: Shape, end: number, depth: number): boolean {
    if (depth > MAX_NESTING) return this.#refuse(FLAWS.nesting);
    while (this.#at < end) {
      if (!this.#count(1)) return false;
      const tag = this.#varint(end);
      if (tag === undefined || tag >>> 3 === 0) return false;
      if (!this.#field(shape.get(tag >>> 3), tag & 7, end, depth)) return false;
    }
    return true;
  }

  #field(field: FieldShape | undefined, wireType: number, end: number, depth: number): boolean {
    if (wireType !== (WireType.LengthDelimited as number)) {
      if (field && field.wireType !== (wireType as WireType)) return false;
      return this.#skip(wireType, end);
    }
    const length = this.#varint(end);
    if (length === undefined || this.#at + length > end) return false;
    const next = this.#at + length;
    return this.#content(field, next, depth) && this.#at === next;
  }

  #content(field: FieldShape | undefined, end: number, depth: number): boolean {
    if (field?.message) return this.#count(OBJECT_ELEMENTS - 1) && this.message(field.message, end, depth + 1);
    if (field && field.wireType !== WireType.LengthDelimited) return field.packs && this.#packed(field.wireType, end);
    if (field?.isText && !this.#text(end)) return false;
    this.#at = end;
    return true;
  }

  #text(end: number): boolean {
    if (end - this.#at > MAX_TEXT_BYTES) return this.#refuse(FLAWS.text);
    // Most texts are ASCII: only for others a view is made.
    for (let at = this.#at; at < end; at++) {
      if ((this.bytes[at] ?? 0) < 0x80) continue;
      return isUtf8(this.bytes.subarray(at, end)) || this.#refuse(FLAWS.encoding);
    }
    return true;
  }

  #packed(wireType: WireType, end: number): boolean {
    while (this.#at < end) if (!this.#count(1) || !this.#skip(wireType, end)) return false;
    return true;
  }

  #skip(wireType: number, end: number): boolean {
    if (wireType === (WireType.Varint as number)) return this.#varint(end) !== undefined;
    // Groups are not among the types of this contract, and would be read without being counted.
    if (wireType !== (WireType.Bit64 as number) && wireType !== (WireType.Bit32 as number)) return false;
    this.#at += wireType === (WireType.Bit64 as number) ? 8 : 4;
    return this.#at <= end;
  }

  /** The lower 32 bits of a varint; undefined where it does not end as it must. */
  #varint(end: number): number | undefined {
    let value = 0;
    for (let shift = 0; shift < 70 && this.#at < end; shift += 7) {
      const byte = this.bytes[this.#at++] ?? 0;
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    return undefined;
  }

  #count(elements: number): boolean {
    this.#elements += elements;
    return this.#elements <= MAX_ELEMENTS || this.#refuse(FLAWS.elements);
  }

  #refuse(flaw: Flaw): false {
    this.flaw = flaw;
    return false;
  }
}

const shapes = new WeakMap<DescMessage, Map<number, FieldShape>>();

function shapeOf(desc: DescMessage): Shape {
  const known = shapes.get(desc);
  if (known) return known;
  const shape = new Map<number, FieldShape>();
  // Before its fields: messages may contain each other.
  shapes.set(desc, shape);
  for (const field of desc.fields) shape.set(field.number, shapeOfField(field));
  return shape;
}

function shapeOfField(field: DescField): FieldShape {
  if (field.fieldKind === 'map') {
    const value = field.message
      ? shapeOfMessage(field.message)
      : shapeOfScalar(field.mapKind === 'enum' ? ScalarType.INT32 : field.scalar);
    const entry = new Map([[1, shapeOfScalar(field.mapKey)]]);
    return { ...DELIMITED, message: entry.set(2, value) };
  }
  if (field.message) return shapeOfMessage(field.message);
  const scalar = shapeOfScalar(field.scalar ?? ScalarType.INT32);
  return field.fieldKind === 'list' ? { ...scalar, packs: scalar.wireType !== WireType.LengthDelimited } : scalar;
}

const DELIMITED: FieldShape = { wireType: WireType.LengthDelimited, isText: false, packs: false };

function shapeOfMessage(desc: DescMessage): FieldShape {
  return { ...DELIMITED, message: shapeOf(desc) };
}

function shapeOfScalar(scalar: ScalarType): FieldShape {
  switch (scalar) {
    case ScalarType.STRING:
      return { ...DELIMITED, isText: true };
    case ScalarType.BYTES:
      return DELIMITED;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return { ...DELIMITED, wireType: WireType.Bit64 };
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return { ...DELIMITED, wireType: WireType.Bit32 };
    default:
      return { ...DELIMITED, wireType: WireType.Varint };
  }
}
