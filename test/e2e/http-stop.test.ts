/** The end of the HTTP door beside connections over which nothing, or not all, has come. No time passes unless it is made to. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { HttpServer } from '../../server/transports/connect-server.js';
import { Readiness } from '../../server/transports/readiness.js';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { Arrivals } from '../../server/transports/rpc/arrivals.js';
import { MAX_REFUSED_MS } from '../../server/transports/rpc/limits.js';
import { Unsent } from '../../server/transports/rpc/unsent.js';
import { KeptLog } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';
import { selfSigned } from '../support/tls-proxy.js';

const STOP_MS = 60_000;
const LIMITS = { maxMessageBytes: 1024 * 1024 };
const HEALTH = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';
const HEAD =
  'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';

/** What the one call of the service answers. */
let answer: Promise<object> = Promise.resolve({});
let clock: ManualClock;
let turns: ReadingTurns;
let log: KeptLog;
let door: HttpServer;

beforeEach(() => {
  clock = new ManualClock();
  turns = new ReadingTurns(clock);
  log = new KeptLog();
});
afterEach(() => door.stop(0));

async function start(tls?: Awaited<ReturnType<typeof selfSigned>>): Promise<void> {
  door = new HttpServer({
    services: [{ service: AuthService, implementation: { getCurrentUser: () => answer } as never }],
    auth: { authenticate: () => Promise.resolve(undefined) },
    readiness: new Readiness({ check: () => Promise.resolve() }, clock),
    metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
    clock,
    log,
    limits: LIMITS,
    arrivals: new Arrivals(clock, LIMITS),
    unsent: new Unsent(clock, LIMITS),
    turns,
    pageFolder: '/nowhere',
    ...(tls && { tls }),
  });
  await door.start({ host: '127.0.0.1', port: 0 });
}

/** A connection that has sent so much, when the server has seen it. */
async function connectedWith(sent: string): Promise<Socket> {
  const port = Number(new URL(door.address).port);
  const socket = connect(port, '127.0.0.1').on('error', () => {});
  await once(socket, 'connect');
  socket.write(sent);
  // What came before is seen before an answer to what comes after.
  await fetch(`${door.address}/healthz`);
  await fetch(`${door.address}/healthz`, { headers: { connection: 'close' } });
  return socket;
}

describe('the door stops at once', () => {
  it.each([
    { what: 'nothing', sent: '' },
    { what: 'half a head', sent: HEAD },
    { what: 'a request, and was answered', sent: 'GET /healthz HTTP/1.1\r\n\r\n' },
  ])('beside a connection that has sent $what', async ({ sent }) => {
    await start();
    const socket = await connectedWith(sent);
    const closed = once(socket.resume(), 'close');
    await door.stop(STOP_MS);
    await closed;
  });

  it('beside an encrypted connection that has sent nothing, and one that has not said hello', async () => {
    await start(await selfSigned());
    const port = Number(new URL(door.address).port);
    const plain = connect(port, '127.0.0.1').on('error', () => {});
    const encrypted = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false }).on('error', () => {});
    await once(encrypted, 'secureConnect');
    const closed = [once(plain.resume(), 'close'), once(encrypted.resume(), 'close')];
    await door.stop(STOP_MS);
    await Promise.all(closed);
  });
});

describe('a request that has not arrived whole', () => {
  it('has a moment to do so, and no more', async () => {
    await start();
    const socket = await connectedWith(`${HEAD}Content-Length: 10\r\n\r\n{`);
    const closed = once(socket.resume(), 'close');
    let hasStopped = false;
    const { address } = door;
    const stopped = door.stop(STOP_MS).then(() => (hasStopped = true));
    const ask = () =>
      fetch(`${address}/healthz`, { headers: { connection: 'close' } }).then(
        () => 'answered',
        () => 'refused',
      );
    await expect.poll(ask).toBe('refused');
    clock.advance(MAX_REFUSED_MS - 1);
    // A close would have been seen by then.
    expect(await ask()).toBe('refused');
    expect([hasStopped, socket.closed]).toEqual([false, false]);
    clock.advance(1);
    await Promise.all([stopped, closed]);
  });
});

describe('a request that was sent before the door stops', () => {
  /** Connections, and what each has been sent by its end. */
  async function connectAll(count: number): Promise<{ sockets: Socket[]; answers: Promise<string[]> }> {
    const port = Number(new URL(door.address).port);
    const sockets = Array.from({ length: count }, () => connect(port, '127.0.0.1'));
    const answers = Promise.all(sockets.map(textOf));
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    return { sockets, answers };
  }

  function textOf(socket: Socket): Promise<string> {
    return new Promise((resolve) => {
      let received = '';
      socket.setEncoding('latin1').on('data', (chunk: string) => (received += chunk));
      socket.on('error', (error) => (received += error.message));
      socket.on('close', () => resolve(received));
    });
  }

  const statusesIn = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status).join(' ');
  const closesIn = (text: string) => [...text.matchAll(/^Connection: close\r$/gm)].length;

  it('is answered where the connection was not accepted yet', async () => {
    await start();
    const { sockets, answers } = await connectAll(150);
    for (const socket of sockets) socket.write(HEALTH);
    await door.stop(STOP_MS);
    const texts = await answers;
    expect(new Set(texts.map(statusesIn))).toEqual(new Set(['200']));
    expect(texts.filter((text) => closesIn(text) === 1).length).toBeGreaterThan(100);
  });

  it.each(['is being read', 'waits in line'])(
    'is answered where it was not read yet: its connection %s',
    async (how) => {
      await start();
      const { sockets, answers } = await connectAll(60);
      for (const socket of sockets) socket.write(HEALTH);
      await Promise.all(sockets.map((socket) => once(socket, 'data')));
      if (how === 'waits in line') {
        turns.onWork(undefined);
        clock.skip(1_000);
        turns.onWork(undefined);
      }
      for (const socket of sockets) socket.write(HEALTH);
      await door.stop(STOP_MS);
      const texts = await answers;
      expect(new Set(texts.map(statusesIn))).toEqual(new Set(['200 200']));
      expect(new Set(texts.map(closesIn))).toEqual(new Set([1]));
    },
  );

  it('is answered before the connection closes, and so are those behind it; the last answer says that it closes', async () => {
    await start();
    let release: (value: object) => void = () => {};
    answer = new Promise((resolve) => (release = resolve));
    const { sockets, answers } = await connectAll(1);
    const call = `${HEAD}Content-Length: 2\r\n\r\n{}`;
    sockets[0]?.write(call + call);
    await fetch(`${door.address}/healthz`, { headers: { connection: 'close' } });
    const stopped = door.stop(STOP_MS);
    sockets[0]?.write(HEALTH);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    release({});
    await stopped;
    const [text = ''] = await answers;
    expect([statusesIn(text), closesIn(text)]).toEqual(['200 200 200', 1]);
    expect(text.lastIndexOf('HTTP/1.1')).toBeLessThan(text.indexOf('Connection: close'));
  });

  it('is answered at the end of the time also where its call does not end, and that is the last of it', async () => {
    await start();
    let release: (value: object) => void = () => {};
    answer = new Promise((resolve) => (release = resolve));
    const { sockets, answers } = await connectAll(2);
    const call = `${HEAD}Content-Length: 2\r\n\r\n{}`;
    for (const socket of sockets) socket.write(call + call);
    await fetch(`${door.address}/healthz`, { headers: { connection: 'close' } });
    const stopped = door.stop(STOP_MS);
    clock.advance(STOP_MS - 1);
    const texts = await answers;
    await stopped;
    expect(texts.map(statusesIn)).toEqual(['503 503', '503 503']);
    expect(texts.map((text) => text.match(/"The server is stopping."/g)?.length)).toEqual([2, 2]);
    expect(texts.map(closesIn)).toEqual([1, 1]);
    release({});
    await new Promise((resolve) => setImmediate(resolve));
    expect(log.lines).toEqual([]);
  });

  it('does not keep the door open to those who come then, however many they are', async () => {
    await start();
    const port = Number(new URL(door.address).port);
    let isOver = false;
    const stopped = door.stop(STOP_MS).then(() => (isOver = true));
    // Always somebody who waits to be accepted.
    while (!isOver) {
      for (let n = 0; n < 20; n++)
        connect(port, '127.0.0.1')
          .on('error', () => {})
          .resume();
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(2_000);
    }
    await stopped;
    expect(clock.monotonicMs()).toBeLessThanOrEqual(STOP_MS / 2 + 5_000);
  });
});
