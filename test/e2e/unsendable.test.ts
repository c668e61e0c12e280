/** Records that somebody wrote into the database by hand, with values that no protocol has a form for. */
import { Code, ConnectError } from '@connectrpc/connect';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { AdminService } from '../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { SessionService } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';
import {
  TaskOrderField,
  TaskService,
  type WatchTasksResponse,
} from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { Log } from '../../server/domain/ports.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { silentLog } from '../support/silent-log.js';
import { TcpxClient } from '../support/tcpx-client.js';

const BAD = [
  ['created_at', 'infinity'],
  ['created_at', '0044-03-15 12:00:00+00 BC'],
  ['updated_at', 'infinity'],
  ['updated_at', '290000-01-01 00:00:00+00'],
  ['status_changed_at', '-infinity'],
  ['status_changed_at', '12000-01-01 00:00:00+00'],
] as const;

let app: TestApp;
let token: string;
let errors: string[];

beforeAll(async () => {
  const error = (details: object) => void errors.push(String((details as { err?: Error }).err?.message));
  app = await startTestApp({ log: { ...silentLog, error } satisfies Log });
  token = await app.addToken('mx');
  const tasks = app.client(TaskService, 'http', token);
  await tasks.registerTask({ task: { id: 'good-1', groupId: 'mx' } });
  for (const [n] of BAD.entries()) await tasks.registerTask({ task: { id: `bad-${n}`, groupId: 'mx' } });
  await tasks.registerTask({ task: { id: 'good-2', groupId: 'mx' } });
  for (const [n, [column, value]] of BAD.entries())
    await sql(`UPDATE task SET ${column} = '${value}' WHERE id = 'bad-${n}'`);
});
afterAll(() => app.stop());
beforeEach(() => (errors = []));

async function sql(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: app.database.url });
  await client.connect();
  await client.query(statement);
  await client.end();
}

async function json(method: string, request: object): Promise<Record<string, unknown>> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const url = `${app.http}/taskdash.task.v1.TaskService/${method}`;
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(request) });
  return (await answer.json()) as Record<string, unknown>;
}

async function reasonOf(call: Promise<unknown>): Promise<unknown> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => ConnectError.from(thrown),
  );
  return [error?.code, error?.findDetails(ErrorInfoSchema)[0]?.reason, error?.rawMessage];
}

const ids = (tasks: readonly { id: string }[]) => tasks.map(({ id }) => id).sort();

describe.each(['grpc', 'http'] as const)('a record that cannot be sent, through %s,', (door) => {
  const client = () => app.client(TaskService, door, token);

  it('is left out of lists and of what a search finds, and the log names it', async () => {
    const page = await client().listTasks({});
    expect(ids(page.tasks)).toEqual(['good-1', 'good-2']);
    for (const [n] of BAD.entries()) expect(errors.filter((line) => line.includes(`"bad-${n}"`))).toHaveLength(1);
    expect(ids((await client().listTasks({ filter: { text: 'o' } })).tasks)).toEqual(['good-1', 'good-2']);
  });

  it.each([TaskOrderField.UPDATED_AT, TaskOrderField.ID])(
    'hides nothing else on the way through pages (order %i)',
    async (orderBy) => {
      for (const ascending of [true, false]) {
        const found: string[] = [];
        let pageToken = '';
        do {
          const page = await client().listTasks({ orderBy, ascending, pageSize: 1, pageToken });
          found.push(...ids(page.tasks));
          pageToken = page.nextPageToken;
        } while (pageToken !== '');
        expect(found.sort()).toEqual(['good-1', 'good-2']);
      }
    },
  );

  it('is told of in words to who asks for it', async () => {
    for (const [n, [column]] of BAD.entries()) {
      const words = expect.stringMatching(
        new RegExp(`^The task "bad-${n}" cannot be sent: ${column} is .*\\.$`),
      ) as string;
      expect(await reasonOf(client().getTask({ id: `bad-${n}` }))).toEqual([Code.Internal, 'TASK_UNSENDABLE', words]);
      expect(errors.some((line) => line.includes(`"bad-${n}"`))).toBe(true);
    }
  });

  it('can still be written: the answer tells the version', async () => {
    const { task } = await client().updateTask({ task: { id: 'bad-0', name: 'new' } });
    expect(task).toMatchObject({ id: 'bad-0', name: '', etag: `"${task?.revision}"` });
    const batch = [
      { id: 'bad-1', groupId: 'mx' },
      { id: 'good-1', groupId: 'mx' },
    ];
    const { results } = await client().batchRegisterTasks({ tasks: batch });
    expect(results.map(({ outcome }) => outcome.case)).toEqual(['task', 'task']);
  });

  it('is left out of a watch, and of histories, and ends neither', async () => {
    const cut = new AbortController();
    const watch = client().watchTasks({}, { signal: cut.signal })[Symbol.asyncIterator]();
    await watch.next();
    await client().updateTask({ task: { id: 'bad-0', name: 'unseen' } });
    await client().updateTask({ task: { id: 'good-2', name: 'seen' } });
    const { value } = (await watch.next()) as IteratorYieldResult<WatchTasksResponse>;
    expect(value).toMatchObject({ message: { case: 'change', value: { task: { id: 'good-2' } } } });
    cut.abort();
    await sql(`UPDATE task_event SET at = 'infinity' WHERE task_id = 'good-2' AND kind = 'registered'`);
    const { events } = await client().listTaskEvents({ taskId: 'good-2' });
    expect(events.length).toBeGreaterThan(0);
    expect(events.every(({ at }) => at !== undefined)).toBe(true);
    expect(errors.some((line) => /The event \d+ of the task "good-2" cannot be sent: at is Infinity/.test(line))).toBe(
      true,
    );
  });
});

describe('what administrators read', () => {
  let administrator: string;

  beforeAll(async () => {
    await app.addUser('boss', {}, true);
    const request = { username: 'boss', password: TEST_PASSWORD, issueToken: true };
    administrator = (await app.client(AuthService, 'http').login(request)).token;
  });

  it.each(['infinity', '-infinity', '290000-01-01 00:00:00+00', '0044-03-15 12:00:00+00 BC'])(
    'has no session that was opened at %s, and every other',
    async (instant) => {
      const services = [await TcpxClient.connect(app.tcp), await TcpxClient.connect(app.tcp)];
      for (const [n, service] of services.entries()) await service.register({ id: `held-${n}`, group_id: 'held' });
      const { listSessions } = app.client(SessionService, 'grpc', administrator);
      const holders = async () => (await listSessions({})).sessions.filter(({ tasks }) => tasks === 1);
      await expect.poll(holders, { timeout: 10_000 }).toHaveLength(2);
      const [spoilt, good] = await holders();
      await sql(`UPDATE session SET opened_at = '${instant}' WHERE id = '${spoilt?.id}'`);
      expect((await holders()).map(({ id }) => id)).toEqual([good?.id]);
      expect(errors.join()).toContain(`The session ${spoilt?.id} cannot be sent: opened_at is `);
      await sql(`UPDATE session SET opened_at = now() WHERE id = '${spoilt?.id}'`);
      await Promise.all(services.map((service) => service.close()));
    },
  );

  it('has no event of a server that happened at no time, and every other', async () => {
    const events = ['infinity', '12000-01-01 00:00:00+00', 'now'].map((at) => `('north', '${at}', 'lease_lost', '{}')`);
    await sql(`INSERT INTO node_event (node, at, kind, details) VALUES ${events.join()}`);
    const admin = app.client(AdminService, 'http', administrator);
    const told = (await admin.listServerEvents({})).events.filter(({ node }) => node === 'north');
    expect(told).toHaveLength(1);
    expect(
      errors.filter((line) => line.includes('event lease_lost of the server "north" cannot be sent')),
    ).toHaveLength(2);
  });
});

it('JSON leaves them out too, and the legacy protocol, which has no instants, finds them', async () => {
  const { tasks } = await json('ListTasks', {});
  expect(ids(tasks as { id: string }[])).toEqual(['good-1', 'good-2']);
  expect(await json('GetTask', { id: 'bad-0' })).toMatchObject({ code: 'internal' });
  const legacy = await TcpxClient.connect(app.tcp);
  for (const [n] of BAD.entries())
    expect((await legacy.find(`bad-${n}`)).body).toMatchObject({ id: `bad-${n}`, errid: 0 });
  legacy.socket.destroy();
});
