/**
 * What the frames of the legacy door mean: headers and bodies, from and to the words of the domain. The contract is
 * docs/legacy-tcp.md.
 */
import { ERRID_MESSAGES, type Errid } from '../../domain/errors.js';
import { checkId, TASK_TEXT_FIELDS, type Task, type TaskTexts } from '../../domain/task.js';
import { flawOfJson } from '../rpc/json-scan.js';
import { MAX_HEADER_BYTES, MAX_JSON, MAX_STRANGER_FRAME_BYTES } from './limits.js';

/** The message ids of the door. */
export const REQUEST_ID = 2;
export const HEARTBEAT_ID = 1392;
export const AUTHENTICATE_ID = 1393;

/** The header of a reply whose request had none. */
export const EMPTY_HEADER = '{}';

/** A header as it was read. */
export interface Header {
  /** The text that the reply repeats: a JSON object. */
  readonly text: string;
  /** What `RequestID` says, whatever its type. */
  readonly verb: unknown;
}

/** All names that a body may have, as they are meant. */
const FIELDS: ReadonlySet<string> = new Set(['id', 'token', ...TASK_TEXT_FIELDS]);

const NO_HEADER: Header = { text: EMPTY_HEADER, verb: undefined };

/** Headers as the Go client writes them: nearly all there are, and so not read anew each time. */
const USUAL_HEADERS = ['Register', 'Update', 'Find'].map((verb) => {
  const text = `{"RequestID":"${verb}"}`;
  return { bytes: Buffer.from(text), header: { text, verb } };
});

/** A well-formed request of message 2. */
export type Request =
  | { readonly verb: 'register' | 'update'; readonly id: string; readonly texts: Partial<TaskTexts> }
  | { readonly verb: 'find'; readonly id: string };

/** Everything that can be said of the payload of message 2. */
export interface ReceivedRequest {
  /** The header of the reply. */
  readonly header: string;
  /** The id of the reply: the request's, where one could be read, else "". */
  readonly id: string;
  /** Absent where header or body are not what the contract asks for. */
  readonly request: Request | undefined;
}

/**
 * The header of a frame; `null` and no bytes at all count as an empty one. Undefined for anything but an object, and for one
 * that is longer than replies repeat.
 */
export function readHeader(bytes: Buffer): Header | undefined {
  if (bytes.length === 0) return NO_HEADER;
  for (const usual of USUAL_HEADERS) if (usual.bytes.equals(bytes)) return usual.header;
  if (bytes.length > MAX_HEADER_BYTES) return undefined;
  const value = parsed(bytes);
  if (value === null) return NO_HEADER;
  return isObject(value) ? { text: bytes.toString('utf8'), verb: value['RequestID'] } : undefined;
}

/** The payload of message 2. */
export function readRequest(headerBytes: Buffer, bodyBytes: Buffer): ReceivedRequest {
  const header = readHeader(headerBytes);
  const body = readBody(bodyBytes);
  const id = body && readId(body);
  return {
    header: header?.text ?? EMPTY_HEADER,
    id: id ?? '',
    request: header && body && id !== undefined ? requestOf(header.verb, id, body) : undefined,
  };
}

/** The token of message 1393, or undefined where there is none. */
export function readToken(bytes: Buffer): string | undefined {
  if (bytes.length > MAX_STRANGER_FRAME_BYTES) return undefined;
  const token = readBody(bytes)?.['token'];
  return typeof token === 'string' && token !== '' ? token : undefined;
}

/** The body of every reply but that to a find which found. */
export function plainBody(id: string, errid: 0 | Errid): string {
  return `{"id":${JSON.stringify(id)},"errid":${errid},"errmsg":"${ERRID_MESSAGES[errid]}"}`;
}

/** The body of the reply to a find which found: the nine texts of the task, flat, then errid and errmsg. */
export function foundBody(task: Task): string {
  return JSON.stringify({
    id: task.id,
    name: task.name,
    url: task.url,
    user: task.user,
    group_id: task.group_id,
    description: task.description,
    status: task.status,
    start_time: task.start_time,
    stop_time: task.stop_time,
    errid: 0,
    errmsg: ERRID_MESSAGES[0],
  });
}

function requestOf(verb: unknown, id: string, body: Record<string, unknown>): Request | undefined {
  if (verb === 'Find') return { verb: 'find', id };
  if (verb !== 'Register' && verb !== 'Update') return undefined;
  // In an update a field that a Go struct leaves unset arrives as "", and must not wipe what is stored.
  const texts = readTexts(body, verb === 'Update' ? '' : undefined);
  return texts && { verb: verb === 'Update' ? 'update' : 'register', id, texts };
}

/**
 * The texts of a body, but for those that equal `unset`; undefined where one is not a text. Their lengths and characters
 * are judged by the registry.
 */
function readTexts(body: Record<string, unknown>, unset: '' | undefined): Partial<TaskTexts> | undefined {
  const texts: Partial<TaskTexts> = {};
  for (const field of TASK_TEXT_FIELDS) {
    const value = body[field];
    if (value === undefined || value === unset) continue;
    if (typeof value !== 'string') return undefined;
    texts[field] = value;
  }
  return texts;
}

function readId(body: Record<string, unknown>): string | undefined {
  try {
    return checkId(body['id']);
  } catch {
    // All that checkId throws is TASK_INVALID; the caller answers 1000.
    return undefined;
  }
}

function readBody(bytes: Buffer): Record<string, unknown> | undefined {
  const value = parsed(bytes);
  return isObject(value) ? fieldsOf(value) : undefined;
}

/**
 * The fields of a body as Go's encoding/json fills a struct: the case of a key does not count, and `null` is as if the field
 * were absent. Which of several values for a field stands may differ: JSON.parse has forgotten some of them. All our fields
 * are lower case.
 */
function fieldsOf(body: Record<string, unknown>): Record<string, unknown> {
  // As most clients send it.
  if (isAsMeant(body)) return body;
  const fields = Object.create(null) as Record<string, unknown>;
  for (const [key, value] of Object.entries(body)) if (value !== null) fields[key.toLowerCase()] = value;
  return fields;
}

function isAsMeant(body: Record<string, unknown>): boolean {
  // No list of the keys, which would be made for every request.
  for (const key in body) if (!FIELDS.has(key) || body[key] === null) return false;
  return true;
}

/**
 * Bytes as JSON, or undefined where they are none or have more in them than they may: no JSON parses to undefined. A byte
 * order mark stays, and makes it none.
 */
function parsed(bytes: Buffer): unknown {
  if (flawOfJson(bytes, MAX_JSON)) return undefined;
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
