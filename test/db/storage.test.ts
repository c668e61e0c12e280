import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';

let database: TestDatabase;
let storage: Storage;

beforeAll(async () => {
  database = await createTestDatabase();
  storage = await openStorage({ url: database.url, nodeId: 'test', poolSize: 4, log: silentLog, clock: systemClock });
});

afterAll(async () => {
  await storage.close();
  await database.drop();
});

describe('the schema', () => {
  it('is what the entities describe', async () => {
    const drift = await storage.dataSource.driver.createSchemaBuilder().log();
    expect(drift.upQueries.map((query) => query.query)).toEqual([]);
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
