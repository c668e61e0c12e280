/**
 * The composition root: the only file that knows all parts. Everything long-lived is started top to bottom and stopped
 * in reverse, by one deadline (stop.ts).
 *
 *   database → storage → identity → feed → liveness → doors (gRPC, HTTP, legacy TCP)
 */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { existsSync } from 'node:fs';
import { missingAdministrator } from './administrators.js';
import type { Principal } from './domain/access.js';
import { TaskDashError } from './domain/errors.js';
import { ConfigError, defaultNodeName, SETTINGS, type Config } from './config.js';
import { acquireDatabase, openDatabase } from './database.js';
import { doorPlaces, requireDoors } from './doors.js';
import { Auth, AUTH_DEFAULTS, type AuthOptions } from './domain/auth.js';
import { systemClock, type Clock } from './domain/clock.js';
import { Liveness } from './domain/liveness.js';
import type { NodeIdentity } from './domain/liveness-ports.js';
import type { Log } from './domain/ports.js';
import { Patience } from './domain/patience.js';
import { withPatience } from './domain/patient-stores.js';
import { ReadBatcher } from './domain/read-batcher.js';
import { TaskFeed } from './domain/task-feed.js';
import { TaskRegistry } from './domain/task-registry.js';
import { TaskWatcher } from './domain/task-watch.js';
import { TokenQuota } from './domain/token-quota.js';
import { TokenSealer } from './domain/token-sealer.js';
import { Users } from './domain/users.js';
import { WriteBatcher } from './domain/write-batcher.js';
import { Argon2Hasher } from './identity/argon2-hasher.js';
import { ZxcvbnJudge } from './identity/zxcvbn-judge.js';
import { Metrics } from './metrics.js';
import { watchForNamesakes } from './namesakes.js';
import { connectionsADoor, openFilesLimit } from './open-files.js';
import { StopDeadline, Undo } from './stop.js';
import type { Storage } from './storage/storage.js';
import { allowOnly } from './transports/client-address.js';
import { HttpServer } from './transports/connect-server.js';
import { GrpcServer } from './transports/grpc-server.js';
import { Readiness } from './transports/readiness.js';
import { ReadingTurns } from './transports/reading-turns.js';
import { Arrivals } from './transports/rpc/arrivals.js';
import { MAX_CONNECTIONS } from './transports/rpc/limits.js';
import { createRpcServices } from './transports/rpc/services.js';
import { Unsent } from './transports/rpc/unsent.js';
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
  /** Stops gracefully by a deadline, by default that of the settings; idempotent. */
  stop(deadline?: StopDeadline): Promise<void>;
}

/**
 * The most writes in one transaction: enough that the commit costs next to nothing a write, and few enough that a
 * thousand callers are several batches, so that the database writes one while the answers to another are on their way.
 */
const MAX_WRITE_BATCH = 256;
const MAX_BATCHES_IN_FLIGHT = 2;
/** Of the database's connections at least half are left to everybody else. */
const LEASE_MOVES_AT_ONCE = 4;
const FEED_OPTIONS = {
  pollMs: 1_000,
  page: { records: 1_000, bytes: 2 * 1024 * 1024 },
  watcherBytes: 32 * 1024,
  ringSize: 20_000,
  ringBytes: 16 * 1024 * 1024,
  maxCatchUp: 200_000,
};
/** Lists, histories and counts that are read at the same time: the part of the database's connections that they may take. */
const PAGES = { partOfPool: 0.4, atOnce: 4 };
const WATCH_OPTIONS = { idleMs: 15_000, recheckMs: 2_000 };
/** The page's build: beside this file's build, or where the sources run from, below dist. */
const PAGE_FOLDER =
  [new URL('../web', import.meta.url), new URL('../dist/web', import.meta.url)]
    .map((url) => fileURLToPath(url))
    .find((folder) => existsSync(`${folder}/assets`)) ?? fileURLToPath(new URL('../dist/web', import.meta.url));

/** Starts everything, or throws and leaves nothing running. */
export async function startApp(config: Config, log: Log, clock: Clock = systemClock): Promise<App> {
  const undo = new Undo();
  try {
    return await start(config, log, clock, undo);
  } catch (failure) {
    await undo
      .run(new StopDeadline(clock, config.stopTimeout))
      .catch((error: unknown) => log.warn({ err: error }, 'could not undo the start completely'));
    throw failure;
  }
}

async function start(config: Config, log: Log, clock: Clock, undo: Undo): Promise<App> {
  const nodeName = config.nodeName ?? defaultNodeName();
  let reportLost: (reason: string) => void = () => {};
  const lost = new Promise<string>((resolve) => (reportLost = resolve));
  const database = await acquireDatabase(config, log, reportLost);
  undo.add(() => database.release());
  await requireDoors(doorPlaces(config));
  const opened = await openDatabase(config, database, { nodeId: nodeName, poolSize: config.databasePoolSize, log });
  undo.add((deadline) => deadline.holds(opened.close()));
  const patience = new Patience(clock, { deadlineMs: config.writeDeadline, maxWaiting: 10_000 });
  const storage = withPatience(opened, patience);

  const identity = await startIdentity(config, storage, log, clock, undo);
  const node = { id: randomUUID(), name: nodeName };
  const core = await startCore({ config, storage, patience, node, log, clock, undo });
  undo.add(watchForNamesakes(node, { nodes: opened.knownNodes, clock, log, leaseMs: config.nodeLease }));
  const addresses = await openDoors(config, { storage, log, clock, auth: identity.auth, ...core }, undo);
  // Before the doors wait for their calls to end: watches end with the feed, and no closing connection is judged any more.
  undo.add(() => core.feed.stop());
  undo.add(() => core.liveness.beginStop());
  undo.add(({ answers }) => {
    for (const part of [patience, core.batcher, core.reader]) part.endBy(answers);
  });
  return {
    addresses,
    nodeName,
    firstPassword: identity.firstPassword,
    lost,
    stop: (deadline = new StopDeadline(clock, config.stopTimeout)) => undo.run(deadline),
  };
}

async function startIdentity(config: Config, storage: Storage, log: Log, clock: Clock, undo: Undo) {
  const hasher = new Argon2Hasher();
  const judge = new ZxcvbnJudge();
  const users = new Users(storage.identity, hasher, judge, clock);
  const first = await ensureFirstAdministrator(users, config);
  const missing = await missingAdministrator(storage.identity);
  if (missing !== undefined) log.warn({}, missing);
  const auth = new Auth(storage.identity, hasher, judge, clock, log, authOptions(config));
  auth.start();
  undo.add((deadline) => deadline.holds(auth.stop()));
  return { auth, firstPassword: first.password };
}

/** Throws ConfigError, which names the setting, for a name or a password that must not be. */
async function ensureFirstAdministrator(users: Users, { adminUsername: username, adminPassword: password }: Config) {
  try {
    return await users.ensureFirstAdministrator({ username, password });
  } catch (thrown) {
    const [violation] = thrown instanceof TaskDashError ? thrown.violations : [];
    if (!violation) throw thrown;
    const { env } = violation.field === 'id' ? SETTINGS.adminUsername : SETTINGS.adminPassword;
    throw new ConfigError(`${env}: the value given is not allowed; it ${violation.description}.`);
  }
}

/** The look-ups of strangers leave at least half of the database's connections to everybody else. */
function authOptions({ databasePoolSize }: Config): AuthOptions {
  const { credentials } = AUTH_DEFAULTS;
  const running = Math.min(credentials.strangers.running, Math.floor(databasePoolSize / 2));
  return { ...AUTH_DEFAULTS, credentials: { ...credentials, strangers: { ...credentials.strangers, running } } };
}

/** One at least; and so few that their answers, while they are made, take little. */
function pagesAtOnce({ databasePoolSize }: Config): number {
  return Math.max(1, Math.min(PAGES.atOnce, Math.floor(databasePoolSize * PAGES.partOfPool)));
}

/** What the core is made of. */
interface CoreParts {
  readonly config: Config;
  readonly storage: Storage;
  readonly patience: Patience;
  readonly node: NodeIdentity;
  readonly log: Log;
  readonly clock: Clock;
  readonly undo: Undo;
}

async function startCore({ config, storage, patience, node, log, clock, undo }: CoreParts) {
  const metrics = new Metrics();
  metrics.node.set({ ...node }, 1);
  const feed = new TaskFeed(storage.feed, storage.hints, clock, FEED_OPTIONS, log);
  const options = {
    maxBatch: MAX_WRITE_BATCH,
    maxInFlight: MAX_BATCHES_IN_FLIGHT,
    capacity: config.writeQueue,
    deadlineMs: config.writeDeadline,
  };
  const batcher = new WriteBatcher(storage.tasks, clock, options, (report) => {
    metrics.onBatch(report);
    if (report.failed) liveness.onWritesFailed();
  });
  const liveness = new Liveness({
    node,
    lapses: storage.tasks,
    writes: batcher,
    nodes: storage.nodes,
    sessions: storage.sessions,
    hints: storage.hints,
    beats: storage.beats,
    questions: storage.questions,
    patience,
    clock,
    log,
    ttlMs: config.heartbeatTtl,
    reconnectGraceMs: config.reconnectGrace,
    failoverGraceMs: config.failoverGrace,
    leaseMs: config.nodeLease,
    protectionMaxMs: config.protectionMax,
    resumeByAddress: config.resumeByAddress,
    leaseMovesAtOnce: Math.min(LEASE_MOVES_AT_ONCE, Math.floor(config.databasePoolSize / 2)),
    leasesPerOwner: config.leasesPerOwner,
    isProxy: config.httpTrustedProxies?.length ? allowOnly(config.httpTrustedProxies) : () => false,
    events: metrics.liveness,
  });
  feed.start();
  undo.add(() => feed.stop());
  undo.add(() => batcher.stop());
  await liveness.start();
  undo.add((deadline) => liveness.stop(deadline));
  const sealer = new TokenSealer(await storage.settings.secret('token-sealer', 32));
  const turns = new ReadingTurns(clock);
  const nextTurn = () => turns.forLongWork();
  const reader = new ReadBatcher(storage.tasks, clock, { deadlineMs: config.writeDeadline, nextTurn });
  undo.add(() => reader.stop());
  const quota = new TokenQuota(clock, {
    newTasksPerMinute: config.tokenNewTasks,
    onExceeded: (owner) => liveness.noteLimit(owner, 'new tasks'),
  });
  const onEnded = (taskId: string, epoch: number) => liveness.onEnded(taskId, epoch);
  const registry = new TaskRegistry(storage.tasks, batcher, storage.hints, sealer, reader, quota, onEnded);
  const watcher = new TaskWatcher(feed, sealer, clock, WATCH_OPTIONS);
  return { metrics, feed, liveness, batcher, reader, sealer, registry, watcher, turns };
}

/** What the doors are made of. */
interface Parts extends Awaited<ReturnType<typeof startCore>> {
  readonly storage: Storage;
  readonly auth: Auth;
  readonly log: Log;
  readonly clock: Clock;
}

async function openDoors(config: Config, parts: Parts, undo: Undo): Promise<Addresses> {
  const { metrics, clock, log, turns } = parts;
  const readiness = new Readiness(parts.storage.health, clock);
  const limits = { maxMessageBytes: config.rpcMaxMessageBytes };
  const services = createRpcServices({
    ...parts,
    marksOf: (task) => parts.liveness.marks.marksOf(task),
    maxStreams: config.rpcMaxStreams,
    recheckMs: WATCH_OPTIONS.recheckMs,
    pagesAtOnce: pagesAtOnce(config),
    limits,
    observer: {
      onCall: ({ door, method, code, durationMs }) => metrics.calls.observe({ door, method, code }, durationMs / 1000),
      onStream: (door, change) => metrics.openStreams.inc({ door }, change),
    },
  });
  const arrivals = new Arrivals(clock, limits);
  const unsent = new Unsent(clock, limits);
  const aDoor = connectionsADoor(openFilesLimit());
  tellOfFewFiles(config, log, aDoor);
  const maxConnections = Math.min(MAX_CONNECTIONS, aDoor);
  const shared = { services, auth: parts.auth, readiness, clock, log, limits, arrivals, unsent, turns, maxConnections };
  const grpc = new GrpcServer(shared);
  const http = new HttpServer({
    ...shared,
    pageFolder: PAGE_FOLDER,
    trustedProxies: config.httpTrustedProxies ?? [],
    publicUrls: config.publicUrl ?? [],
    metrics: () => metrics.render(),
  });
  const tcp = tcpDoor(config, parts, Math.min(config.tcpMaxConnections, aDoor));
  metrics.readLive({
    pendingWrites: () => parts.batcher.pending,
    watchers: () => parts.feed.watchers,
    sessions: () => parts.liveness.size,
    tcpConnections: () => tcp.size,
    mayJudge: () => parts.liveness.trust.mayJudge,
  });
  for (const { door, host, port } of [
    { door: grpc, host: config.grpcHost, port: config.grpcPort },
    { door: http, host: config.httpHost, port: config.httpPort },
    { door: tcp, host: config.tcpHost, port: config.tcpPort },
  ]) {
    await door.start({ host: host ?? config.host, port });
  }
  // All doors close at once: together they have the time that each would have.
  undo.add(({ doors }) => Promise.all([grpc, http, tcp].map((door) => door.stop(doors.leftMs))));
  undo.add(() => readiness.stop());
  return { http: http.address, grpc: grpc.address, tcp: tcp.address };
}

/** Says so when the doors take fewer connections than they could, since the system gives the process too few files. */
function tellOfFewFiles(config: Config, log: Log, aDoor: number): void {
  if (aDoor >= config.tcpMaxConnections) return;
  log.info(
    { openFiles: openFilesLimit(), connectionsADoor: aDoor },
    'each door takes fewer connections than it could, because the process may not open more files; raise that limit ' +
      '(ulimit -n, LimitNOFILE of systemd), or lower TASKDASH_TCP_MAX_CONNECTIONS',
  );
}

function tcpDoor(config: Config, parts: Parts, maxConnections: number): TcpxServer {
  const { registry, reader, batcher, liveness, auth, metrics, log, clock } = parts;
  const authenticate = (token: string, address: string) => authenticateToken(auth, token, address);
  return new TcpxServer({
    registry,
    room: batcher,
    readRoom: reader,
    sessions: liveness,
    clock,
    log,
    metrics: metrics.tcp,
    authenticateToken: config.tcpRequireToken ? authenticate : undefined,
    onWork: () => parts.turns.onOtherWork(),
    limits: {
      maxFrameBytes: config.tcpMaxFrameBytes,
      frameTimeoutMs: config.tcpFrameTimeout,
      maxConnections,
      maxConnectionsPerAddress: config.tcpMaxConnectionsPerAddress,
      roomTimeoutMs: config.writeDeadline,
      allow: config.tcpAllow,
    },
  });
}

async function authenticateToken(auth: Auth, token: string, address: string): Promise<Principal> {
  const principal = await auth.authenticate({ bearer: token, address });
  if (principal?.kind === 'token') return principal;
  throw new TaskDashError('NOT_LOGGED_IN', { message: 'The legacy door takes service tokens only.' });
}
