/** One PostgreSQL, some servers, each with its own cable to it, and fleets of services; all of it real. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import { ServerProcess } from '../support/server-process.js';
import { Cable } from './cable.js';
import { FleetProcess } from './fleet-process.js';
import type { FleetPlan } from './fleet.js';

/** Everything three to five times as fast as by default, so that a scenario takes a minute. */
export const TTL_MS = 6000;
export const BEAT_MS = 2000;
export const LEASE_MS = 3000;
export const FAILOVER_GRACE_MS = 12_000;

const SETTINGS = {
  TASKDASH_HEARTBEAT_TTL: `${TTL_MS}ms`,
  TASKDASH_NODE_LEASE: `${LEASE_MS}ms`,
  TASKDASH_FAILOVER_GRACE: `${FAILOVER_GRACE_MS}ms`,
  TASKDASH_ADMIN_PASSWORD: 'correct horse battery',
  TASKDASH_LOG_LEVEL: 'warn',
};

/** A server, and its cable to the database. */
export interface ChaosServer {
  readonly process: ServerProcess;
  readonly cable: Cable;
  /** host:port of the legacy door. */
  readonly tcp: string;
}

/** A shutdown that the registry decided. */
export interface Verdict {
  readonly id: string;
  readonly cause: string;
  readonly gapMs: number;
  readonly atMs: number;
}

export class World {
  readonly servers: ChaosServer[] = [];
  readonly #fleets: FleetProcess[] = [];
  readonly #cables: Cable[] = [];
  #postgres: EmbeddedPostgres | undefined;
  #client: pg.Client | undefined;

  private constructor(private readonly folder: string) {}

  static async begin(): Promise<World> {
    const world = new World(await mkdtemp(join(tmpdir(), 'taskdash-chaos-')));
    await world.startPostgres();
    return world;
  }

  async startPostgres(): Promise<void> {
    this.#postgres = await startEmbeddedPostgres({
      dataDir: join(this.folder, 'data'),
      log: () => {},
      maxConnections: 120,
    });
  }

  async stopPostgres(): Promise<void> {
    this.#client?.on('error', () => {});
    this.#client = undefined;
    await this.#postgres?.stop();
    this.#postgres = undefined;
  }

  async startServer(settings: Readonly<Record<string, string>> = {}): Promise<ChaosServer> {
    const cable = await this.lay(() => this.#database());
    const url = new URL(this.#url);
    url.port = String(cable.port);
    const process = await ServerProcess.start({ ...SETTINGS, TASKDASH_DATABASE_URL: url.href, ...settings });
    const server = { process, cable, tcp: process.ready.tcp };
    this.servers.push(server);
    return server;
  }

  async lay(target: () => { host: string; port: number }): Promise<Cable> {
    const cable = await Cable.lay(target);
    this.#cables.push(cable);
    return cable;
  }

  async launch(plan: Partial<FleetPlan> & Pick<FleetPlan, 'count' | 'servers'>): Promise<FleetProcess> {
    const usual = { first: 0, beatMs: BEAT_MS, spreadMs: BEAT_MS, ownAddresses: true } as const;
    const fleet = await FleetProcess.launch({ ...usual, onReturn: 'register', startAt: 'all', ...plan });
    this.#fleets.push(fleet);
    return fleet;
  }

  async rows<Row extends object>(text: string, values: unknown[] = []): Promise<Row[]> {
    this.#client ??= await this.#connect();
    return (await this.#client.query<Row & Record<string, unknown>>(text, values)).rows;
  }

  /** Every shutdown that the registry decided so far. */
  verdicts(): Promise<Verdict[]> {
    return this.rows<Verdict>(`SELECT task_id AS id, cause, gap_ms::float8 AS "gapMs",
      (extract(epoch FROM at) * 1000)::float8 AS "atMs" FROM task_event WHERE kind = 'lapsed' ORDER BY seq`);
  }

  /** The numbers of the services whose tasks are shut down. */
  async shutDown(): Promise<number[]> {
    const rows = await this.rows<{ id: string }>(`SELECT id FROM task WHERE status = 'shutdown'`);
    return rows.map(({ id }) => Number(id.replace('service-', ''))).sort((a, b) => a - b);
  }

  /** The working services whose stored count is lower than one that was acknowledged. */
  async lost(acknowledged: Readonly<Record<string, number>>): Promise<string[]> {
    const rows = await this.rows<{ id: string; description: string }>('SELECT id, description FROM task');
    const stored = new Map(rows.map(({ id, description }) => [id, Number(description)]));
    return Object.entries(acknowledged)
      .filter(([id, count]) => (stored.get(id) ?? -1) < count)
      .map(([id]) => id);
  }

  async end(): Promise<void> {
    await Promise.all(this.#fleets.map((fleet) => fleet.end()));
    for (const { process } of this.servers) process.signal('SIGCONT');
    await Promise.all(this.servers.map(({ process }) => process.kill()));
    await Promise.all(this.#cables.map((cable) => cable.remove()));
    await this.#client?.end().catch(() => {});
    await this.#postgres?.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.#url });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  get #url(): string {
    if (!this.#postgres) throw new Error('PostgreSQL is stopped');
    return this.#postgres.connectionString;
  }

  #lastPort = 1;

  /** Where PostgreSQL listens, or did last. */
  #database(): { host: string; port: number } {
    if (this.#postgres) this.#lastPort = Number(new URL(this.#url).port);
    return { host: '127.0.0.1', port: this.#lastPort };
  }
}

/** Numbers from `from` up to, but not including, `to`. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** Waits until something is as it should be, or the time is up. */
export async function until(deadlineMs: number, isSo: () => Promise<boolean>): Promise<void> {
  for (const endsAt = Date.now() + deadlineMs; Date.now() < endsAt; await delay(200)) if (await isSo()) return;
}
