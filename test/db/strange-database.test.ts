/** Storage on a database that ends connections, takes no writes for a while, or has defaults of its own. */
import pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { Log } from '../../server/domain/ports.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { startFatalProxy } from '../support/fatal-proxy.js';
import { silentLog } from '../support/silent-log.js';
import { registration } from '../support/task-writes.js';

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function newDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  undo.push(() => database.drop());
  return database;
}

async function open(url: string, log: Log = silentLog, poolSize = 3): Promise<Storage> {
  const storage = await openStorage({ url, nodeId: 'node-a', poolSize, log, clock: systemClock });
  undo.push(() => storage.close());
  return storage;
}

async function run(url: string, ...statements: string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  for (const statement of statements) await client.query(statement);
  await client.end();
}

const TERMINATE = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()`;

const write = (storage: Storage, id: string) =>
  storage.tasks.writeBatch([registration(id)]).then(
    () => 'written',
    (error: { code: string }) => error.code,
  );

describe('a connection that the database ends right after it became ready', () => {
  it('ends neither the process nor more than what was asked on it', async () => {
    const database = await newDatabase();
    const proxy = await startFatalProxy(database.url);
    undo.push(() => proxy.stop());
    const storage = await open(proxy.url);
    proxy.end(2);
    // More at once than there are connections in the pool, so that new ones are made.
    const outcomes = await Promise.all(Array.from({ length: 8 }, (_, index) => write(storage, `task-${index}`)));
    expect(proxy.ended).toBeGreaterThan(0);
    expect(outcomes.filter((outcome) => outcome !== 'written' && outcome !== 'STORAGE_UNAVAILABLE')).toEqual([]);
    expect(await write(storage, 'after')).toBe('written');
  });
});

describe('a database that lets nobody in for a moment', () => {
  it.each(['28P01', '28000', '3D000', '42501', '53300', '55000', '57P03'])(
    'with %s refuses no record, and the log says why',
    async (sqlState) => {
      const database = await newDatabase();
      const proxy = await startFatalProxy(database.url);
      undo.push(() => proxy.stop());
      const told: unknown[] = [];
      const log = { ...silentLog, warn: ({ err }: { err?: unknown }) => told.push(err) };
      const storage = await open(proxy.url, log);
      proxy.refuse(sqlState);
      // The first may still be given a connection that is cut.
      const outcomes = [await write(storage, 'during-1'), await write(storage, 'during-2')];
      expect(outcomes).toEqual(['STORAGE_UNAVAILABLE', 'STORAGE_UNAVAILABLE']);
      expect(told).toContainEqual(
        expect.objectContaining({ cause: expect.objectContaining({ code: sqlState }) as unknown }),
      );
      proxy.refuse(undefined);
      expect(await write(storage, 'after')).toBe('written');
    },
  );
});

describe('a table that is not there for a moment', () => {
  it('refuses no record, and costs the connection that missed it', async () => {
    const database = await newDatabase();
    // One connection, so that there is no other one to ask.
    const storage = await open(database.url, silentLog, 1);
    const pid = async () => (await storage.postgres.adHocRows('SELECT pg_backend_pid() AS pid', []))[0];
    const before = await pid();
    await run(database.url, 'ALTER TABLE task RENAME TO elsewhere');
    expect(await write(storage, 'during')).toBe('STORAGE_UNAVAILABLE');
    await run(database.url, 'ALTER TABLE elsewhere RENAME TO task');
    expect(await write(storage, 'after')).toBe('written');
    expect(await pid()).not.toEqual(before);
  });
});

describe('a pool whose connections were made in a moment in which the database took no writes', () => {
  it('writes again when the moment is over', async () => {
    const database = await newDatabase();
    const storage = await open(database.url);
    await run(database.url, `ALTER DATABASE ${database.name} SET default_transaction_read_only = on`, TERMINATE);
    const during = await Promise.all(Array.from({ length: 6 }, (_, index) => write(storage, `during-${index}`)));
    expect(new Set(during)).toEqual(new Set(['STORAGE_UNAVAILABLE']));
    await run(
      database.url,
      'SET default_transaction_read_only = off',
      `ALTER DATABASE ${database.name} RESET default_transaction_read_only`,
    );
    // As a batch does, which is tried again while the database is unavailable.
    let outcome = '';
    for (let tries = 0; tries < 10 && outcome !== 'written'; tries++) outcome = await write(storage, 'after');
    expect(outcome).toBe('written');
  });
});

describe('a pool that met a moment without writes', () => {
  it('asks new connections whether they can write, so that none is left that cannot', async () => {
    const database = await newDatabase();
    const storage = await open(database.url);
    await run(database.url, `ALTER DATABASE ${database.name} SET default_transaction_read_only = on`, TERMINATE);
    // The first may still be given a connection that has been ended.
    const why = () => storage.tasks.writeBatch([registration('during')]).catch((error: Error) => error.cause);
    await expect.poll(why).toMatchObject({ code: '25006' });
    const reads = Array.from({ length: 6 }, () => storage.tasks.find('everything', 'a').catch(() => 'away'));
    expect(new Set(await Promise.all(reads))).toEqual(new Set(['away']));
    const backToNormal = `ALTER DATABASE ${database.name} RESET default_transaction_read_only`;
    await run(database.url, 'SET default_transaction_read_only = off', backToNormal);
    const after = await Promise.all(Array.from({ length: 6 }, (_, index) => write(storage, `after-${index}`)));
    expect(new Set(after)).toEqual(new Set(['written']));
  });
});

describe('a database with defaults of its own', () => {
  it.each([
    ["DateStyle = 'German'"],
    ["TimeZone = 'Asia/Shanghai'"],
    ["IntervalStyle = 'sql_standard'"],
    ["bytea_output = 'escape'"],
    ["default_transaction_isolation = 'serializable'"],
    ['standard_conforming_strings = off'],
    ['extra_float_digits = -15'],
  ])('with %s behaves as any other', async (setting) => {
    const database = await newDatabase();
    await run(database.url, `ALTER DATABASE ${database.name} SET ${setting}`);
    const storage = await open(database.url);
    const at = new Date('2027-02-03T04:05:06.789Z');
    const token = {
      name: 't',
      prefix: 'tdt_',
      secretHash: 'h',
      groupId: 'mx',
      scopes: ['read'],
      createdAt: at,
    } as const;
    await storage.identity.saveToken({ ...token, expiresAt: at, lastUsedAt: null });
    expect(await storage.identity.findTokenByHash('h')).toMatchObject({ createdAt: at, expiresAt: at });
    await storage.tasks.writeBatch([registration('a', { start_time: '2020.07.01', description: 'a\\b' })]);
    const startedAt = new Date('2020-07-01T00:00:00Z');
    expect(await storage.tasks.find('everything', 'a')).toMatchObject({ startedAt, description: 'a\\b' });
    expect(await storage.settings.secret('x', 32)).toEqual(await storage.settings.secret('x', 32));
  });
});

describe('the schema of the tables', () => {
  it('is found again whatever the search path of new connections becomes, and by servers that start then', async () => {
    const database = await newDatabase();
    const storage = await open(database.url);
    await run(database.url, `ALTER DATABASE ${database.name} SET search_path = nowhere`, TERMINATE);
    const other = await open(database.url);
    for (const each of [storage, other]) {
      // The first may still be given a connection that has been ended.
      await write(each, 'task');
      expect(await write(each, 'task')).toBe('written');
      expect(await each.tasks.find('everything', 'task')).toBeDefined();
      await each.health.check();
    }
  });

  it('is the one that the search path names where there are tables of others', async () => {
    const database = await newDatabase();
    const schema = '"Ours, and \\ no\'s"';
    await run(
      database.url,
      `CREATE SCHEMA ${schema}`,
      `ALTER DATABASE ${database.name} SET search_path = ${schema}, public`,
      'ALTER TABLE task RENAME TO of_others',
      'ALTER TABLE schema_migration RENAME TO migrations_of_others',
    );
    const storage = await open(database.url);
    expect(await write(storage, 'ours')).toBe('written');
    await run(database.url, `ALTER DATABASE ${database.name} RESET search_path`, TERMINATE);
    await write(storage, 'ours');
    expect(await write(storage, 'ours')).toBe('written');
    expect(await storage.postgres.adHocRows(`SELECT id FROM ${schema}.task`, [])).toEqual([{ id: 'ours' }]);
  });
});

describe('a database that ends idle connections', () => {
  it('leaves those of a server alone, that which listens too', async () => {
    const database = await newDatabase();
    await run(database.url, `ALTER DATABASE ${database.name} SET idle_session_timeout = '300ms'`);
    const storage = await open(database.url);
    while (storage.beats.heardForMs === 0) await storage.postgres.adHocRows('SELECT pg_sleep(0.01)', []);
    await storage.postgres.adHocRows('SELECT pg_sleep(1.5)', []);
    expect(storage.beats.heardForMs).toBeGreaterThan(1400);
  });
});

describe('a database URL with options of its own', () => {
  it('keeps them, and ours beside them', async () => {
    const database = await newDatabase();
    await run(database.url, `ALTER DATABASE ${database.name} SET DateStyle = 'German'`);
    const url = new URL(database.url);
    url.searchParams.set('options', '-c work_mem=5MB -c DateStyle=SQL');
    const storage = await open(url.href);
    const rows = await storage.postgres.adHocRows(
      `SELECT current_setting('work_mem') AS work_mem, current_setting('DateStyle') AS style`,
      [],
    );
    expect(rows).toEqual([{ work_mem: '5MB', style: 'ISO, MDY' }]);
  });
});

describe('a refusal inside a transaction', () => {
  it('costs its own connection and no other', async () => {
    const storage = await open((await newDatabase()).url);
    const pids = async () => {
      const asked = [1, 2].map(() =>
        storage.postgres.adHocRows<{ pid: number }>('SELECT pg_backend_pid() AS pid, pg_sleep(0.05)', []),
      );
      return new Set((await Promise.all(asked)).map((rows) => rows[0]?.pid));
    };
    const before = await pids();
    const refused = storage.postgres.transaction((rows) =>
      rows({ name: 'test_text', text: 'SELECT $1::text' }, ['\0']),
    );
    await expect(refused).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
    const after = await pids();
    expect([...before].filter((pid) => after.has(pid))).toHaveLength(1);
  });
});

describe('a text that PostgreSQL cannot store', () => {
  it.each(['a\0b', 'a\ud800b'])('is refused with words, wherever it is: %j', async (text) => {
    const storage = await open((await newDatabase()).url);
    for (const ask of [
      () => storage.identity.findUser(text),
      () => storage.tasks.find('everything', text),
      () => storage.tasks.count('everything', { groupIds: ['mx', text] }, 10),
      () => storage.tasks.count('everything', { words: [text] }, 10),
    ])
      await expect(ask()).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
  });
});
