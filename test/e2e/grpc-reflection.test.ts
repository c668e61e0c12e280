import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code } from '@connectrpc/connect';
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from '../../proto/gen/grpc/reflection/v1/reflection_pb.js';
import { connect, type ClientHttp2Stream } from 'node:http2';
import { framed, rawCall } from '../support/rpc-raw.js';
import { RpcRig } from '../support/rpc-rig.js';

let rig: RpcRig;
beforeAll(async () => {
  rig = await RpcRig.start();
});
afterAll(() => rig.stop());

type Question = ServerReflectionRequest['messageRequest'];

/** Asks as any implementation would: bytes on the wire. */
async function ask(version: string, messageRequest: Question): Promise<ServerReflectionResponse['messageResponse']> {
  const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
  const question = toBinary(ServerReflectionRequestSchema, create(ServerReflectionRequestSchema, { messageRequest }));
  const { status, body } = await rawCall(rig.grpc.address, path, {}, question);
  expect(status).toBe('0');
  return fromBinary(ServerReflectionResponseSchema, body.subarray(5)).messageResponse;
}

describe.each(['v1', 'v1alpha'])('reflection %s', (version) => {
  it('lists the services', async () => {
    const answer = await ask(version, { case: 'listServices', value: '' });
    const names = (answer.value as { service: { name: string }[] }).service.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(['taskdash.task.v1.TaskService', 'taskdash.auth.v1.AuthService', 'grpc.health.v1.Health']),
    );
  });

  it.each([
    ['a service', 'taskdash.task.v1.TaskService', 'taskdash/task/v1/task_service.proto'],
    ['a method', 'taskdash.task.v1.TaskService.ListTasks', 'taskdash/task/v1/task_service.proto'],
    ['a message', 'taskdash.task.v1.Task', 'taskdash/task/v1/task.proto'],
    ['an enum', 'taskdash.task.v1.TaskStatus', 'taskdash/task/v1/task.proto'],
    ['what is imported', 'google.protobuf.Timestamp', 'google/protobuf/timestamp.proto'],
  ])('describes %s with its file, and every file that it needs', async (_what, value, file) => {
    const answer = await ask(version, { case: 'fileContainingSymbol', value });
    const files = (answer.value as { fileDescriptorProto: Uint8Array[] }).fileDescriptorProto.map((bytes) =>
      fromBinary(FileDescriptorProtoSchema, bytes),
    );
    const names = files.map(({ name }) => name);
    expect(names[0]).toBe(file);
    for (const { dependency } of files) for (const needed of dependency) expect(names).toContain(needed);
  });

  it.each([
    { case: 'fileContainingSymbol', value: 'taskdash.Nothing' },
    { case: 'fileByFilename', value: 'nothing.proto' },
    { case: 'allExtensionNumbersOfType', value: 'taskdash.task.v1.Task' },
  ] as const)('says that it does not know $case $value', async (question) => {
    const answer = await ask(version, question);
    expect(answer).toMatchObject({ case: 'errorResponse', value: { errorCode: Code.NotFound } });
  });
});

const QUESTION = framed(
  toBinary(
    ServerReflectionRequestSchema,
    create(ServerReflectionRequestSchema, {
      messageRequest: { case: 'fileContainingSymbol', value: 'taskdash.task.v1.TaskService' },
    }),
  ),
);

/** A stream of questions, and what came back: the length of each answer, and the status at the end. */
function questions(address: string) {
  const session = connect(`http://${address}`);
  session.on('error', () => {});
  const stream: ClientHttp2Stream = session.request({
    ':method': 'POST',
    ':path': '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
    'content-type': 'application/grpc',
  });
  stream.on('error', () => {});
  let received = Buffer.alloc(0);
  let status: unknown;
  stream.on('data', (chunk: Buffer) => (received = Buffer.concat([received, chunk])));
  for (const event of ['response', 'trailers']) {
    stream.on(event, (headers: Record<string, unknown>) => (status = headers['grpc-status'] ?? status));
  }
  const answers = () => {
    const lengths: number[] = [];
    for (let at = 0; at + 5 <= received.length; at += 5 + (lengths.at(-1) ?? 0))
      lengths.push(received.readUInt32BE(at + 1));
    return lengths;
  };
  return { stream, answers, status: () => status, bytes: () => received.length, destroy: () => session.destroy() };
}

describe('many questions', () => {
  it('over one stream are told every file that others need only once', async () => {
    const asked = questions(rig.grpc.address);
    asked.stream.write(Buffer.concat([QUESTION, QUESTION]));
    await expect.poll(() => asked.answers().length).toBe(2);
    const [first = 0, second = 0] = asked.answers();
    expect(second).toBeLessThan(first - 1_000);
    asked.destroy();
  });

  it('are answered with a megabyte in ten seconds to one address, then refused', async () => {
    const own = await RpcRig.start();
    const asked = questions(own.grpc.address);
    for (let n = 0; n < 50; n++) asked.stream.write(Buffer.concat(Array.from({ length: 20 }, () => QUESTION)));
    await expect.poll(asked.status, { timeout: 10_000 }).toBe('8');
    expect(asked.bytes()).toBeGreaterThan(900_000);
    expect(asked.bytes()).toBeLessThan(1_200_000);
    asked.destroy();
    await own.stop();
  });
});
