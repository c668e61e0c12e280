/** Rows of credentials that somebody keeps locked in the database: whoever shows them is not kept waiting. */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { LoginSession } from '../../server/domain/ports.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';

const [EARLY, LATE] = [new Date('2026-01-01T00:00:00Z'), new Date('2026-01-02T00:00:00Z')];
const FAR = new Date('2100-01-01T00:00:00Z');

let database: TestDatabase;
let storage: Storage;
let holder: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  storage = await openStorage({ url: database.url, nodeId: 'a', poolSize: 4, log: silentLog, clock: systemClock });
  holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
});
beforeEach(() => holder.query('BEGIN'));
afterEach(() => holder.query('ROLLBACK'));
afterAll(async () => {
  await holder.end();
  await storage.close();
  await database.drop();
});

async function savedToken(): Promise<string> {
  const secretHash = randomUUID();
  await storage.identity.saveToken({
    ...{ secretHash, name: randomUUID(), prefix: 'tdt_x', groupId: 'mx', scopes: ['read'] },
    ...{ createdAt: EARLY, expiresAt: null, lastUsedAt: null },
  });
  return secretHash;
}

async function savedSession(expiresAt = FAR): Promise<LoginSession> {
  const id = `user-${randomUUID()}`;
  await storage.identity.saveUser({
    ...{ id, displayName: id, passwordHash: 'hash', administrator: false, disabled: false, mustChangePassword: false },
    memberships: new Map(),
  });
  const session = { idHash: randomUUID(), userId: id, address: '127.0.0.1', userAgent: 'test' };
  const record = { ...session, createdAt: EARLY, lastUsedAt: EARLY, expiresAt };
  await storage.identity.saveSession(record, 'hash', 10);
  return record;
}

describe('a credential whose row somebody keeps locked', () => {
  it('has its latest use noted another time, and nobody waits: tokens', async () => {
    const hash = await savedToken();
    await holder.query('SELECT FROM service_token WHERE secret_hash = $1 FOR UPDATE', [hash]);
    await storage.identity.touchToken(hash, LATE);
    expect(await storage.identity.findTokenByHash(hash)).toMatchObject({ lastUsedAt: null });
    await holder.query('ROLLBACK');
    await storage.identity.touchToken(hash, LATE);
    expect(await storage.identity.findTokenByHash(hash)).toMatchObject({ lastUsedAt: LATE });
  });

  it('has its latest use noted another time, and nobody waits: logins', async () => {
    const { idHash } = await savedSession();
    await holder.query('SELECT FROM login_session WHERE id_hash = $1 FOR UPDATE', [idHash]);
    await storage.identity.touchSession(idHash, LATE);
    expect(await storage.identity.findSession(idHash)).toMatchObject({ lastUsedAt: EARLY });
    await holder.query('ROLLBACK');
    await storage.identity.touchSession(idHash, LATE);
    expect(await storage.identity.findSession(idHash)).toMatchObject({ lastUsedAt: LATE });
  });

  it('keeps no other that has ended from being removed', async () => {
    const [locked, other] = [await savedSession(LATE), await savedSession(LATE)];
    await holder.query('SELECT FROM login_session WHERE id_hash = $1 FOR UPDATE', [locked.idHash]);
    const expiry = { now: LATE, unusedSince: new Date(0), attemptsBefore: EARLY, networksBefore: EARLY };
    expect(await storage.identity.deleteExpired(expiry)).toBe(1);
    expect(await storage.identity.findSession(other.idHash)).toBeUndefined();
    await holder.query('ROLLBACK');
    expect(await storage.identity.deleteExpired(expiry)).toBe(1);
  });
});
