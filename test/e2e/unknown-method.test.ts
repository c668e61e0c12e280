/** Calls of methods that no service has, over HTTP: refused with a code of the catalogue, in the form of each protocol. */
import { Code, type ConnectError, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const PATH = '/taskdash.task.v1.TaskService/NoSuch';
const UNARY = { ...TaskService.method.getTask, name: 'NoSuch' };
const STREAM = { ...TaskService.method.watchTasks, name: 'NoSuch' };

const overHttp = () => ({ baseUrl: app.http, httpVersion: '1.1' }) as const;
const TRANSPORTS: Record<string, () => Transport> = {
  gRPC: () => createGrpcTransport({ baseUrl: `http://${app.grpc}` }),
  'Connect in JSON': () => createConnectTransport({ ...overHttp(), useBinaryFormat: false }),
  'Connect in binary form': () => createConnectTransport({ ...overHttp(), useBinaryFormat: true }),
  'gRPC-Web in JSON': () => createGrpcWebTransport({ ...overHttp(), useBinaryFormat: false }),
  'gRPC-Web in binary form': () => createGrpcWebTransport({ ...overHttp(), useBinaryFormat: true }),
};

async function* one<T>(message: T): AsyncGenerator<T> {
  yield await Promise.resolve(message);
}

async function unary(transport: Transport): Promise<void> {
  await transport.unary(UNARY, undefined, undefined, undefined, { id: '1' });
}

async function stream(transport: Transport): Promise<void> {
  const { message } = await transport.stream(STREAM, undefined, undefined, undefined, one({}));
  for await (const _answer of message);
}

describe('a method that no service has', () => {
  it.each(
    Object.keys(TRANSPORTS).flatMap((protocol) => [
      [protocol, 'a call', unary] as const,
      [protocol, 'a stream', stream] as const,
    ]),
  )('is not supported, with the same words and details, over %s in %s', async (protocol, _what, call) => {
    const thrown = await call(TRANSPORTS[protocol]?.() as Transport).catch((error: unknown) => error);
    const error = thrown as ConnectError;
    expect([error.code, error.rawMessage]).toEqual([Code.Unimplemented, `The server has no method "${PATH}".`]);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      {
        reason: 'NOT_SUPPORTED',
        domain: 'taskdash',
        metadata: { hint: expect.stringContaining('contract') as string },
      },
    ]);
  });

  it('is told to curl in JSON', async () => {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(app.http + PATH, { method: 'POST', headers, body: '{}' });
    expect([answer.status, answer.headers.get('content-type')]).toEqual([404, 'application/json']);
    expect(await answer.json()).toMatchObject({ code: 'unimplemented', details: [{ type: 'google.rpc.ErrorInfo' }] });
  });

  it('is no other address', async () => {
    const post = (path: string) => fetch(app.http + path, { method: 'POST' });
    for (const path of ['/tasks', '/tasks/1', '/a.b', '/assets/x.js'])
      expect([path, (await post(path)).status]).toEqual([path, 405]);
    expect((await fetch(app.http + PATH)).status).toBe(404);
  });
});
