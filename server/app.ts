/**
 * The composition root: the only file that knows all parts. Everything long-lived is started top to bottom and stopped
 * in reverse, each with a deadline.
 *
 *   database → storage → identity → feed → liveness → doors (gRPC, HTTP, legacy TCP)
 */
import { fileURLToPath } from 'node:url';
import { defaultNodeName, type Config } from './config.js';
import { acquireDatabase } from './database.js';
import { Auth } from './domain/auth.js';
import { systemClock, type Clock } from './domain/clock.js';
import { Liveness } from './domain/liveness.js';
import type { Log } from './domain/ports.js';
import { ReadBatcher } from './domain/read-batcher.js';
import { TaskFeed } from './domain/task-feed.js';
import { TaskRegistry } from './domain/task-registry.js';
import { TaskWatcher } from './domain/task-watch.js';
import { TokenSealer } from './domain/token-sealer.js';
import { Users } from './domain/users.js';
import { WriteBatcher } from './domain/write-batcher.js';
import { Argon2Hasher } from './identity/argon2-hasher.js';
import { Metrics } from './metrics.js';
import { PostgresIdentityStore } from './storage/identity-store.js';
import { openStorage } from './storage/storage.js';
import { HttpServer } from './transports/connect-server.js';
import { GrpcServer } from './transports/grpc-server.js';
import { createRpcServices } from './transports/rpc/services.js';
import { TcpxServer } from './transports/tcpx/server.js';

/** Where the doors really listen. */
export interface Addresses {
  readonly http: string;
  readonly grpc: string;
  readonly tcp: string;
}

/** A running TaskDash. */
export interface App {
  readonly addresses: Addresses;
  readonly nodeName: string;
  /** The generated password of the first administrator, when this start created one. */
  readonly firstPassword: string | undefined;
  /** Resolves when the app can no longer do its work, with the reason. */
  readonly lost: Promise<string>;
  /** Stops gracefully; idempotent. */
  stop(): Promise<void>;
}

/** The most writes in one transaction. */
const MAX_WRITE_BATCH = 1000;

/** Undoes what has been started, latest first. Goes on after a failure, and throws the first one at the end. */
class Undo {
  readonly #steps: (() => Promise<void> | void)[] = [];
  #running: Promise<void> | undefined;

  add(step: () => Promise<void> | void): void {
    this.#steps.push(step);
  }

  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  async #runAll(): Promise<void> {
    const failures: unknown[] = [];
    for (const step of this.#steps.reverse()) {
      try {
        await step();
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** Starts everything, or throws and leaves nothing running. */
export async function startApp(config: Config, log: Log, clock: Clock = systemClock): Promise<App> {
  const undo = new Undo();
  try {
    return await start(config, log, clock, undo);
  } catch (failure) {
    await undo.run().catch((error: unknown) => log.warn({ err: error }, 'could not undo the start completely'));
    throw failure;
  }
}

async function start(config: Config, log: Log, clock: Clock, undo: Undo): Promise<App> {
  const nodeName = config.nodeName ?? defaultNodeName();
  let reportLost: (reason: string) => void = () => {};
  const lost = new Promise<string>((resolve) => (reportLost = resolve));
  const database = await acquireDatabase(config, log, reportLost);
  undo.add(() => database.release());
  const storage = await openStorage({
    url: database.url,
    nodeId: nodeName,
    poolSize: config.databasePoolSize,
    log,
    clock,
  });
  undo.add(() => storage.close());

  const identity = await startIdentity(config, storage, clock, undo);
  const core = await startCore(config, storage, log, clock, undo);
  const addresses = await openDoors(config, { storage, log, clock, auth: identity.auth, ...core }, undo);
  return {
    addresses,
    nodeName,
    firstPassword: identity.firstPassword,
    lost,
    stop: () => undo.run(),
  };
}

async function startIdentity(config: Config, storage: Storage, clock: Clock, undo: Undo) {
  const hasher = new Argon2Hasher();
  const users = new Users(storage.identity, hasher, clock);
  const first = await users.ensureFirstAdministrator({ username: config.adminUsername, password: config.adminPassword });
  const auth = new Auth(storage.identity, hasher, clock);
  auth.start();
  undo.add(() => auth.stop());
  return { auth, firstPassword: first.password };
}

async function startCore(config: Config, storage: Storage, log: Log, clock: Clock, undo: Undo) {
  const feed = new TaskFeed(storage.feed, storage.hints, clock, FEED_OPTIONS, log);
  const liveness = new Liveness({
    lapses: storage.tasks,
    hints: storage.hints,
    clock,
    log,
    ttlMs: config.heartbeatTtl,
    reconnectGraceMs: config.reconnectGrace,
  });
  const sealer = new TokenSealer(await storage.settings.secret('token-sealer', 32));
  const live = { pendingWrites: () => batcher.pending, watchers: () => feed.watchers, sessions: () => liveness.size };
  const metrics = new Metrics({ ...live, tcpConnections: () => 0 });
  const options = { maxBatch: MAX_WRITE_BATCH, capacity: config.writeQueue, deadlineMs: config.writeDeadline };
  const batcher = new WriteBatcher(storage.tasks, clock, options, (report) => metrics.onBatch(report));
  undo.add(() => batcher.stop());
  feed.start();
  undo.add(() => feed.stop());
  liveness.start();
  undo.add(() => liveness.stop());
  const registry = new TaskRegistry(storage.tasks, batcher, storage.hints, sealer);
  const watcher = new TaskWatcher(feed, sealer, clock, WATCH_OPTIONS);
  return { registry, watcher, batcher, liveness, metrics };
}
