/**
 * Texts of a message in JSON that stand for something else: numbers, times, lists of names. What they become costs far more
 * than their bytes, so each has a length of its own, by the name of its field.
 */
import { ScalarType, type DescField, type DescMessage } from '@bufbuild/protobuf';

/** Digits of a number, or the longest name of an enumeration. */
const NUMBER_BYTES = 64;
/** Each field of a task, some times over. */
const MASK_BYTES = 2_048;
const KNOWN: Readonly<Record<string, number>> = {
  'google.protobuf.FieldMask': MASK_BYTES,
  'google.protobuf.Timestamp': NUMBER_BYTES,
  'google.protobuf.Duration': NUMBER_BYTES,
};

/** How long the text of a field may be, by both of its names in JSON. */
export type ShortTexts = ReadonlyMap<string, number>;

const known = new WeakMap<DescMessage, ShortTexts>();

/** Those of a message and of all messages in it. */
export function shortTextsOf(desc: DescMessage): ShortTexts {
  let texts = known.get(desc);
  if (!texts) known.set(desc, (texts = new Map([...boundsIn(desc)].filter(([, bytes]) => bytes < Infinity))));
  return texts;
}

function boundsIn(desc: DescMessage): Map<string, number> {
  const bounds = new Map<string, number>();
  const seen = new Set<DescMessage>();
  const add = (message: DescMessage) => {
    if (seen.has(message)) return;
    seen.add(message);
    for (const field of message.fields) {
      const bytes = bytesOf(field);
      // Where two fields of a name differ, the longer one stands.
      for (const name of [field.name, field.jsonName]) bounds.set(name, Math.max(bytes, bounds.get(name) ?? 0));
      if (field.message && !(field.message.typeName in KNOWN)) add(field.message);
    }
  };
  add(desc);
  return bounds;
}

function bytesOf(field: DescField): number {
  if (field.message) return KNOWN[field.message.typeName] ?? Infinity;
  if (field.enum) return NUMBER_BYTES;
  return field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES ? Infinity : NUMBER_BYTES;
}
