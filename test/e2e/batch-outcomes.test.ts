/** Records of a batch that the database does not take: the others of the batch are written, and answered so. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TaskDashClient } from '../../client/client.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { Log } from '../../server/domain/ports.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { silentLog } from '../support/silent-log.js';

let app: TestApp;
let token: string;
let neighbour: pg.Client;
const errors: object[] = [];

beforeAll(async () => {
  const log: Log = { ...silentLog, error: (details) => void errors.push(details) };
  app = await startTestApp({ log });
  token = await app.addToken('mx');
  neighbour = new pg.Client({ connectionString: app.database.url });
  await neighbour.connect();
});
afterAll(async () => {
  await neighbour.end();
  await app.stop();
});

/** Registers tasks in one call; returns what became of each. */
async function register(...ids: string[]): Promise<string[]> {
  const tasks = ids.map((id) => ({ id, groupId: 'mx' }));
  const { results } = await app.client(TaskService, 'grpc', token).batchRegisterTasks({ tasks });
  return results.map(({ outcome }) => (outcome.case === 'error' ? outcome.value.reason : String(outcome.case)));
}

/** Keeps the row of a task locked for as long as the work takes. */
function locked<T>(id: string, work: () => Promise<T>): Promise<T> {
  return lockedAll([id], work);
}

/** The same for the rows of many. */
async function lockedAll<T>(ids: readonly string[], work: () => Promise<T>): Promise<T> {
  await neighbour.query('BEGIN');
  await neighbour.query('SELECT FROM task WHERE id = ANY($1) FOR UPDATE', [ids]);
  try {
    return await work();
  } finally {
    await neighbour.query('ROLLBACK');
  }
}

describe('a record of a batch', () => {
  it('that somebody keeps locked is answered so, and the others as written', async () => {
    await register('held');
    expect(await locked('held', () => register('free-1', 'held', 'free-2'))).toEqual([
      ...['task', 'STORAGE_LOCKED', 'task'],
    ]);
  });

  it('that the database refuses is answered so, and the log tells why', async () => {
    await neighbour.query(`ALTER TABLE task ADD CONSTRAINT no_poison CHECK (id <> 'poison')`);
    expect(await register('fine-1', 'poison', 'fine-2')).toEqual(['task', 'STORAGE_REFUSED', 'task']);
    expect(errors).toHaveLength(1);
  });
});

describe('a report of a client whose task somebody keeps locked', () => {
  const clients: TaskDashClient[] = [];
  afterEach(async () => void (await Promise.all(clients.splice(0).map((each) => each.stop({ timeoutMs: 5_000 })))));

  function newClient(timeoutMs: number): TaskDashClient {
    const client = new TaskDashClient({ url: `http://${app.grpc}`, token, timeoutMs });
    clients.push(client);
    return client;
  }

  const stored = (id: string) => app.storage.tasks.find('everything', id);
  const namesOf = (prefix: string) => Array.from({ length: 19 }, (_, n) => `${prefix}-${n}`);
  const registerAll = (client: TaskDashClient, ids: readonly string[]) =>
    Promise.all(ids.map((id) => client.register({ id, groupId: 'mx' })));

  /** Runs some work, and returns how long it took. */
  async function timed(work: () => Promise<unknown>): Promise<number> {
    const beganAtMs = performance.now();
    await work();
    return performance.now() - beganAtMs;
  }

  it('keeps from none of the others of its batch, which are sent once', async () => {
    await register('kept');
    const client = newClient(20_000);
    const others = ['other-1', 'other-2', 'other-3'];
    const reports = [...others, 'kept'].map((id) => client.register({ id, groupId: 'mx' }));
    await locked('kept', () => Promise.all(reports.slice(0, 3)));
    await reports[3];
    for (const id of others) expect(await stored(id)).toMatchObject({ revision: 1 });
  });

  it('suffers alone where calls may take less long than the server tries', { timeout: 20_000 }, async () => {
    await register('slow');
    const client = newClient(1_000);
    const others = namesOf('quick');
    await client.start();
    const last = await locked('slow', async () => {
      const report = client.register({ id: 'slow', groupId: 'mx' });
      expect(await timed(() => registerAll(client, others))).toBeLessThan(3_500);
      for (let round = 0; round < 8; round++) {
        const change = { description: `${round}` };
        expect(await timed(() => Promise.all(others.map((id) => client.update(id, change))))).toBeLessThan(2_000);
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
      return [report, client.update('slow', { description: 'last' })];
    });
    await Promise.all(last);
    expect(await stored('slow')).toMatchObject({ status: 'running', description: 'last' });
    expect(client.state).toBe('alive');
  });

  it('holds up nothing that is reported after it', { timeout: 20_000 }, async () => {
    const client = newClient(20_000);
    const others = namesOf('later');
    await registerAll(client, ['first', ...others]);
    const report = await locked('first', async () => {
      const update = client.update('first', { description: 'd' });
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(await timed(() => client.update('later-1', { description: 'd' }))).toBeLessThan(2_000);
      expect(await timed(() => client.register({ id: 'later-x', groupId: 'mx' }))).toBeLessThan(2_000);
      return [update];
    });
    await Promise.all(report);
    expect(await stored('first')).toMatchObject({ description: 'd' });
  });

  it('holds up no other either where very many are locked', { timeout: 60_000 }, async () => {
    const client = newClient(5_000);
    const [many, others] = [Array.from({ length: 200 }, (_, n) => `many-${n}`), namesOf('few')];
    await registerAll(client, [...many, ...others]);
    const report = await lockedAll(many, async () => {
      const updates = many.map((id) => client.update(id, { description: 'd' }));
      const change = { description: 'd' };
      expect(await timed(() => Promise.all(others.map((id) => client.update(id, change))))).toBeLessThan(6_000);
      expect(await timed(() => Promise.all(others.map((id) => client.update(id, { name: 'n' }))))).toBeLessThan(3_000);
      return updates;
    });
    await Promise.all(report);
    expect(await stored('many-199')).toMatchObject({ description: 'd' });
  });

  it('does not keep a client that stops from sending the others and saying goodbye', { timeout: 20_000 }, async () => {
    const client = newClient(20_000);
    const others = namesOf('left');
    await registerAll(client, ['stuck', ...others]);
    await locked('stuck', async () => {
      const stuck = client.update('stuck', { description: 'd' }).catch((error: unknown) => error);
      const ended = client.finish('left-0');
      expect(await timed(() => client.stop({ timeoutMs: 3_000 }))).toBeLessThan(3_500);
      await ended;
      expect(await stuck).toMatchObject({ rawMessage: 'the client was stopped' });
    });
    expect(await stored('left-0')).toMatchObject({ status: 'finish' });
    expect(await stored('left-1')).toMatchObject({ status: 'shutdown', cause: 'client' });
  });
});
