/**
 * Calls whose credentials are wrong or missing: nothing is done for them that costs more than saying so. And calls whose
 * credentials are good, but which would become more than any caller needs, or are no text.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BatchRegisterTasksRequestSchema, TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { framed, rawCall } from '../support/rpc-raw.js';
import { RpcRig } from '../support/rpc-rig.js';

const BATCH = '/taskdash.task.v1.TaskService/BatchRegisterTasks';
const UNAUTHENTICATED = '16';
const INVALID_ARGUMENT = '3';
/** Empty elements of a repeated field, two bytes each: a third of a minute for the decoder, and 2 GB. */
const EMPTY_TASKS = Buffer.alloc(2 * 2_095_000, Buffer.from('0a00', 'hex'));

let rig: RpcRig;
let token: string;

beforeAll(async () => {
  rig = await RpcRig.start();
  token = await rig.token();
});
afterAll(() => rig.stop());

async function post(body: Buffer | string, headers: Record<string, string>) {
  const answer = await fetch(rig.http.address + BATCH, { method: 'POST', body, headers });
  return { status: answer.status, code: ((await answer.json()) as { code: string }).code };
}

describe.each([
  ['without credentials', {}],
  ['with a token that is none', { authorization: 'Bearer tdt_nobody' }],
])('a request %s', (_which, credentials: Record<string, string>) => {
  it('over gRPC is refused before millions of elements are decoded', async () => {
    const { status } = await rawCall(rig.grpc.address, BATCH, credentials, EMPTY_TASKS);
    expect(status).toBe(UNAUTHENTICATED);
    const packed = await rawCall(
      rig.grpc.address,
      BATCH,
      { ...credentials, 'grpc-encoding': 'gzip' },
      gzipSync(EMPTY_TASKS),
      true,
    );
    expect(packed.status).toBe(UNAUTHENTICATED);
  });

  it('over HTTP is refused before its body is read, and unpacked to no more than a little', async () => {
    const headers = { 'content-type': 'application/proto', ...credentials };
    expect(await post(EMPTY_TASKS, headers)).toEqual({ status: 401, code: 'unauthenticated' });
    expect(await post(gzipSync(EMPTY_TASKS), { ...headers, 'content-encoding': 'gzip' })).toMatchObject({
      code: 'resource_exhausted',
    });
  });

  it('of JSON that is nested without end, or has very many elements, is refused before it is read', async () => {
    const headers = { 'content-type': 'application/json', ...credentials };
    expect(await post('['.repeat(1_000_000), headers)).toMatchObject({ status: 401 });
    expect(await post(`{"tasks":[${'{},'.repeat(500_000)}{}]}`, headers)).toMatchObject({ status: 401 });
    expect(await post('{}', headers)).toEqual({ status: 401, code: 'unauthenticated' });
  });
});

describe('a request with valid credentials', () => {
  const packed = { 'content-encoding': 'gzip' };
  const deep = Buffer.from(`{"tasks":${'['.repeat(4_000_000)}`);
  const wide = Buffer.from(`{"tasks":[${'{},'.repeat(1_390_000)}{}]}`);
  const names = Buffer.from(`{"updateMask":"${'name,'.repeat(800_000)}name"}`);
  const digits = Buffer.from(`{"tasks":[{"revision":"${'9'.repeat(4_000_000)}"}]}`);
  const REGISTER = '/taskdash.task.v1.TaskService/RegisterTask';
  const LIST = '/taskdash.task.v1.TaskService/ListTasks';

  /** What the door says to a body, in any form that it takes. */
  async function told(type: string, body: Uint8Array, headers: Record<string, string> = {}, path = BATCH) {
    const answer = await fetch(rig.http.address + path, {
      method: 'POST',
      body: new Uint8Array(body),
      headers: { authorization: `Bearer ${token}`, 'content-type': type, ...headers },
    });
    // The sentence of gRPC-Web is percent-encoded, behind frames that may have any byte.
    const text = (await answer.text()).replace(/(?:%[0-9A-F]{2})+/g, decodeURIComponent);
    return { status: answer.status, text };
  }

  it.each([
    ['JSON', 'application/json', wide, {}],
    ['JSON, packed', 'application/json', gzipSync(wide), packed],
    ['JSON, packed by brotli', 'application/json', brotliCompressSync(wide), { 'content-encoding': 'br' }],
    ['JSON of a stream', 'application/connect+json', framed(wide), {}, LIST.replace('List', 'Watch')],
    ['JSON of gRPC-Web', 'application/grpc-web+json', framed(wide), {}],
    ['binary', 'application/proto', EMPTY_TASKS, {}],
    ['binary, packed', 'application/proto', gzipSync(EMPTY_TASKS), packed],
    ['gRPC-Web', 'application/grpc-web+proto', framed(EMPTY_TASKS), {}],
    [
      'gRPC-Web, packed',
      'application/grpc-web+proto',
      framed(gzipSync(EMPTY_TASKS), true),
      { 'grpc-encoding': 'gzip' },
    ],
  ])('over HTTP is refused before millions of elements are decoded: %s', async (_form, type, body, headers, path?) => {
    const { text } = await told(type, body, headers, path);
    expect(text).toContain('more than 50000 fields and elements');
  });

  it('over HTTP is refused that is nested without end, and before its fields are', async () => {
    for (const [body, headers] of [[deep, {}] as const, [gzipSync(deep), packed] as const]) {
      const { status, text } = await told('application/json', body, headers);
      expect([status, text]).toEqual([400, expect.stringContaining('nested more than 64 deep')]);
    }
  });

  it.each([
    ['a list of fields', names, '/taskdash.task.v1.TaskService/UpdateTask'],
    ['a number', digits, BATCH],
  ])('over HTTP is refused that hides %s in one text', async (_what, body, path) => {
    const { status, text } = await told('application/json', body, {}, path);
    expect([status, text]).toEqual([400, expect.stringContaining('in a text that is longer than any of them')]);
  });

  it('over gRPC is refused before millions of elements are decoded', async () => {
    const headers = { authorization: `Bearer ${token}` };
    const { status } = await rawCall(rig.grpc.address, BATCH, headers, EMPTY_TASKS);
    expect(status).toBe(INVALID_ARGUMENT);
    // Behind a group, and behind a field that says another type than it has: decoders read on, whatever was counted.
    for (const before of ['0b0c', '08808040', '7b7c']) {
      const message = Buffer.concat([Buffer.from(before, 'hex'), EMPTY_TASKS.subarray(0, 4_000_000)]);
      const answer = await rawCall(rig.grpc.address, BATCH, headers, message);
      expect([before, answer.status]).toEqual([before, INVALID_ARGUMENT]);
      expect(answer.headers['grpc-message']).not.toContain('1000%20records');
    }
  });

  const gbk = Buffer.concat([
    Buffer.from('{"task":{"groupId":"mx","id":"'),
    Buffer.from('b2e2cad4', 'hex'),
    Buffer.from('"}}'),
  ]);
  const binary = Buffer.concat([Buffer.from('0a0a0a04b2e2cad42a026d78', 'hex')]);

  it.each([
    ['JSON', 'application/json', gbk, {}],
    ['JSON, packed', 'application/json', gzipSync(gbk), packed],
    ['binary', 'application/proto', binary, {}],
    ['gRPC-Web', 'application/grpc-web+proto', framed(binary), {}],
    ['JSON of gRPC-Web', 'application/grpc-web+json', framed(gbk), {}],
  ])('whose texts are not UTF-8 is refused, and nothing is stored: %s', async (_form, type, body, headers) => {
    const { status, text } = await told(type, body, headers, REGISTER);
    expect(text).toContain('is not UTF-8');
    expect(type.includes('web') ? /grpc-status: (\d+)/.exec(text)?.[1] : status).toBe(type.includes('web') ? '3' : 400);
    expect((await rig.client(TaskService, 'http', token).listTasks({ filter: { text: '\ufffd' } })).tasks).toEqual([]);
  });

  it('over gRPC whose texts are not UTF-8 is refused with the same words', async () => {
    const answer = await rawCall(rig.grpc.address, REGISTER, { authorization: `Bearer ${token}` }, binary);
    expect([answer.status, answer.headers['grpc-message']]).toEqual([
      INVALID_ARGUMENT,
      expect.stringContaining('UTF-8'),
    ]);
  });

  it('that is no message of the method is told so, on both doors', async () => {
    for (const message of ['0a', '0aff', 'ffffffffffffffffffffff', '0a0508ffffffff', '12016162']) {
      const body = Buffer.from(message, 'hex');
      expect([message, (await told('application/proto', body, {}, REGISTER)).status]).toEqual([message, 400]);
      const { status } = await rawCall(rig.grpc.address, REGISTER, { authorization: `Bearer ${token}` }, body);
      expect([message, status]).toEqual([message, INVALID_ARGUMENT]);
    }
  });

  it.each([
    ['application/json', 'deflate'],
    ['application/json', 'gzip, gzip'],
    ['application/connect+json', 'gzip'],
    ['application/grpc-web+proto', 'gzip'],
  ])('of %s that is packed as nobody unpacks it (%s) is refused', async (type, encoding) => {
    const path = type.includes('connect') ? LIST.replace('List', 'Watch') : LIST;
    const { text } = await told(type, Buffer.from('{}'), { 'content-encoding': encoding }, path);
    expect(text).toMatch(/unimplemented|grpc-status: 12/);
  });

  it('may be as large as ever, in every form', async () => {
    const tasks = Array.from({ length: 1000 }, (_, index) => ({
      id: `task-${index}`,
      groupId: 'mx',
      name: '字'.repeat(200),
      user: 'a \\ "quoted" {name}, [user]',
      revision: 7n,
    }));
    const request = toBinary(BatchRegisterTasksRequestSchema, create(BatchRegisterTasksRequestSchema, { tasks }));
    const headers = { authorization: `Bearer ${token}` };
    expect((await rawCall(rig.grpc.address, BATCH, headers, request)).status).toBe('0');
    expect((await told('application/proto', request)).status).toBe(200);
    expect((await told('application/proto', gzipSync(request), packed)).status).toBe(200);
    expect((await told('application/grpc-web+proto', framed(request))).text).toContain('grpc-status: 0');
    const json = Buffer.from(JSON.stringify({ tasks: tasks.map((task) => ({ ...task, revision: '7' })) }));
    expect((await told('application/json', json)).status).toBe(200);
    expect((await told('application/json', gzipSync(json), packed)).status).toBe(200);
  });
});
