/** What callers over HTTP are told of their own faults, and that they are told something whatever fails. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { systemClock } from '../../server/domain/clock.js';
import { HttpServer } from '../../server/transports/connect-server.js';
import { Readiness } from '../../server/transports/readiness.js';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { KeptLog } from '../support/liveness-bench.js';
import { framed } from '../support/rpc-raw.js';
import { RpcRig } from '../support/rpc-rig.js';

const TASKS = '/taskdash.task.v1.TaskService';
const LOGIN = '/taskdash.auth.v1.AuthService/Login';
const json = { 'content-type': 'application/json' };

let log: KeptLog;
let rig: RpcRig;
let token: string;

beforeEach(async () => {
  log = new KeptLog();
  rig = await RpcRig.start({ log });
  token = await rig.token();
});
afterEach(() => rig.stop());

const failures = () => log.lines.filter(({ level }) => level === 'error');

function call(method: string, body: string | Buffer, headers: Record<string, string>): Promise<Response> {
  const all = { authorization: `Bearer ${token}`, ...headers };
  return fetch(`${rig.http.address}${TASKS}/${method}`, { method: 'POST', headers: all, body });
}

describe('an error that quotes what was sent', () => {
  const revision = '9'.repeat(70_000);

  it.each(['identity', 'gzip', 'br'])('is short, to who takes %s', async (encoding) => {
    const body = JSON.stringify({ tasks: [{ id: 'a', revision }] });
    const answer = await call('BatchRegisterTasks', body, { ...json, 'accept-encoding': encoding });
    expect(answer.status).toBe(400);
    const text = await answer.text();
    expect(text).toContain('invalid_argument');
    expect(text.length).toBeLessThan(2_000);
  });

  it.each(['identity', 'gzip'])('is short at the end of a stream too, to who takes %s', async (encoding) => {
    const body = framed(Buffer.from(JSON.stringify({ filter: { statuses: [[revision]] }, resumeToken: [revision] })));
    const headers = { 'content-type': 'application/connect+json', 'connect-accept-encoding': encoding };
    const answer = Buffer.from(await (await call('WatchTasks', body, headers)).arrayBuffer());
    const content = answer.subarray(5);
    const told = ((answer[0] ?? 0) & 1) === 1 ? gunzipSync(content) : content;
    expect(told.toString()).toContain('invalid_argument');
    expect(told.toString()).toContain('google.rpc.ErrorInfo');
    expect(told.length).toBeLessThan(2_000);
  });
});

describe('an answer that cannot be written', () => {
  it('is told as our own fault, and logged', async () => {
    const login = (_request: unknown, context: HandlerContext) => {
      context.responseHeader.set('x-odd', 'a\u0001b');
      return {};
    };
    const door = new HttpServer({
      services: [{ service: AuthService, implementation: { login } as unknown as ServiceImpl<typeof AuthService> }],
      auth: { authenticate: () => Promise.resolve(undefined) },
      ...{ pageFolder: '/nowhere', clock: systemClock, log, limits: { maxMessageBytes: 65_536 } },
      arrivals: rig.arrivals,
      unsent: rig.unsent,
      turns: new ReadingTurns(systemClock),
      readiness: new Readiness({ check: () => Promise.resolve() }, systemClock),
      metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
    });
    await door.start({ host: '127.0.0.1', port: 0 });
    const answer = await fetch(door.address + LOGIN, { method: 'POST', headers: json, body: '{}' });
    expect(answer.status).toBe(500);
    expect(await answer.json()).toMatchObject({ code: 'internal' });
    expect(failures()).toHaveLength(1);
    await door.stop(100);
  });
});

describe('a caller who leaves in the middle of a body', () => {
  it.each([
    ['a login', LOGIN, 'application/json', '{"us'],
    ['a list', `${TASKS}/ListTasks`, 'application/proto', 'x'],
    ['a watch', `${TASKS}/WatchTasks`, 'application/connect+json', '\0\0\0\0\u0002{'],
    ['a list over gRPC-Web', `${TASKS}/ListTasks`, 'application/grpc-web+proto', '\0\0\0\0\u0002{'],
  ])('is no fault of ours: %s', async (_what, path, type, begun) => {
    const { hostname, port } = new URL(rig.http.address);
    const socket = connect(Number(port), hostname);
    socket.write(
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nContent-Length: 100\r\n\r\n${begun}`,
    );
    await expect.poll(() => rig.arrivals.count).toBe(1);
    socket.destroy();
    await once(socket, 'close');
    await expect.poll(() => rig.arrivals.count).toBe(0);
    await expect.poll(() => log.lines.filter(({ level }) => level === 'debug').length).toBeGreaterThan(0);
    expect(failures()).toEqual([]);
  });
});

describe('a message of a stream with flags that it cannot have', () => {
  it.each([
    ['application/connect+json', 7],
    ['application/connect+json', 1],
    ['application/connect+json', 2],
    ['application/connect+json', 128],
    ['application/grpc-web+json', 1],
    ['application/grpc-web+json', 128],
  ])("is the caller's fault: %s, %d", async (type, flags) => {
    const body = framed(Buffer.from('{}'));
    body[0] = flags;
    const answer = await call('WatchTasks', body, { 'content-type': type });
    expect(await answer.text()).toMatch(/invalid_argument|grpc-status: 3/);
    expect(failures()).toEqual([]);
  });
});

describe('a message in the address', () => {
  const base64 = (hex: string) => Buffer.from(hex, 'hex').toString('base64url');
  const packed = (text: string) => gzipSync(text).toString('base64url');

  async function get(method: string, query: string): Promise<{ status: number; body: Record<string, unknown> }> {
    const { hostname, port } = new URL(rig.http.address);
    const socket = connect(Number(port), hostname);
    const head = `GET ${method}?connect=v1&${query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`;
    socket.write(`${head}Authorization: Bearer ${token}\r\n\r\n`);
    const answer = await text(socket);
    const status = Number(/^HTTP\/1.1 (\d+)/.exec(answer)?.[1]);
    return { status, body: JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)) as Record<string, unknown> };
  }

  it.each([
    ['a group that does not end', 'encoding=proto&base64=1&message=Cw', 'is not a message of this method'],
    ['a text that is no UTF-8', `encoding=proto&base64=1&message=${base64('2a02fffe')}`, 'not UTF-8'],
    ['no base64', 'encoding=proto&base64=1&message=%%%25zz', 'not base64'],
    ['JSON that is no UTF-8', 'encoding=json&message=%7B%22pageToken%22%3A%22%ff%fe%22%7D', 'not UTF-8'],
    ['a name that is escaped, too', 'encoding=json&%6dessage=%22%ff%22', 'not UTF-8'],
    ['JSON that is nested', `encoding=json&message=${'['.repeat(100)}`, 'nested'],
    [
      'much that is packed',
      `encoding=json&base64=1&compression=gzip&message=${packed(' '.repeat(20_000))}`,
      'unpacks to',
    ],
    ['what is not packed', 'encoding=json&base64=1&compression=gzip&message=AAAA', 'not packed as it says'],
    ['a packing that is not known', 'encoding=json&base64=1&compression=zstd&message=AAAA', 'unknown compression'],
  ])('is judged as a body is: %s', async (_what, query, words) => {
    const { status, body } = await get(`${TASKS}/ListTasks`, query);
    expect(body['message']).toContain(words);
    expect([400, 429, 501]).toContain(status);
    expect(failures()).toEqual([]);
  });

  it.each([
    ['JSON', `encoding=json&message=${encodeURIComponent('{"filter":{"text":"ä b+c%"}}')}`],
    [
      'JSON in base64',
      `encoding=json&base64=1&message=${Buffer.from('{"filter":{"text":"ä"}}').toString('base64url')}`,
    ],
    ['packed JSON', `encoding=json&base64=1&compression=gzip&message=${packed('{"pageSize":1}')}`],
    ['nothing', 'encoding=json&message={}'],
  ])('works: %s', async (_form, query) => {
    const { status } = await get(`${TASKS}/ListTasks`, query);
    expect(status).toBe(200);
  });
});
