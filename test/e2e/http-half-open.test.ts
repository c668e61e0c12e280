/** HTTP callers who end their side of the connection when they have asked, as `nc -N` does. */
import { once } from 'node:events';
import { connect, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { systemClock } from '../../server/domain/clock.js';
import { HttpServer } from '../../server/transports/connect-server.js';
import { Readiness } from '../../server/transports/readiness.js';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { Arrivals } from '../../server/transports/rpc/arrivals.js';
import { Unsent } from '../../server/transports/rpc/unsent.js';
import { framed } from '../support/rpc-raw.js';
import { silentLog } from '../support/silent-log.js';

const LIMITS = { maxMessageBytes: 1024 * 1024 };
const HEALTH = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';
const CALL =
  'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
  'Content-Length: 2\r\n\r\n{}';
const STREAM =
  'POST /taskdash.task.v1.TaskService/WatchTasks HTTP/1.1\r\nHost: localhost\r\n' +
  'Content-Type: application/connect+proto\r\nContent-Length: 5\r\n\r\n';

/** Tells how many connections a door really has. */
class ObservedTurns extends ReadingTurns {
  #server: Server | undefined;

  override begin(...given: Parameters<ReadingTurns['begin']>): void {
    [this.#server] = given;
    super.begin(...given);
  }

  connections(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server?.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    );
  }
}

let turns: ObservedTurns;
let door: HttpServer;
let underWay: number;
let release: () => void;

beforeEach(async () => {
  turns = new ObservedTurns(systemClock);
  underWay = 0;
  const released = new Promise<void>((resolve) => (release = resolve));
  const getCurrentUser = async () => {
    underWay++;
    await released;
    underWay--;
    return {};
  };
  async function* watchTasks(_request: unknown, { signal }: { signal: AbortSignal }) {
    underWay++;
    if (!signal.aborted) await once(signal, 'abort');
    underWay--;
    yield* [];
  }
  door = new HttpServer({
    services: [
      { service: AuthService, implementation: { getCurrentUser } as never },
      { service: TaskService, implementation: { watchTasks } as never },
    ],
    auth: { authenticate: () => Promise.resolve(undefined) },
    readiness: new Readiness({ check: () => Promise.resolve() }, systemClock),
    metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
    ...{ clock: systemClock, log: silentLog, limits: LIMITS, turns, pageFolder: '/nowhere' },
    arrivals: new Arrivals(systemClock, LIMITS),
    unsent: new Unsent(systemClock, LIMITS),
  });
  await door.start({ host: '127.0.0.1', port: 0 });
});
afterEach(() => door.stop(0));

interface Caller {
  readonly socket: Socket;
  /** What came back, when the server has closed. */
  readonly answers: Promise<string>;
}

/** Sends something and ends its side. */
async function caller(sent: string | Buffer): Promise<Caller> {
  const socket = connect({ port: Number(new URL(door.address).port), host: '127.0.0.1', allowHalfOpen: true });
  let received = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (received += chunk));
  socket.on('error', (error) => (received += error.message));
  const answers = new Promise<string>((resolve) => socket.on('close', () => resolve(received)));
  await once(socket, 'connect');
  socket.end(sent);
  return { socket, answers };
}

const statusesIn = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
/** What was sent before, the server has seen when it has answered something that was sent later. */
const seen = () => fetch(`${door.address}/healthz`, { headers: { connection: 'close' } });

describe('a caller who ends their side', () => {
  it('has the answer to a call that takes a while, and is closed then', async () => {
    const { answers } = await caller(CALL);
    await expect.poll(() => underWay).toBe(1);
    await seen();
    release();
    expect(statusesIn(await answers)).toEqual([200]);
    await expect.poll(() => turns.connections()).toBe(0);
  });

  it('has the answers to all requests that came together, in their order', async () => {
    const { answers } = await caller(
      HEALTH + CALL + HEALTH.replace('healthz', '').replace('localhost', 'elsewhere') + CALL,
    );
    await expect.poll(() => underWay).toBe(2);
    await seen();
    release();
    expect(statusesIn(await answers)).toEqual([200, 200, 421, 200]);
    await expect.poll(() => turns.connections()).toBe(0);
  });

  it.each([
    { what: 'nothing', sent: '', statuses: [] },
    { what: 'a part of a request', sent: CALL.slice(0, -1), statuses: [400] },
    { what: 'what was answered at once', sent: HEALTH, statuses: [200] },
  ])('is closed at once who has asked $what', async ({ sent, statuses }) => {
    const { answers } = await caller(sent);
    expect(statusesIn(await answers)).toEqual(statuses);
    await expect.poll(() => turns.connections()).toBe(0);
  });

  it('is closed at once who had an answer before', async () => {
    const socket = connect({ port: Number(new URL(door.address).port), host: '127.0.0.1', allowHalfOpen: true });
    socket.write(HEALTH);
    await once(socket, 'data');
    socket.resume().end();
    await once(socket, 'end');
    await expect.poll(() => turns.connections()).toBe(0);
  });

  it('and is gone is noticed with the answer', async () => {
    const callers = await Promise.all(Array.from({ length: 20 }, () => caller(CALL + CALL)));
    await expect.poll(() => underWay).toBe(40);
    for (const { socket } of callers) socket.destroy();
    await seen();
    release();
    await expect.poll(() => turns.connections()).toBe(0);
    expect(underWay).toBe(0);
  });

  it('has no stream any more, since whoever is gone looks the same', async () => {
    const early = connect({ port: Number(new URL(door.address).port), host: '127.0.0.1', allowHalfOpen: true });
    early.write(Buffer.concat([Buffer.from(STREAM), framed(Buffer.alloc(0))]));
    await expect.poll(() => underWay).toBe(1);
    early.resume().end();
    await once(early, 'close');
    const late = await caller(Buffer.concat([Buffer.from(STREAM), framed(Buffer.alloc(0))]));
    await once(late.socket, 'close');
    await expect.poll(() => turns.connections()).toBe(0);
    expect(underWay).toBe(0);
  });
});
