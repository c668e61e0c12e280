/** Records of a batch that the database does not take: the others of the batch are written, and answered so. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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
async function locked<T>(id: string, work: () => Promise<T>): Promise<T> {
  await neighbour.query('BEGIN');
  await neighbour.query('SELECT FROM task WHERE id = $1 FOR UPDATE', [id]);
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

  it('that is locked keeps a client from none of its others, which it sends once', async () => {
    await register('kept');
    const client = new TaskDashClient({ url: `http://${app.grpc}`, token, timeoutMs: 20_000 });
    const others = ['other-1', 'other-2', 'other-3'];
    try {
      const reports = [...others, 'kept'].map((id) => client.register({ id, groupId: 'mx' }));
      await locked('kept', () => Promise.all(reports.slice(0, 3)));
      await reports[3];
      for (const id of others) expect(await app.storage.tasks.find('everything', id)).toMatchObject({ revision: 1 });
    } finally {
      await client.stop({ timeoutMs: 5_000 });
    }
  });
});
