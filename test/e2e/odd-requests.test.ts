/** Requests that one door could take for another thing than the others: each has one answer, whatever it comes through. */
import { create, toBinary } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import { errorFromJsonBytes } from '@connectrpc/connect/protocol-connect';
import { findTrailerError } from '@connectrpc/connect/protocol-grpc';
import { trailerParse } from '@connectrpc/connect/protocol-grpc-web';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BadRequestSchema, ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { ListTasksRequestSchema, type TaskOrderField } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { framed, rawCall } from '../support/rpc-raw.js';
import { RpcRig } from '../support/rpc-rig.js';

const LIST = '/taskdash.task.v1.TaskService/ListTasks';
const REGISTER = '/taskdash.task.v1.TaskService/RegisterTask';
const KEEP_ALIVE = '/taskdash.task.v1.LeaseService/KeepAlive';

let rig: RpcRig;
let credentials: { authorization: string };

beforeAll(async () => {
  rig = await RpcRig.start();
  credentials = { authorization: `Bearer ${await rig.token()}` };
});
afterAll(() => rig.stop());

/** How a call ended: OK, or the code of the catalogue, with the fields that break a rule. */
interface Outcome {
  readonly reason: string;
  readonly message: string;
  readonly violations: readonly { field: string; description: string }[];
}

function outcomeOf(error: ConnectError | undefined): Outcome {
  if (!error) return { reason: 'OK', message: '', violations: [] };
  const violations = error.findDetails(BadRequestSchema)[0]?.fieldViolations ?? [];
  return {
    reason: error.findDetails(ErrorInfoSchema)[0]?.reason ?? 'none',
    message: error.rawMessage,
    violations: violations.map(({ field, description }) => ({ field, description })),
  };
}

async function overHttp(path: string, type: string, body: Buffer | string): Promise<Outcome> {
  const headers = { ...credentials, 'content-type': type };
  const answer = await fetch(rig.http.address + path, { method: 'POST', headers, body });
  return outcomeOf(errorIn(answer, Buffer.from(await answer.arrayBuffer())));
}

async function inAddress(path: string, json: string): Promise<Outcome> {
  const query = new URLSearchParams({ connect: 'v1', encoding: 'json', message: json });
  const answer = await fetch(`${rig.http.address}${path}?${query.toString()}`, { headers: credentials });
  return outcomeOf(errorIn(answer, Buffer.from(await answer.arrayBuffer())));
}

function errorIn(answer: Response, body: Buffer): ConnectError | undefined {
  const isWeb = answer.headers.get('content-type')?.startsWith('application/grpc-web');
  if (!isWeb) return answer.ok ? undefined : errorFromJsonBytes(body, undefined, new ConnectError('no error'));
  let rest = body;
  while (rest[0] === 0) rest = rest.subarray(5 + rest.readUInt32BE(1));
  return findTrailerError(trailerParse(rest.subarray(5)));
}

async function overGrpc(path: string, message: Uint8Array, headers = {}, announced?: number): Promise<Outcome> {
  const answer = await rawCall(rig.grpc.address, path, { ...credentials, ...headers }, message, false, announced);
  const trailer = new Headers();
  for (const [name, value] of Object.entries(answer.headers))
    if (name.startsWith('grpc-')) trailer.set(name, String(value));
  return outcomeOf(findTrailerError(trailer));
}

describe('a value of an enumeration that the contract does not have', () => {
  const listed = (orderBy: unknown) => JSON.stringify({ orderBy, pageSize: 1 });
  const refused = (shown: string) => ({
    reason: 'REQUEST_INVALID',
    violations: [{ field: 'order_by', description: `must be one of the contract's values, not ${shown}` }],
  });

  it.each([
    ['XX', '"XX"'],
    ['name', '"name"'],
    ['', '""'],
    ['99', '"99"'],
    ['toString', '"toString"'],
    [99, '99'],
    [-1, '-1'],
  ])('is refused in JSON, by name as by number: %j', async (value, shown) => {
    const json = listed(value);
    for (const outcome of [
      await overHttp(LIST, 'application/json', json),
      await overHttp(LIST, 'application/json', json.replace('orderBy', 'order_by')),
      await overHttp(LIST, 'application/grpc-web+json', framed(Buffer.from(json))),
      await inAddress(LIST, json),
    ])
      expect(outcome).toMatchObject(refused(shown));
  });

  it('is refused in binary form', async () => {
    const message = toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { orderBy: 99 as TaskOrderField }));
    for (const outcome of [
      await overGrpc(LIST, message),
      await overHttp(LIST, 'application/proto', Buffer.from(message)),
    ])
      expect(outcome).toMatchObject(refused('99'));
  });

  it.each([{ orderBy: 'TASK_ORDER_FIELD_NAME' }, { orderBy: 3 }, { orderBy: null }, {}])(
    'is not among %j',
    async (request) => {
      expect(await overHttp(LIST, 'application/json', JSON.stringify(request))).toMatchObject({ reason: 'OK' });
    },
  );

  it('is left aside in fields that are unknown or not read, as newer clients may send them', async () => {
    const list = { orderByNext: 'XX', filter: { next: ['XX'] } };
    expect(await overHttp(LIST, 'application/json', JSON.stringify(list))).toMatchObject({ reason: 'OK' });
    const task = { id: 'new', groupId: 'mx', effectiveStatus: 'TASK_STATUS_NEXT', marks: ['TASK_MARK_NEXT'] };
    expect(await overHttp(REGISTER, 'application/json', JSON.stringify({ task }))).toMatchObject({ reason: 'OK' });
  });
});

describe('half a message', () => {
  it.each([LIST, KEEP_ALIVE])('is no valid request, over gRPC: %s', async (path) => {
    expect(await overGrpc(path, Buffer.from([0x18]), {}, 5)).toMatchObject({
      reason: 'REQUEST_INVALID',
      message: expect.stringContaining('ends in the middle of a message') as string,
    });
    expect((await overGrpc(path, Buffer.alloc(0), {}, 1)).reason).toBe('REQUEST_INVALID');
  });

  it.each(['application/grpc-web+proto', 'application/grpc-web+json'])('is none over HTTP: %s', async (type) => {
    const whole = framed(Buffer.from('{}'));
    for (const length of [1, 4, 6]) {
      expect(await overHttp(LIST, type, whole.subarray(0, length))).toMatchObject({
        reason: 'REQUEST_INVALID',
        message: expect.stringContaining('ends in the middle of a message') as string,
      });
    }
  });
});

describe('a type of content that is not spoken', () => {
  it.each(['application/grpc+json', 'application/grpc+xml', 'application/grpc-web', 'application/grpcs'])(
    'is not supported, on both doors: %s',
    async (type) => {
      const message = Buffer.from('{}');
      expect(await overGrpc(LIST, message, { 'content-type': type })).toMatchObject({
        reason: 'NOT_SUPPORTED',
        message: expect.stringContaining('application/grpc+proto') as string,
      });
      if (type === 'application/grpc-web') return;
      expect((await overHttp(LIST, type, framed(message))).reason).toBe('NOT_SUPPORTED');
    },
  );

  it.each(['application/grpc', 'application/grpc+proto', 'application/grpc;charset=utf-8', 'Application/GRPC+Proto'])(
    'is none of those that gRPC has: %s',
    async (type) => {
      expect(await overGrpc(LIST, Buffer.alloc(0), { 'content-type': type })).toMatchObject({ reason: 'OK' });
    },
  );
});

describe('a stream that goes both ways', () => {
  it.each(['application/connect+json', 'application/grpc-web+proto', 'application/json'])(
    'is refused over HTTP/1.1 with what to do instead: %s',
    async (type) => {
      const answer = await fetch(rig.http.address + KEEP_ALIVE, {
        method: 'POST',
        headers: { ...credentials, 'content-type': type },
        body: framed(Buffer.from('{}')),
      });
      expect(answer.status).toBe(505);
      const { message } = (await answer.json()) as { message: string };
      expect(message).toContain('RenewLease');
    },
  );
});
