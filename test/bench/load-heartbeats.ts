/**
 * Heartbeats on the legacy door as fast as the server reads them, in a process of its own. Nothing answers a heartbeat,
 * so the server has to be asked how many it took. Prints a JSON line when it is done.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** What to do; the only argument, as JSON. */
export interface HeartbeatLoad {
  readonly address: string;
  readonly connections: number;
  readonly durationMs: number;
}

const HEARTBEAT = Buffer.from('000000100000057000000004000000006e756c6c', 'hex');
const AT_ONCE = Buffer.concat(Array.from({ length: 200 }, () => HEARTBEAT));

async function open(address: string): Promise<Socket> {
  const colon = address.lastIndexOf(':');
  const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) });
  await once(socket, 'connect');
  return socket;
}

async function beat(socket: Socket, untilMs: number): Promise<void> {
  while (performance.now() < untilMs) {
    if (!socket.write(AT_ONCE)) await once(socket, 'drain');
    else await new Promise((resolve) => setImmediate(resolve));
  }
  socket.end();
  await once(socket, 'close');
}

const load = JSON.parse(process.argv[2] ?? '{}') as HeartbeatLoad;
const sockets = await Promise.all(Array.from({ length: load.connections }, () => open(load.address)));
const startedMs = performance.now();
await Promise.all(sockets.map((socket) => beat(socket.resume(), startedMs + load.durationMs)));
process.stdout.write(`${JSON.stringify({ elapsedMs: performance.now() - startedMs })}\n`);
