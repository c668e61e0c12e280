/** `npm start` and `npm run demo` as people and supervisors use them: what ends them, and with which code. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterEach(() => {
  for (const pid of groups.splice(0)) endGroup(pid);
});
afterAll(() => database.drop());

const groups: number[] = [];

/** Whatever a failed test left running. */
function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

interface Started {
  readonly npm: ChildProcess;
  readonly pid: number;
  readonly lines: readonly string[];
  /** Where the HTTP door listens. */
  readonly http: string;
}

/** Runs `npm start` as the leader of a process group, as a shell does, until it is ready. */
async function npmStart(): Promise<Started> {
  const env = {
    ...process.env,
    TASKDASH_DATABASE_URL: database.url,
    TASKDASH_LOG_FORMAT: 'json',
    TASKDASH_HTTP_PORT: '0',
    TASKDASH_GRPC_PORT: '0',
    TASKDASH_TCP_PORT: '0',
  };
  const npm = spawn('npm', ['start'], { env, detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
  groups.push(npm.pid ?? 0);
  const lines: string[] = [];
  const http = await new Promise<string>((resolve, reject) => {
    npm.once('exit', () => reject(new Error(`npm start ended:\n${lines.join('\n')}`)));
    createInterface({ input: npm.stdout }).on('line', (line) => {
      lines.push(line);
      if (line.includes('"msg":"ready"')) resolve((JSON.parse(line) as { http: string }).http);
    });
  });
  return { npm, pid: npm.pid ?? 0, lines, http };
}

const answers = (url: string) =>
  fetch(`${url}/healthz`).then(
    ({ ok }) => ok,
    () => false,
  );

describe('npm start', () => {
  it('stops the server gracefully when npm is told to end, and ends with 0', async () => {
    const { npm, pid, lines, http } = await npmStart();
    expect(await answers(http)).toBe(true);
    process.kill(pid, 'SIGTERM');
    expect(await once(npm, 'exit')).toEqual([0, null]);
    expect(lines.at(-1)).toContain('"msg":"stopped"');
    expect(await answers(http)).toBe(false);
  });

  it('stops the server gracefully on Ctrl-C, which npm passes on a second time, and ends with 0', async () => {
    const { npm, pid, lines, http } = await npmStart();
    process.kill(-pid, 'SIGINT');
    expect(await once(npm, 'exit')).toEqual([0, null]);
    expect(lines.at(-1)).toContain('"msg":"stopped"');
    expect(await answers(http)).toBe(false);
  });
});

it('the demo says in a line that a port is taken', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const ports = { TASKDASH_HTTP_PORT: String(port), TASKDASH_GRPC_PORT: '0', TASKDASH_TCP_PORT: '0' };
  const env = { ...process.env, TASKDASH_DATABASE_URL: database.url, ...ports };
  await expect(promisify(execFile)(process.execPath, ['scripts/demo.mjs'], { env })).rejects.toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/^taskdash: The HTTP door cannot listen on .*: the port is in use, .*\n$/) as string,
  });
  taken.close();
});
