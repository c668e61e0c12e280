/** Streams that stay open, and connections that take their time. */
import { connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { connect } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { ServerReflectionRequestSchema } from '../../../proto/gen/grpc/reflection/v1/reflection_pb.js';
import { framed } from '../../support/rpc-raw.js';
import { callHeaders, END_HEADERS, FRAME, h2Connect, h2Frame } from '../h2-frames.js';
import { Tally, wait, type Attack } from '../attack.js';

/** Opens streams of a method over connections, and leaves them open. */
function openStreams(connections: number, streams: number, headers: (token: string) => OutgoingHttpHeaders): Attack {
  return async (target) => {
    const tally = new Tally();
    for (let connection = 0; connection < connections; connection++) {
      const session = connectHttp2(`http://${target.grpc}`);
      session.on('error', () => {});
      for (let n = 0; n < streams; n++) {
        const stream = session.request({
          ':method': 'POST',
          'content-type': 'application/grpc',
          ...headers(target.token),
        });
        stream.on('error', () => tally.add('error'));
        stream.on('response', (answer) => tally.add(`gRPC ${String(answer['grpc-status'] ?? 'open')}`));
        stream.resume();
        stream.end(framed(Buffer.alloc(0)));
      }
    }
    await wait(target);
    return tally.toString();
  };
}

export const healthWatches = openStreams(10, 1_000, () => ({ ':path': '/grpc.health.v1.Health/Watch' }));
export const taskWatches = openStreams(5, 1_000, (token) => ({
  ':path': '/taskdash.task.v1.TaskService/WatchTasks',
  authorization: `Bearer ${token}`,
}));

/** Ten connections that ask reflection as fast as it goes, over 16 streams each. */
export const reflection: Attack = async (target) => {
  const tally = new Tally();
  const messageRequest = { case: 'fileContainingSymbol', value: 'taskdash.task.v1.TaskService' } as const;
  const question = framed(
    toBinary(ServerReflectionRequestSchema, create(ServerReflectionRequestSchema, { messageRequest })),
  );
  const many = Buffer.concat(Array.from({ length: 100 }, () => question));
  let received = 0;
  const asking = Array.from({ length: 160 / 16 }, () => {
    const session = connectHttp2(`http://${target.grpc}`);
    session.on('error', () => {});
    const open = () =>
      new Promise<void>((resolve) => {
        const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
        const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc' });
        stream.on('error', () => {});
        stream.on('close', () => resolve());
        for (const event of ['response', 'trailers']) {
          stream.on(event, (headers: Record<string, unknown>) => {
            const status = headers['grpc-status'];
            if (typeof status === 'string') tally.add(`gRPC ${status}`);
          });
        }
        stream.on('data', (chunk: Buffer) => (received += chunk.length));
        const ask = () => {
          while (target.isOn() && !stream.destroyed && stream.write(many));
          if (target.isOn() && !stream.destroyed) stream.once('drain', ask);
        };
        ask();
        setTimeout(() => stream.destroy(), 1_000).unref();
      });
    return Promise.all(
      Array.from({ length: 16 }, async () => {
        while (target.isOn() && !session.destroyed) {
          await open();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }),
    );
  });
  await Promise.race([Promise.all(asking), wait(target)]);
  return `${tally.toString()}, ${Math.round(received / 1024)} KiB of answers`;
};

/** 1,000 connections that begin 10 calls each, and send a byte of each a second. */
export const slowCalls: Attack = async (target) => {
  const sockets = Array.from({ length: 1_000 }, () => h2Connect(target.grpc));
  const headers = callHeaders('/taskdash.task.v1.TaskService/ListTasks');
  const streams = Array.from({ length: 10 }, (_, n) => 2 * n + 1);
  for (const socket of sockets) {
    socket.write(Buffer.concat(streams.map((stream) => h2Frame(FRAME.headers, END_HEADERS, stream, headers))));
  }
  const byte = Buffer.concat(streams.map((stream) => h2Frame(FRAME.data, 0, stream, Buffer.from([0]))));
  await wait(target, 1_000, () => {
    for (const socket of sockets) if (!socket.destroyed) socket.write(byte);
  });
  return `${sockets.filter(({ destroyed }) => destroyed).length} of 1000 connections closed`;
};

/** 1,000 connections that send a byte of their headers a second. */
export const slowHeaders: Attack = async (target) => {
  const { hostname, port } = new URL(target.http);
  const sockets = Array.from({ length: 1_000 }, () => connect(Number(port), hostname));
  for (const socket of sockets) {
    socket.on('error', () => {});
    socket.write('POST / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
  }
  await wait(target, 1_000, () => {
    for (const socket of sockets) if (!socket.destroyed) socket.write('x');
  });
  return `${sockets.filter(({ destroyed }) => destroyed).length} of 1000 connections closed`;
};
