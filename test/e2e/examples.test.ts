/** The services of docs/examples, in their own languages, against a running TaskDash. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { startCuttableProxy, type CuttableProxy } from '../support/cuttable-proxy.js';
import { installOnDebian } from '../support/debian-packages.js';
import { findGrpcPython } from '../support/grpc-python.js';

const run = promisify(execFile);
const MINUTES = 60_000;
let app: TestApp;
let token: string;
let proxy: CuttableProxy;
let folder: string;

beforeAll(async () => {
  app = await startTestApp();
  token = await app.addToken('mx');
  proxy = await startCuttableProxy(`http://${app.tcp}`);
  folder = await mkdtemp(join(tmpdir(), 'taskdash-examples-'));
});
afterAll(async () => {
  await proxy.stop();
  await app.stop();
  await rm(folder, { recursive: true, force: true });
});

const stored = (id: string) => app.storage.tasks.find('everything', id);
const statuses = async (taskId: string) =>
  (await app.client(TaskService, 'grpc', token).listTaskEvents({ taskId })).events
    .map(({ toStatus }) => toStatus)
    .reverse();

/** Go, which on Debian as root is installed. */
async function requireGo(): Promise<void> {
  const works = () =>
    run('go', ['version']).then(
      () => true,
      () => false,
    );
  if ((await works()) || ((await installOnDebian(['golang-go'])) && (await works()))) return;
  throw new Error('The example in Go needs Go. Run: sudo apt-get install golang-go');
}

describe('the example in Go', () => {
  it('registers, beats, comes back when it was cut off, and reports its end', { timeout: 8 * MINUTES }, async () => {
    await requireGo();
    const service = join(folder, 'service');
    const env = { ...process.env, GOCACHE: join(folder, 'go-cache'), GOFLAGS: '' };
    await run('go', ['build', '-o', service, 'docs/examples/service.go'], { env });
    const running = run(service, [new URL(proxy.url).host, '4'], { timeout: MINUTES });
    await expect.poll(() => stored('go-example'), { timeout: 10_000 }).toMatchObject({ status: 'running', name: 'go' });
    proxy.cut();
    const { stdout, stderr } = await running;
    expect(stdout).toBe('finished: go-example go finish\n');
    expect(stderr).toMatch(/^connecting again: /);
    expect(await statuses('go-example')).toEqual(['running', 'running', 'finish']);
  });
});

describe('the example in Python', () => {
  it(
    'registers under a lease, takes another when it is gone, and reports its end',
    { timeout: 8 * MINUTES },
    async () => {
      const python = await findGrpcPython();
      const contracts = ['lease_service', 'task_service', 'task'].map((name) => `taskdash/task/v1/${name}.proto`);
      await run('protoc', ['-I', 'proto', `--python_out=${folder}`, ...contracts]);
      const env = { ...process.env, PYTHONPATH: folder };
      const running = run(python, ['docs/examples/service.py', app.grpc, token, '12'], { env, timeout: MINUTES });
      await expect.poll(() => stored('python-example'), { timeout: 20_000 }).toMatchObject({ status: 'running' });
      const leaseId = (await stored('python-example'))?.sessionId ?? '';
      await app.client(LeaseService, 'grpc', token).revokeLease({ leaseId });
      expect((await running).stdout).toBe('finished\n');
      expect(await statuses('python-example')).toEqual(['running', 'shutdown', 'running', 'finish']);
      expect(await stored('python-example')).toMatchObject({ status: 'finish', name: 'python', group_id: 'mx' });
    },
  );
});
