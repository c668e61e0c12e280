/** Every way out of the gRPC and HTTP doors that is an error: each has a code of the catalogue, and what is our fault is logged. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { Code, ConnectError } from '@connectrpc/connect';
import { errorFromJsonBytes } from '@connectrpc/connect/protocol-connect';
import { findTrailerError } from '@connectrpc/connect/protocol-grpc';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { Log } from '../../server/domain/ports.js';
import { MAX_ELEMENTS } from '../../server/transports/rpc/limits.js';
import { framed, rawCall } from '../support/rpc-raw.js';
import { RpcRig } from '../support/rpc-rig.js';

type Form = 'gRPC' | 'Connect' | 'JSON';
const FORMS: readonly Form[] = ['gRPC', 'Connect', 'JSON'];
const TASKS = '/taskdash.task.v1.TaskService';
const MAX_BYTES = 262_144;

let rig: RpcRig;
let token: string;
let logged: { level: string; line: string }[];

beforeEach(async () => {
  logged = [];
  const note = (level: string) => (details: object, message: string) => {
    const { err } = details as { err?: { message?: string; cause?: unknown } };
    logged.push({ level, line: `${message}: ${err?.message} ${String(err?.cause)}` });
  };
  const log: Log = { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') };
  rig = await RpcRig.start({ log, maxMessageBytes: MAX_BYTES });
  token = await rig.token();
});
afterEach(() => rig.stop());

/** What is sent, where it differs from a well-formed call. */
interface Sent {
  readonly method?: string;
  readonly body?: Readonly<Record<Form, Buffer | string>>;
  readonly headers?: Readonly<Record<Form, Record<string, string>>>;
  readonly isPacked?: boolean;
  readonly isStranger?: boolean;
}

async function errorOf(form: Form, sent: Sent = {}): Promise<ConnectError | undefined> {
  const { method = 'ListTasks', isStranger = false, isPacked = false } = sent;
  const body = Buffer.from(sent.body?.[form] ?? (form === 'JSON' ? '{}' : ''));
  const headers = { ...(!isStranger && { authorization: `Bearer ${token}` }), ...sent.headers?.[form] };
  const path = method.startsWith('/') ? method : `${TASKS}/${method}`;
  if (form === 'gRPC') {
    const answer = await rawCall(rig.grpc.address, path, headers, body, isPacked);
    return findTrailerError(
      new Headers(Object.entries(answer.headers).filter(([name]) => !name.startsWith(':')) as never),
    );
  }
  const type = form === 'JSON' ? 'application/json' : 'application/proto';
  const answer = await fetch(rig.http.address + path, {
    method: 'POST',
    body,
    headers: { 'content-type': type, ...headers },
  });
  if (answer.ok) return undefined;
  return errorFromJsonBytes(Buffer.from(await answer.arrayBuffer()), undefined, new ConnectError('unreadable'));
}

function reasonOf(error: unknown): string | undefined {
  return error instanceof ConnectError ? error.findDetails(ErrorInfoSchema)[0]?.reason : undefined;
}

const forAll = <T>(value: T): Record<Form, T> => ({ gRPC: value, Connect: value, JSON: value });
const timeout = (grpc: string, http: string) => ({
  gRPC: { 'grpc-timeout': grpc },
  Connect: { 'connect-timeout-ms': http },
  JSON: { 'connect-timeout-ms': http },
});
const packing = (name: string) => ({
  gRPC: { 'grpc-encoding': name },
  Connect: { 'content-encoding': name },
  JSON: { 'content-encoding': name },
});
const elements = MAX_ELEMENTS + 1;

/** What callers do wrong, and the code that they get. */
const CALLERS_FAULTS: readonly [what: string, sent: Sent, code: Code, reason: string][] = [
  ['a request that is no message', { body: forAll('\u0001\u0002{nonsense') }, Code.InvalidArgument, 'REQUEST_INVALID'],
  [
    'a field of another type',
    {
      body: {
        gRPC: Buffer.from('0a0108', 'hex'),
        Connect: Buffer.from('0a0108', 'hex'),
        JSON: '{"filter":{"text":7}}',
      },
    },
    Code.InvalidArgument,
    'REQUEST_INVALID',
  ],
  ['a time-out of more than a day', { headers: timeout('25H', '90000000') }, Code.InvalidArgument, 'REQUEST_INVALID'],
  ['a time-out that is none', { headers: timeout('soon', 'soon') }, Code.InvalidArgument, 'REQUEST_INVALID'],
  [
    'more elements than a message may have',
    {
      method: 'BatchRegisterTasks',
      body: {
        gRPC: Buffer.alloc(2 * elements, Buffer.from('0a00', 'hex')),
        Connect: Buffer.alloc(2 * elements, Buffer.from('0a00', 'hex')),
        JSON: `{"tasks":[${'{},'.repeat(elements)}{}]}`,
      },
    },
    Code.InvalidArgument,
    'REQUEST_INVALID',
  ],
  [
    'a large request of a stranger',
    { body: forAll(Buffer.alloc(60_000)), isStranger: true },
    Code.Unauthenticated,
    'NOT_LOGGED_IN',
  ],
  ['no credentials', { isStranger: true }, Code.Unauthenticated, 'NOT_LOGGED_IN'],
  [
    'a request beyond the limit',
    { body: forAll(Buffer.alloc(MAX_BYTES + 1)) },
    Code.ResourceExhausted,
    'MESSAGE_TOO_LARGE',
  ],
  [
    'a packing that is not known',
    { body: forAll('xx'), headers: packing('snappy'), isPacked: true },
    Code.Unimplemented,
    'NOT_SUPPORTED',
  ],
  [
    'bytes that are not packed as they say',
    { body: forAll('xx'), headers: packing('gzip'), isPacked: true },
    Code.InvalidArgument,
    'REQUEST_INVALID',
  ],
];

describe.each(FORMS)('over %s', (form) => {
  it.each(CALLERS_FAULTS)('%s is told with its code', async (_what, sent, code, reason) => {
    const error = await errorOf(form, sent);
    expect([error?.code, reasonOf(error)]).toEqual([code, reason]);
    expect(error?.findDetails(ErrorInfoSchema)[0]?.metadata['hint']).toMatch(/\.$/);
    expect(logged.filter(({ level }) => level !== 'debug')).toEqual([]);
  });

  it('a deadline that passes is told with its code', async () => {
    const release = rig.holdReads();
    const error = await errorOf(form, { headers: timeout('50m', '50') });
    expect([error?.code, reasonOf(error)]).toEqual([Code.DeadlineExceeded, 'DEADLINE_EXCEEDED']);
    release();
  });

  const SECRET = 'password=hunter2';
  it.each<[string, () => unknown]>([
    ['a defect', () => (rig.store.stats = () => Promise.reject(new Error(SECRET)))],
    ['a failure of a library', () => (rig.store.stats = () => Promise.reject(new ConnectError(SECRET, Code.Internal)))],
    [
      'a failure without a code',
      () => (rig.store.stats = () => Promise.reject(new ConnectError(SECRET, Code.Unknown))),
    ],
    [
      'an answer that cannot be encoded',
      () => {
        const status = {
          toString: () => {
            throw new Error(SECRET);
          },
        };
        rig.store.stats = () => Promise.resolve({ counts: [{ status: status as never, count: 1 }], groups: [] });
      },
    ],
  ])('%s is INTERNAL: logged with its cause, of which nothing is told', async (_what, breakIt) => {
    breakIt();
    const error = await errorOf(form, { method: 'GetTaskStats' });
    expect([error?.code, reasonOf(error)]).toEqual([Code.Internal, 'INTERNAL']);
    expect(JSON.stringify([error?.rawMessage, error?.details])).not.toContain('hunter2');
    const errors = logged.filter(({ level }) => level === 'error');
    expect(errors).toHaveLength(1);
  });
});

it('over gRPC a method, a service and a message that are not there are told with their codes', async () => {
  for (const [method, reason] of [
    [`${TASKS}/Nothing`, 'NOT_SUPPORTED'],
    ['/nobody.v1.Service/Nothing', 'NOT_SUPPORTED'],
    ['/grpc.health.v1.Health/Check', 'SERVICE_NOT_FOUND'],
  ] as const) {
    const error = await errorOf('gRPC', { method, body: forAll('\n\u0006nobody') });
    expect(reasonOf(error)).toBe(reason);
  }
  const session = connectHttp2(`http://${rig.grpc.address}`);
  const headers = {
    ':method': 'POST',
    ':path': `${TASKS}/ListTasks`,
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  const stream = session.request(headers);
  stream.end();
  const [answer] = (await once(stream, 'response')) as [Record<string, string>];
  expect(
    reasonOf(findTrailerError(new Headers(Object.entries(answer).filter(([name]) => !name.startsWith(':'))))),
  ).toBe('NOT_SUPPORTED');
  session.destroy();
});

it('over HTTP a type of content and a verb that are not taken are told with their codes', async () => {
  const url = `${rig.http.address}${TASKS}/ListTasks`;
  const unreadable = new ConnectError('unreadable');
  for (const request of [
    { method: 'POST', body: 'x', headers: { 'content-type': 'text/plain' } },
    { method: 'PUT', body: '{}', headers: { 'content-type': 'application/json' } },
  ]) {
    const answer = await fetch(url, request);
    expect([405, 415]).toContain(answer.status);
    expect(reasonOf(errorFromJsonBytes(Buffer.from(await answer.arrayBuffer()), undefined, unreadable))).toBe(
      'NOT_SUPPORTED',
    );
  }
});

it.each(['http', 'web'] as const)(
  'a stream over %s that is refused before its handler tells its code',
  async (door) => {
    const stream = rig.client(TaskService, door, token).watchTasks({}, { timeoutMs: 90_000_000 });
    const error = await stream[Symbol.asyncIterator]()
      .next()
      .catch((thrown: unknown) => thrown);
    expect(reasonOf(error)).toBe('REQUEST_INVALID');
  },
);

describe('a watcher who leaves', () => {
  it.each(['grpc', 'http', 'web'] as const)('over %s is no error', async (door) => {
    for (let n = 0; n < 5; n++) {
      const cut = new AbortController();
      const watch = rig.client(TaskService, door, token).watchTasks({}, { signal: cut.signal })[Symbol.asyncIterator]();
      await watch.next();
      await rig.client(TaskService, 'grpc', token).registerTask({ task: { id: `t-${n}`, groupId: 'mx' } });
      cut.abort();
      await rig.client(TaskService, 'grpc', token).registerTask({ task: { id: `u-${n}`, groupId: 'mx' } });
    }
    await expect.poll(() => rig.openStreams).toBe(0);
    expect(logged.filter(({ level }) => level !== 'debug')).toEqual([]);
  });

  it('in the middle of his beats is none either, nor where the connection breaks', async () => {
    const { lease } = await rig.client(LeaseService, 'grpc', token).grantLease({});
    for (const path of [`${TASKS}/WatchTasks`, '/taskdash.task.v1.LeaseService/KeepAlive']) {
      const socket = connect(Number(rig.grpc.address.split(':')[1]), '127.0.0.1');
      const session = connectHttp2(`http://${rig.grpc.address}`, { createConnection: () => socket });
      session.on('error', () => {});
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/grpc', te: 'trailers' };
      const stream = session.request({ ':method': 'POST', ':path': path, ...headers });
      stream.on('error', () => {});
      const beat = `\n${String.fromCharCode(lease?.id.length ?? 0)}${lease?.id}`;
      stream.write(framed(Buffer.from(path.endsWith('KeepAlive') ? beat : '')));
      if (path.endsWith('WatchTasks')) stream.end();
      await once(stream, 'response');
      socket.resetAndDestroy();
    }
    await expect.poll(() => rig.openStreams).toBe(0);
    expect(logged.filter(({ level }) => level !== 'debug')).toEqual([]);
  });
});
