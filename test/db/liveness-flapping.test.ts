import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { TaskWrite } from '../../server/domain/ports.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';

let database: TestDatabase;
let storage: Storage;
let clock: ManualClock;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

beforeEach(async () => {
  // The database tells how long a task still counts as flapping: the clock has to be near its own.
  clock = new ManualClock(new Date());
  storage = await openStorage({ url: database.url, nodeId: 'test', poolSize: 2, log: silentLog, clock });
  return async () => {
    await storage.dataSource.query('TRUNCATE task, task_event');
    await storage.close();
  };
});

const SESSION = '00000000-0000-4000-8000-000000000001';

async function write(status: string | undefined, more: Partial<TaskWrite> = {}): Promise<number> {
  const texts = { name: '', url: '', user: '', group_id: '', description: '', start_time: '', stop_time: '' };
  const [result] = await storage.tasks.writeBatch([
    {
      kind: 'register',
      id: 'a',
      texts: { ...texts, ...(status !== undefined && { status }) },
      addr: '',
      sessionId: SESSION,
      cause: 'client',
      actor: 'test',
      groups: 'every',
      expectedRevision: undefined,
      returnsTask: false,
      ...more,
    },
  ]);
  return result?.outcome === 'written' ? result.epoch : -1;
}

async function changeAfter(byMs: number, ...statuses: string[]): Promise<void> {
  for (const status of statuses) {
    clock.advance(byMs);
    await write(status);
  }
}

const flapping = async () => [...(await storage.sessions.flapping(10))];

it('four changes are none too many, nor is the first registration a change, nor a register that changes nothing', async () => {
  await write('running');
  await changeAfter(1000, 'restart', 'running', 'running', 'restart', 'running', 'running');
  expect(await flapping()).toEqual([]);
});

it('the fifth change within ten minutes makes a task flap until the first of them is ten minutes old', async () => {
  await write('running');
  await changeAfter(60_000, 'restart', 'running', 'restart', 'running', 'restart');
  const [[id, forMs] = ['', 0]] = await flapping();
  expect(id).toBe('a');
  // The clock is five minutes ahead of the database's, and the first change four minutes old on it.
  expect(forMs).toBeGreaterThan(655_000);
  expect(forMs).toBeLessThanOrEqual(660_000);
});

it('changes that take longer than ten minutes together are none too many', async () => {
  await write('running');
  await changeAfter(151_000, 'restart', 'running', 'restart', 'running', 'restart', 'running', 'restart');
  expect(await flapping()).toEqual([]);
});

it('shutdowns of the registry and restorations count', async () => {
  let epoch = await write('running');
  for (let times = 0; times < 2; times++) {
    const lapse = { taskId: 'a', sessionId: SESSION, epoch, cause: 'heartbeat_timeout', silentMs: 1 } as const;
    expect(await storage.tasks.lapse([lapse])).toEqual({ lapsed: ['a'], locked: [] });
    epoch = await write(undefined, { kind: 'update', texts: {} });
  }
  expect(await flapping()).toEqual([]);
  await write('restart');
  expect(await flapping()).toHaveLength(1);
});
