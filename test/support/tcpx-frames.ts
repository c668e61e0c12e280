/** Builds and takes apart frames of the legacy door for tests, on its own: nothing here is shared with the server. */
import { readFileSync } from 'node:fs';

export const REQUEST = 2;
export const HEARTBEAT = 1392;
export const AUTHENTICATE = 1393;

/** The texts of the replies, from the interface document. */
export const ERRMSG: Readonly<Record<number, string>> = {
  0: '正确',
  1000: '请求格式不正确',
  1001: '数据库存储失败',
  1002: '不存在该任务id',
  1003: '未授权',
};

/** A task as it travels. */
export interface WireTask {
  id: string;
  name?: string;
  url?: string;
  user?: string;
  group_id?: string;
  description?: string;
  status?: string;
  start_time?: string;
  stop_time?: string;
}

/** The task of the interface document. */
export const SEED_TASK = {
  id: '1234567',
  name: 'abc',
  url: 'http://localhost:8080/v1/task',
  user: 'wsg',
  group_id: 'mx',
  description: 'add data',
  status: 'running',
  start_time: '12:00',
  stop_time: '18:00',
} as const satisfies WireTask;

/** What a part of a frame may be given as: bytes and texts as they are, undefined as nothing, anything else as JSON. */
export type Part = Buffer | string | object | null | undefined;

/** Lengths that a frame claims instead of the true ones. */
export interface FalseLengths {
  readonly length?: number;
  readonly headerLength?: number;
  readonly bodyLength?: number;
}

/** A frame, with lengths that may be lies. */
export function frame(messageId: number, header: Part, body?: Part, claims: FalseLengths = {}): Buffer {
  const headerBytes = partBytes(header);
  const bodyBytes = partBytes(body);
  const head = Buffer.alloc(16);
  head.writeUInt32BE(claims.length ?? 12 + headerBytes.length + bodyBytes.length, 0);
  head.writeInt32BE(messageId, 4);
  head.writeUInt32BE(claims.headerLength ?? headerBytes.length, 8);
  head.writeUInt32BE(claims.bodyLength ?? bodyBytes.length, 12);
  return Buffer.concat([head, headerBytes, bodyBytes]);
}

function partBytes(part: Part): Buffer {
  if (part === undefined) return Buffer.alloc(0);
  if (Buffer.isBuffer(part)) return part;
  return Buffer.from(typeof part === 'string' ? part : JSON.stringify(part));
}

export function registerFrame(task: WireTask | object, header: object = {}): Buffer {
  return frame(REQUEST, { RequestID: 'Register', ...header }, task);
}

export function updateFrame(task: WireTask | object, header: object = {}): Buffer {
  return frame(REQUEST, { RequestID: 'Update', ...header }, task);
}

export function findFrame(id: string, header: object = {}): Buffer {
  return frame(REQUEST, { RequestID: 'Find', ...header }, { id });
}

/** A heartbeat as most Go clients send it. */
export function heartbeatFrame(): Buffer {
  return frame(HEARTBEAT, null);
}

/** A frame taken apart. */
export interface ReadFrame {
  readonly messageId: number;
  readonly header: string;
  readonly body: string;
}

/** Takes the first frame off a buffer; undefined while it is not whole. Throws where the lengths do not add up. */
export function readFrame(bytes: Buffer): { frame: ReadFrame; size: number } | undefined {
  if (bytes.length < 16) return undefined;
  const size = 4 + bytes.readUInt32BE(0);
  const bodyAt = 16 + bytes.readUInt32BE(8);
  if (bodyAt + bytes.readUInt32BE(12) !== size) throw new Error('a frame whose lengths do not add up');
  if (bytes.length < size) return undefined;
  const header = bytes.toString('utf8', 16, bodyAt);
  return { frame: { messageId: bytes.readInt32BE(4), header, body: bytes.toString('utf8', bodyAt, size) }, size };
}

/** Frames that the Go package tcpx itself produced. */
export const GOLDEN_FRAMES: readonly { readonly what: string; readonly bytes: Buffer }[] = (
  JSON.parse(readFileSync(new URL('../vectors/tcpx-frames.json', import.meta.url), 'utf8')) as {
    frames: { what: string; hex: string }[];
  }
).frames.map(({ what, hex }) => ({ what, bytes: Buffer.from(hex, 'hex') }));
