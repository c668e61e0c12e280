/** Calls whose credentials are wrong or missing: nothing is done for them that costs more than saying so. */
import { create, toBinary } from '@bufbuild/protobuf';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BatchRegisterTasksRequestSchema } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { isTooLarge } from '../../server/transports/rpc/element-count.js';
import { rawCall } from '../support/rpc-raw.js';
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
  it('over gRPC is refused before millions of elements are decoded', async () => {
    const { status } = await rawCall(rig.grpc.address, BATCH, { authorization: `Bearer ${token}` }, EMPTY_TASKS);
    expect(status).toBe(INVALID_ARGUMENT);
  });

  it('may be as large as ever', async () => {
    const tasks = Array.from({ length: 1000 }, (_, index) => ({
      id: `task-${index}`,
      groupId: 'mx',
      name: 'x'.repeat(200),
    }));
    const request = toBinary(BatchRegisterTasksRequestSchema, create(BatchRegisterTasksRequestSchema, { tasks }));
    expect(isTooLarge(BatchRegisterTasksRequestSchema, request)).toBe(false);
    const headers = { authorization: `Bearer ${token}` };
    expect((await rawCall(rig.grpc.address, BATCH, headers, request)).status).toBe('0');
    const type = { 'content-type': 'application/proto' };
    const answer = await fetch(rig.http.address + BATCH, {
      method: 'POST',
      body: new Uint8Array(request),
      headers: { ...headers, ...type },
    });
    expect(answer.status).toBe(200);
  });
});
