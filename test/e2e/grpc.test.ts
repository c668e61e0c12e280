import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { create, toBinary } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import { BadRequestSchema, ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { Health, HealthCheckResponse_ServingStatus as Status } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService, UpdateTaskRequestSchema } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { findGrpcPython } from '../support/grpc-python.js';
import { rawCall } from '../support/rpc-raw.js';

const run = promisify(execFile);
const BUF = 'node_modules/.bin/buf';

let app: TestApp;
let token: string;

beforeAll(async () => {
  app = await startTestApp({ settings: { TASKDASH_RPC_MAX_MESSAGE_BYTES: '65536' } });
  token = await app.addToken('mx');
});
afterAll(() => app.stop());

const errorOf = (call: Promise<unknown>): Promise<ConnectError> =>
  call.then(
    () => Promise.reject(new Error('the call went well')),
    (error: unknown) => ConnectError.from(error),
  );

describe('errors', () => {
  it('are the same on gRPC and Connect, details included', async () => {
    const task = { id: 'x'.repeat(200), groupId: 'mx', startTime: 'y'.repeat(65), name: 'a\0' };
    const [grpc, http] = await Promise.all(
      (['grpc', 'http'] as const).map((door) => errorOf(app.client(TaskService, door, token).registerTask({ task }))),
    );
    expect(grpc?.code).toBe(http?.code);
    expect(grpc?.rawMessage).toBe(http?.rawMessage);
    expect(grpc?.findDetails(ErrorInfoSchema)).toEqual(http?.findDetails(ErrorInfoSchema));
    expect(grpc?.findDetails(BadRequestSchema)).toEqual(http?.findDetails(BadRequestSchema));
    const fields = grpc?.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field);
    expect(fields).toEqual(['task.name', 'task.start_time']);
  });

  it('tell of an etag that is no longer the latest', async () => {
    const tasks = app.client(TaskService, 'grpc', token);
    const { task } = await tasks.registerTask({ task: { id: 'etag', groupId: 'mx' } });
    await tasks.updateTask({ task: { id: 'etag', name: 'first', etag: task?.etag ?? '' } });
    const error = await errorOf(tasks.updateTask({ task: { id: 'etag', name: 'second', etag: task?.etag ?? '' } }));
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe('TASK_CHANGED');
    expect((await tasks.getTask({ id: 'etag' })).task?.name).toBe('first');
  });

  it('name the paths of a mask that cannot be updated', async () => {
    const error = await errorOf(
      app
        .client(TaskService, 'grpc', token)
        .updateTask({ task: { id: 'mask' }, updateMask: { paths: ['name', 'addr'] } }),
    );
    expect(error.rawMessage).toContain('update_mask names "addr"');
  });

  it('fit into the headers that clients of gRPC take, however much of the caller’s text they tell', async () => {
    const paths = Array.from({ length: 8 }, (_, n) => `${n}${'任'.repeat(100)}`);
    const update = toBinary(UpdateTaskRequestSchema, create(UpdateTaskRequestSchema, { updateMask: { paths } }));
    const headers = { authorization: `Bearer ${token}` };
    const answer = await rawCall(app.grpc, '/taskdash.task.v1.TaskService/UpdateTask', headers, update);
    expect(answer.status).toBe('3');
    const fields = Object.entries(answer.headers).map(([name, value]) => name.length + String(value).length + 32);
    expect(fields.reduce((sum, bytes) => sum + bytes)).toBeLessThan(8_192 - 1_024);
    expect(decodeURI(String(answer.headers['grpc-message']))).toMatch(
      /^The request is not valid: update_mask names "0任/,
    );
  });

  it('refuse a message over the limit, and bytes that are no message', async () => {
    const tasks = app.client(TaskService, 'grpc', token);
    const error = await errorOf(tasks.registerTask({ task: { id: 'big', description: 'x'.repeat(70_000) } }));
    expect(error.message).toContain('resource_exhausted');
    const answer = await rawCall(app.grpc, '/taskdash.task.v1.TaskService/GetTask', {}, Buffer.from([0xff, 0xff]));
    expect(answer.status).toBe('3');
  });
});

describe('an update with a mask', () => {
  it('may empty the fields that it names, and touches no others', async () => {
    const tasks = app.client(TaskService, 'grpc', token);
    await tasks.registerTask({ task: { id: 'mask', groupId: 'mx', name: 'n', description: 'd', url: 'u' } });
    const { task } = await tasks.updateTask({
      task: { id: 'mask', url: 'v' },
      updateMask: { paths: ['description', 'url'] },
    });
    expect(task).toMatchObject({
      name: 'n',
      description: '',
      url: 'v',
      groupId: 'mx',
      status: 'running',
      revision: 2n,
    });
  });
});

describe('a deadline', () => {
  it('ends a watch, and the watch is gone from the server', async () => {
    const watching = async () => {
      for await (const _ of app.client(TaskService, 'grpc', token).watchTasks({}, { timeoutMs: 300 }));
    };
    await expect(watching()).rejects.toThrow('deadline_exceeded');
    await expect.poll(async () => (await fetch(`${app.http}/metrics`)).text()).toMatch(/^taskdash_watchers 0$/m);
  });
});

describe('a lease', () => {
  it('keeps its tasks alive by beats on a stream, each answered with the time of the next', async () => {
    const leases = app.client(LeaseService, 'grpc', token);
    const { lease } = await leases.grantLease({ ttl: { seconds: 5n, nanos: 0 } });
    const leaseId = lease?.id ?? '';
    const { task } = await app
      .client(TaskService, 'grpc', token)
      .registerTask({ task: { id: 'leased', groupId: 'mx' }, leaseId });
    expect(task?.connected).toBe(true);
    // eslint-disable-next-line @typescript-eslint/require-await -- the type of a request stream
    const beats = async function* () {
      for (let n = 0; n < 3; n++) yield { leaseId };
    };
    const answers = [];
    for await (const answer of leases.keepAlive(beats())) answers.push(answer.lease?.id);
    expect(answers).toEqual([leaseId, leaseId, leaseId]);
    expect((await leases.revokeLease({ leaseId })).shutdownTasks).toBe(1);
    const { task: after } = await app.client(TaskService, 'grpc', token).getTask({ id: 'leased' });
    expect(after).toMatchObject({ status: 'shutdown', connected: false });
  });
});

describe('the ttl of a lease', () => {
  it.each([
    [{ seconds: 0n, nanos: 0 }, '0'],
    [{ seconds: -1n, nanos: 0 }, '-1'],
    [{ seconds: 4n, nanos: 999_000_000 }, '4.999'],
    [{ seconds: 315_576_000_000n, nanos: 0 }, '315576000000'],
  ])('%o is refused with what was asked for', async (ttl, told) => {
    await expect(app.client(LeaseService, 'grpc', token).grantLease({ ttl })).rejects.toThrow(
      `ttl must be 5 to 600 seconds, is ${told}.`,
    );
  });
});

describe('health', () => {
  it('answers for the server, for each service, and for none that does not exist', async () => {
    const health = app.client(Health, 'grpc');
    expect((await health.check({})).status).toBe(Status.SERVING);
    expect((await health.check({ service: TaskService.typeName })).status).toBe(Status.SERVING);
    expect((await errorOf(health.check({ service: 'none' }))).message).toContain('not_found');
    for await (const { status } of health.watch({ service: 'none' })) {
      expect(status).toBe(Status.SERVICE_UNKNOWN);
      break;
    }
  });
});

describe('other implementations', () => {
  it('list and call through reflection: buf curl', async () => {
    const base = ['curl', '--http2-prior-knowledge', '--protocol', 'grpc'];
    const listed = await run(BUF, [...base, `http://${app.grpc}`, '--list-methods']);
    expect(listed.stdout).toContain('taskdash.task.v1.TaskService/RegisterTask');
    const call = [
      '-H',
      `authorization: Bearer ${token}`,
      '-d',
      '{"task": {"id": "from-buf", "group_id": "mx", "name": "curl"}}',
    ];
    const answer = await run(BUF, [...base, ...call, `http://${app.grpc}/taskdash.task.v1.TaskService/RegisterTask`]);
    expect(JSON.parse(answer.stdout)).toMatchObject({
      task: { id: 'from-buf', name: 'curl', effectiveStatus: 'TASK_STATUS_RUNNING' },
    });
  });

  it('register, list, watch and get the same errors: grpcio of Python', { timeout: 180_000 }, async () => {
    const python = await findGrpcPython();
    const { stdout } = await run(python, ['test/support/grpc_client.py', app.grpc, token], { timeout: 60_000 });
    expect(JSON.parse(stdout)).toEqual({
      registered: { id: 'from-python', status: 'running', name: '蟒蛇' },
      listed: ['from-python'],
      watched: ['snapshot', 'change:from-python:finish'],
      missing: { code: 'NOT_FOUND', reason: 'TASK_NOT_FOUND', message: 'There is no task with the id "nowhere".' },
      invalid: { code: 'INVALID_ARGUMENT', reason: 'TASK_INVALID', fields: ['task.status'] },
      anonymous: { code: 'UNAUTHENTICATED', reason: 'NOT_LOGGED_IN' },
    });
  });
});
