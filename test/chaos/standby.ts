/**
 * A PostgreSQL that repeats what another one writes, as that one's log arrives through a cable, until it takes its place
 * with what it has received. Commits do not wait for it.
 */
import { execFile } from 'node:child_process';
import { appendFile, chown, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import { postmasterPid } from '../support/server-process.js';
import type { Cable } from './cable.js';

/** What a PostgreSQL needs so that another one can follow it. */
export const FOLLOWED = { max_wal_senders: '4', wal_keep_size: '512MB' };

const RECEIVED_MS = 20_000;
const PROMOTED_MS = 20_000;
const LOOK_EVERY_MS = 20;

export class Standby {
  private constructor(
    readonly postgres: EmbeddedPostgres,
    private readonly folder: string,
    /** What the other's log arrives by. */
    readonly cable: Cable,
  ) {}

  /** Copies the data folder of a PostgreSQL that is stopped. */
  static async copy(from: string, to: string): Promise<void> {
    await appendFile(join(from, 'postgres', 'pg_hba.conf'), 'host replication postgres 127.0.0.1/32 trust\n');
    // Unlike fs.cp it keeps the owner.
    await promisify(execFile)('cp', ['-a', from, to]);
    await leave(to, 'standby.signal');
  }

  /** Starts the copy; the cable leads to the PostgreSQL that it follows. */
  static async start(folder: string, cable: Cable, options: { maxConnections: number }): Promise<Standby> {
    const [host = '', port = ''] = cable.at.split(':');
    const settings = {
      ...FOLLOWED,
      primary_conninfo: `host=${host} port=${port} user=postgres application_name=standby`,
    };
    const postgres = await startEmbeddedPostgres({ ...options, log: () => {}, dataDir: folder, settings });
    return new Standby(postgres, folder, cable);
  }

  /** host:port. */
  get at(): string {
    return new URL(this.postgres.connectionString).host;
  }

  /** Resolves when everything up to a place in the other's log has arrived and is on this one's disk. */
  async received(place: string): Promise<void> {
    await this.#until(RECEIVED_MS, `SELECT pg_last_wal_receive_lsn() >= '${place}'::pg_lsn AS so`);
  }

  /** Ends the repeating: from now on it is written to. */
  async promote(): Promise<void> {
    await leave(this.folder, 'promote');
    process.kill(postmasterPid(this.folder), 'SIGUSR1');
    await this.#until(PROMOTED_MS, 'SELECT NOT pg_is_in_recovery() AS so');
  }

  async #until(deadlineMs: number, question: string): Promise<void> {
    const client = new pg.Client({ connectionString: this.postgres.connectionString });
    await client.connect();
    try {
      for (const endsAt = Date.now() + deadlineMs; ;) {
        if ((await client.query<{ so: boolean | null }>(question)).rows[0]?.so) return;
        if (Date.now() > endsAt) throw new Error(`not so within ${deadlineMs} ms: ${question}`);
        await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
      }
    } finally {
      await client.end();
    }
  }
}

/**
 * A file that PostgreSQL looks for, and takes away itself as soon as it is there: it belongs to the cluster's owner before it
 * has its name.
 */
async function leave(folder: string, name: 'standby.signal' | 'promote'): Promise<void> {
  const cluster = join(folder, 'postgres');
  const { uid, gid } = await stat(cluster);
  const unnamed = join(cluster, `${name}.new`);
  await writeFile(unnamed, '');
  await chown(unnamed, uid, gid);
  await rename(unnamed, join(cluster, name));
}
