/*
 * One server on a whole cluster: a free port of the loopback address, PostgreSQL under its guardian, and the wait until
 * `postmaster.pid` says that it is ready. Three things may come between and are worth another attempt: somebody took the
 * port after it was found free, a PostgreSQL of an earlier server was still writing its `postmaster.pid`, or sessions of one
 * still held its shared memory.
 */
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { programEnvironment, type Launch } from './cluster.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';
import { startGuarded, type Guardian } from './guardian.js';
import { endLeftover, staleNumberEnvironment } from './leftover.js';
import { readPostmasterFile } from './postmaster-file.js';
import { serverArguments } from './server-settings.js';

/** How a server is to run. */
export interface ServerOptions {
  /** How long PostgreSQL may say nothing while it starts. A recovery that reports progress may take ten times as long. */
  readonly startTimeoutMs: number;
  readonly maxConnections: number;
  readonly settings: Readonly<Record<string, string>>;
  /** A port of 127.0.0.1 that is free at the moment. */
  readonly pickPort: () => Promise<number>;
}

/** A server that accepts connections. */
export interface RunningServer {
  readonly port: number;
  readonly guardian: Guardian;
}

type Outcome = 'ready' | 'exited' | 'silent';

const MAX_ATTEMPTS = 8;
const LOOK_EVERY_MS = 10;
const TELL_EVERY_MS = 5_000;
const PATIENCE_FACTOR = 10;
const END_PATIENCE_MS = 5_000;
const INSIST_EVERY_MS = 50;
const WORTH_ANOTHER_ATTEMPT =
  /could not bind .*: Address already in use|lock file "postmaster\.pid" already exists|pre-existing shared memory block/;

/**
 * Starts PostgreSQL on the launch's cluster and returns when it is ready.
 * @throws EmbeddedPostgresError with the last lines of its log.
 */
export async function startServer(launch: Launch, options: ServerOptions): Promise<RunningServer> {
  for (let attempt = 1; ; attempt += 1) {
    await endLeftover(launch.folder, launch.log);
    const fromBytes = await launch.serverLog.sizeBytes();
    const server = await startOnce(launch, options);
    const outcome = await untilReady(launch, options, server, fromBytes);
    if (outcome === 'ready') return server;
    await endNow(server.guardian);
    const lines = (await launch.serverLog.tail(fromBytes)).join('\n');
    if (outcome === 'silent' || attempt === MAX_ATTEMPTS || !WORTH_ANOTHER_ATTEMPT.test(lines)) {
      throw startFailed(launch, outcome, lines, options);
    }
    launch.log('info', 'PostgreSQL could not start yet; trying again', { attempt, port: server.port });
    await delay(attempt * 50);
  }
}

/** Asks the system for a port of the loopback address that nobody listens on. */
export function freeLoopbackPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      const port = typeof address === 'object' && address ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}

async function startOnce(launch: Launch, options: ServerOptions): Promise<RunningServer> {
  const { binaries, folder, runAs, serverLog } = launch;
  const port = await options.pickPort();
  const settings = serverArguments(binaries.major, port, options.maxConnections, options.settings);
  const env = { ...programEnvironment(binaries), ...(await staleNumberEnvironment(folder)) };
  const command = [binaries.postgres, '-D', folder.cluster, ...settings] as const;
  return { port, guardian: await startGuarded(runAs, command, { env, logFd: serverLog.fd }) };
}

async function untilReady(
  { folder, serverLog, log }: Launch,
  { startTimeoutMs }: ServerOptions,
  { port, guardian }: RunningServer,
  fromBytes: number,
): Promise<Outcome> {
  const startedAt = performance.now();
  let [heardBytes, heardAt, toldAt] = [fromBytes, startedAt, startedAt];
  while (!guardian.hasExited()) {
    const file = await readPostmasterFile(folder);
    if (file?.port === port && file.status === 'ready') return 'ready';
    const [now, sizeBytes] = [performance.now(), await serverLog.sizeBytes()];
    if (sizeBytes !== heardBytes) [heardBytes, heardAt] = [sizeBytes, now];
    if (now - heardAt > startTimeoutMs || now - startedAt > startTimeoutMs * PATIENCE_FACTOR) return 'silent';
    if (now - toldAt > TELL_EVERY_MS) {
      log('info', 'PostgreSQL is still starting', { lastLine: (await serverLog.tail(fromBytes, 1))[0] });
      toldAt = now;
    }
    await delay(LOOK_EVERY_MS);
  }
  return 'exited';
}

async function endNow(guardian: Guardian): Promise<void> {
  if (guardian.hasExited()) return;
  const insist = setInterval(() => guardian.signal('QUIT'), INSIST_EVERY_MS);
  const kill = setTimeout(() => guardian.signal('KILL'), END_PATIENCE_MS);
  await guardian.exited;
  clearInterval(insist);
  clearTimeout(kill);
}

function startFailed(
  { folder, binaries, runAs }: Launch,
  outcome: Outcome,
  lines: string,
  { startTimeoutMs }: ServerOptions,
): EmbeddedPostgresError {
  const what =
    outcome === 'silent' ? `was not ready and said nothing for ${startTimeoutMs} ms` : 'ended while starting';
  return new EmbeddedPostgresError(
    `${binaries.description}, run as ${runAs.description} on ${folder.cluster}, ${what}. The end of ${folder.log}:\n` +
      `${lines || '(nothing)'}\nMend what it says and start again, or name another PostgreSQL in TASKDASH_DATABASE_URL.`,
  );
}
