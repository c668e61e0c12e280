import { spawn } from 'node:child_process';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { guardianPidsOf, isRunning, listProcesses, processOf, until } from './process-list.js';
import { isRoot, postmasterOf, query, Sandbox } from './sandbox.js';
import { buildProject, type StandaloneServer } from './standalone.js';

const sandbox = new Sandbox();
let project = '';

beforeAll(async () => {
  project = await sandbox.path('project');
  await buildProject(project, 'linked');
});

function spawnServer(dataDir: string): StandaloneServer {
  return sandbox.spawn(process.execPath, project, dataDir);
}

/** kill -9 of the server, the guardian, and every process of PostgreSQL. */
async function killEverything(server: StandaloneServer, dataDir: string): Promise<void> {
  const postmaster = await postmasterOf(dataDir);
  const sessions = listProcesses().filter((process) => process.parent === postmaster);
  const pids = [...guardianPidsOf(postmaster), postmaster, ...sessions.map(({ pid }) => pid), server.pid];
  for (const pid of pids) killIfThere(pid);
  await server.exited;
  await until('everything is gone', () => !pids.some(isRunning));
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It ended by itself when the one before it was killed.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** Inserts numbers one after the other until the connection breaks; returns those that were acknowledged. */
async function insertUntilCut(url: string, first: number): Promise<number[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  const acknowledged: number[] = [];
  try {
    for (let id = first; ; id += 1) {
      await client.query('insert into kept values ($1)', [id]);
      acknowledged.push(id);
    }
  } catch {
    return acknowledged;
  }
}

describe('kill -9 of the server', () => {
  it('makes the guardian shut PostgreSQL down properly', async () => {
    const dataDir = await sandbox.seeded('guarded');
    const server = spawnServer(dataDir);
    await server.told('url');
    const postmaster = await postmasterOf(dataDir);
    const guardian = guardianPidsOf(postmaster);

    await server.kill();
    await until('PostgreSQL and its guardian end', () => ![postmaster, ...guardian].some(isRunning));
    expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).toMatch(/database system is shut down\n$/);
  });

  it('and of the guardian leaves a PostgreSQL, which the next start ends before it starts its own', async () => {
    const dataDir = await sandbox.seeded('leftover');
    const server = spawnServer(dataDir);
    const url = await server.told('url');
    await query(url, 'create table kept as select 42 as answer');
    const postmaster = await postmasterOf(dataDir);
    // Stopped first, so that it cannot notice the loss of the guardian and end PostgreSQL itself.
    process.kill(server.pid, 'SIGSTOP');
    for (const pid of guardianPidsOf(postmaster).reverse()) killIfThere(pid);
    await server.kill();
    expect(isRunning(postmaster)).toBe(true);

    const { connectionString } = await sandbox.start(dataDir);
    expect(isRunning(postmaster)).toBe(false);
    expect(await query(connectionString, 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect(sandbox.messages.map(({ message }) => message)).toContain(
      'A PostgreSQL of an earlier server still runs on the data folder; stopping it',
    );
  });

  it('in the middle of making the database leaves nothing broken', async () => {
    const dataDir = await sandbox.path('unfinished');
    const server = spawnServer(dataDir);
    const staged = async (): Promise<string[]> =>
      (await readdir(dataDir).catch(() => [])).filter((name) => name.startsWith('postgres.new-'));
    await until('initdb is at work', async () => {
      const [name] = await staged();
      return name !== undefined && (await stat(join(dataDir, name, 'base')).catch(() => undefined)) !== undefined;
    });
    await server.kill();
    await expect(stat(join(dataDir, 'postgres'))).rejects.toThrow('ENOENT');
    await until('initdb ends', () => !listProcesses().some((process) => process.command.includes(dataDir)));

    const { connectionString } = await sandbox.start(dataDir);
    expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(await staged()).toEqual([]);
  });
});

describe('kill -9 of everything', () => {
  it('loses no acknowledged row, three times while four sessions write', async () => {
    const dataDir = await sandbox.seeded('killed');
    const acknowledged: number[] = [];
    for (const round of [1, 2, 3]) {
      const server = spawnServer(dataDir);
      const url = await server.told('url');
      await query(url, 'create table if not exists kept (id int primary key)');
      const writers = [1, 2, 3, 4].map((writer) => insertUntilCut(url, (round * 4 + writer) * 1_000_000));
      const written = async (): Promise<number> =>
        Number((await query<{ n: string }>(url, 'select count(*) as n from kept'))[0]?.n);
      const wanted = acknowledged.length + 200 * round;
      await until('rows are written', async () => (await written()) >= wanted);
      await killEverything(server, dataDir);
      acknowledged.push(...(await Promise.all(writers)).flat());
    }

    const { connectionString } = await sandbox.start(dataDir);
    const rows = await query<{ id: number }>(connectionString, 'select id from kept');
    const there = new Set(rows.map(({ id }) => id));
    expect(acknowledged.length).toBeGreaterThan(600);
    expect(acknowledged.filter((id) => !there.has(id))).toEqual([]);
    // They were killed in the middle of writing, not at rest.
    expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).toContain('automatic recovery in progress');
  });

  it('and a reuse of the process number by somebody else does not keep the next start off, nor harm that process', async () => {
    const dataDir = await sandbox.seeded('reused');
    const server = spawnServer(dataDir);
    await server.told('url');
    await killEverything(server, dataDir);
    // PostgreSQL takes only processes of its own user for another PostgreSQL.
    const { uid, gid } = await stat(join(dataDir, 'postgres'));
    const stranger = spawn('sleep', ['600'], { stdio: 'ignore', cwd: '/', ...(isRoot ? { uid, gid } : {}) });
    try {
      const file = join(dataDir, 'postgres', 'postmaster.pid');
      const lines = (await readFile(file, 'utf8')).split('\n');
      await writeFile(file, [String(stranger.pid), ...lines.slice(1)].join('\n'));

      const { connectionString } = await sandbox.start(dataDir);
      expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
      expect(isRunning(stranger.pid ?? 0)).toBe(true);
    } finally {
      const ended = new Promise((resolve) => stranger.once('exit', resolve));
      stranger.kill('SIGKILL');
      await ended;
    }
  });
});

describe('kill -9 of the postmaster and all who watch it', () => {
  it('while a session does not notice, does not start a second PostgreSQL beside that session', async () => {
    const dataDir = await sandbox.seeded('stray');
    const server = spawnServer(dataDir);
    const url = await server.told('url');
    const cut = query(url, 'select pg_backend_pid(), pg_sleep(600)').catch((error: unknown) => error);
    const [postmaster, session] = await sleepingSession(dataDir, url);
    // A stopped process notices nothing, however long it is asked.
    process.kill(session, 'SIGSTOP');
    for (const pid of [server.pid, ...guardianPidsOf(postmaster).reverse(), postmaster]) killIfThere(pid);
    await server.exited;

    const { connectionString } = await sandbox.start(dataDir);
    expect(isRunning(session)).toBe(false);
    expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
    await cut;
  });

  async function sleepingSession(dataDir: string, url: string): Promise<[number, number]> {
    let pid: number | undefined;
    await until('the session sleeps', async () => {
      const rows = await query<{ pid: number }>(url, "select pid from pg_stat_activity where wait_event = 'PgSleep'");
      pid = rows[0]?.pid;
      return pid !== undefined;
    });
    return [await postmasterOf(dataDir), pid ?? 0];
  }
});

describe('Ctrl-C in a terminal', () => {
  it('reaches the server alone, so that it stops before its database', async () => {
    const dataDir = await sandbox.seeded('interrupted');
    const server = spawnServer(dataDir);
    const url = await server.told('url');
    process.kill(-server.pid, 'SIGINT');
    await server.told('interrupted');
    expect(await query(url, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(processOf(await postmasterOf(dataDir)).session).not.toBe(processOf(server.pid).session);
  });

  it('as a SIGTERM to everybody, does not take the guardian away', async () => {
    const dataDir = await sandbox.seeded('terminated');
    const server = spawnServer(dataDir);
    await server.told('url');
    const postmaster = await postmasterOf(dataDir);
    const guardian = guardianPidsOf(postmaster);
    for (const pid of guardian) process.kill(pid, 'SIGTERM');
    await server.kill();
    await until('the guardian has stopped PostgreSQL', () => ![postmaster, ...guardian].some(isRunning));
  });
});
