import { execFile, execFileSync } from 'node:child_process';
import { chmod, mkdtemp, readFile, realpath } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, afterEach, expect } from 'vitest';
import {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  type Surroundings,
} from '../../../server/storage/embedded/embedded-postgres.js';
import { listProcesses, until } from './process-list.js';
import { removeFolder, StandaloneServer, type Account } from './standalone.js';

export const isRoot = process.getuid?.() === 0;
export const isLinux = process.platform === 'linux';

/** A message of the launcher. */
export interface Message {
  readonly level: string;
  readonly message: string;
  readonly details: Record<string, unknown> | undefined;
}

/** Folders and databases of one test file, which end and go with it. */
export class Sandbox {
  readonly messages: Message[] = [];
  #root: Promise<string> | undefined;
  #count = 0;
  #template: Promise<string> | undefined;
  #running: { stop(): Promise<void> }[] = [];

  /** Call at the top of the file: registers the clearing away, and the proof that no process stays. */
  constructor() {
    afterEach(async () => {
      const running = this.#running.splice(0);
      await Promise.all(running.map((server) => server.stop()));
      this.messages.length = 0;
    });
    afterAll(async () => {
      if (!this.#root) return;
      const root = await this.#root;
      const left = (): string[] =>
        listProcesses().flatMap(({ pid, command }) => (command.includes(root) ? `${pid} ${command}` : []));
      // A guardian that lost its other half looks every tenth of a second whether it is done.
      await until('every process of this file has ended', () => left().length === 0).catch(() => {});
      const stayed = left();
      await removeFolder(root);
      expect(stayed).toEqual([]);
    });
  }

  /** A path that nothing has yet, in a folder that every user can pass through. */
  async path(name: string): Promise<string> {
    this.#root ??= makeRoot();
    this.#count += 1;
    const number = this.#count;
    return join(await this.#root, `${name}-${number}`);
  }

  /** A folder with a database in it that has been stopped: a copy, which takes a fifth of the time of a first start. */
  async seeded(name: string): Promise<string> {
    this.#template ??= this.#makeTemplate();
    const path = await this.path(name);
    // Unlike fs.cp it keeps the owner.
    await promisify(execFile)('cp', ['-a', await this.#template, path]);
    return path;
  }

  async #makeTemplate(): Promise<string> {
    const path = await this.path('template');
    const database = await startEmbeddedPostgres({ dataDir: path, log: () => {} });
    await database.stop();
    return path;
  }

  /** Starts a database in this process. */
  async start(
    dataDir: string,
    options: Partial<EmbeddedPostgresOptions> = {},
    surroundings: Partial<Surroundings> = {},
  ): Promise<EmbeddedPostgres> {
    const log: EmbeddedPostgresOptions['log'] = (level, message, details) =>
      void this.messages.push({ level, message, details });
    const database = await startEmbeddedPostgres({ dataDir, log, ...options }, surroundings);
    this.#running.push(database);
    return database;
  }

  /** Starts a database in a process of its own. */
  spawn(node: string, project: string, dataDir: string, account?: Account): StandaloneServer {
    const server = new StandaloneServer(node, project, dataDir, account);
    this.#running.push(server);
    return server;
  }
}

async function makeRoot(): Promise<string> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'taskdash-embedded-')));
  await chmod(root, 0o755);
  return root;
}

/** Runs one statement on a connection of its own. */
export async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  // A server that goes away while the connection closes is what some tests are about.
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** The process number of the PostgreSQL on a data folder. */
export async function postmasterOf(dataDir: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'), 10);
}

/** An account of the machine that is neither root nor owns anything here. */
export function nobody(): Account {
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}
