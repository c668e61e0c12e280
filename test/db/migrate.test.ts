import pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import { migrate, SchemaError } from '../../server/storage/migrate.js';
import { openStorage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration } from '../support/task-writes.js';

const databases: TestDatabase[] = [];
afterEach(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

async function newDatabase(content: 'migrated' | 'empty'): Promise<TestDatabase> {
  const database = await createTestDatabase(content);
  databases.push(database);
  return database;
}

const settingsOf = ({ url }: { url: string }) => ({ url, applicationName: 'test', log: silentLog });

async function run(database: TestDatabase, ...statements: string[]): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    let rows: unknown[] = [];
    for (const statement of statements) rows = (await client.query<object>(statement)).rows;
    return rows;
  } finally {
    await client.end();
  }
}

describe('migrating', () => {
  it('makes an empty database whole, and does nothing the second time', async () => {
    const database = await newDatabase('empty');
    expect((await migrate(settingsOf(database)))[0]).toBe('Tasks0000000000001');
    expect(await migrate(settingsOf(database))).toEqual([]);
  });

  it('of many nodes that start at once runs every migration once', async () => {
    const database = await newDatabase('empty');
    const runs = await Promise.all(Array.from({ length: 6 }, () => migrate(settingsOf(database))));
    const names = runs.flat();
    expect(new Set(names).size).toBe(names.length);
    expect(runs.filter((executed) => executed.length > 0)).toHaveLength(1);
    expect(await run(database, 'SELECT name FROM schema_migration ORDER BY timestamp')).toEqual(
      names.map((name) => ({ name })),
    );
  });

  it('leaves nothing behind of a migration that fails', async () => {
    const database = await newDatabase('empty');
    // In the way of the second migration.
    await run(database, 'CREATE TABLE service_token (x int)');
    await expect(migrate(settingsOf(database))).rejects.toMatchObject({ code: 'STORAGE_REFUSED' });
    expect(await run(database, 'SELECT name FROM schema_migration')).toEqual([{ name: 'Tasks0000000000001' }]);
    await run(database, 'DROP TABLE service_token');
    expect((await migrate(settingsOf(database)))[0]).toBe('Identity0000000000002');
  });

  it('refuses the schema of a newer version, and names what it does not know', async () => {
    const database = await newDatabase('migrated');
    await run(database, `INSERT INTO schema_migration (timestamp, name) VALUES (999, 'Future0000000000999')`);
    const start = migrate(settingsOf(database));
    await expect(start).rejects.toThrowError(SchemaError);
    await expect(start).rejects.toThrowError(/newer TaskDash \(Future0000000000999\)/);
  });

  it('that cannot reach the database says unavailable', async () => {
    const database = await newDatabase('migrated');
    const nowhere = new URL(database.url);
    nowhere.port = '1';
    await expect(migrate(settingsOf({ url: nowhere.href }))).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
  });

  it('that is not let in says refused', async () => {
    const database = await newDatabase('migrated');
    const unknown = new URL(database.url);
    unknown.pathname = '/no_such_database';
    await expect(migrate(settingsOf({ url: unknown.href }))).rejects.toMatchObject({
      code: 'STORAGE_REFUSED',
      cause: { code: '3D000' },
    });
  });
});

describe('a dump that was restored into a cluster with smaller transaction numbers', () => {
  it('is never told as new, and marks from before are refused', async () => {
    const database = await newDatabase('migrated');
    const settings = { ...settingsOf(database), nodeId: 'node-a', poolSize: 2, clock: systemClock };
    const before = await openStorage(settings);
    await before.tasks.writeBatch([registration('old'), registration('older')]);
    const markFromBefore = await before.feed.mark();
    await before.close();
    await run(database, `UPDATE task_event SET xid = (xid::text::bigint + 1000000000)::text::xid8`);

    const storage = await openStorage(settings);
    const mark = await storage.feed.mark();
    await storage.tasks.writeBatch([registration('new')]);
    const { until, events } = await storage.feed.between(mark, undefined, 0, 10);
    expect(events.map(({ event }) => event.taskId)).toEqual(['new']);
    expect((await storage.feed.between(until, undefined, 0, 10)).events).toEqual([]);
    await expect(storage.feed.between(markFromBefore, undefined, 0, 10)).rejects.toMatchObject({
      code: 'RESUME_TOKEN_INVALID',
    });
    expect(await storage.tasks.events('everything', 'old', undefined, 10)).toHaveLength(1);
    await storage.close();
  });

  it('goes on as ever where the numbers lie in the past', async () => {
    const database = await newDatabase('migrated');
    const settings = { ...settingsOf(database), nodeId: 'node-a', poolSize: 2, clock: systemClock };
    const before = await openStorage(settings);
    const mark = await before.feed.mark();
    await before.tasks.writeBatch([registration('a')]);
    await before.close();
    const storage = await openStorage(settings);
    expect((await storage.feed.between(mark, undefined, 0, 10)).events).toHaveLength(1);
    await storage.close();
  });
});
