import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { systemClock } from '../../server/domain/clock.js';
import { hashOf } from '../../server/domain/secrets.js';
import { HttpServer, type HttpServerOptions } from '../../server/transports/connect-server.js';
import { Arrivals } from '../../server/transports/rpc/arrivals.js';
import { Unsent } from '../../server/transports/rpc/unsent.js';
import { Readiness } from '../../server/transports/readiness.js';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { KeptLog } from '../support/liveness-bench.js';
import { RIG_PASSWORD, RpcRig } from '../support/rpc-rig.js';

let rig: RpcRig;

beforeAll(async () => {
  rig = await RpcRig.start({ maxMessageBytes: 65_536 });
});
afterAll(() => rig.stop());

const SMALL = {
  limits: { maxMessageBytes: 65_536 },
  arrivals: new Arrivals(systemClock, { maxMessageBytes: 65_536 }),
  unsent: new Unsent(systemClock, { maxMessageBytes: 65_536 }),
  turns: new ReadingTurns(systemClock),
};
const LIST = '/taskdash.task.v1.TaskService/ListTasks';

/** Sends bytes as they are, and returns everything that comes back until the server closes. */
function raw(head: string, body = '', door = rig.http.address): Promise<string> {
  const { hostname, port } = new URL(door);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let answer = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (answer += chunk));
    socket.on('close', () => resolve(answer));
    socket.on('error', reject);
    socket.setTimeout(5_000, () => socket.destroy(new Error('the server did not close the connection')));
    socket.write(`${head}\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  });
}

/** The code and the sentence of an error as Connect writes it. */
async function refusal(path: string, init: RequestInit): Promise<{ status: number; code: string; message: string }> {
  const answer = await fetch(rig.http.address + path, { method: 'POST', ...init });
  const { code, message } = (await answer.json()) as { code: string; message: string };
  return { status: answer.status, code, message };
}

const json = { 'content-type': 'application/json' };

describe('a request that names no host', () => {
  it.each([
    ['none at all, as HTTP/1.0 allows', `POST ${LIST} HTTP/1.0\r\nContent-Type: application/json`],
    ['an empty one', `POST ${LIST} HTTP/1.1\r\nHost: \r\nContent-Type: application/json`],
    ['one that is none', `POST ${LIST} HTTP/1.1\r\nHost: a b[\r\nContent-Type: application/json`],
    ['one with a port that is none', `POST ${LIST} HTTP/1.1\r\nHost: x:99999\r\nContent-Type: application/json`],
  ])('but %s is answered with 400, and the server lives on', async (_what, head) => {
    const answer = await raw(head, '{}');
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('The Host header does not name a host.');
    expect(await (await fetch(`${rig.http.address}/healthz`)).text()).toBe('ok\n');
  });

  it('still learns whether the process lives, as load balancers ask', async () => {
    expect(await raw('GET /healthz HTTP/1.0')).toMatch(/^HTTP\/1\.1 200 [^]*ok\n$/);
    expect(await raw('GET /readyz HTTP/1.0')).toMatch(/^HTTP\/1\.1 200 [^]*ready\n$/);
  });
});

describe('a request for another host, as by a page whose name leads here', () => {
  it.each([
    ...['evil.example', 'evil.example:8080', '203.0.113.9', 'localhost.evil.example', 'evil.invalid/.localhost'],
    ...['evil.invalid?.localhost', 'evil.invalid#.localhost', 'evil.invalid@localhost', 'a..localhost'],
  ])('is answered with a sentence and nothing else: %s', async (host) => {
    for (const [head, body] of [
      [`GET / HTTP/1.1\r\nHost: ${host}`, ''],
      [`POST ${LIST} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json`, '{}'],
    ] as const) {
      const answer = await raw(head, body);
      expect(answer).toMatch(/^HTTP\/1\.1 421 /);
      expect(answer).toContain(`does not answer for the host "${host}"`);
      expect(answer).not.toContain('<html');
    }
    expect(await raw(`GET /healthz HTTP/1.1\r\nHost: ${host}`)).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('is answered where the operator named the host, and where a trusted proxy asks', async () => {
    for (const settings of [{ publicUrls: ['https://tasks.example.com'] }, { trustedProxies: ['127.0.0.1'] }]) {
      const door = new HttpServer({
        auth: { authenticate: () => Promise.resolve(undefined) },
        ...{ services: [], pageFolder: '/nowhere', clock: systemClock, log: new KeptLog(), ...SMALL },
        readiness: new Readiness({ check: () => Promise.resolve() }, systemClock),
        metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
        ...settings,
      });
      await door.start({ host: '127.0.0.1', port: 0 });
      const answer = await raw('GET /healthy HTTP/1.1\r\nHost: tasks.example.com', '', door.address);
      expect(answer).not.toMatch(/^HTTP\/1\.1 421 /);
      await door.stop(100);
    }
  });
});

describe('a request whose host could be read in two ways', () => {
  it.each([
    ['localhost', 'evil.example'],
    ['evil.example', 'localhost'],
    ['localhost', 'localhost'],
  ])('by two Host headers is refused: %s and %s', async (one, other) => {
    const answer = await raw(`GET / HTTP/1.1\r\nHost: ${one}\r\nHost: ${other}`);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('more than one Host header');
  });

  it('by its target is one for the host of the target', async () => {
    expect(await raw('GET http://evil.example/ HTTP/1.1\r\nHost: localhost')).toMatch(/^HTTP\/1\.1 421 /);
    expect(await raw('GET http://evil.example?x HTTP/1.1\r\nHost: localhost')).toMatch(/^HTTP\/1\.1 421 /);
    expect(await raw('GET http://evil.example@localhost/x HTTP/1.1\r\nHost: localhost')).toMatch(/^HTTP\/1\.1 4/);
    expect(await raw('GET http://localhost/healthz HTTP/1.1\r\nHost: localhost')).toMatch(/^HTTP\/1\.1 200 [^]*\nok\n/);
    const head = `POST http://localhost${LIST} HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json`;
    expect(await raw(head, '{}')).toMatch(/^HTTP\/1\.1 401 /);
  });
});

describe('a caller who waits for a word before sending the body', () => {
  const head = (host: string, length: number) =>
    `POST ${LIST} HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;

  function sent(bytes: string): Promise<string> {
    const { hostname, port } = new URL(rig.http.address);
    const socket = connect(Number(port), hostname);
    socket.write(bytes);
    return text(socket);
  }

  it('is refused without it where the host is another, or the body too large for a stranger', async () => {
    expect(await sent(head('evil.example', 100))).toMatch(/^HTTP\/1\.1 421 /);
    expect(await sent(head('localhost', 20_000))).toMatch(/^HTTP\/1\.1 401 /);
  });

  it('is answered as ever where it is another word that nobody knows', async () => {
    const odd = (host: string) => `POST ${LIST} HTTP/1.1\r\nHost: ${host}\r\nExpect: banana\r\nConnection: close`;
    expect(await raw(odd('evil.example'))).toMatch(/^HTTP\/1\.1 421 /);
    const answer = await raw(`${odd('localhost')}\r\nContent-Type: application/json`, '{}');
    expect(answer).toMatch(/^HTTP\/1\.1 401 [^]*X-Content-Type-Options: nosniff/);
  });

  it('gets it where the body is wanted', async () => {
    const { hostname, port } = new URL(rig.http.address);
    const socket = connect(Number(port), hostname);
    socket.write(head('localhost', 2));
    const [word] = (await once(socket, 'data')) as [Buffer];
    expect(word.toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    socket.end('{}');
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 401 /);
  });
});

describe('an address that is none', () => {
  it.each(['//', '/%zz', '/%00', '*', '/../../etc/passwd', '/..%2f..%2fetc%2fpasswd', '/\\..\\x'])(
    'such as %s gets an answer',
    async (path) => {
      expect(await raw(`GET ${path} HTTP/1.1\r\nHost: localhost`)).toMatch(/^HTTP\/1\.1 (400|404|503) /);
    },
  );
});

describe('a defect in judging credentials', () => {
  it('is told in the log and to the caller, and ends nothing else', async () => {
    const log = new KeptLog();
    const http = new HttpServer({
      auth: {
        authenticate: () => {
          throw new Error('a defect');
        },
      },
      ...{ services: [], pageFolder: '/nowhere', clock: systemClock, log, ...SMALL },
      readiness: new Readiness({ check: () => Promise.resolve() }, systemClock),
      metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
    });
    await http.start({ host: '127.0.0.1', port: 0 });
    const answer = await fetch(http.address + LIST, { method: 'POST', headers: json, body: 'x'.repeat(20_000) });
    expect(answer.status).toBe(500);
    expect(await (await fetch(`${http.address}/healthz`)).text()).toBe('ok\n');
    await http.stop(1_000);
  });
});

describe('a defect in answering a request', () => {
  it('is told in the log and to the caller, and ends nothing else', async () => {
    const log = new KeptLog();
    let isBroken = false;
    const options: HttpServerOptions = {
      auth: { authenticate: () => Promise.resolve(undefined) },
      ...{ services: [], pageFolder: '/nowhere', clock: systemClock, log, ...SMALL },
      readiness: new Readiness({ check: () => Promise.resolve() }, systemClock),
      metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
    };
    const http = new HttpServer(
      Object.defineProperty(options, 'tls', {
        get: () => {
          if (isBroken) throw new Error('a defect');
        },
      }),
    );
    await http.start({ host: '127.0.0.1', port: 0 });
    const { address } = http;
    isBroken = true;
    const answer = await fetch(address);
    isBroken = false;
    expect([answer.status, await answer.text()]).toEqual([
      500,
      'Something went wrong on the server; the log says what.\n',
    ]);
    expect(log.lines.map(({ level }) => level)).toEqual(['error']);
    expect((await fetch(`${address}/healthz`)).status).toBe(200);
    await http.stop(1_000);
  });
});

describe('many calls at once', () => {
  it.each(['grpc', 'http'] as const)('are no leak to be warned of: %s', async (door) => {
    const warnings: Error[] = [];
    const keep = (warning: Error) => warnings.push(warning);
    process.on('warning', keep);
    const own = await RpcRig.start({ pagesAtOnce: 20, maxMessageBytes: 65_536 });
    const tasks = own.client(TaskService, door, await own.token());
    const release = own.holdReads();
    const calls = Array.from({ length: 20 }, () => tasks.listTasks({}));
    await expect.poll(() => own.heldReads, { timeout: 10_000 }).toBe(20);
    release();
    await Promise.all(calls);
    await own.stop();
    process.off('warning', keep);
    expect(warnings.map(String)).toEqual([]);
  });
});

describe('bad input gets an error in the form of the protocol', () => {
  it.each([
    ['no JSON', '{', 'cannot decode'],
    ['JSON that is no object', '[1]', 'cannot decode'],
    ['a number for a text', '{"task":{"id":1}}', 'cannot decode'],
  ])('%s', async (_what, body, words) => {
    const error = await refusal('/taskdash.task.v1.TaskService/RegisterTask', { headers: json, body });
    expect(error).toMatchObject({ status: 400, code: 'invalid_argument' });
    expect(error.message).toContain(words);
  });

  it('a message over the limit, however well it is packed', async () => {
    const body = JSON.stringify({ task: { description: 'x'.repeat(1_000_000) } });
    const packed = new Blob([body]).stream().pipeThrough(new CompressionStream('gzip'));
    const bytes = Buffer.from(await new Response(packed).arrayBuffer());
    expect(bytes.length).toBeLessThan(65_536);
    const headers = { ...json, 'content-encoding': 'gzip' };
    const error = await refusal('/taskdash.task.v1.TaskService/RegisterTask', { headers, body: bytes });
    expect(error).toMatchObject({ status: 429, code: 'resource_exhausted' });
  });

  it('a time-out that is none, or longer than a day', async () => {
    for (const timeout of ['soon', '99999999999']) {
      const headers = { ...json, 'connect-timeout-ms': timeout };
      expect(await refusal(LIST, { headers, body: '{}' })).toMatchObject({ status: 400, code: 'invalid_argument' });
    }
    const headers = { ...json, 'connect-timeout-ms': '99999999' };
    const { message } = await refusal(LIST, { headers, body: '{}' });
    expect(message).toBe('timeout 99999999ms must be <= 86400000');
  });

  it('a type that is not spoken here', async () => {
    const answer = await fetch(rig.http.address + LIST, { method: 'POST', body: 'a=b' });
    expect(answer.status).toBe(415);
  });
});

describe('a request that two readers would cut apart differently', () => {
  const head = `POST ${LIST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;

  it.each([
    ['a length and chunks', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a chunk whose length is none', 'Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n'],
    ['an encoding that is none', 'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}'],
    ['a length with a sign', 'Content-Length: +2\r\n\r\n{}'],
    ['a header behind a space', 'Content-Length : 2\r\n\r\n{}'],
  ])('by %s is refused, and nothing behind it is answered', async (_what, rest) => {
    const { hostname, port } = new URL(rig.http.address);
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(Number(port), hostname);
      let received = '';
      socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
      socket.on('error', () => {});
      socket.on('close', () => resolve(received));
      socket.write(`${head}${rest}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    });
    expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['400']);
  });
});

describe('what another site makes a browser send', () => {
  const login = '/taskdash.auth.v1.AuthService/Login';
  const body = JSON.stringify({ username: 'lena', password: RIG_PASSWORD });

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', ''])(
    'as a form may, with the type %s, is not read',
    async (type) => {
      const answer = await fetch(rig.http.address + login, { method: 'POST', body, headers: { 'content-type': type } });
      expect(answer.status).toBe(415);
    },
  );

  it.each([{ origin: 'https://evil.example' }, { origin: 'null' }, { 'sec-fetch-site': 'cross-site' }])(
    'with %o is refused',
    async (headers: Record<string, string>) => {
      const error = await refusal(login, { headers: { ...json, ...headers }, body });
      expect(error).toMatchObject({ status: 403, code: 'permission_denied' });
    },
  );
});

describe('a login on the page behind a proxy over plain HTTP, which names another host', () => {
  const corp = { origin: 'http://dash.corp' };
  const proxied = { ...corp, 'x-forwarded-host': 'dash.corp' };

  it.each([
    ['with the public URL', { publicUrls: ['http://dash.corp/'] }, corp, 200],
    ['with another public URL', { publicUrls: ['http://dash.corp:8080'] }, corp, 403],
    ['with a trusted proxy that tells the host', { trustedProxies: ['127.0.0.1'] }, proxied, 200],
    [
      'with a trusted proxy that tells another',
      { trustedProxies: ['127.0.0.1'] },
      { ...proxied, ...{ origin: 'null' } },
      403,
    ],
    ['with a trusted proxy that tells none', { trustedProxies: ['127.0.0.1'] }, corp, 403],
    ['with a stranger that tells the host', {}, proxied, 403],
  ])('%s', async (_which, settings, headers: Record<string, string>, status) => {
    const own = await RpcRig.start(settings);
    await own.addUser('lena');
    const body = JSON.stringify({ username: 'lena', password: RIG_PASSWORD });
    const init = { method: 'POST', headers: { ...json, ...headers }, body };
    const answer = await fetch(`${own.http.address}/taskdash.auth.v1.AuthService/Login`, init);
    expect(answer.status).toBe(status);
    const words = await answer.text();
    if (status === 403) expect(words).toMatch(/TASKDASH_PUBLIC_URL.*TASKDASH_HTTP_TRUSTED_PROXIES.*X-Forwarded-Host/);
    await own.stop();
  });
});

describe('bodies that never end', () => {
  /** Begins a request of nearly as much as there may be, and tells what comes back. */
  function begin(http: string, token: string): { answer: () => string; destroy: () => void } {
    const { hostname, port } = new URL(http);
    const socket = connect(Number(port), hostname);
    let answer = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (answer += chunk));
    socket.on('error', () => {});
    const head = `POST ${LIST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer ${token}`;
    socket.write(`${head}\r\nContent-Length: 4000000\r\n\r\n${' '.repeat(3_900_000)}`);
    return { answer: () => answer, destroy: () => socket.destroy() };
  }

  it('may have so many bytes from one address: the oldest has to go, and may go on', async () => {
    const own = await RpcRig.start();
    const token = await own.token();
    const requests = Array.from({ length: 24 }, () => begin(own.http.address, token));
    const answered = () => requests.filter((request) => request.answer() !== '');
    await expect.poll(() => answered().length, { timeout: 10_000 }).toBeGreaterThanOrEqual(15);
    for (const request of answered()) {
      expect(request.answer()).toMatch(/^HTTP\/1\.1 429 [^]*"resource_exhausted"[^]*send fewer at once/);
    }
    expect(own.arrivals.bytes).toBeLessThanOrEqual(32 * 1024 * 1024);
    expect((await own.client(TaskService, 'http', token).listTasks({})).totalSize).toBe(0);
    for (const request of requests) request.destroy();
    await expect.poll(() => own.arrivals.bytes).toBe(0);
    await own.stop();
  });
});

describe('the address of who logs in', () => {
  it.each([
    ['what the proxy tells, where it is trusted', ['127.0.0.0/8'], '198.51.100.1'],
    ['the peer, where no proxy is', [], '127.0.0.1'],
  ])('is %s', async (_which, trustedProxies, expected) => {
    const own = await RpcRig.start({ trustedProxies });
    await own.addUser('lena');
    const headers = { ...json, 'x-forwarded-for': '10.9.9.9, 198.51.100.1' };
    const body = JSON.stringify({ username: 'lena', password: RIG_PASSWORD, issueToken: true });
    const answer = await fetch(`${own.http.address}/taskdash.auth.v1.AuthService/Login`, {
      method: 'POST',
      headers,
      body,
    });
    const { token } = (await answer.json()) as { token: string };
    expect((await own.identity.findSession(hashOf(token)))?.address).toBe(expected);
    await own.stop();
  });
});
