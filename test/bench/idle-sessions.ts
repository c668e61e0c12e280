/**
 * Idle services: connections that only beat, each every ten seconds, spread over time. Prints a line when all are open
 * and goes on until its input ends.
 */
import { connect, type Socket } from 'node:net';

/** What to open; the only argument, as JSON. */
export interface IdleLoad {
  readonly address: string;
  readonly sessions: number;
}

const BEAT_MS = 10_000;
const STEP_MS = 50;
const OPENING_AT_ONCE = 200;
/** One source address has ports for so many connections to one destination. */
const PER_SOURCE = 10_000;
const HEARTBEAT = Buffer.from('000000100000057000000004000000006e756c6c', 'hex');

function open(load: IdleLoad, index: number): Promise<Socket> {
  const colon = load.address.lastIndexOf(':');
  const target = { host: load.address.slice(0, colon), port: Number(load.address.slice(colon + 1)) };
  return new Promise((resolve, reject) => {
    const socket = connect({ ...target, localAddress: `127.0.1.${1 + Math.floor(index / PER_SOURCE)}` });
    socket.once('connect', () => resolve(socket));
    socket.once('error', reject);
  });
}

const load = JSON.parse(process.argv[2] ?? '{}') as IdleLoad;
const sockets: Socket[] = [];
for (let n = 0; n < load.sessions; n += OPENING_AT_ONCE) {
  const count = Math.min(OPENING_AT_ONCE, load.sessions - n);
  sockets.push(...(await Promise.all(Array.from({ length: count }, (_, k) => open(load, n + k)))));
}
const steps = BEAT_MS / STEP_MS;
let step = 0;
setInterval(() => {
  for (let n = step % steps; n < sockets.length; n += steps) sockets[n]?.write(HEARTBEAT);
  step++;
}, STEP_MS);
process.stdout.write(`${JSON.stringify({ open: sockets.length })}\n`);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
