/** Messages that become much more than they are, and messages that never end. */
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { framed } from '../../support/rpc-raw.js';
import { again, Tally, wait, type Attack, type Target } from '../attack.js';

const BATCH = '/taskdash.task.v1.TaskService/BatchRegisterTasks';
const MIB = 1024 * 1024;

/** A body over HTTP, again and again, four at once. */
export function bodies(type: string, body: Buffer, headers: Record<string, string> = {}): Attack {
  return async (target) => {
    const tally = new Tally();
    await again(target, 4, async () => tally.add(await post(target, type, body, headers)));
    return tally.toString();
  };
}

async function post(target: Target, type: string, body: Buffer, headers: Record<string, string>): Promise<string> {
  const answer = await fetch(target.http + BATCH, {
    method: 'POST',
    body: new Uint8Array(body),
    headers: { authorization: `Bearer ${target.token}`, 'content-type': type, ...headers },
  });
  const code = /"code":"(\w+)"/.exec(await answer.text())?.[1];
  return `${answer.status} ${code ?? ''}`.trim();
}

/** `{"tasks":[{},{},…]}` that just fits into a message. */
export const manyElements = bodies('application/json', Buffer.from(`{"tasks":[${'{},'.repeat(1_390_000)}{}]}`));
export const deepNesting = bodies('application/json', Buffer.from(`{"tasks":${'['.repeat(4 * MIB - 100)}`));
export const tooDeepNesting = bodies('application/json', Buffer.alloc(10 * MIB, '['));
export const packedElements = bodies(
  'application/proto',
  gzipSync(Buffer.alloc(2 * 2_000_000, Buffer.from('0a00', 'hex'))),
  {
    'content-encoding': 'gzip',
  },
);
export const bombs: Attack = async (target) => {
  const zeros = Buffer.alloc(60 * MIB);
  const [gzip, brotli] = [gzipSync(zeros), brotliCompressSync(zeros, { params: { 1: 5 } })];
  const told = await Promise.all([
    bodies('application/proto', gzip, { 'content-encoding': 'gzip' })(target),
    bodies('application/proto', brotli, { 'content-encoding': 'br' })(target),
    packedCalls(gzip)(target),
  ]);
  return told.join('; ');
};
/** Each unpacks to just what a message may have. */
export const packedCallsThatFit: Attack = (target) => packedCalls(gzipSync(Buffer.alloc(4 * MIB - 10)))(target);

/** A packed message over gRPC, 200 at once. */
function packedCalls(message: Buffer): Attack {
  return async (target) => {
    const tally = new Tally();
    const session = connectHttp2(`http://${target.grpc}`, { maxSessionMemory: 1_000 });
    session.on('error', () => {});
    await again(
      target,
      200,
      () =>
        new Promise((resolve) => {
          const stream = session.request({ ...callOf(target), 'grpc-encoding': 'gzip' });
          stream.on('error', () => {});
          stream.on('response', (headers) => tally.add(`gRPC ${String(headers['grpc-status'])}`));
          stream.on('close', () => resolve());
          stream.end(framed(message, true));
        }),
    );
    return tally.toString();
  };
}

function callOf({ token }: Target) {
  const headers = { ':method': 'POST', ':path': BATCH, 'content-type': 'application/grpc', te: 'trailers' };
  return { ...headers, authorization: `Bearer ${token}` };
}

/** 3 connections with 100 calls each, of whose message the last bytes never come. */
export const unfinishedCalls: Attack = async (target) => {
  const tally = new Tally();
  const head = Buffer.from('0000400000', 'hex');
  const most = Buffer.alloc(4 * MIB - 1_000, 1);
  for (let connection = 0; connection < 3; connection++) {
    const session = connectHttp2(`http://${target.grpc}`, { maxSessionMemory: 1_000, ...target.from(connection) });
    session.on('error', () => {});
    for (let call = 0; call < 100; call++) {
      const stream = session.request(callOf(target));
      stream.on('error', () => {});
      stream.on('response', (headers) => tally.add(`gRPC ${String(headers['grpc-status'])}`));
      stream.write(head);
      stream.write(most);
    }
  }
  await wait(target);
  return tally.toString();
};

/** 250 requests over HTTP, of whose body the last bytes never come. */
export const unfinishedBodies: Attack = async (target) => {
  const tally = new Tally();
  const { hostname, port } = new URL(target.http);
  const most = Buffer.alloc(4 * MIB - 1_000, ' ');
  for (let n = 0; n < 250; n++) {
    const socket = connect({ port: Number(port), host: hostname, ...target.from(n) });
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => tally.add(`HTTP ${chunk.subarray(9, 12).toString()}`));
    const head = `POST ${BATCH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${4 * MIB}\r\n`;
    socket.write(`${head}Authorization: Bearer ${target.token}\r\n\r\n`);
    socket.write(most);
  }
  await wait(target);
  return tally.toString();
};
