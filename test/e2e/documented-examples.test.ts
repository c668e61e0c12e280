/** The examples of the documents, as they are printed there, with addresses and tokens of a running TaskDash. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { findGrpcPython, GRPC_PLUGIN } from '../support/grpc-python.js';

const run = promisify(execFile);
let app: TestApp;
let token: string;
let folder: string;

beforeAll(async () => {
  app = await startTestApp();
  token = await app.addToken('mx');
  folder = await mkdtemp(join(tmpdir(), 'taskdash-documented-'));
});
afterAll(async () => {
  await app.stop();
  await rm(folder, { recursive: true, force: true });
});

const stored = (id: string) => app.storage.tasks.find('everything', id);
const portOf = (address: string) => new URL(address.includes('//') ? address : `tcp://${address}`).port;

/** The one block of code in a document that has this text in it, for this TaskDash. */
function example(document: string, text: string): string {
  const blocks = [...readFileSync(document, 'utf8').matchAll(/^```\w+\n(.*?)^```/gms)].map((match) => match[1] ?? '');
  const [block, ...others] = blocks.filter((code) => code.includes(text));
  if (block === undefined || others.length > 0) throw new Error(`${document} has not one block with ${text}`);
  return block
    .replaceAll('7171', portOf(app.tcp))
    .replaceAll('8080', portOf(app.http))
    .replaceAll('50051', portOf(app.grpc))
    .replaceAll('tdt_…', token);
}

/** Runs a block in a shell that stops at the first failure; curl fails where the server does. */
async function shell(code: string, env: NodeJS.ProcessEnv = {}, input = ''): Promise<string> {
  const curl = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }';
  const path = `${process.cwd()}/node_modules/.bin:${process.env['PATH'] ?? ''}`;
  const running = run('bash', ['-ec', `${curl}\n${code}`], {
    env: { ...process.env, PATH: path, TASKDASH_DATABASE_URL: app.database.url, TOKEN: token, ...env },
  });
  running.child.stdin?.end(input);
  return (await running).stdout;
}

describe('README.md', () => {
  it('registers over raw TCP from Python', async () => {
    const { stdout } = await run('python3', ['-c', example('README.md', 'struct.pack')]);
    expect(stdout).toBe('{"RequestID": "Register"}{"id":"133","errid":0,"errmsg":"正确"}\n');
    expect(await stored('133')).toMatchObject({ name: 'zxf', user: 'ssx', start_time: '2020.07.01' });
  });

  it(
    'makes a token, generates from the contracts and registers over gRPC from Python',
    { timeout: 400_000 },
    async () => {
      const python = await findGrpcPython();
      const commands = example('README.md', 'token create')
        // Debian has no grpcio-tools, which is protoc with this plugin.
        .replace('python3 -m grpc_tools.protoc', `protoc --plugin=protoc-gen-grpc_python=${GRPC_PLUGIN}`)
        .replaceAll('python_out=.', `python_out=${folder}`);
      expect(await shell(commands)).toMatch(/^tdt_[\w-]{43}$/m);
      const code = `${example('README.md', 'TaskServiceStub')}\nprint(tasks.GetTask(task_service_pb2.GetTaskRequest(id="133"),
      metadata=[("authorization", "Bearer ${token}")], timeout=5).task.status)`;
      const { stdout } = await run(python, ['-c', code], { env: { ...process.env, PYTHONPATH: folder } });
      expect(stdout).toBe('running\n');
    },
  );

  it('registers with curl', async () => {
    expect(JSON.parse(await shell(example('README.md', 'curl')))).toMatchObject({ task: { id: '133', groupId: 'mx' } });
  });

  it('adds people with their roles', { timeout: 120_000 }, async () => {
    const lines = example('README.md', 'user add').trim().split('\n');
    for (const line of lines) await shell(line, {}, `${TEST_PASSWORD}\n`);
    const roles = await Promise.all(
      ['ssx', 'lena', 'mo'].map(async (username) => {
        const { user } = await app.client(AuthService, 'http').login({ username, password: TEST_PASSWORD });
        return user?.memberships.map(({ groupId }) => groupId);
      }),
    );
    expect(lines).toHaveLength(3);
    expect(roles).toEqual([['mx'], ['mx'], ['mx']]);
  });
});

describe('docs/api.md', () => {
  it('logs in for a token', async () => {
    await app.addUser('ssx', { mx: 'manager' });
    const answer = JSON.parse(await shell(example('docs/api.md', 'issueToken').replace('…', TEST_PASSWORD))) as object;
    expect(answer).toMatchObject({ user: { id: 'ssx' }, token: expect.any(String) as string });
  });

  it('registers, lists, updates, counts and gets, with curl and buf', { timeout: 60_000 }, async () => {
    await app
      .client(TaskService, 'grpc', token)
      .registerTask({ task: { id: 'other', groupId: 'mx', status: 'running' } });
    const answers = await shell(example('docs/api.md', '/ListTasks').replaceAll(/\n(curl|npx)/g, '\necho; $1'));
    const [registered, listed, updated, history, counts] = answers.trim().split('\n');
    expect(JSON.parse(registered ?? '')).toMatchObject({ task: { id: '133' } });
    expect(JSON.parse(listed ?? '')).toMatchObject({ tasks: [{ id: 'other' }, { id: '133' }], totalSize: 2 });
    expect(JSON.parse(updated ?? '')).toMatchObject({ task: { id: '133', status: 'finish' } });
    const { events } = JSON.parse(history ?? '') as { events: object[] };
    expect(events.slice(0, 2)).toMatchObject([{ toStatus: 'finish' }, { toStatus: 'running' }]);
    expect(counts).toContain('"status":"finish"');
    expect(answers).toContain('"status": "finish"');
  });

  it('watches', { timeout: 60_000 }, async () => {
    const watch = example('docs/api.md', '/WatchTasks').replace('npx', 'timeout 5 npx');
    expect(await shell(`A="authorization: Bearer $TOKEN"\n${watch.trimEnd()} || true`)).toContain('"snapshot"');
  });
});

describe('docs/legacy-tcp.md', () => {
  it('has a client in Python that works', async () => {
    const { stdout } = await run('python3', ['-c', example('docs/legacy-tcp.md', 'class TaskDash')]);
    const [registered, updated, found] = stdout.trim().split('\n');
    expect([registered, updated]).toEqual(Array(2).fill("{'id': '133', 'errid': 0, 'errmsg': '正确'}"));
    expect(found).toContain("'status': 'finish'");
  });
});

describe('docs/liveness.md', () => {
  it('asks for protections and decides about them', async () => {
    await app.addUser('chief', {}, true);
    const { token: chief } = await app.client(AuthService, 'http').login({
      ...{ username: 'chief', password: TEST_PASSWORD, issueToken: true },
    });
    const lines = example('docs/liveness.md', 'ListProtections').trim().split('\n');
    const [setup = '', list = '', hold = '', expire = '', events = ''] = lines;
    for (const question of [list, events]) expect(await shell(`${setup}\n${question}`, { TOKEN: chief })).toBe('{}');
    for (const decision of [hold, expire])
      await expect(shell(`${setup}\n${decision}`, { TOKEN: chief })).rejects.toMatchObject({
        stdout: expect.stringContaining('failed_precondition') as string,
      });
  });
});
