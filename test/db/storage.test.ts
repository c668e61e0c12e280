import type { EventEmitter } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createDataSource } from '../../server/storage/data-source.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration } from '../support/task-writes.js';

let database: TestDatabase;
let storage: Storage;

beforeAll(async () => {
  database = await createTestDatabase();
  storage = await openStorage({ url: database.url, nodeId: 'test', poolSize: 4, log: silentLog });
});

afterAll(async () => {
  await storage.close();
  await database.drop();
});

const SESSION = '00000000-0000-4000-8000-000000000001';

describe('the schema', () => {
  it('is what the entities describe', async () => {
    const drift = await storage.dataSource.driver.createSchemaBuilder().log();
    expect(drift.upQueries.map((query) => query.query)).toEqual([]);
  });
});

describe('an idle connection that is lost', () => {
  it('is told, but not where the pool is closed: the database may be stopped before it is gone', async () => {
    const warn = vi.fn();
    const source = createDataSource({
      ...{ url: database.url, poolSize: 2, applicationName: 'test' },
      log: { ...silentLog, warn },
    });
    await source.initialize();
    const { master: pool } = source.driver as unknown as { master: EventEmitter };
    pool.emit('error', new Error('lost'));
    expect(warn).toHaveBeenCalledTimes(1);
    const closed = source.destroy();
    pool.emit('error', new Error('lost'));
    await closed;
    pool.emit('error', new Error('lost'));
    expect(warn).toHaveBeenCalledTimes(1);
  });
});

describe('a secret', () => {
  it('is generated once and shared by everybody who asks', async () => {
    const secrets = await Promise.all(Array.from({ length: 8 }, () => storage.settings.secret('pages', 32)));
    expect(secrets[0]).toHaveLength(32);
    for (const secret of secrets) expect(Buffer.compare(secret, secrets[0] as Uint8Array)).toBe(0);
  });

  it('differs from a secret of another name', async () => {
    const [one, other] = await Promise.all([storage.settings.secret('one', 32), storage.settings.secret('other', 32)]);
    expect(Buffer.compare(one, other)).not.toBe(0);
  });
});

describe('health', () => {
  it('is good while the database answers', async () => {
    await expect(storage.health.check()).resolves.toBeUndefined();
  });
});

describe('the times of a history', () => {
  afterEach(() => void vi.useRealTimers());

  it('are the database’s, whatever the clocks of the servers say, and go the way of the revisions', async () => {
    const times: Date[] = [];
    for (const year of [2010, 2040, 2000]) {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(year, 0, 1) });
      await storage.tasks.writeBatch([registration('clocks', { status: 'running' }, { sessionId: SESSION })]);
      vi.useRealTimers();
    }
    const { epoch } = (await storage.tasks.find('everything', 'clocks')) ?? { epoch: 0 };
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(1990, 0, 1) });
    const lapse = { taskId: 'clocks', sessionId: SESSION, epoch, cause: 'heartbeat_timeout', silentMs: 1000 } as const;
    expect(await storage.tasks.lapse([lapse])).toEqual({ lapsed: ['clocks'], locked: [] });
    vi.useRealTimers();
    const task = await storage.tasks.find('everything', 'clocks');
    const events = (await storage.tasks.events('everything', 'clocks', undefined, 10)).reverse();
    times.push(...events.map(({ at }) => at));
    expect(times).toHaveLength(4);
    expect([...times].sort((one, other) => one.getTime() - other.getTime())).toEqual(times);
    for (const at of [...times, task?.createdAt, task?.updatedAt, task?.statusChangedAt])
      expect(Math.abs((at?.getTime() ?? 0) - Date.now())).toBeLessThan(60_000);
    expect(task?.updatedAt).toEqual(times.at(-1));
  });
});
