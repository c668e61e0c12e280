/** The command line beside and without a server, on the embedded database. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ServerProcess } from '../support/server-process.js';

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
    [['tasks', 'list'], 'stderr'],
    [['tasks', 'watch'], 'stderr'],
    [['sessions', 'list'], 'stderr'],
    [['user', 'set-password', 'x', '--generate'], 'stderr'],
    [['doctor', ...NO_PORTS], 'stdout'],
  ] as const)('is left as it is by %j, which says so', async (args, stream) => {
    const dataDir = newDataDir();
    const outcome = await taskdash(dataDir, ...args);
    expect(outcome.code).toBe(1);
    expect(outcome[stream]).toContain(
      `There is no database in ${dataDir}. Run this in the folder of the server, or name the database in ` +
        'TASKDASH_DATA_DIR or TASKDASH_DATABASE_URL; "taskdash serve" makes a new one.\n',
    );
    expect(existsSync(dataDir)).toBe(false);
  });

  it('gets one by a command that writes, which says so once', { timeout: MINUTES }, async () => {
    const dataDir = newDataDir();
    const create = () => taskdash(dataDir, 'token', 'create', 'x', '--group', 'mx');
    expect(await create()).toMatchObject({ code: 0, stderr: expect.stringContaining(made(dataDir)) as string });
    expect(await create()).toMatchObject({ code: 0, stderr: expect.not.stringContaining('Made') as string });
  });
});

describe('a database without an administrator', () => {
  it('is told when the user is added, by the doctor, and at the start', { timeout: MINUTES }, async () => {
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

  it('is nothing to tell of where a start makes one', { timeout: MINUTES }, async () => {
    const dataDir = newDataDir();
    const server = await serve(dataDir);
    expect(server.output.join('\n')).not.toContain(NO_ADMINISTRATOR);
    expect(server.output).toContain(made(dataDir));
  });
});
