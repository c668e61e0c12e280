import { readdirSync } from 'node:fs';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { attachEmbeddedPostgres, type EmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import { freeLoopbackPort } from '../../server/storage/embedded/launcher.js';
import { guardianPidsOf, isRunning, listProcesses, until } from './embedded/process-list.js';
import { postmasterOf, query, Sandbox } from './embedded/sandbox.js';

const sandbox = new Sandbox();

async function settingsOf(url: string): Promise<Record<string, string>> {
  const rows = await query<{ name: string; value: string }>(
    url,
    'select name, current_setting(name) as value from pg_settings',
  );
  return Object.fromEntries(rows.map((row) => [row.name, row.value]));
}

describe('a first start', () => {
  it('makes a durable UTF-8 database with checksums', async () => {
    const { connectionString } = await sandbox.start(await sandbox.path('first'));
    expect(await settingsOf(connectionString)).toMatchObject({
      fsync: 'on',
      synchronous_commit: 'on',
      full_page_writes: 'on',
      data_checksums: 'on',
      server_encoding: 'UTF8',
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      password_encryption: 'scram-sha-256',
      shared_buffers: '128MB',
      max_connections: '60',
      jit: 'off',
      TimeZone: 'UTC',
    });
    const [text] = await query(connectionString, "select upper('ä') as upper, '状态' < '任务' as by_code_point");
    expect(text).toEqual({ upper: 'Ä', by_code_point: false });
    expect(sandbox.messages.map(({ message }) => message)).toContain('Made a new database');
  });

  it('lets in only the database user with the password, who is no superuser', async () => {
    const dataDir = await sandbox.path('closed');
    const { connectionString } = await sandbox.start(dataDir);
    const url = new URL(connectionString);
    expect(url.hostname).toBe('127.0.0.1');

    const [role] = await query(
      connectionString,
      'select rolsuper, rolcreatedb from pg_roles where rolname = current_user',
    );
    expect(role).toEqual({ rolsuper: false, rolcreatedb: true });
    await expect(query(connectionString, "select pg_read_file('/etc/passwd')")).rejects.toThrow('permission denied');

    expect((await stat(join(dataDir, 'postgres.password'))).mode & 0o777).toBe(0o600);
    expect((await stat(join(dataDir, 'postgres'))).mode & 0o777).toBe(0o700);
    const withUser = (name: string, password: string): string => {
      const other = new URL(connectionString);
      [other.username, other.password] = [name, password];
      return other.href;
    };
    await expect(query(withUser('taskdash', 'guess'), 'select 1')).rejects.toThrow('password authentication failed');
    await expect(query(withUser('postgres', url.password), 'select 1')).rejects.toThrow('no pg_hba.conf entry');
  });
});

describe('the launcher', () => {
  const sources = fileURLToPath(new URL('../../server/storage/embedded/', import.meta.url));

  it.each(readdirSync(sources))('blocks the event loop nowhere in %s', async (name) => {
    expect(await readFile(join(sources, name), 'utf8')).not.toMatch(/\w+Sync\(/);
  });
});

describe('a later start', () => {
  it('finds the data, the password and a clean shutdown', async () => {
    const dataDir = await sandbox.path('later');
    const first = await sandbox.start(dataDir);
    await query(first.connectionString, 'create table kept as select 42 as answer');
    await first.stop();

    const second = await sandbox.start(dataDir);
    expect(await query(second.connectionString, 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect(new URL(second.connectionString).password).toBe(new URL(first.connectionString).password);
    expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).not.toContain('automatic recovery');
  });

  it('sets a new password when the file of the old one is gone', async () => {
    const dataDir = await sandbox.seeded('forgotten');
    const first = await sandbox.start(dataDir);
    await first.stop();
    await rm(join(dataDir, 'postgres.password'));

    const { connectionString } = await sandbox.start(dataDir);
    expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
    await expect(query(withPort(first, connectionString), 'select 1')).rejects.toThrow(
      'password authentication failed',
    );
  });

  function withPort(old: EmbeddedPostgres, current: string): string {
    const url = new URL(old.connectionString);
    url.port = new URL(current).port;
    return url.href;
  }
});

describe('the options', () => {
  it('reach the server', async () => {
    const { connectionString } = await sandbox.start(await sandbox.seeded('tuned'), {
      maxConnections: 7,
      settings: { work_mem: '9MB', shared_buffers: '16MB' },
    });
    expect(await settingsOf(connectionString)).toMatchObject({
      max_connections: '7',
      work_mem: '9MB',
      shared_buffers: '16MB',
    });
  });

  it.each([
    [{ settings: { port: '5432' } }, '"port"'],
    [{ settings: { 'work_mem=1MB -c fsync': 'off' } }, '"work_mem=1MB -c fsync"'],
    [{ maxConnections: 0 }, 'maxConnections is 0'],
  ])('are refused before anything is made when they cannot be: %j', async (options, named) => {
    const dataDir = await sandbox.path('refused');
    await expect(sandbox.start(dataDir, options)).rejects.toThrow(named);
    await expect(stat(dataDir)).rejects.toThrow('ENOENT');
  });
});

describe('a start that PostgreSQL refuses', () => {
  it("shows the end of PostgreSQL's log, and leaves the folder for the next one", async () => {
    const dataDir = await sandbox.seeded('refusing');
    const refused = sandbox.start(dataDir, { settings: { shared_buffers: 'plenty' } });
    await expect(refused).rejects.toThrow(/invalid value for parameter "shared_buffers": "plenty"/);
    await expect(refused).rejects.toThrow(/TASKDASH_DATABASE_URL/);

    const { connectionString } = await sandbox.start(dataDir);
    expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('gives up a PostgreSQL that says nothing for too long', async () => {
    const dataDir = await sandbox.seeded('silent');
    await expect(sandbox.start(dataDir, { startTimeoutMs: 0 })).rejects.toThrow('said nothing for 0 ms');
    expect(listProcesses().filter((process) => process.command.includes(dataDir))).toEqual([]);
  });

  it('names the folder and the user when the folder cannot be made', async () => {
    const file = await sandbox.path('file');
    await writeFile(file, '');
    await expect(sandbox.start(join(file, 'data'))).rejects.toThrow(/file-\d+\/data cannot be used by user \d+/);
  });

  it('ends with an error where the file system takes no folders', async () => {
    const nowhere = process.platform === 'linux' ? '/proc/taskdash-test/data' : '/dev/null/data';
    await expect(sandbox.start(nowhere)).rejects.toThrow(`The data folder ${nowhere} cannot be used`);
  });

  it('does not take a folder of something else for a database', async () => {
    const dataDir = await sandbox.path('strange');
    await mkdir(join(dataDir, 'postgres', 'photos'), { recursive: true });
    await expect(sandbox.start(dataDir)).rejects.toThrow('is no PostgreSQL data directory');
  });
});

describe('a port that is taken after it was found free', () => {
  it('is given up for another one', async () => {
    const occupant = createServer();
    await new Promise<void>((resolve) => occupant.listen(0, '127.0.0.1', resolve));
    const address = occupant.address();
    const taken = typeof address === 'object' && address ? address.port : 0;
    const offered = [taken, taken];
    try {
      const pickPort = (): Promise<number> =>
        Promise.resolve(offered.shift()).then((port) => port ?? freeLoopbackPort());
      const { connectionString } = await sandbox.start(await sandbox.seeded('port'), {}, { pickPort });
      expect(offered).toEqual([]);
      expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
    } finally {
      await new Promise((resolve) => occupant.close(resolve));
    }
  });
});

describe('attaching', () => {
  it('finds the database while a server has it, and nothing before and after', async () => {
    const dataDir = await sandbox.path('attached');
    expect(await attachEmbeddedPostgres(dataDir)).toBeUndefined();
    const database = await sandbox.start(dataDir);
    expect(await attachEmbeddedPostgres(dataDir)).toEqual({ connectionString: database.connectionString });
    await database.stop();
    expect(await attachEmbeddedPostgres(dataDir)).toBeUndefined();
  });
});

describe('stopping', () => {
  it('ends open sessions, waits once for all callers, and tells nobody of a loss', async () => {
    const dataDir = await sandbox.seeded('stopping');
    const database = await sandbox.start(dataDir);
    const postmaster = await postmasterOf(dataDir);
    const guardian = guardianPidsOf(postmaster);
    database.onUnexpectedExit((what) => expect.unreachable(what));
    const ended = expect(query(database.connectionString, 'select pg_sleep(600)')).rejects.toThrow(/terminat/);
    const asleep = "select 1 from pg_stat_activity where wait_event = 'PgSleep'";
    await until('the session sleeps', async () => (await query(database.connectionString, asleep)).length === 1);

    await Promise.all([database.stop(), database.stop()]);
    await ended;
    await database.stop();
    expect([postmaster, ...guardian].filter(isRunning)).toEqual([]);
    expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).toContain('database system is shut down');
  });
});

describe('a loss', () => {
  it('of PostgreSQL is told, also to those who ask later, and the next start recovers', async () => {
    const dataDir = await sandbox.seeded('lost');
    const database = await sandbox.start(dataDir);
    await query(database.connectionString, 'create table kept as select 42 as answer');
    const told = new Promise((resolve) => database.onUnexpectedExit(resolve));
    process.kill(await postmasterOf(dataDir), 'SIGKILL');
    expect(await told).toContain(dataDir);
    expect(await new Promise((resolve) => database.onUnexpectedExit(resolve))).toBe(await told);

    await database.stop();
    const next = await sandbox.start(dataDir);
    expect(await query(next.connectionString, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  it.each(['the waiting shell', 'the watching shell and the waiting one'])(
    'of the guardian (%s) ends PostgreSQL and is told',
    async (which) => {
      const dataDir = await sandbox.seeded('unguarded');
      const database = await sandbox.start(dataDir);
      const postmaster = await postmasterOf(dataDir);
      const [waiting, ...watching] = guardianPidsOf(postmaster);
      const told = new Promise((resolve) => database.onUnexpectedExit(resolve));
      const killed = which === 'the waiting shell' ? [waiting] : [...watching, waiting];
      for (const pid of killed) process.kill(pid ?? 0, 'SIGKILL');

      expect(await told).toContain('guardian was killed');
      await database.stop();
      await until('PostgreSQL ends', () => !isRunning(postmaster));
      expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).toContain('database system is shut down');
    },
  );
});
