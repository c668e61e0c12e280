/** What nobody expected: a defect ends the server in order, and no stream's error ends it at all. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { ServerProcess, type ReadyLine } from '../support/server-process.js';
import { TcpxClient } from '../support/tcpx-client.js';

let folder: string;
let database: TestDatabase;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'taskdash-defects-'));
  database = await createTestDatabase();
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await database.drop();
});

/** A module that lets a signal be a defect. */
async function defectOnSignal(name: string, statement: string): Promise<string> {
  const path = join(folder, `${name}.mjs`);
  await writeFile(path, `process.on('SIGUSR2', () => { ${statement} });`);
  return `--import=${path}`;
}

describe('a defect that nobody caught', () => {
  it.each([
    ['an exception', `throw new TypeError('a defect of ours');`],
    ['a rejection', `void Promise.reject(new TypeError('a defect of ours'));`],
    [
      'an error event',
      `process.emitWarning; new (process.getBuiltinModule('node:events'))().emit('error', new TypeError('a defect of ours'));`,
    ],
    [
      'one after the other',
      `for (let i = 0; i < 5; i++) setTimeout(() => { throw new TypeError('a defect of ours'); }, i);`,
    ],
  ])('%s: is told, what was asked is answered, the lease is given up, and the exit says 1', async (name, statement) => {
    const server = await ServerProcess.start({
      TASKDASH_DATABASE_URL: database.url,
      NODE_OPTIONS: await defectOnSignal(name.replaceAll(' ', '-'), statement),
    });
    const client = await TcpxClient.connect(server.ready.tcp);
    expect((await client.register({ id: `task of ${name}`, name })).body.errid).toBe(0);
    const exited = server.exited();
    server.signal('SIGUSR2');
    const asked = client.find(`task of ${name}`).then(
      ({ body }) => body.errid,
      () => 'closed',
    );
    expect(await exited).toBe(1);
    expect([0, 'closed']).toContain(await asked);
    const entries = server.output
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as { msg: string; err?: { message: string } });
    expect(entries.find(({ msg }) => msg.startsWith('a defect of TaskDash'))).toMatchObject({
      err: { message: 'a defect of ours' },
    });
    expect(entries.at(-1)?.msg).toBe('stopped');
    client.socket.destroy();
  });
});

describe('a server whose output nobody reads any more', () => {
  it('goes on without, and stops as it should', { timeout: 30_000 }, async () => {
    const env = {
      ...{
        ...process.env,
        TASKDASH_DATABASE_URL: database.url,
        TASKDASH_LOG_FORMAT: 'json',
        TASKDASH_LOG_LEVEL: 'debug',
      },
      ...{ TASKDASH_HTTP_PORT: '0', TASKDASH_GRPC_PORT: '0', TASKDASH_TCP_PORT: '0' },
    };
    const child = spawn(process.execPath, ['dist/server/main.js', 'serve'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const ready = await new Promise<ReadyLine>((resolve) =>
      createInterface({ input: child.stdout }).on('line', (line) => {
        const entry = JSON.parse(line) as ReadyLine & { msg?: string };
        if (entry.msg === 'ready') resolve(entry);
      }),
    );
    child.stdout.destroy();
    child.stderr.destroy();
    for (let round = 0; round < 20; round++) {
      // Each lost connection is a line of the log.
      const client = await TcpxClient.connect(ready.tcp);
      client.socket.write('no frame at all');
      client.socket.resetAndDestroy();
    }
    expect((await fetch(`${ready.http}/healthz`)).status).toBe(200);
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  });
});
