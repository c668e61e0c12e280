import pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import { migrate, SchemaError } from '../../server/storage/migrate.js';
import { openStorage } from '../../server/storage/storage.js';
import { upTo } from '../support/page-limits.js';
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

  it('is told in one line of the log, if there was something to do', async () => {
    const database = await newDatabase('empty');
    const told: unknown[] = [];
    const log = { ...silentLog, info: (...line: unknown[]) => void told.push(line) };
    const migrations = await migrate({ ...settingsOf(database), log });
    await migrate({ ...settingsOf(database), log });
    const tookMs = expect.any(Number) as number;
    expect(told).toEqual([[{ migrations, tookMs }, `migrated the database in ${migrations.length} steps`]]);
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
    await expect(migrate(settingsOf(database))).rejects.toMatchObject({
      message: 'The database could not carry out a statement.',
      cause: { code: '42P07' },
    });
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

  it('that is not let in says so, and why', async () => {
    const database = await newDatabase('migrated');
    const unknown = new URL(database.url);
    unknown.pathname = '/no_such_database';
    await expect(migrate(settingsOf({ url: unknown.href }))).rejects.toMatchObject({
      code: 'STORAGE_UNAVAILABLE',
      message: 'The database takes no connection of the server.',
      cause: { code: '3D000' },
    });
  });
});

describe('a database that was set back to an earlier state', () => {
  it('knows the places from before that it still has, and refuses those that it does not', async () => {
    const database = await newDatabase('migrated');
    const settings = { ...settingsOf(database), nodeId: 'node-a', poolSize: 2, clock: systemClock };
    const before = await openStorage(settings);
    await before.tasks.writeBatch([registration('kept')]);
    const kept = await before.feed.head();
    await before.tasks.writeBatch([registration('lost')]);
    const lost = await before.feed.head();
    await before.close();
    // What a restore and a failover do: the latest events are gone, and their numbers are given again.
    await run(database, `DELETE FROM task_event WHERE seq = ${lost.id}`);
    await run(database, `SELECT setval(pg_get_serial_sequence('task_event', 'seq'), ${kept.id})`);

    const storage = await openStorage(settings);
    await expect(storage.feed.after(lost, upTo(10), 1000)).rejects.toMatchObject({ code: 'RESUME_TOKEN_INVALID' });
    await storage.tasks.writeBatch([registration('new')]);
    expect((await storage.feed.head()).id).toBe(lost.id);
    await expect(storage.feed.after(lost, upTo(10), 1000)).rejects.toMatchObject({ code: 'RESUME_TOKEN_INVALID' });
    const events = await storage.feed.after(kept, upTo(10), 1000);
    expect(events.map(({ event }) => event.taskId)).toEqual(['new']);
    await storage.close();
  });
});
