import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { IdentityStore, LoginSession, TokenRecord, UserRecord } from '../../server/domain/ports.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { MemoryIdentityStore } from '../support/memory-identity-store.js';
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

function user(changes: Partial<UserRecord> = {}): UserRecord {
  return {
    id: `user-${randomUUID()}`,
    displayName: '孙小小',
    passwordHash: '$argon2id$…',
    administrator: false,
    disabled: false,
    mustChangePassword: false,
    memberships: new Map(),
    ...changes,
  };
}

function session(userId: string, changes: Partial<LoginSession> = {}): LoginSession {
  return {
    idHash: randomUUID(),
    userId,
    address: '127.0.0.1',
    userAgent: 'test',
    createdAt: new Date('2026-01-01T00:00:00.123Z'),
    lastUsedAt: new Date('2026-01-01T00:00:00.123Z'),
    expiresAt: new Date('2026-01-08T00:00:00.123Z'),
    ...changes,
  };
}

function token(changes: Partial<TokenRecord> = {}): TokenRecord {
  return {
    name: 'ci',
    prefix: 'tdt_abcdefgh',
    secretHash: randomUUID(),
    groupId: 'mx',
    scopes: ['register', 'read'],
    createdAt: new Date('2026-01-01T00:00:00Z'),
    expiresAt: null,
    lastUsedAt: null,
    ...changes,
  };
}

describe.each([
  { name: 'in memory', open: (): IdentityStore => new MemoryIdentityStore() },
  { name: 'in PostgreSQL', open: (): IdentityStore => storage.identity },
])('identities $name', ({ open }) => {
  it('adds the first user only while there is none, also when asked at once', async () => {
    const store = open();
    expect(await store.countUsers()).toBe(0);
    const first = user();
    const answers = await Promise.all([
      store.saveFirstUser(first),
      store.saveFirstUser(first),
      store.saveFirstUser(first),
    ]);
    expect(answers.filter(Boolean)).toHaveLength(1);
    expect(await store.saveFirstUser(user())).toBe(false);
    expect(await store.countUsers()).toBe(1);
  });

  it('returns a user as saved, with memberships', async () => {
    const store = open();
    const saved = user({
      memberships: new Map([
        ['mx', 'member'],
        ['render', 'manager'],
      ]),
    });
    await store.saveUser(saved);
    expect(await store.findUser(saved.id)).toEqual(saved);
    expect(await store.findUser('nobody')).toBeUndefined();
  });

  it('replaces a user and takes away the memberships that are no longer listed', async () => {
    const store = open();
    const before = user({
      memberships: new Map([
        ['mx', 'member'],
        ['render', 'manager'],
      ]),
    });
    const after = {
      ...before,
      displayName: 'S',
      administrator: true,
      memberships: new Map([
        ['render', 'viewer'],
        ['etl', 'member'],
      ] as const),
    };
    await store.saveUser(before);
    await store.saveUser(after);
    expect(await store.findUser(before.id)).toEqual(after);
  });

  it('sets a password without touching anything else', async () => {
    const store = open();
    const saved = user({ mustChangePassword: true, memberships: new Map([['mx', 'viewer']]) });
    await store.saveUser(saved);
    await store.setPassword(saved.id, 'other', false);
    expect(await store.findUser(saved.id)).toEqual({ ...saved, passwordHash: 'other', mustChangePassword: false });
  });

  it('keeps sessions to the millisecond, touches and deletes them', async () => {
    const store = open();
    const owner = user();
    await store.saveUser(owner);
    const [one, other] = [session(owner.id), session(owner.id)];
    await store.saveSession(one);
    await store.saveSession(other);
    const lastUsedAt = new Date('2026-01-02T00:00:00.456Z');
    await store.touchSession(one.idHash, lastUsedAt);
    expect(await store.findSession(one.idHash)).toEqual({ ...one, lastUsedAt });
    await store.deleteSession(one.idHash);
    expect(await store.findSession(one.idHash)).toBeUndefined();
    expect(await store.findSession(other.idHash)).toEqual(other);
  });

  it('ends all sessions of a user, or all but one, and nobody else’s', async () => {
    const store = open();
    const [owner, neighbour] = [user(), user()];
    await store.saveUser(owner);
    await store.saveUser(neighbour);
    const [kept, ended, foreign] = [session(owner.id), session(owner.id), session(neighbour.id)];
    for (const each of [kept, ended, foreign]) await store.saveSession(each);
    await store.deleteSessionsOf(owner.id, kept.idHash);
    expect(await store.findSession(kept.idHash)).toBeDefined();
    expect(await store.findSession(ended.idHash)).toBeUndefined();
    await store.deleteSessionsOf(owner.id, undefined);
    expect(await store.findSession(kept.idHash)).toBeUndefined();
    expect(await store.findSession(foreign.idHash)).toBeDefined();
  });

  it('finds a token by the hash of its secret and notes its use', async () => {
    const store = open();
    const saved = token({ expiresAt: new Date('2027-01-01T00:00:00Z') });
    await store.saveToken(saved);
    const lastUsedAt = new Date('2026-02-01T00:00:00Z');
    await store.touchToken(saved.secretHash, lastUsedAt);
    expect(await store.findTokenByHash(saved.secretHash)).toEqual({ ...saved, lastUsedAt });
    expect(await store.findTokenByHash('none')).toBeUndefined();
  });

  it('counts failed logins by key and time, and forgets them', async () => {
    const store = open();
    const key = `account:${randomUUID()}`;
    const [early, late] = [new Date('2026-01-01T00:00:00Z'), new Date('2026-01-01T00:10:00Z')];
    await store.addFailedLogin(key, early);
    await store.addFailedLogin(key, late);
    expect(await store.failedLogins(key, early)).toEqual({ count: 2, latest: late });
    expect(await store.failedLogins(key, late)).toEqual({ count: 1, latest: late });
    expect(await store.failedLogins(`${key}x`, early)).toEqual({ count: 0, latest: null });
    await store.clearFailedLogins(key);
    expect(await store.failedLogins(key, early)).toEqual({ count: 0, latest: null });
  });

  it('removes ended sessions and old failures, and says how many', async () => {
    const store = open();
    const owner = user();
    await store.saveUser(owner);
    const now = new Date('2030-01-01T00:00:00Z');
    await store.deleteExpired(now, now);
    const [ended, open_] = [
      session(owner.id, { expiresAt: now }),
      session(owner.id, { expiresAt: new Date('2031-01-01') }),
    ];
    await store.saveSession(ended);
    await store.saveSession(open_);
    await store.addFailedLogin('account:x', new Date('2029-12-31T23:00:00Z'));
    await store.addFailedLogin('account:x', new Date('2029-12-31T23:59:00Z'));
    expect(await store.deleteExpired(now, new Date('2029-12-31T23:30:00Z'))).toBe(2);
    expect(await store.findSession(open_.idHash)).toBeDefined();
    expect(await store.deleteExpired(now, new Date('2029-12-31T23:30:00Z'))).toBe(0);
  });
});
