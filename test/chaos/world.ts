/** One PostgreSQL, some servers and fleets of services; all of it real. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createClient, type Client } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import pg from 'pg';
import { authorized } from '../../client/authorized-transport.js';
import { AdminService } from '../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import type { TokenScope } from '../../server/domain/access.js';
import type { NodeEventKind } from '../../server/domain/liveness-ports.js';
import { freeLoopbackPort } from '../../server/storage/embedded/launcher.js';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import { postmasterPid, ServerProcess } from '../support/server-process.js';
import { Cable } from './cable.js';
import { FleetProcess, type FleetProcessPlan } from './fleet-process.js';
import type { LeaseFleetPlan } from './lease-fleet.js';
import { Namespace } from './namespace.js';
import type { RoamingFleetPlan } from './roaming-fleet.js';
import { FOLLOWED, Standby } from './standby.js';
import type { TcpFleetPlan } from './tcp-fleet.js';

/** How long everything takes in a scenario, in milliseconds. */
export interface Timing {
  readonly ttlMs: number;
  readonly beatMs: number;
  readonly leaseMs: number;
  readonly failoverGraceMs: number;
}

/** Three to five times as fast as by default, so that a scenario takes a minute. */
export const FAST: Timing = { ttlMs: 6000, beatMs: 2000, leaseMs: 3000, failoverGraceMs: 12_000 };
/** What a server does by itself. */
export const USUAL: Timing = { ttlMs: 30_000, beatMs: 10_000, leaseMs: 10_000, failoverGraceMs: 60_000 };

const ADMIN_PASSWORD = 'correct horse battery';
const POSTGRES = { log: () => {}, maxConnections: 120 };
/** The first connections of a fleet take so long, and every so many-th service writes. */
const FLEET = { first: 0, spreadMs: 2000, workEvery: 10, workPauseMs: 500 } as const;

/** How long PostgreSQL may take to end at once. */
const CRASH_MS = 10_000;

/** How a server is started. */
export interface ServerOptions {
  readonly settings?: Readonly<Record<string, string>>;
  /** Where the database is for it, as host:port; the database itself if not given. */
  readonly databaseAt?: string;
  readonly namespace?: Namespace;
}

/** A shutdown that the registry decided. */
export interface Verdict {
  readonly id: string;
  readonly cause: string;
  /** How long the service had been silent, as the server knew. */
  readonly gapMs: number;
  /** When it became durable, by the database's clock. */
  readonly atMs: number;
}

export class World {
  readonly fleets: FleetProcess[] = [];
  readonly #servers: ServerProcess[] = [];
  readonly #cables: Cable[] = [];
  readonly #namespaces: Namespace[] = [];
  #postgres: EmbeddedPostgres | undefined;
  #standby: Standby | undefined;
  #client: pg.Client | undefined;
  #token: Promise<string> | undefined;

  private constructor(
    readonly timing: Timing,
    private readonly folder: string,
    private readonly firstDatabaseAt: string,
  ) {}

  static async begin(timing: Timing): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), 'taskdash-chaos-'));
    const world = new World(timing, folder, `127.0.0.1:${await freeLoopbackPort()}`);
    await world.startPostgres();
    return world;
  }

  // ── The database ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** host:port of PostgreSQL. */
  get databaseAt(): string {
    return this.#postgres ? new URL(this.#url).host : this.firstDatabaseAt;
  }

  async startPostgres(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    const pickPort = () => Promise.resolve(Number(this.firstDatabaseAt.split(':')[1]));
    const options = { ...POSTGRES, dataDir: this.#firstFolder, settings };
    this.#postgres = await startEmbeddedPostgres(options, { pickPort });
  }

  async stopPostgres(): Promise<void> {
    this.#client = undefined;
    await this.#postgres?.stop();
  }

  /** PostgreSQL ends at once, in the middle of whatever it does, and finds everything again from its log when it is started. */
  async crashPostgres(): Promise<void> {
    await this.#endPostgres('SIGQUIT');
  }

  /** Gives PostgreSQL a standby, to which its log flows through a cable. Only while no server runs. */
  async addStandby(): Promise<Standby> {
    await this.stopPostgres();
    const folder = join(this.folder, 'standby');
    await Standby.copy(this.#firstFolder, folder);
    await this.startPostgres(FOLLOWED);
    const cable = await this.lay(() => this.firstDatabaseAt);
    this.#standby = await Standby.start(folder, cable, POSTGRES);
    return this.#standby;
  }

  /** kill -9 of PostgreSQL. */
  async killPostgres(): Promise<void> {
    await this.#endPostgres('SIGKILL');
  }

  /** The standby takes PostgreSQL's place, with what it has received. */
  async promoteStandby(): Promise<void> {
    if (!this.#standby) throw new Error('there is no standby');
    await this.#standby.promote();
    this.#postgres = this.#standby.postgres;
    this.#standby = undefined;
  }

  /** What the PostgreSQL had written that was killed before the standby took its place. */
  async rowsOfFormer<Row extends object>(text: string): Promise<Row[]> {
    const former = await startEmbeddedPostgres({ ...POSTGRES, dataDir: this.#firstFolder });
    const client = new pg.Client({ connectionString: former.connectionString });
    try {
      await client.connect();
      return (await client.query<Row & Record<string, unknown>>(text)).rows;
    } finally {
      await client.end();
      await former.stop();
    }
  }

  async rows<Row extends object>(text: string): Promise<Row[]> {
    this.#client ??= await this.#connect();
    return (await this.#client.query<Row & Record<string, unknown>>(text)).rows;
  }

  /** Every shutdown that the registry decided so far. */
  verdicts(): Promise<Verdict[]> {
    return this.rows<Verdict>(`SELECT task_id AS id, cause, gap_ms::float8 AS "gapMs",
      (extract(epoch FROM at) * 1000)::float8 AS "atMs" FROM task_event WHERE kind = 'lapsed' ORDER BY seq`);
  }

  /** When a server last told of something, by the database's clock. */
  async lastEvent(kind: NodeEventKind): Promise<number> {
    const [event] = await this.rows<{ atMs: number | null }>(
      `SELECT (extract(epoch FROM max(at)) * 1000)::float8 AS "atMs" FROM node_event WHERE kind = '${kind}'`,
    );
    if (!event?.atMs) throw new Error(`no server told of ${kind}`);
    return event.atMs;
  }

  /** The tasks that are shut down. */
  async shutDown(): Promise<string[]> {
    return (await this.rows<{ id: string }>(`SELECT id FROM task WHERE status = 'shutdown'`)).map(({ id }) => id);
  }

  // ── Servers and services ───────────────────────────────────────────────────────────────────────────────────────────

  async startServer({ settings, databaseAt, namespace }: ServerOptions = {}): Promise<ServerProcess> {
    const url = new URL(this.#url);
    url.host = databaseAt ?? this.databaseAt;
    const env = { ...settingsOf(this.timing), TASKDASH_DATABASE_URL: url.href, ...settings };
    const server = await ServerProcess.start(env, namespace?.wrapper);
    this.#servers.push(server);
    return server;
  }

  /** Services on the legacy door. */
  launch(plan: Partial<TcpFleetPlan> & Pick<TcpFleetPlan, 'count' | 'servers'>, inside?: Namespace) {
    const usual = { door: 'tcp', onReturn: 'register', startAt: 'all', sharing: 1 } as const;
    return this.#launch({ ...FLEET, ...usual, beatMs: this.timing.beatMs, ...plan }, inside);
  }

  /** Services that hold leases, at one address over gRPC. */
  async launchLeases(plan: Partial<LeaseFleetPlan> & Pick<LeaseFleetPlan, 'count' | 'url'>): Promise<FleetProcess> {
    this.#token ??= this.createToken('fleet', 'register');
    return this.#launch({ ...FLEET, door: 'grpc', token: await this.#token, ...plan });
  }

  /** Services that hold leases, whose calls go through several servers in turn. */
  async launchRoaming(
    plan: Partial<RoamingFleetPlan> & Pick<RoamingFleetPlan, 'count' | 'urls'>,
  ): Promise<FleetProcess> {
    this.#token ??= this.createToken('fleet', 'register');
    return this.#launch({ ...FLEET, door: 'roaming', beatMs: this.timing.beatMs, token: await this.#token, ...plan });
  }

  /** A proxy whose black hole swallows bytes. */
  async lay(target: () => string, host?: string): Promise<Cable> {
    const cable = await Cable.lay(target, host);
    this.#cables.push(cable);
    return cable;
  }

  async makeNamespace(): Promise<Namespace> {
    const namespace = await Namespace.make();
    this.#namespaces.push(namespace);
    return namespace;
  }

  /** What an administrator who is logged in at a server may order. */
  async administrator({ ready }: ServerProcess): Promise<Client<typeof AdminService>> {
    const transport = createConnectTransport({ baseUrl: ready.http, httpVersion: '1.1' });
    const login = { username: 'admin', password: ADMIN_PASSWORD, issueToken: true };
    const { token } = await createClient(AuthService, transport).login(login);
    return createClient(AdminService, authorized(transport, token));
  }

  /** A service token of the group that all services are in. */
  async createToken(name: string, ...scopes: readonly TokenScope[]): Promise<string> {
    const args = [MAIN, 'token', 'create', name, '--group', 'mx', ...scopes.flatMap((scope) => ['--scope', scope])];
    const env = { ...process.env, TASKDASH_DATABASE_URL: this.#url };
    return (await promisify(execFile)(process.execPath, args, { env })).stdout.trim();
  }

  async end(): Promise<void> {
    await Promise.all(this.fleets.map((fleet) => fleet.end()));
    await Promise.all(this.#servers.map((server) => server.kill()));
    await Promise.all(this.#cables.map((cable) => cable.remove()));
    await Promise.all(this.#namespaces.map((namespace) => namespace.remove()));
    await this.#client?.end().catch(() => {});
    await this.#standby?.postgres.stop();
    await this.#postgres?.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #launch(plan: FleetProcessPlan, inside?: Namespace): Promise<FleetProcess> {
    const fleet = await FleetProcess.launch(plan, inside?.wrapper);
    this.fleets.push(fleet);
    return fleet;
  }

  async #endPostgres(signal: 'SIGQUIT' | 'SIGKILL'): Promise<void> {
    const postgres = this.#postgres;
    if (!postgres) throw new Error('PostgreSQL was never started');
    this.#client = undefined;
    let isLost = false;
    postgres.onUnexpectedExit(() => (isLost = true));
    process.kill(postmasterPid(this.#firstFolder), signal);
    await until(CRASH_MS, () => Promise.resolve(isLost), 20);
    if (!isLost) throw new Error('PostgreSQL does not end');
    // What the server held is given back.
    await postgres.stop();
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.#url });
    // A scenario stops the database: what is asked then fails by itself.
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  get #firstFolder(): string {
    return join(this.folder, 'data');
  }

  get #url(): string {
    if (!this.#postgres) throw new Error('PostgreSQL was never started');
    return this.#postgres.connectionString;
  }
}

const MAIN = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url));

function settingsOf({ ttlMs, leaseMs, failoverGraceMs }: Timing): Record<string, string> {
  return {
    TASKDASH_HEARTBEAT_TTL: `${ttlMs}ms`,
    TASKDASH_NODE_LEASE: `${leaseMs}ms`,
    TASKDASH_FAILOVER_GRACE: `${failoverGraceMs}ms`,
    TASKDASH_ADMIN_PASSWORD: ADMIN_PASSWORD,
    TASKDASH_LOG_LEVEL: 'warn',
  };
}

/** Waits until something is as it should be, or the time is up; what matters is looked at afterwards. */
export async function until(deadlineMs: number, isSo: () => Promise<boolean>, everyMs = 200): Promise<void> {
  for (const endsAt = Date.now() + deadlineMs; Date.now() < endsAt; await delay(everyMs)) if (await isSo()) return;
}
