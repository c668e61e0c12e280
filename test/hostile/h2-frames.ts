/** Frames of HTTP/2 by hand, for what no library sends. */
import { connect, type Socket } from 'node:net';

export const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, continuation: 9 } as const;
export const END_STREAM = 1;
export const END_HEADERS = 4;
/** A call that exists. */
export const LIST_TASKS = '/taskdash.task.v1.TaskService/ListTasks';
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

/** A frame with its head. */
export function h2Frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A header that enters no table, with a name and a value of up to 126 bytes each. */
export function plainHeader(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

/** The headers of a call. */
export function callHeaders(path: string): Buffer {
  const headers = {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': 'x',
    'content-type': 'application/grpc',
  };
  return Buffer.concat(Object.entries({ ...headers, te: 'trailers' }).map(([name, value]) => plainHeader(name, value)));
}

/** A connection that has begun to speak HTTP/2. What comes back is read and forgotten, or not even read. */
export function h2Connect(address: string, reads = true): Socket {
  const [host = '', port] = address.split(':');
  const socket = connect(Number(port), host);
  socket.on('error', () => {});
  if (reads) socket.resume();
  socket.write(PREFACE);
  socket.write(h2Frame(FRAME.settings, 0, 0));
  return socket;
}

/** Writes as fast as the other side takes it, as long as `isOn`; returns how many times. */
export async function pour(socket: Socket, isOn: () => boolean, next: () => Buffer): Promise<number> {
  let times = 0;
  while (isOn() && !socket.destroyed) {
    times++;
    if (socket.write(next())) await new Promise((resolve) => setImmediate(resolve));
    else await Promise.race([onceAny(socket, ['drain', 'close']), new Promise((resolve) => setTimeout(resolve, 200))]);
  }
  return times;
}

function onceAny(socket: Socket, events: readonly string[]): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      for (const event of events) socket.off(event, finish);
      resolve();
    };
    for (const event of events) socket.on(event, finish);
  });
}

/** Calls that are begun and reset at once, 100 in a piece. */
export function resetCalls(): () => Buffer {
  let stream = -1;
  const headers = callHeaders(LIST_TASKS);
  const cancel = Buffer.from([0, 0, 0, 8]);
  return () => {
    const frames: Buffer[] = [];
    for (let n = 0; n < 100; n++) {
      stream += 2;
      frames.push(h2Frame(FRAME.headers, END_HEADERS, stream, headers), h2Frame(FRAME.reset, 0, stream, cancel));
    }
    return Buffer.concat(frames);
  };
}

/** Frames of headers that are short and unpack to very much: a long one is named once, and then by one byte each time. */
export function hpackFrames(): () => Buffer {
  let stream = -1;
  const value = 'v'.repeat(3_000);
  const length = Buffer.from([0x7f, ...varint(value.length - 127)]);
  const named = Buffer.concat([Buffer.from([0x40, 1]), Buffer.from('x'), length, Buffer.from(value)]);
  const again = Buffer.alloc(12_000, 0x80 | 62);
  return () => {
    stream += 2;
    const headers = Buffer.concat([callHeaders('/x'), ...(stream === 1 ? [named] : []), again]);
    return h2Frame(FRAME.headers, END_HEADERS | END_STREAM, stream, headers);
  };
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}
