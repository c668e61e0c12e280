/** The package as somebody else installs it: packed, unpacked, and used from plain JavaScript and from TypeScript. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestApp, type TestApp } from '../support/app.js';

const run = promisify(execFile);
let app: TestApp;
let folder: string;
let files: string[];

beforeAll(async () => {
  app = await startTestApp();
  folder = await mkdtemp(join(tmpdir(), 'taskdash-package-'));
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]);
  const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  files = packed?.files.map(({ path }) => path) ?? [];
  await mkdir(join(folder, 'node_modules/taskdash'), { recursive: true });
  const archive = join(folder, packed?.filename ?? '');
  await run('tar', ['-xzf', archive, '-C', join(folder, 'node_modules/taskdash'), '--strip-components=1']);
  // What npm would install beside it.
  for (const dependency of ['@bufbuild', '@connectrpc', '@types', 'undici-types'])
    await symlink(resolve('node_modules', dependency), join(folder, 'node_modules', dependency));
});
afterAll(async () => {
  await app.stop();
  await rm(folder, { recursive: true, force: true });
});

const stored = (id: string) => app.storage.tasks.find('everything', id);

/** Runs a file of plain JavaScript beside the package; resolves with what it printed when it ended by itself. */
async function runScript(name: string, code: string): Promise<string> {
  await writeFile(join(folder, name), code);
  const env = { ...process.env, TASKDASH_URL: `http://${app.grpc}`, TASKDASH_TOKEN: await app.addToken(name) };
  const { stdout } = await run(process.execPath, [name], { cwd: folder, env, timeout: 20_000 });
  return stdout;
}

const CLIENT = `
import { TaskDashClient } from 'taskdash/client';
const { TASKDASH_URL: url, TASKDASH_TOKEN: token } = process.env;
const taskdash = new TaskDashClient({ url, token });
`;

describe('the package', () => {
  it('has the program, the server and the page', async () => {
    expect(files).toEqual(expect.arrayContaining(['bin/taskdash.js', 'dist/server/main.js', 'dist/web/index.html']));
    const { bin } = JSON.parse(await readFile('package.json', 'utf8')) as { bin: { taskdash: string } };
    expect(files).toContain(bin.taskdash);
  });

  it('serves plain JavaScript', async () => {
    const printed = await runScript(
      'service.mjs',
      `${CLIENT}
await taskdash.register({ id: 'nightly', name: 'nightly export', user: 'wsg', groupId: 'service.mjs' });
await taskdash.update('nightly', { description: '40 %' });
await taskdash.finish('nightly');
await taskdash.stop();
console.log('done');`,
    );
    expect(printed).toBe('done\n');
    expect(await stored('nightly')).toMatchObject({ name: 'nightly export', description: '40 %', status: 'finish' });
  });

  it('keeps no process alive that has nothing else to do', async () => {
    await runScript('ends.mjs', `${CLIENT} await taskdash.register({ id: 'left', groupId: 'ends.mjs' });`);
    expect(await stored('left')).toMatchObject({ status: 'running' });
  });

  it('keeps a process alive for as long as somebody waits for an answer', async () => {
    const printed = await runScript(
      'waits.mjs',
      `import { TaskDashClient } from 'taskdash/client';
const taskdash = new TaskDashClient({ url: 'http://127.0.0.1:1', token: 'tdt_x' });
await taskdash.start({ signal: AbortSignal.timeout(1_500) }).catch((error) => console.log(error.name));`,
    );
    expect(printed).toBe('TimeoutError\n');
  });

  it('has types that hold', { timeout: 120_000 }, async () => {
    await writeFile(
      join(folder, 'service.mts'),
      `import { TaskDashClient, Code, ConnectError, type ClientState, type TaskReport } from 'taskdash/client';
const report: TaskReport = { id: 'a', groupId: 'mx' };
const taskdash = new TaskDashClient({
  url: 'http://127.0.0.1:50051',
  token: process.env['TASKDASH_TOKEN'] ?? '',
  onState: (state: ClientState, error) => console.log(state, error?.code === Code.Unavailable),
});
await taskdash.register(report, { signal: AbortSignal.timeout(1_000) });
// @ts-expect-error: an id is a text
await taskdash.register({ id: 1 });
// @ts-expect-error: there is no such option
new TaskDashClient({ url: '', token: '', speed: 1 });
const failed: ConnectError | undefined = undefined;
console.log(failed);
await taskdash.stop({ timeoutMs: 1_000 });
`,
    );
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node'];
    const tsc = resolve('node_modules/typescript/bin/tsc');
    const failure = await run(process.execPath, [tsc, ...options, 'service.mts'], { cwd: folder }).then(
      () => '',
      ({ stdout }: { stdout: string }) => stdout,
    );
    expect(failure).toBe('');
  });
});
