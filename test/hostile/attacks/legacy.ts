/** What is done over the legacy door with frames that are large, many, or never whole. */
import { connect, type Socket } from 'node:net';
import { frame, registerFrame, REQUEST } from '../../support/tcpx-frames.js';
import { pour } from '../h2-frames.js';
import { wait, type Attack, type Target } from '../attack.js';

const FIND = { RequestID: 'Find' };

/** 50 connections that send bodies of 90,000 keys, and take their replies. */
export const manyKeys: Attack = (target) => {
  const keys = Array.from({ length: 90_000 }, (_, n) => `"k${n}":1`).join();
  const piece = frame(REQUEST, FIND, `{${keys}}`);
  return flood(target, 50, () => piece);
};

/** 50 connections that send bodies nested half a million deep, and take their replies. */
export const deepBodies: Attack = (target) => {
  const piece = frame(REQUEST, FIND, '['.repeat(500_000));
  return flood(target, 50, () => piece);
};

/** 50 connections that send thousands of the smallest requests in one piece, all malformed, and take their replies. */
export const tinyFrames: Attack = (target) => {
  const piece = Buffer.concat(Array.from({ length: 3_000 }, () => frame(REQUEST, undefined)));
  return flood(target, 50, () => piece);
};

/** 150 connections whose requests have a header that the reply repeats, and who never read. */
export const repeatedHeaders: Attack = (target) => {
  const piece = Buffer.concat(
    Array.from({ length: 100 }, () => frame(REQUEST, { RequestID: 'Nope', x: 'x'.repeat(8_000) })),
  );
  return flood(target, 150, () => piece, false);
};

/** 1,000 connections that register the longest records, twenty in a piece, and take their replies. */
export const longRegisters: Attack = (target) => {
  const texts = { description: '描'.repeat(8_192), url: '述'.repeat(2_048), group_id: 'mx' };
  const pieces = Array.from({ length: 100 }, (_, n) =>
    Buffer.concat(Array.from({ length: 20 }, (_, k) => registerFrame({ id: `long-${n}-${k}`, ...texts }))),
  );
  return flood(target, 1_000, (n) => pieces[n % 100] as Buffer);
};

/** 1,000 connections that register ordinary records under ever new ids as fast as it goes. */
export const endlessRegisters: Attack = (target) => {
  let sent = 0;
  const piece = () =>
    Buffer.concat(Array.from({ length: 64 }, () => registerFrame({ id: `endless-${sent++}`, group_id: 'mx' })));
  return flood(target, 1_000, piece);
};

/** 500 connections that send all of a frame of 1 MB but its end. */
export const unfinishedFrames: Attack = async (target) => {
  const sockets = connections(target, 500);
  const unfinished = frame(REQUEST, FIND, Buffer.alloc(1_000_000, ' ')).subarray(0, -1_000);
  for (const socket of sockets) socket.write(unfinished);
  await wait(target);
  return closedOf(sockets);
};

/** So many connections that send pieces as fast as they are taken. */
async function flood(target: Target, count: number, pieceOf: (n: number) => Buffer, reads = true): Promise<string> {
  const sockets = connections(target, count, reads);
  await Promise.all(sockets.map((socket, n) => pour(socket, target.isOn, () => pieceOf(n))));
  const answered = sockets.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
  return `${answered} bytes of replies, ${closedOf(sockets)}`;
}

function connections(target: Target, count: number, reads = true): Socket[] {
  const [host = '', port] = target.tcp.split(':');
  return Array.from({ length: count }, (_, n) => {
    const socket = connect({ port: Number(port), host, ...target.from(n) });
    socket.on('error', () => {});
    if (reads) socket.resume();
    return socket;
  });
}

function closedOf(sockets: readonly Socket[]): string {
  return `${sockets.filter(({ destroyed }) => destroyed).length} of ${sockets.length} connections closed`;
}
