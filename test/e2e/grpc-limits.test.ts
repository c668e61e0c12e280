import { once } from 'node:events';
import { connect, type ClientHttp2Session } from 'node:http2';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { create, toBinary, toJsonString } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  ListTasksResponseSchema,
  RegisterTaskRequestSchema,
  TaskOrderField,
  TaskService,
} from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { h2Connect, hpackFrames, pour, resetCalls } from '../hostile/h2-frames.js';
import { ManualClock } from '../support/manual-clock.js';
import { framed, rawCall } from '../support/rpc-raw.js';
import { RpcRig, type RigDoor } from '../support/rpc-rig.js';

const LIMIT = 4 * 1024 * 1024;
const REGISTER = '/taskdash.task.v1.TaskService/RegisterTask';
const DOORS: readonly RigDoor[] = ['grpc', 'http', 'web'];

let rig: RpcRig;
let token: string;

beforeAll(async () => {
  rig = await RpcRig.start();
  token = await rig.token();
});
afterAll(() => rig.stop());

/** Every form that a message comes in: how it is sent, and the code that the call ends with. */
const FORMS: Record<string, (message: Uint8Array) => Promise<Code | undefined>> = {
  gRPC: (message) => overGrpc(message),
  'gRPC, packed': (message) => overGrpc(gzipSync(message), 'gzip'),
  Connect: (message) => overHttp('application/proto', message),
  'Connect, packed': (message) => overHttp('application/proto', gzipSync(message), { 'content-encoding': 'gzip' }),
  'gRPC-Web': (message) => overHttp('application/grpc-web+proto', framed(message)),
  JSON: (message) => overHttp('application/json', Buffer.from(jsonOf(message.length))),
};

async function overGrpc(message: Uint8Array, encoding?: string): Promise<Code | undefined> {
  const headers = { authorization: `Bearer ${token}`, ...(encoding && { 'grpc-encoding': encoding }) };
  const { status } = await rawCall(rig.grpc.address, REGISTER, headers, message, encoding !== undefined);
  return Number(status);
}

async function overHttp(type: string, body: Uint8Array, headers: Record<string, string> = {}) {
  const answer = await fetch(rig.http.address + REGISTER, {
    method: 'POST',
    body: new Uint8Array(body),
    headers: { authorization: `Bearer ${token}`, 'content-type': type, ...headers },
  });
  const text = await answer.text();
  const told = /grpc-status: (\d+)/.exec(text)?.[1];
  if (told !== undefined) return Number(told) as Code;
  return { resource_exhausted: Code.ResourceExhausted, invalid_argument: Code.InvalidArgument }[
    (JSON.parse(text) as { code: 'resource_exhausted' | 'invalid_argument' }).code
  ];
}

/** A registration of exactly this size, which no task could have. */
function messageOf(bytes: number): Uint8Array {
  const sized = (length: number) => {
    const task = { id: 'long', groupId: 'mx', description: 'x'.repeat(length) };
    return toBinary(RegisterTaskRequestSchema, create(RegisterTaskRequestSchema, { task }));
  };
  return sized(2 * (bytes - 32) - sized(bytes - 32).length + 32);
}

function jsonOf(bytes: number): string {
  const [before, after] = ['{"task":{"id":"long","description":"', '"}}'];
  return before + 'x'.repeat(bytes - before.length - after.length) + after;
}

describe('a message', () => {
  it.each(Object.keys(FORMS))('of the limit is read, and one of a byte more refused: %s', async (form) => {
    const send = FORMS[form] as (message: Uint8Array) => Promise<Code>;
    expect(messageOf(LIMIT)).toHaveLength(LIMIT);
    expect(await send(messageOf(LIMIT))).toBe(Code.InvalidArgument);
    expect(await send(messageOf(LIMIT + 1))).toBe(Code.ResourceExhausted);
  });

  it('that unpacks to a quarter of a gigabyte is refused, and takes no memory', async () => {
    const zeros = Buffer.alloc(2 ** 28);
    const [gzip, brotli] = [gzipSync(zeros, { level: 1 }), brotliCompressSync(zeros, { params: { 1: 1 } })];
    let peak = 0;
    const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 5);
    const before = process.memoryUsage.rss();
    const codes = [
      await overGrpc(gzip, 'gzip'),
      await overHttp('application/proto', gzip, { 'content-encoding': 'gzip' }),
      await overHttp('application/proto', brotli, { 'content-encoding': 'br' }),
    ];
    clearInterval(watch);
    expect(codes).toEqual([Code.ResourceExhausted, Code.ResourceExhausted, Code.ResourceExhausted]);
    expect(peak - before).toBeLessThan(100 * 1024 * 1024);
  });
});

describe('an answer', () => {
  let small: RpcRig;
  beforeAll(async () => {
    small = await RpcRig.start({ maxMessageBytes: 256 * 1024 });
  });
  afterAll(() => small.stop());

  const long = { groupId: 'long', description: '字'.repeat(8_192), url: '\u0001'.repeat(2_048) };

  it.each(DOORS)('of long records comes in pages that fit into a message, none left out: %s', async (door) => {
    const tasks = small.client(TaskService, door, await small.token('long'));
    for (let n = 0; n < 30; n++) await tasks.registerTask({ task: { ...long, id: `long-${1_000 + n}` } });
    const seen: string[] = [];
    let [pageToken, pages] = ['', 0];
    do {
      const page = await tasks.listTasks({
        ...{ pageSize: 1_000, pageToken, orderBy: TaskOrderField.ID, ascending: true },
      });
      seen.push(...page.tasks.map(({ id }) => id));
      pageToken = page.nextPageToken;
      pages++;
    } while (pageToken !== '');
    expect(seen).toEqual(Array.from({ length: 30 }, (_, n) => `long-${1_000 + n}`));
    expect(pages).toBeGreaterThan(1);
  });

  it.each(DOORS)('ends a page at 1 MiB, also where a message may have more: %s', async (door) => {
    const tasks = rig.client(TaskService, door, await rig.token('long'));
    for (let n = 0; n < 40; n++) await tasks.registerTask({ task: { ...long, id: `long-${1_000 + n}` } });
    const whole = { pageSize: 1_000, orderBy: TaskOrderField.ID, ascending: true };
    const first = await tasks.listTasks(whole);
    const rest = await tasks.listTasks({ ...whole, pageToken: first.nextPageToken });
    expect(Buffer.from(toJsonString(ListTasksResponseSchema, first)).length).toBeLessThan(1024 * 1024);
    expect(first.tasks.length).toBeGreaterThan(20);
    expect([...first.tasks, ...rest.tasks].map(({ id }) => id)).toEqual(
      Array.from({ length: 40 }, (_, n) => `long-${1_000 + n}`),
    );
  });

  it.each(DOORS)('that would not fit keeps its batch from being written: %s', async (door) => {
    const tasks = small.client(TaskService, door, await small.token('batch'));
    const batch = Array.from({ length: 10 }, (_, n) => ({
      ...long,
      url: '',
      groupId: 'batch',
      id: `batch-${door}-${n}`,
    }));
    const refused = ConnectError.from(
      await tasks.batchRegisterTasks({ tasks: batch }).catch((error: unknown) => error),
    );
    expect(refused.rawMessage).toMatch(/^The request is not valid: tasks would be answered with \d+ bytes/);
    await expect(tasks.getTask({ id: `batch-${door}-0` })).rejects.toThrow('not_found');
    const { results } = await tasks.batchRegisterTasks({ tasks: batch.slice(0, 9) });
    expect(results.every(({ outcome }) => outcome.case === 'task')).toBe(true);
  });
});

describe('a connection that floods', () => {
  it('with headers is refused', async () => {
    const headers = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`x-${n}`, 'v']));
    await expect(rawCall(rig.grpc.address, REGISTER, headers)).rejects.toThrow('ENHANCE_YOUR_CALM');
    expect((await rig.client(TaskService, 'grpc', token).listTasks({})).totalSize).toBe(0);
  });
});

describe('headers', () => {
  /** Headers that measure so many bytes, in values of 1,000. */
  const headersOf = (bytes: number) =>
    Object.fromEntries(Array.from({ length: bytes / 1_000 }, (_, n) => [`x-${100 + n}`, 'v'.repeat(1_000 - 32 - 5)]));

  it('of more than 8 KiB are refused, also those that come before the client knows', async () => {
    const session = connect(`http://${rig.grpc.address}`);
    const request = (bytes: number) =>
      new Promise((resolve) => {
        const fixed = { ':method': 'POST', ':path': REGISTER, 'content-type': 'application/grpc' };
        const stream = session.request({ ...fixed, ...headersOf(bytes) });
        stream.on('response', (headers) => resolve(headers['grpc-status']));
        stream.on('error', ({ message }) => resolve(message));
        stream.end(framed(Buffer.alloc(0)));
      });
    const [short, long] = [request(7_000), request(9_000)];
    expect(await long).toContain('ENHANCE_YOUR_CALM');
    expect(await short).toBe(String(Code.Unauthenticated));
    expect(session.remoteSettings.maxHeaderListSize).toBe(8_192);
    expect(await request(7_000)).toBe(String(Code.Unauthenticated));
    expect(await request(9_000)).toContain('ENHANCE_YOUR_CALM');
    session.close();
  });

  it('of calls whose message does not come count as what they take, and the oldest calls of an address have to go', async () => {
    const clock = new ManualClock();
    const own = await RpcRig.start({ clock });
    const sessions = Array.from({ length: 24 }, () => connect(`http://${own.grpc.address}`));
    let refused = 0;
    for (const session of sessions) {
      session.on('error', () => {});
      await once(session, 'remoteSettings');
      for (let n = 0; n < 128; n++) {
        const fixed = { ':method': 'POST', ':path': REGISTER, 'content-type': 'application/grpc' };
        const stream = session.request({ ...fixed, ...headersOf(7_000) });
        stream.on('error', () => {});
        stream.on('response', (headers) => {
          if (/^The%20address%20127\.0\.0\.1%20had%20more/.test(String(headers['grpc-message']))) refused++;
        });
      }
    }
    // 9 KiB and twice its headers are kept for each.
    await expect.poll(() => refused, { timeout: 10_000 }).toBeGreaterThan(24 * 128 - 67_108_864 / (9_216 + 14_000));
    expect(own.arrivals.bytes).toBeLessThanOrEqual(64 * 1024 * 1024);
    for (const session of sessions) session.destroy();
    await expect.poll(() => own.arrivals.bytes).toBe(0);
    const stopped = own.stop();
    clock.advance(2_000);
    await stopped;
  });
});

describe('a connection too many', () => {
  it('is closed at once, and there is room again when one goes', async () => {
    const few = await RpcRig.start({ maxConnections: 1 });
    const call = () =>
      rawCall(few.grpc.address, REGISTER, {}).then(
        ({ status }) => status ?? 'none',
        () => 'none',
      );
    const first = connect(`http://${few.grpc.address}`);
    await once(first, 'remoteSettings');
    expect(await call()).toBe('none');
    first.close();
    await once(first, 'close');
    await expect.poll(call).toBe(String(Code.Unauthenticated));
    await few.stop();
  });
});

describe('messages that never end', () => {
  /** A client that queues as much as it likes. */
  const CLIENT = { maxSessionMemory: 1_000 };
  const head = Buffer.from('0000400000', 'hex');
  const most = Buffer.alloc(3_800_000, 1);

  /** Begins a message of 4 MiB, and tells how its call ended. */
  function begin(session: ClientHttp2Session, authorization = `Bearer ${token}`): Promise<string> {
    const stream = session.request({
      ...{ ':method': 'POST', ':path': REGISTER, 'content-type': 'application/grpc', authorization },
    });
    stream.on('error', () => {});
    stream.write(head);
    stream.write(most);
    return new Promise((resolve) => {
      stream.on('response', (headers) =>
        resolve(`${String(headers['grpc-status'])} ${String(headers['grpc-message'])}`),
      );
      stream.on('close', () => resolve('closed'));
    });
  }

  it('may have so many bytes over one connection: the oldest has to go', async () => {
    const session = connect(`http://${rig.grpc.address}`, CLIENT);
    session.on('error', () => {});
    const ended: string[] = [];
    for (let n = 0; n < 20; n++) void begin(session).then((how) => ended.push(how));
    await expect.poll(() => ended.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(10);
    expect(ended[0]).toMatch(/^8 This%20connection%20had%20more%20than%2016777216%20bytes.*send%20fewer/);
    expect(rig.arrivals.bytes).toBeLessThanOrEqual(16 * 1024 * 1024);
    expect((await rig.client(TaskService, 'grpc', token).listTasks({})).totalSize).toBe(0);
    session.destroy();
    await expect.poll(() => rig.arrivals.bytes).toBe(0);
  });

  it('of strangers are refused by their first bytes', async () => {
    const session = connect(`http://${rig.grpc.address}`, CLIENT);
    expect(await begin(session, 'Bearer tdt_nobody')).toMatch(/^16 /);
    expect(rig.arrivals.bytes).toBeLessThan(64 * 1024);
    session.destroy();
  });

  it('have 30 s, also where not a byte comes or where the call is answered', async () => {
    const clock = new ManualClock();
    const own = await RpcRig.start({ clock });
    const session = connect(`http://${own.grpc.address}`);
    session.on('error', () => {});
    const open = (content?: Buffer) => {
      const stream = session.request({ ':method': 'POST', ':path': REGISTER, 'content-type': 'application/grpc' });
      stream.on('error', () => {});
      if (content) stream.write(content);
      let status: unknown;
      stream.on('response', (headers) => (status = headers['grpc-status']));
      const closed = new Promise((resolve) => stream.on('close', resolve));
      return { status: () => status, closed };
    };
    const streams = [open(), open(Buffer.from('00000000ff01', 'hex')), open(framed(Buffer.alloc(0)))];
    await expect.poll(() => own.arrivals.count).toBe(3);
    clock.advance(31_000);
    await expect.poll(() => streams.map(({ status }) => status())).toEqual(['4', '4', '4']);
    // The client does not end its side.
    clock.advance(31_000);
    await Promise.all(streams.map(({ closed }) => closed));
    expect(own.arrivals.count).toBe(0);
    session.destroy();
    const stopped = own.stop();
    clock.advance(2_000);
    await stopped;
  });

  it('count until they are answered where they are long', async () => {
    const release = rig.holdReads();
    const session = connect(`http://${rig.grpc.address}`, CLIENT);
    session.on('error', () => {});
    const path = '/taskdash.task.v1.TaskService/ListTasks';
    const stream = session.request({
      ...{ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', authorization: `Bearer ${token}` },
    });
    stream.on('error', () => {});
    // A field that nobody knows, of 60,000 bytes.
    stream.end(framed(Buffer.concat([Buffer.from('c23ee0d403', 'hex'), Buffer.alloc(60_000, 'x')])));
    const { heldReads } = rig;
    await expect.poll(() => rig.heldReads).toBe(heldReads + 1);
    expect(rig.arrivals.bytes).toBeGreaterThan(60_000);
    expect(rig.arrivals.count).toBe(0);
    release();
    await expect.poll(() => rig.arrivals.bytes).toBe(0);
    session.destroy();
  });

  it('keep no more memory than they have bytes, in however small pieces they come', async () => {
    const session = connect(`http://${rig.grpc.address}`, CLIENT);
    session.on('error', () => {});
    const stream = session.request({
      ...{ ':method': 'POST', ':path': REGISTER, 'content-type': 'application/grpc', authorization: `Bearer ${token}` },
    });
    stream.on('error', () => {});
    stream.write(head);
    for (let n = 0; n < 20_000; n++) stream.write('x');
    await expect.poll(() => rig.arrivals.bytes).toBeGreaterThan(20_000);
    expect(rig.arrivals.bytes).toBeLessThan(64 * 1024);
    session.destroy();
  });
});

describe('answers that nobody takes', () => {
  const LIST = '/taskdash.task.v1.TaskService/ListTasks';

  it('are kept for 30 s, and of one connection as many as there is room for', async () => {
    const clock = new ManualClock();
    const own = await RpcRig.start({ clock });
    const authorization = `Bearer ${await own.token()}`;
    const tasks = own.client(TaskService, 'grpc', authorization.slice(7));
    const description = '字'.repeat(8_192);
    for (let n = 0; n < 40; n++) await tasks.registerTask({ task: { id: `${n}`, groupId: 'mx', description } });
    const answer = 40 * 3 * 8_192;
    const session = connect(`http://${own.grpc.address}`, { settings: { initialWindowSize: 0 } });
    session.on('error', () => {});
    const [ended, refused]: [number[], string[]] = [[], []];
    const ask = (path: string, message: Buffer) => {
      const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', authorization };
      const stream = session.request(headers);
      stream.on('error', () => {});
      stream.on('response', (response) => {
        if ('grpc-status' in response) refused.push(String(response['grpc-message']));
      });
      stream.on('close', () => ended.push(stream.rstCode));
      stream.end(framed(message));
    };
    // A page of 40.
    for (let n = 0; n < 40; n++) ask(LIST, Buffer.from('2028', 'hex'));
    const lists = () => own.reports.filter(({ method }) => method === 'ListTasks');
    await expect.poll(lists, { timeout: 20_000 }).toHaveLength(40);
    // Those for which there is no room are refused before they are read, and none that was made has to go.
    await expect.poll(() => ended.length).toBeGreaterThanOrEqual(40 - 16_777_216 / answer);
    expect(own.heldReads).toBe(40 - ended.length);
    expect(refused).toHaveLength(ended.length);
    expect(own.unsent.bytes).toBeLessThanOrEqual(16 * 1024 * 1024);
    expect(own.unsent.bytes).toBeGreaterThan(8 * 1024 * 1024);
    // So are others of the connection; those of other connections go on.
    refused.length = 0;
    for (let n = 0; n < 3; n++) ask(LIST, Buffer.from('2028', 'hex'));
    // There may be room for one.
    await expect.poll(() => refused.length).toBeGreaterThanOrEqual(2);
    expect(refused.every((why) => /^This%20connection%20has%20some.*read%20them/.test(why))).toBe(true);
    expect((await tasks.listTasks({ pageSize: 40 })).tasks).toHaveLength(40);
    clock.advance(31_000);
    await expect.poll(() => own.unsent.bytes).toBe(0);
    await expect.poll(() => ended).toHaveLength(43);
    session.destroy();
    const stopped = own.stop();
    clock.advance(2_000);
    await stopped;
  });
});

describe('watches', () => {
  let own: RpcRig;
  beforeAll(async () => {
    own = await RpcRig.start();
  });
  afterAll(() => own.stop());

  /** Opens watches; tells how many are open, and what the others are refused with. */
  async function watchOften(group: string, times: number, door: RigDoor = 'grpc') {
    const tasks = own.client(TaskService, door, await own.token(group));
    const cut = new AbortController();
    const [refused, opened]: [string[], number[]] = [[], []];
    const watches = Array.from({ length: times }, async (_, n) => {
      try {
        for await (const _message of tasks.watchTasks({}, { signal: cut.signal })) opened.push(n);
      } catch (error) {
        const { code, rawMessage } = ConnectError.from(error);
        if (code !== Code.Canceled) refused.push(`${Code[code]}: ${rawMessage}`);
      }
    });
    const end = () => {
      cut.abort();
      return Promise.all(watches);
    };
    return { refused, opened, end };
  }

  it('are 64 of one token at most, on all doors together, and the others have theirs', async () => {
    const grpc = await watchOften('a', 40);
    await expect.poll(() => grpc.opened, { timeout: 10_000 }).toHaveLength(40);
    const http = await watchOften('a', 30, 'http');
    await expect.poll(() => http.opened.length + http.refused.length, { timeout: 10_000 }).toBe(30);
    expect(http.refused).toEqual(
      Array<string>(6).fill(
        'ResourceExhausted: token:a-register-read@a has 64 open watches, as many as it may; end some first.',
      ),
    );
    const other = await watchOften('b', 1);
    await expect.poll(() => other.opened, { timeout: 10_000 }).toHaveLength(1);
    await Promise.all([grpc.end(), http.end(), other.end()]);
    const again = await watchOften('a', 64);
    await expect.poll(() => again.opened, { timeout: 10_000 }).toHaveLength(64);
    await again.end();
  });

  it('are 512 from one address at most, whoever has them', async () => {
    await expect.poll(() => own.openStreams).toBe(0);
    const all: Awaited<ReturnType<typeof watchOften>>[] = [];
    for (let n = 0; n < 9; n++) all.push(await watchOften(`group-${n}`, 60));
    const refused = () => all.flatMap((some) => some.refused);
    await expect
      .poll(() => refused().length + all.flatMap(({ opened }) => opened).length, { timeout: 10_000 })
      .toBe(540);
    expect(new Set(refused())).toEqual(
      new Set(['ResourceExhausted: The address 127.0.0.1 has 512 open watches, as many as it may; end some first.']),
    );
    expect(refused()).toHaveLength(28);
    for (const some of all) await some.end();
  });
});

describe('a connection that sends much and calls little', () => {
  it.each([
    ['headers that unpack to very much', hpackFrames],
    ['calls that it resets at once', resetCalls],
  ])('in %s is closed, and its address waits ten seconds', async (_name, frames) => {
    const clock = new ManualClock();
    const own = await RpcRig.start({ clock });
    const call = () =>
      rawCall(own.grpc.address, REGISTER, {}).then(
        ({ status }) => status ?? 'none',
        () => 'none',
      );
    expect(await call()).toBe(String(Code.Unauthenticated));
    const flood = h2Connect(own.grpc.address);
    const closed = new Promise((resolve) => flood.once('close', resolve));
    void pour(flood, () => !flood.destroyed, frames());
    const ticking = setInterval(() => clock.advance(100), 100);
    await closed;
    clearInterval(ticking);
    expect(await call()).toBe('none');
    clock.advance(10_000);
    expect(await call()).toBe(String(Code.Unauthenticated));
    const stopped = own.stop();
    clock.advance(2_000);
    await stopped;
  });

  it('is not one that begins a thousand calls at once', async () => {
    const client = rig.client(TaskService, 'grpc', token);
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => client.listTasks({})));
    expect(answers.every(({ totalSize }) => totalSize === 0)).toBe(true);
  });

  it('in streams that are refused is closed, too', async () => {
    const session = connect(`http://${rig.grpc.address}`);
    session.on('error', () => {});
    const closed = new Promise((resolve) => session.once('close', resolve));
    for (let n = 0; n < 120; n++) {
      const stream = session.request({
        ...{ ':method': 'POST', ':path': '/grpc.health.v1.Health/Watch', 'content-type': 'application/grpc' },
      });
      stream.on('error', () => {});
      stream.end(framed(Buffer.alloc(0)));
    }
    await closed;
    expect((await rig.client(TaskService, 'grpc', token).listTasks({})).totalSize).toBe(0);
  });
});
