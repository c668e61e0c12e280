/** The gRPC and HTTP doors on real sockets, over real registry, feed, logins and leases, with stores in memory. */
import type { DescService } from '@bufbuild/protobuf';
import { createClient, type Client, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import type { Role, TokenScope } from '../../server/domain/access.js';
import { Auth } from '../../server/domain/auth.js';
import { systemClock, type Clock } from '../../server/domain/clock.js';
import { Deadline } from '../../server/domain/deadline.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { Liveness } from '../../server/domain/liveness.js';
import { Patience } from '../../server/domain/patience.js';
import type { ChangeHints, Log, PasswordHasher } from '../../server/domain/ports.js';
import { TaskFeed } from '../../server/domain/task-feed.js';
import { TaskRegistry } from '../../server/domain/task-registry.js';
import { TaskWatcher } from '../../server/domain/task-watch.js';
import { TokenSealer } from '../../server/domain/token-sealer.js';
import { Users } from '../../server/domain/users.js';
import { WriteBatcher } from '../../server/domain/write-batcher.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { HttpServer, type HttpServerOptions } from '../../server/transports/connect-server.js';
import { GrpcServer } from '../../server/transports/grpc-server.js';
import { Readiness } from '../../server/transports/readiness.js';
import { ReadingTurns } from '../../server/transports/reading-turns.js';
import { Arrivals } from '../../server/transports/rpc/arrivals.js';
import type { CallReport } from '../../server/transports/rpc/call.js';
import { createRpcServices, type RpcService } from '../../server/transports/rpc/services.js';
import { Unsent } from '../../server/transports/rpc/unsent.js';
import { upTo } from './page-limits.js';
import { MemoryFeedStore } from './memory-feed-store.js';
import { MemoryIdentityStore } from './memory-identity-store.js';
import { MemoryConnection, MemoryDatabase } from './memory-liveness-stores.js';
import { MemoryTaskDatabase, MemoryTaskStore } from './memory-task-store.js';
import { silentLog } from './silent-log.js';

/** The password of every user of a rig. */
export const RIG_PASSWORD = 'correct horse battery';

/** How many lists, histories and counts a rig reads at the same time. */
export const RIG_PAGES_AT_ONCE = 4;

/** The doors of a rig; `web` is gRPC-Web on the HTTP door. */
export type RigDoor = 'grpc' | 'http' | 'web';

/** What a test wants to be different. */
export interface RpcRigOptions {
  readonly log?: Log;
  readonly clock?: Clock;
  readonly maxMessageBytes?: number;
  readonly maxStreams?: number;
  /** Of the gRPC door. */
  readonly maxConnections?: number;
  readonly pageFolder?: string;
  readonly recheckMs?: number;
  readonly pagesAtOnce?: number;
  readonly tls?: HttpServerOptions['tls'];
  readonly trustedProxies?: readonly string[];
  readonly publicUrls?: readonly string[];
  /** Services beside those of the contract. */
  readonly services?: readonly RpcService[];
}

/** Tells a password by looking at it: logins in tests need not be slow. */
const plainHasher: PasswordHasher = {
  hash: (password) => Promise.resolve(`plain:${password}`),
  verify: (hash, password) => Promise.resolve(hash === `plain:${password}`),
};

class DirectHints implements ChangeHints {
  readonly #listeners = new Set<() => void>();

  announce(): void {
    for (const listener of this.#listeners) listener();
  }

  listen(onHint: () => void): () => void {
    this.#listeners.add(onHint);
    return () => void this.#listeners.delete(onHint);
  }
}

export class RpcRig {
  readonly database = new MemoryTaskDatabase();
  readonly identity = new MemoryIdentityStore();
  readonly reports: CallReport[] = [];
  openStreams = 0;
  /** Why the database is away; undefined: it is there. */
  databaseProblem: string | undefined;
  healthChecks = 0;
  /** Lists that have reached the store. */
  heldReads = 0;
  #held: Promise<void> = Promise.resolve();
  readonly feed: TaskFeed;
  readonly users: Users;
  readonly store: MemoryTaskStore;
  readonly arrivals: Arrivals;
  readonly unsent: Unsent;
  readonly grpc: GrpcServer;
  readonly http: HttpServer;
  readonly #auth: Auth;
  readonly #batcher: WriteBatcher;
  readonly #liveness: Liveness;

  private constructor(options: RpcRigOptions) {
    const { clock = systemClock, log = silentLog } = options;
    const hints = new DirectHints();
    const { identity } = this;
    const judge = new ZxcvbnJudge();
    const sealer = new TokenSealer(Buffer.alloc(32, 7));
    this.store = new MemoryTaskStore(this.database, clock, 'node-a');
    const list = this.store.list.bind(this.store);
    this.store.list = async (scope, query) => {
      this.heldReads++;
      await this.#held;
      return list(scope, query);
    };
    this.users = new Users(identity, plainHasher, judge, clock);
    this.#auth = new Auth(identity, plainHasher, judge, clock, log);
    this.#batcher = new WriteBatcher(this.store, clock, {
      maxBatch: 1000,
      maxInFlight: 2,
      capacity: 10_000,
      deadlineMs: 5_000,
    });
    const feedStore = new MemoryFeedStore(this.database);
    this.feed = new TaskFeed(
      feedStore,
      hints,
      clock,
      { pollMs: 200, page: upTo(1_000), watcherBytes: 32_768, ringSize: 20_000, ringBytes: 1e8, maxCatchUp: 200_000 },
      log,
    );
    const { nodes, sessions, beats, questions } = new MemoryConnection(new MemoryDatabase(clock));
    this.#liveness = new Liveness({
      ...{ node: { id: 'a', name: 'node-a' }, lapses: this.store, writes: this.#batcher, nodes, sessions },
      ...{ hints, beats, questions, clock, log, ttlMs: 30_000, reconnectGraceMs: undefined, leaseMovesAtOnce: 4 },
      patience: new Patience(clock, { deadlineMs: 5000, maxWaiting: 1000 }),
    });
    const limits = { maxMessageBytes: options.maxMessageBytes ?? 4 * 1024 * 1024 };
    this.arrivals = new Arrivals(clock, limits);
    this.unsent = new Unsent(clock, limits);
    const turns = new ReadingTurns(clock);
    const services = createRpcServices({
      registry: new TaskRegistry(this.store, this.#batcher, hints, sealer),
      watcher: new TaskWatcher(this.feed, sealer, clock, { idleMs: 15_000 }),
      auth: this.#auth,
      marksOf: (task) => this.#liveness.marks.marksOf(task),
      liveness: this.#liveness,
      maxStreams: options.maxStreams ?? 1_000,
      recheckMs: options.recheckMs ?? 2_000,
      pagesAtOnce: options.pagesAtOnce ?? RIG_PAGES_AT_ONCE,
      observer: {
        onCall: (report) => this.reports.push(report),
        onStream: (_door, change) => (this.openStreams += change),
      },
      ...{ sealer, clock, log, limits, turns },
    });
    const shared = {
      services: [...services, ...(options.services ?? [])],
      auth: this.#auth,
      readiness: new Readiness({ check: () => this.#checkHealth() }, clock),
      ...{ clock, log, limits, arrivals: this.arrivals, unsent: this.unsent, turns },
    };
    this.grpc = new GrpcServer({
      ...shared,
      ...(options.maxConnections && { maxConnections: options.maxConnections }),
    });
    this.http = new HttpServer({
      ...shared,
      metrics: () => Promise.resolve({ contentType: 'text/plain', body: 'nothing 1\n' }),
      pageFolder: options.pageFolder ?? '/nowhere',
      ...(options.tls && { tls: options.tls }),
      ...(options.trustedProxies && { trustedProxies: options.trustedProxies }),
      ...(options.publicUrls && { publicUrls: options.publicUrls }),
    });
  }

  /** Doors that nobody has opened. */
  static unopened(options: RpcRigOptions = {}): Pick<RpcRig, 'grpc' | 'http'> {
    return new RpcRig(options);
  }

  /** Opens both doors on free ports. */
  static async start(options: RpcRigOptions = {}): Promise<RpcRig> {
    const rig = new RpcRig(options);
    rig.feed.start();
    await rig.#liveness.start();
    await rig.grpc.start({ host: '127.0.0.1', port: 0 });
    await rig.http.start({ host: '127.0.0.1', port: 0 });
    return rig;
  }

  /** A token of a group. */
  async token(groupId = 'mx', scopes: readonly TokenScope[] = ['register', 'read']): Promise<string> {
    return (await this.users.createToken({ name: `${groupId}-${scopes.join('-')}`, groupId, scopes })).secret;
  }

  /** A user, with RIG_PASSWORD. */
  addUser(id: string, memberships: Readonly<Record<string, Role>> = {}, administrator = false): Promise<void> {
    const roles = new Map(Object.entries(memberships));
    return this.users.add({ id, displayName: id, password: RIG_PASSWORD, administrator, memberships: roles });
  }

  /** A client on one of the doors; `token` goes along with every call. */
  client<S extends DescService>(service: S, door: RigDoor, token?: string): Client<S> {
    return createClient(service, this.#transport(door, token));
  }

  #transport(door: RigDoor, token: string | undefined): Transport {
    const addToken = [
      (next: (request: { header: Headers }) => unknown) => (request: { header: Headers }) => {
        if (token !== undefined) request.header.set('authorization', `Bearer ${token}`);
        return next(request);
      },
    ] as never;
    if (door === 'grpc') return createGrpcTransport({ baseUrl: `http://${this.grpc.address}`, interceptors: addToken });
    const options = { baseUrl: this.http.address, httpVersion: '1.1', interceptors: addToken } as const;
    return door === 'http' ? createConnectTransport(options) : createGrpcWebTransport(options);
  }

  /** Closes everything. */
  async stop(): Promise<void> {
    this.feed.stop();
    await Promise.all([this.grpc.stop(1_000), this.http.stop(1_000)]);
    await this.#liveness.stop(new Deadline(systemClock, 5_000));
    await this.#batcher.stop();
    await this.#auth.stop();
  }

  /** Lets every list wait until the returned function is called. */
  holdReads(): () => void {
    let release: () => void = () => {};
    this.#held = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  }

  #checkHealth(): Promise<void> {
    this.healthChecks++;
    const message = this.databaseProblem;
    return message === undefined
      ? Promise.resolve()
      : Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE', { message }));
  }
}
