/** Much at once over HTTP: requests that nobody waits for, and what they leave behind. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect as tlsConnect } from 'node:tls';
import type { ServiceImpl } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { HttpServer } from '../../server/transports/connect-server.js';
import { Readiness } from '../../server/transports/readiness.js';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { Arrivals } from '../../server/transports/rpc/arrivals.js';
import { Unsent } from '../../server/transports/rpc/unsent.js';
import { MAX_HTTP_CONNECTIONS, MAX_UNANSWERED } from '../../server/transports/rpc/limits.js';
import { ManualClock } from '../support/manual-clock.js';
import { RpcRig } from '../support/rpc-rig.js';
import { silentLog } from '../support/silent-log.js';
import { selfSigned } from '../support/tls-proxy.js';

const MIB = 1024 * 1024;

let rig: RpcRig;

beforeEach(async () => {
  rig = await RpcRig.start();
});
afterEach(() => rig.stop());

/** Without an address of its own the system finds a port quickly also where thousands are taken. */
function connected(door: string, localAddress?: string): Socket {
  const { hostname, port } = new URL(door);
  const socket = connect({ port: Number(port), host: hostname, ...(localAddress && { localAddress }) });
  socket.on('error', () => {});
  return socket;
}

describe('requests that are sent without waiting for answers', () => {
  const GET_USER = 'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nContent-Type: application/json\r\n';

  it.each([
    ['of metrics', 'GET /metrics HTTP/1.1\r\n\r\n'],
    ['of health', 'GET /healthz HTTP/1.1\r\n\r\n'],
    ['of the page', 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    ['that name no host', 'GET / HTTP/1.1\r\n\r\n'],
    ['of a call', `${GET_USER}Host: localhost\r\nContent-Length: 2\r\n\r\n{}`],
  ])('close their connection beyond a few, and the rest is not even parsed: %s', async (_what, request) => {
    let parsed = 0;
    const count = () => parsed++;
    subscribe('http.server.request.start', count);
    const socket = connected(rig.http.address);
    socket.write(request.repeat(Math.floor(60_000 / request.length)));
    await text(socket).catch(() => '');
    unsubscribe('http.server.request.start', count);
    expect(parsed).toBeLessThan(MAX_UNANSWERED + 24);
  });

  it('close a connection that speaks TLS, too', async () => {
    const tls = await selfSigned();
    const own = await RpcRig.start({ tls });
    const connectTls = async () => {
      const socket = tlsConnect({
        port: Number(new URL(own.http.address).port),
        host: '127.0.0.1',
        ca: tls.cert,
        servername: 'localhost',
      });
      socket.on('error', () => {});
      await once(socket, 'secureConnect');
      return socket;
    };
    const honest = await connectTls();
    honest.write('GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n');
    expect(await text(honest)).toContain('\nok\n');
    let parsed = 0;
    const count = () => parsed++;
    const socket = await connectTls();
    subscribe('http.server.request.start', count);
    socket.write('GET /healthz HTTP/1.1\r\n\r\n'.repeat(2_000));
    await text(socket).catch(() => '');
    unsubscribe('http.server.request.start', count);
    expect(parsed).toBeGreaterThan(0);
    expect(parsed).toBeLessThan(MAX_UNANSWERED + 24);
    await own.stop();
  });

  it('leave nothing behind when their connection closes before it is their turn to be answered', async () => {
    const release = rig.holdReads();
    const socket = connected(rig.http.address);
    const list =
      'POST /taskdash.task.v1.TaskService/ListTasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json';
    const credentials = `Authorization: Bearer ${await rig.token()}`;
    const asked = `${list}\r\n${credentials}\r\nContent-Length: 2\r\n\r\n{}`;
    const refused = `${GET_USER}Host: localhost\r\nContent-Length: 4\r\n\r\nnope`;
    socket.write(asked + asked + refused + refused);
    await expect.poll(() => rig.heldReads).toBe(2);
    await expect.poll(() => rig.unsent.count).toBe(2);
    socket.destroy();
    await expect.poll(() => [rig.arrivals.bytes, rig.unsent.count, rig.unsent.bytes]).toEqual([0, 0, 0]);
    release();
    await expect.poll(() => rig.reports.filter(({ method }) => method === 'ListTasks')).toHaveLength(2);
    expect([rig.unsent.count, rig.unsent.bytes]).toEqual([0, 0]);
  });

  it('are answered up to a few, in their order', async () => {
    const socket = connected(rig.http.address);
    const last = 'GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n';
    socket.write('GET /healthz HTTP/1.1\r\n\r\n'.repeat(MAX_UNANSWERED - 1) + last);
    const answers = await text(socket);
    expect(answers.match(/^(ok|ready)$/gm)).toEqual([...Array<string>(MAX_UNANSWERED - 1).fill('ok'), 'ready']);
  });
});

describe('the headers of a request', () => {
  const login = 'POST /taskdash.auth.v1.AuthService/Login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n';
  const fields = (count: number, length: number) => `X-Some: ${'a'.repeat(length)}\r\n`.repeat(count);

  it('count as what arrives while there is no body yet, until the connection is gone', async () => {
    const socket = connected(rig.http.address);
    socket.write(`${login}Content-Type: application/json\r\n${fields(90, 140)}\r\n`);
    await expect.poll(() => rig.arrivals.bytes).toBeGreaterThan(50_000);
    socket.destroy();
    await expect.poll(() => rig.arrivals.bytes).toBe(0);
  });

  it.each([
    ['', fields(90, 140), '{}', 50_000],
    [', with the body', '', `{${' '.repeat(100_000)}}`, 100_000],
  ])('count until the call is answered%s', async (_what, headers, body, bytes) => {
    const release = rig.holdReads();
    const socket = connected(rig.http.address);
    const head =
      'POST /taskdash.task.v1.TaskService/ListTasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json';
    const credentials = `Authorization: Bearer ${await rig.token()}`;
    socket.write(`${head}\r\n${credentials}\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`);
    await expect.poll(() => rig.heldReads).toBe(1);
    expect(rig.arrivals.bytes).toBeGreaterThan(bytes);
    expect(rig.arrivals.count).toBe(0);
    release();
    await expect.poll(() => rig.arrivals.bytes).toBe(0);
    socket.destroy();
  });

  it.each([
    ['many', fields(101, 10)],
    ['long', fields(2, 8_200)],
  ])('are refused where they are too %s', async (_what, headers) => {
    const socket = connected(rig.http.address);
    socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n`);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 431 /);
  });
});

describe('a request that is answered before it has arrived', () => {
  it('closes its connection soon, unless the rest of it comes', async () => {
    await rig.stop();
    const clock = new ManualClock();
    rig = await RpcRig.start({ clock });
    const head = 'POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n';
    const [late, whole] = [connected(rig.http.address), connected(rig.http.address)];
    for (const socket of [late, whole]) {
      socket.write(head);
      await once(socket, 'data');
    }
    whole.write('0123456789GET /healthz HTTP/1.1\r\n\r\n');
    await once(whole, 'data');
    const closed = once(late, 'close');
    late.resume();
    clock.advance(2_000);
    await closed;
    expect(whole.destroyed).toBe(false);
    whole.destroy();
  });
});

describe('connections from one address', () => {
  it('are answered after one of another address that came behind them', async () => {
    const answered: string[] = [];
    const ask = async (localAddress?: string) => {
      const socket = connected(rig.http.address, localAddress);
      socket.write('GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n');
      answered.push(await text(socket));
    };
    const crowd = Array.from({ length: 2_000 }, () => ask());
    await ask('127.0.0.2');
    expect(answered.length).toBeLessThan(1_000);
    await Promise.all(crowd);
  });

  it('are closed at once beyond a bound, unless the address is that of a trusted proxy', async () => {
    const proxied = await RpcRig.start({ trustedProxies: ['127.0.0.1'] });
    const open = async (door: string) => {
      const sockets: Socket[] = [];
      while (sockets.length < MAX_HTTP_CONNECTIONS) {
        const some = Array.from({ length: 256 }, () => connected(door));
        for (const socket of some) socket.write('GET /healthz HTTP/1.1\r\n\r\n');
        await Promise.all(some.map((socket) => once(socket, 'data')));
        sockets.push(...some);
      }
      const last = connected(door);
      last.write('GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n');
      const answer = await text(last).catch(() => '');
      // Closed in the ordinary way, each would keep its port for a minute.
      for (const socket of sockets) socket.resetAndDestroy();
      return answer;
    };
    expect(await open(proxied.http.address)).toContain('ok');
    expect(await open(rig.http.address)).toBe('');
    await expect
      .poll(() =>
        fetch(`${rig.http.address}/healthz`).then(
          ({ ok }) => ok,
          () => false,
        ),
      )
      .toBe(true);
    await proxied.stop();
  });
});

describe('answers that nobody takes', () => {
  const LONG = 24 * MIB;
  const clock = new ManualClock();
  let door: HttpServer;

  beforeEach(async () => {
    const limits = { maxMessageBytes: LONG + MIB };
    const getCurrentUser = () => ({ loginMethods: ['x'.repeat(LONG)] });
    const implementation = { getCurrentUser } as unknown as ServiceImpl<typeof AuthService>;
    door = new HttpServer({
      services: [{ service: AuthService, implementation }],
      auth: { authenticate: () => Promise.resolve(undefined) },
      ...{
        pageFolder: '/nowhere',
        clock,
        log: silentLog,
        limits,
        arrivals: new Arrivals(clock, limits),
        unsent: new Unsent(clock, limits),
        turns: new ReadingTurns(clock),
      },
      readiness: new Readiness({ check: () => Promise.resolve() }, clock),
      metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
    });
    await door.start({ host: '127.0.0.1', port: 0 });
  });
  afterEach(() => door.stop(100));

  /** Asks, and reads the first bytes of the answer. */
  async function ask(): Promise<Socket> {
    const socket = connected(door.address);
    const head =
      'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n';
    socket.write(`${head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`);
    await once(socket, 'readable');
    return socket;
  }

  async function lengthOf(socket: Socket): Promise<number> {
    let length = 0;
    socket.on('data', (chunk: Buffer) => (length += chunk.length));
    if (!socket.closed) await once(socket, 'close');
    return length;
  }

  it('are cut off when nothing of them was taken for 30 s', async () => {
    const socket = await ask();
    clock.advance(31_000);
    expect(await lengthOf(socket)).toBeLessThan(LONG);
  });

  it('go on for as long as something of them is taken', async () => {
    const socket = await ask();
    let length = 0;
    socket.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length < LONG / 2) clock.advance(100);
    });
    await once(socket, 'close');
    expect(length).toBeGreaterThan(LONG);
  });

  it('let requests behind them wait, which are answered when they have been taken', async () => {
    const socket = connected(door.address);
    const head = 'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nHost: localhost\r\n';
    socket.write(`${head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`);
    await once(socket, 'readable');
    const padded = `GET /healthz HTTP/1.1\r\nX-Some: ${'a'.repeat(600)}\r\n`;
    socket.write(`${`${padded}\r\n`.repeat(4)}${padded}Connection: close\r\n\r\n`);
    const answers = await text(socket);
    expect(answers.match(/\nok\n/g)).toHaveLength(5);
    expect(answers.length).toBeGreaterThan(LONG);
  });

  it('may have so many bytes for one address: what is asked for beyond is refused beforehand', async () => {
    const sockets: Socket[] = [];
    for (let n = 0; n < 8; n++) sockets.push(await ask());
    const lengths = await Promise.all(sockets.map(lengthOf));
    const whole = lengths.map((length) => length > LONG);
    // Each counts as a whole for as long as some of it is left.
    expect(whole).toEqual([true, true, true, true, false, false, false, false]);
  });
});
