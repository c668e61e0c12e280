/** What the frames of the legacy door mean: headers and bodies as the interface document names them. */
import { ERRID_MESSAGES, TaskDashError, type Errid } from '../../domain/errors.js';
import { checkId, TASK_LIMITS, TASK_TEXT_FIELDS, type Task, type TaskTexts } from '../../domain/task.js';
import { encodeFrame } from './frame.js';

/** Message ids. */
export const REQUEST_ID = 2;
export const HEARTBEAT_ID = 1392;
export const AUTHENTICATE_ID = 1393;

/** What a reply repeats of its request. */
export interface Envelope {
  readonly messageId: number;
  /** A JSON object as text; a Go peer can read nothing else. */
  readonly header: string;
}

/** A header: the text to repeat, and what it asks for. */
export interface Header {
  readonly text: string;
  readonly requestId: string | undefined;
}

/** A request of message 2. */
export type Request =
  | { readonly verb: 'Register' | 'Update'; readonly id: string; readonly texts: Partial<TaskTexts> }
  | { readonly verb: 'Find'; readonly id: string };

const NO_HEADER: Header = { text: '{}', requestId: undefined };
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A header, or undefined when it is neither a JSON object, nor `null`, nor empty. */
export function parseHeader(bytes: Buffer): Header | undefined {
  if (bytes.length === 0) return NO_HEADER;
  const text = decodeUtf8(bytes);
  if (text === undefined) return undefined;
  const value = parseJson(text);
  if (value === null) return NO_HEADER;
  if (!isObject(value)) return undefined;
  return { text, requestId: typeof value['RequestID'] === 'string' ? value['RequestID'] : undefined };
}

/** A body as an object, or undefined when it is not UTF-8, not JSON or not an object. */
export function parseBody(bytes: Buffer): Record<string, unknown> | undefined {
  const text = decodeUtf8(bytes);
  const value = text === undefined ? undefined : parseJson(text);
  return isObject(value) ? value : undefined;
}

/** The id of a body where one can be read, else "". */
export function readableId(body: Record<string, unknown> | undefined): string {
  const id = body?.['id'];
  return typeof id === 'string' && id.length <= TASK_LIMITS.id * 2 && id.isWellFormed() ? id : '';
}

/** A request of message 2, or undefined when verb or body are none. Throws TASK_INVALID for an id that is not one. */
export function parseRequest(
  requestId: string | undefined,
  body: Record<string, unknown> | undefined,
): Request | undefined {
  if (!body) return undefined;
  switch (requestId) {
    case 'Find':
      return { verb: requestId, id: checkId(body['id']) };
    case 'Register':
      return { verb: requestId, id: checkId(body['id']), texts: textsOf(body) };
    case 'Update':
      return { verb: requestId, id: checkId(body['id']), texts: withoutEmpty(textsOf(body)) };
    default:
      return undefined;
  }
}

/** The texts of a body as they came; their rules are checked by the registry. */
function textsOf(body: Record<string, unknown>): Partial<TaskTexts> {
  const texts: Record<string, unknown> = {};
  for (const field of TASK_TEXT_FIELDS) {
    if (body[field] !== undefined) texts[field] = body[field];
  }
  return texts as Partial<TaskTexts>;
}

/** A field that a Go service left unset arrives as "" and must not wipe what is stored. */
function withoutEmpty(texts: Partial<TaskTexts>): Partial<TaskTexts> {
  return Object.fromEntries(Object.entries(texts).filter(([, value]) => value !== '')) as Partial<TaskTexts>;
}

/** The reply to a register or update, or to anything that failed. */
export function reply(envelope: Envelope, id: string, errid: 0 | Errid): Buffer {
  return encodeFrame(envelope.messageId, envelope.header, JSON.stringify({ id, errid, errmsg: ERRID_MESSAGES[errid] }));
}

/** The reply to a find: the nine texts, flat, then errid and errmsg. */
export function foundReply(envelope: Envelope, task: Task): Buffer {
  const { id, name, url, user, group_id, description, status, start_time, stop_time } = task;
  const record = { id, name, url, user, group_id, description, status, start_time, stop_time };
  return encodeFrame(
    envelope.messageId,
    envelope.header,
    JSON.stringify({ ...record, errid: 0, errmsg: ERRID_MESSAGES[0] }),
  );
}

/** The error number of anything thrown. */
export function erridOf(thrown: unknown): Errid {
  return TaskDashError.from(thrown).errid;
}

function decodeUtf8(bytes: Buffer): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    // The only thing a fatal decoder throws for: bytes that are not UTF-8.
    return undefined;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // Not JSON; no JSON text parses to undefined.
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
