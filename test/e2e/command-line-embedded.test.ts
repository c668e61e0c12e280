/** The command line beside and without a server, on the embedded database. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ServerProcess } from '../support/server-process.js';
import { TcpxClient } from '../support/tcpx-client.js';

const run = promisify(execFile);
const MINUTES = 60_000;
let folder: string;
let dataDirs = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'taskdash-cli-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A data folder that is not there yet. */
const newDataDir = () => join(folder, `data-${dataDirs++}`);

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `taskdash` with these arguments on a data folder. */
async function taskdash(dataDir: string, ...args: string[]): Promise<Outcome> {
  try {
    const running = run(process.execPath, ['dist/server/main.js', ...args], { env: environment(dataDir) });
    running.child.stdin?.end();
    return { code: 0, ...(await running) };
  } catch (failure) {
    const { code, stdout, stderr } = failure as Outcome;
    return { code, stdout, stderr };
  }
}

function environment(dataDir: string): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('TASKDASH_'));
  return { ...Object.fromEntries(inherited), TASKDASH_DATA_DIR: dataDir };
}

async function serve(dataDir: string): Promise<ServerProcess> {
  const server = await ServerProcess.start({ TASKDASH_DATA_DIR: dataDir, TASKDASH_HEARTBEAT_TTL: '1s' });
  onTestFinished(async () => void (await server.stop()));
  return server;
}

const made = (dataDir: string) =>
  `Made a new database in ${dataDir}. If you meant another one, name it in TASKDASH_DATA_DIR or TASKDASH_DATABASE_URL.`;
const NO_PORTS = ['--http-port', '0', '--grpc-port', '0', '--tcp-port', '0'];
const NO_ADMINISTRATOR =
  'There is no administrator who can log in, and a start makes none once there are users. ' +
  'Make one: taskdash user add NAME --administrator';

describe('a folder without a database', () => {
  it.each([
    ['tasks', 'list'],
    ['tasks', 'watch'],
    ['sessions', 'list'],
    ['user', 'set-password', 'x', '--generate'],
  ])('is left as it is by %j, which says so', async (...args) => {
    const dataDir = newDataDir();
    const outcome = await taskdash(dataDir, ...args);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toContain(
      `There is no database in ${dataDir}. Run this in the folder of the server, or name the database in ` +
        'TASKDASH_DATA_DIR or TASKDASH_DATABASE_URL; "taskdash serve" makes a new one.\n',
    );
    expect(existsSync(dataDir)).toBe(false);
  });

  it('is nothing wrong to the doctor, who says what to do', async () => {
    const missing = newDataDir();
    const empty = await mkdtemp(join(folder, 'empty-'));
    for (const dataDir of [missing, empty]) {
      const { code, stdout } = await taskdash(dataDir, 'doctor', ...NO_PORTS);
      expect(stdout).toContain(
        `ok    database: there is none yet in ${dataDir}; "taskdash serve" makes it. If there is to be one, run this in the `,
      );
      expect(code).toBe(0);
    }
    expect(existsSync(missing)).toBe(false);
    expect(await readdir(empty)).toEqual([]);
    const file = newDataDir();
    await writeFile(file, 'mine');
    for (const dataDir of [file, `${file}/data`])
      expect(await taskdash(dataDir, 'doctor', ...NO_PORTS)).toMatchObject({
        code: 1,
        stdout: expect.stringContaining(
          `wrong database: No database can be made in ${dataDir}: ${file} is no folder.`,
        ) as string,
      });
  });

  it.each([
    ['a file', ''],
    ['below a file', '/data'],
  ])('that is %s is told of as such, by every command', async (_what, below) => {
    const file = newDataDir();
    await writeFile(file, 'mine');
    const dataDir = `${file}${below}`;
    for (const args of [
      ['tasks', 'list'],
      ['tasks', 'watch'],
      ['user', 'set-password', 'x', '--generate'],
    ]) {
      const { code, stderr } = await taskdash(dataDir, ...args);
      const words = below === '' ? ', which is no folder. Run this' : '. Run this';
      expect([code, stderr]).toEqual([1, expect.stringContaining(`There is no database in ${dataDir}${words}`)]);
    }
    for (const args of [['migrate'], ['token', 'create', 'x', '--group', 'mx'], ['serve', ...NO_PORTS]]) {
      const { code, stderr } = await taskdash(dataDir, ...args);
      expect([code, stderr]).toEqual([
        1,
        expect.stringMatching(/^taskdash: The data folder .* cannot be used by user/),
      ]);
    }
    expect(await readFile(file, 'utf8')).toBe('mine');
  });

  it('that cannot be looked into is told of by its setting', async () => {
    const { code, stderr } = await taskdash(`${folder}/${'x'.repeat(300)}`, 'tasks', 'list');
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^taskdash: The data folder .* Mend TASKDASH_DATA_DIR\.\n$/),
    ]);
  });

  it('gets one by a command that writes, which says so once', { timeout: 2 * MINUTES }, async () => {
    const dataDir = newDataDir();
    const create = () => taskdash(dataDir, 'token', 'create', 'x', '--group', 'mx');
    const first = await create();
    expect(first).toMatchObject({ code: 0, stderr: expect.stringContaining(made(dataDir)) as string });
    expect(first.stderr).toContain(`Database: the embedded one in ${dataDir}\n`);
    expect(await create()).toMatchObject({ code: 0, stderr: expect.not.stringContaining('Made') as string });
  });
});

describe('a database without an administrator', () => {
  it('is told when the user is added, by the doctor, and at the start', { timeout: 2 * MINUTES }, async () => {
    const dataDir = newDataDir();
    const warning = `warn  administrator: ${NO_ADMINISTRATOR}\n`;
    const added = await taskdash(dataDir, 'user', 'add', 'ssx', '--group', 'mx:member', '--generate');
    expect(added.stderr).toContain(`${NO_ADMINISTRATOR}\n`);
    expect(added.stderr).toContain(`${made(dataDir)}\n`);
    const server = await serve(dataDir);
    expect(server.output).toContainEqual(expect.stringContaining(NO_ADMINISTRATOR));
    expect(await taskdash(dataDir, 'doctor', ...NO_PORTS)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(warning) as string,
    });
    const chief = await taskdash(dataDir, 'user', 'add', 'chief', '--administrator', '--generate');
    expect(chief.stderr).not.toContain('administrator');
    expect((await taskdash(dataDir, 'doctor', ...NO_PORTS)).stdout).not.toContain('administrator');
  });

  it('is nothing to tell of where a start makes one', { timeout: 2 * MINUTES }, async () => {
    const dataDir = newDataDir();
    const server = await serve(dataDir);
    expect(server.output.join('\n')).not.toContain(NO_ADMINISTRATOR);
    expect(server.output).toContain(made(dataDir));
  });
});

describe('a watch', () => {
  it(
    'survives a restart of the server, misses nothing, and says so in a line each',
    { timeout: 3 * MINUTES },
    async () => {
      const dataDir = newDataDir();
      const first = await serve(dataDir);
      const watch = spawn(process.execPath, ['dist/server/main.js', 'tasks', 'watch'], { env: environment(dataDir) });
      onTestFinished(() => void watch.kill('SIGKILL'));
      let [changes, said] = ['', ''];
      watch.stdout.on('data', (chunk: Buffer) => (changes += chunk.toString()));
      watch.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const registered = async (server: ServerProcess, ...ids: string[]) => {
        const service = await TcpxClient.connect(server.ready.tcp);
        for (const id of ids) await service.register({ id, group_id: 'mx' });
        service.socket.destroy();
      };

      let n = 0;
      const changed = () => registered(first, `early-${n++}`).then(() => changes);
      await expect.poll(changed, { timeout: 20_000, interval: 200 }).toContain('early-');
      await first.stop();
      await expect.poll(() => said, { timeout: 20_000 }).toContain(' is away: ');
      const second = await serve(dataDir);
      await registered(second, 'late-1', 'late-2');
      await expect.poll(() => changes, { timeout: 20_000 }).toContain('late-2');

      expect(said.split('\n')).toEqual([
        expect.stringMatching(/^The database in .* is away: .*\. Waiting for it; Ctrl-C ends this\.$/),
        'The database is there; going on.',
        '',
      ]);
      const ids = [...changes.matchAll(/registered +(\S+)/g)].map((match) => match[1]);
      expect(ids).toEqual([...new Set(ids)]);
      expect(ids.slice(-2)).toEqual(['late-1', 'late-2']);
      await expect
        .poll(() => changes, { timeout: 20_000 })
        .toMatch(/late-2 +running → shutdown +server +connection_closed\n/);
      await second.stop();
      await expect.poll(() => said.split('\n').length, { timeout: 20_000 }).toBe(4);
      watch.kill('SIGINT');
      expect(await once(watch, 'exit')).toEqual([0, null]);
    },
  );

  it('waits for a server instead of taking its place', { timeout: 2 * MINUTES }, async () => {
    const dataDir = newDataDir();
    await taskdash(dataDir, 'migrate');
    const watch = spawn(process.execPath, ['dist/server/main.js', 'tasks', 'watch'], { env: environment(dataDir) });
    onTestFinished(() => void watch.kill('SIGKILL'));
    let said = '';
    watch.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const away = `The database in ${dataDir} is away: no server has it open. Waiting for it; Ctrl-C ends this.\n`;
    await expect.poll(() => said, { timeout: 20_000 }).toBe(away);
    await serve(dataDir);
    await expect.poll(() => said, { timeout: 20_000 }).toBe(`${away}The database is there; going on.\n`);
    watch.kill('SIGTERM');
    expect(await once(watch, 'exit')).toEqual([0, null]);
  });
});
