/** Storage while the database is away, swallows everything, or takes no writes. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import { createDataSource } from '../../server/storage/data-source.js';
import { Postgres } from '../../server/storage/postgres.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { PostgresHealth } from '../../server/storage/storage-health.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { startStallingProxy, type StallingProxy } from '../support/stalling-proxy.js';
import { registration } from '../support/task-writes.js';

let database: TestDatabase;
let proxy: StallingProxy;
let storage: Storage;

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = await startStallingProxy(database.url);
  const settings = { nodeId: 'node-a', poolSize: 4, log: silentLog, clock: systemClock };
  storage = await openStorage({ ...settings, url: proxy.url });
});
afterEach(() => proxy.restore());
afterAll(async () => {
  await storage.close();
  await proxy.stop();
  await database.drop();
});

describe('storage', () => {
  it('whose connections are cut says unavailable for what was under way, and goes on by itself', async () => {
    await storage.health.check();
    const waiting = storage.postgres.adHocRows('SELECT pg_sleep(31)', []);
    await untilRunning('SELECT pg_sleep(31)');
    proxy.cut();
    await expect(waiting).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE', nothingSent: false });
    await expect(storage.tasks.writeBatch([registration('after-the-cut')])).resolves.toMatchObject([
      { outcome: 'written' },
    ]);
  });

  it('whose sessions an administrator ends says unavailable, and goes on by itself', async () => {
    const waiting = storage.postgres.adHocRows('SELECT pg_sleep(32)', []);
    await untilRunning('SELECT pg_sleep(32)');
    const outcome = expect(waiting).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE', cause: { code: '57P01' } });
    await endSessionsThatRun('SELECT pg_sleep(32)');
    await outcome;
    await storage.health.check();
  });

  it('whose connection is cut in the middle of a transaction says unavailable, and goes on by itself', async () => {
    const transaction = storage.postgres.transaction(async (rows) => {
      await rows({ name: 'test_sleep', text: 'SELECT pg_sleep(33)' }, []);
    });
    await untilRunning('SELECT pg_sleep(33)');
    proxy.cut();
    await expect(transaction).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    await storage.health.check();
  });

  it('that has no connection to give says that nothing was sent', async () => {
    const settings = { url: database.url, poolSize: 1, applicationName: 'test', log: silentLog };
    const dataSource = createDataSource({ ...settings, connectTimeoutMs: 100 });
    await dataSource.initialize();
    const postgres = new Postgres(dataSource, silentLog);
    await postgres.transaction(async () => {
      const sent = postgres.adHocRows('SELECT 1', []);
      await expect(sent).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE', nothingSent: true });
    });
    await dataSource.destroy();
  });

  it('keeps the connection of a statement that was refused', async () => {
    const backend = async () =>
      (await storage.postgres.adHocRows<{ pid: number }>('SELECT pg_backend_pid() AS pid', []))[0];
    const before = await backend();
    await expect(storage.postgres.adHocRows('SELECT 1 / 0', [])).rejects.toMatchObject({ code: 'STORAGE_REFUSED' });
    expect(await backend()).toEqual(before);
  });

  it('whose database takes no writes is not healthy, and says so', async () => {
    const readOnly = new URL(database.url);
    readOnly.searchParams.set('options', '-c default_transaction_read_only=on');
    const dataSource = createDataSource({
      url: readOnly.href,
      poolSize: 1,
      applicationName: 'test',
      log: silentLog,
    });
    await dataSource.initialize();
    await expect(new PostgresHealth(new Postgres(dataSource, silentLog)).check()).rejects.toMatchObject({
      code: 'STORAGE_UNAVAILABLE',
      message: 'the database takes no writes: it is a standby, or set to read-only',
    });
    await dataSource.destroy();
  });
});

describe('a database that swallows everything', () => {
  it('hangs nobody: every call ends at its deadline, and later calls work again', { timeout: 60_000 }, async () => {
    const impatient = createDataSource({
      url: proxy.url,
      poolSize: 2,
      applicationName: 'impatient',
      log: silentLog,
      statementTimeoutMs: 300,
      connectTimeoutMs: 2000,
    });
    await impatient.initialize();
    const postgres = new Postgres(impatient, silentLog);
    const ask = () => postgres.adHocRows<{ one: number }>('SELECT 1 AS one', []);
    await Promise.all([ask(), ask()]);
    proxy.stall();
    const startedAt = performance.now();
    // Two on connections that are there, two that wait for one, and two on connections that are made anew.
    const outcomes = await Promise.allSettled([ask(), ask(), ask(), ask()]);
    outcomes.push(...(await Promise.allSettled([ask(), ask()])));
    expect(
      outcomes.map((outcome) => outcome.status === 'rejected' && (outcome.reason as { code: string }).code),
    ).toEqual(Array(6).fill('STORAGE_UNAVAILABLE'));
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    proxy.restore();
    expect(await ask()).toEqual([{ one: 1 }]);
    await impatient.destroy();
  });
});

async function untilRunning(query: string): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const rows = await storage.postgres.adHocRows(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = $1 AND state = 'active'`,
      [query],
    );
    if (rows.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`the query did not start: ${query}`);
}

async function endSessionsThatRun(query: string): Promise<void> {
  await storage.postgres.adHocRows(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query = $1`,
    [query],
  );
}
