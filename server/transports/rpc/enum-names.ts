/**
 * Names of enumerations in JSON that the contract does not have. A decoder that lets newer clients send fields that it does not
 * know takes such a name for nothing, too, and the request would be answered as another one. Numbers arrive as they are, and
 * the handlers refuse them.
 */
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { TaskSchema } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { quoted, type FieldViolation } from '../../domain/errors.js';
import { requestInvalid } from './convert.js';
import { describeError } from './errors.js';

/** The fields that are enumerations, or messages with such fields, by both of their names in JSON. */
type Fields = ReadonlyMap<string, DescField>;

/** Throws REQUEST_INVALID for names that are none, in fields that are read. What is no JSON is left to the decoder. */
export function refuseUnknownNames(desc: DescMessage, bytes: Uint8Array): void {
  if (fieldsOf(desc).size === 0) return;
  const violations = [...violationsIn(desc, parsed(bytes), '')];
  if (violations.length > 0) throw describeError(requestInvalid(violations));
}

function* violationsIn(desc: DescMessage, json: unknown, path: string): Generator<FieldViolation> {
  if (typeof json !== 'object' || json === null) return;
  for (const [name, value] of Object.entries(json)) {
    const field = fieldsOf(desc).get(name);
    if (!field) continue;
    for (const each of [value].flat() as unknown[]) {
      if (field.message) yield* violationsIn(field.message, each, `${path}${field.name}.`);
      else if (typeof each === 'string' && !field.enum?.values.some((known) => known.name === each))
        yield { field: path + field.name, description: `must be one of the contract's values, not ${quoted(each)}` };
    }
  }
}

const known = new WeakMap<DescMessage, Map<string, DescField>>();

function fieldsOf(desc: DescMessage): Fields {
  const before = known.get(desc);
  if (before) return before;
  const fields = new Map<string, DescField>();
  // Before its fields: messages may contain each other.
  known.set(desc, fields);
  // Of a task that is sent only texts are read: its enumerations are what the registry told, perhaps a newer one.
  if (desc.typeName === TaskSchema.typeName) return fields;
  for (const field of desc.fields)
    if (field.enum || (field.message && fieldsOf(field.message).size > 0))
      for (const name of [field.name, field.jsonName]) fields.set(name, field);
  return fields;
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch {
    // The decoder says what is wrong with it.
    return undefined;
  }
}
