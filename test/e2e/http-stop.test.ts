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
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';
import { selfSigned } from '../support/tls-proxy.js';

const STOP_MS = 60_000;
const LIMITS = { maxMessageBytes: 1024 * 1024 };
const HEAD =
  'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';

let clock: ManualClock;
let door: HttpServer;

beforeEach(() => {
  clock = new ManualClock();
});
afterEach(() => door.stop(0));

async function start(tls?: Awaited<ReturnType<typeof selfSigned>>): Promise<void> {
  door = new HttpServer({
    services: [{ service: AuthService, implementation: {} }],
    auth: { authenticate: () => Promise.resolve(undefined) },
    readiness: new Readiness({ check: () => Promise.resolve() }, clock),
    metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
    clock,
    log: silentLog,
    limits: LIMITS,
    arrivals: new Arrivals(clock, LIMITS),
    unsent: new Unsent(clock, LIMITS),
    turns: new ReadingTurns(clock),
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
    clock.advance(MAX_REFUSED_MS - 1);
    // A close would have been seen by then.
    await expect(fetch(`${address}/healthz`)).rejects.toThrow();
    expect([hasStopped, socket.closed]).toEqual([false, false]);
    clock.advance(1);
    await Promise.all([stopped, closed]);
  });
});
