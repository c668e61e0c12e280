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

async function savedUser(store: IdentityStore, changes: Partial<UserRecord> = {}): Promise<UserRecord> {
  const saved = user(changes);
  await store.saveUser(saved);
  return saved;
}

async function savedSession(store: IdentityStore, owner: UserRecord, changes: Partial<LoginSession> = {}) {
  const saved = session(owner.id, changes);
  expect(await store.saveSession(saved, owner.passwordHash, 100)).toBe(true);
  return saved;
}

describe.each([
  { name: 'in memory', open: (): IdentityStore => new MemoryIdentityStore() },
  { name: 'in PostgreSQL', open: (): IdentityStore => storage.identity },
])('identities $name', ({ open }) => {
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

  it('sets a password without touching anything else of the user', async () => {
    const store = open();
    const saved = user({ mustChangePassword: true, memberships: new Map([['mx', 'viewer']]) });
    await store.saveUser(saved);
    expect(await store.setPassword(saved.id, 'other', false)).toBe(true);
    expect(await store.findUser(saved.id)).toEqual({ ...saved, passwordHash: 'other', mustChangePassword: false });
    expect(await store.setPassword('nobody', 'other', false)).toBe(false);
  });

  it('sets a password only while it replaces the one that is meant', async () => {
    const store = open();
    const saved = await savedUser(store);
    const kept = await savedSession(store, saved);
    expect(await store.setPassword(saved.id, 'other', false, { replaces: 'another' })).toBe(false);
    expect(await store.findUser(saved.id)).toEqual(saved);
    expect(await store.findSession(kept.idHash)).toEqual(kept);
    expect(await store.setPassword(saved.id, 'other', false, { replaces: saved.passwordHash })).toBe(true);
  });

  it('ends the sessions of a user with the old password, save the one to keep, and nobody else’s', async () => {
    const store = open();
    const [owner, neighbour] = [await savedUser(store), await savedUser(store)];
    const [kept, ended] = [await savedSession(store, owner), await savedSession(store, owner)];
    const foreign = await savedSession(store, neighbour);
    await store.setPassword(owner.id, 'other', false, { keepSession: kept.idHash });
    expect(await store.findSession(kept.idHash)).toEqual(kept);
    expect(await store.findSession(ended.idHash)).toBeUndefined();
    await store.setPassword(owner.id, 'another', false);
    expect(await store.findSession(kept.idHash)).toBeUndefined();
    expect(await store.findSession(foreign.idHash)).toEqual(foreign);
  });

  it('changes a password once, however often it is asked for the same change', async () => {
    const store = open();
    const saved = await savedUser(store);
    const change = () => store.setPassword(saved.id, 'a salted hash', false, { replaces: saved.passwordHash });
    expect([await change(), await change()]).toEqual([true, true]);
    expect(await store.setPassword(saved.id, 'other', false, { replaces: saved.passwordHash })).toBe(false);
    expect((await store.findUser(saved.id))?.passwordHash).toBe('a salted hash');
  });

  it('opens a session once, however often it is asked to, and ends no other for it', async () => {
    const store = open();
    const owner = await savedUser(store);
    const other = await savedSession(store, owner, { lastUsedAt: new Date('2025-01-01T00:00:00Z') });
    const opened = session(owner.id);
    for (let times = 0; times < 3; times++) expect(await store.saveSession(opened, owner.passwordHash, 1)).toBe(true);
    expect(await store.findSession(opened.idHash)).toEqual(opened);
    expect(await store.findSession(other.idHash)).toEqual(other);
  });

  it('lets one of many changes of a password at once win', async () => {
    const store = open();
    const saved = await savedUser(store);
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        store.setPassword(saved.id, `new-${n}`, false, { replaces: saved.passwordHash }),
      ),
    );
    expect(answers.filter(Boolean)).toHaveLength(1);
    expect((await store.findUser(saved.id))?.passwordHash).toBe(`new-${answers.indexOf(true)}`);
  });

  it('opens a session only for the password that was verified, and for nobody disabled or unknown', async () => {
    const store = open();
    const owner = await savedUser(store);
    const disabled = await savedUser(store, { disabled: true });
    for (const [who, hash] of [
      [owner, 'old'],
      [disabled, disabled.passwordHash],
      [user(), owner.passwordHash],
    ] as const) {
      const refused = session(who.id);
      expect(await store.saveSession(refused, hash, 10)).toBe(false);
      expect(await store.findSession(refused.idHash)).toBeUndefined();
    }
  });

  it('leaves no session of the old password behind, whatever opens while the password is changed', async () => {
    const store = open();
    for (let round = 0; round < 10; round++) {
      const owner = await savedUser(store);
      const sessions = Array.from({ length: 4 }, () => session(owner.id));
      const opened = sessions.map((each) => store.saveSession(each, owner.passwordHash, 10));
      await Promise.all([...opened.slice(0, 2), store.setPassword(owner.id, 'new', false), ...opened.slice(2)]);
      const left = await Promise.all(sessions.map((each) => store.findSession(each.idHash)));
      expect(left.filter((each) => each !== undefined)).toEqual([]);
    }
  });

  it('keeps as many sessions of a user as it is told, those that were used last', async () => {
    const store = open();
    const [owner, neighbour] = [await savedUser(store), await savedUser(store)];
    const foreign = await savedSession(store, neighbour);
    const used = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute));
    const [idle, busy, third] = [3, 9, 5].map((minute) => session(owner.id, { lastUsedAt: used(minute) }));
    if (!idle || !busy || !third) throw new Error('three sessions');
    for (const each of [idle, busy, third]) await store.saveSession(each, owner.passwordHash, 2);
    const fourth = session(owner.id, { lastUsedAt: used(10) });
    await store.saveSession(fourth, owner.passwordHash, 2);
    expect(await store.findSession(idle.idHash)).toBeUndefined();
    for (const each of [busy, third, fourth, foreign]) expect(await store.findSession(each.idHash)).toEqual(each);
  });

  it('keeps sessions to the millisecond, touches and deletes them', async () => {
    const store = open();
    const owner = await savedUser(store);
    const [one, other] = [await savedSession(store, owner), await savedSession(store, owner)];
    const lastUsedAt = new Date('2026-01-02T00:00:00.456Z');
    await store.touchSession(one.idHash, lastUsedAt);
    await store.touchSession(one.idHash, new Date('2026-01-02T00:00:00.455Z'));
    expect(await store.findSession(one.idHash)).toEqual({ ...one, lastUsedAt });
    await store.deleteSession(one.idHash);
    expect(await store.findSession(one.idHash)).toBeUndefined();
    expect(await store.findSession(other.idHash)).toEqual(other);
  });

  it('ends all sessions of a user, or all but one, and nobody else’s', async () => {
    const store = open();
    const [owner, neighbour] = [await savedUser(store), await savedUser(store)];
    const [kept, ended] = [await savedSession(store, owner), await savedSession(store, owner)];
    const foreign = await savedSession(store, neighbour);
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
    await store.touchToken(saved.secretHash, new Date('2026-01-31T00:00:00Z'));
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

  it('forgets the failures of one address without those of another whose text begins alike', async () => {
    const store = open();
    const at = new Date('2026-01-01T00:00:00Z');
    const [one, other] = ['127.0.0.1', '127.0.0.10'].map((address) => `account:"${randomUUID()}"@${address}`);
    const longer = `${one}0`;
    for (const key of [one ?? '', longer, other ?? '']) await store.addFailedLogin(key, at);
    await store.clearFailedLogins(one ?? '');
    expect((await store.failedLogins(one ?? '', at)).count).toBe(0);
    expect((await store.failedLogins(longer, at)).count).toBe(1);
  });

  it('forgets the failures of an account everywhere, taking no character for a pattern', async () => {
    const store = open();
    const name = randomUUID();
    const at = new Date('2026-01-01T00:00:00Z');
    const [plain, known, other] = [`a%:"${name}"`, `a%:"${name}"@10.0.0.1`, `ab:"${name}"`];
    for (const key of [plain, known, other]) await store.addFailedLogin(key, at);
    await store.clearFailedLogins(known);
    expect((await store.failedLogins(plain, at)).count).toBe(1);
    await store.clearFailedLogins(plain);
    expect((await store.failedLogins(plain, at)).count).toBe(0);
    expect((await store.failedLogins(other, at)).count).toBe(1);
  });

  it('knows the networks that a user has logged in from, by the last time', async () => {
    const store = open();
    const [owner, neighbour] = [await savedUser(store), await savedUser(store)];
    const [early, late] = [new Date('2026-01-01T00:00:00Z'), new Date('2026-02-01T00:00:00Z')];
    await store.noteKnownNetwork(owner.id, '10.0.0.7', late);
    await store.noteKnownNetwork(owner.id, '10.0.0.7', early);
    expect(await store.isKnownNetwork(owner.id, '10.0.0.7', late)).toBe(true);
    expect(await store.isKnownNetwork(owner.id, '10.0.0.7', new Date(late.getTime() + 1))).toBe(false);
    expect(await store.isKnownNetwork(owner.id, '10.0.0.8', early)).toBe(false);
    expect(await store.isKnownNetwork(neighbour.id, '10.0.0.7', early)).toBe(false);
    expect(await store.isKnownNetwork('nobody', '10.0.0.7', early)).toBe(false);
  });

  it('counts the administrators who may log in', async () => {
    const store = open();
    const before = await store.countAdministrators();
    const administrator = await savedUser(store, { administrator: true });
    await savedUser(store);
    await savedUser(store, { administrator: true, disabled: true });
    expect(await store.countAdministrators()).toBe(before + 1);
    await store.saveUser({ ...administrator, administrator: false });
    expect(await store.countAdministrators()).toBe(before);
  });

  it('knows whether somebody who is an administrator has logged in from anywhere', async () => {
    const store = open();
    // The database is shared with other tests, where nobody is one.
    const [member, administrator] = [await savedUser(store), await savedUser(store, { administrator: true })];
    await store.noteKnownNetwork(member.id, '10.0.0.7', new Date('2026-01-01T00:00:00Z'));
    expect(await store.hasAdministratorLoggedIn()).toBe(false);
    await store.noteKnownNetwork(administrator.id, '10.0.0.8', new Date('2026-01-01T00:00:00Z'));
    expect(await store.hasAdministratorLoggedIn()).toBe(true);
    await store.saveUser({ ...administrator, administrator: false });
    expect(await store.hasAdministratorLoggedIn()).toBe(false);
  });

  it('removes ended and unused sessions, old failures and forgotten networks, and says how many', async () => {
    const store = open();
    const owner = await savedUser(store);
    const now = new Date('2030-01-01T00:00:00Z');
    const ago = (minutes: number) => new Date(now.getTime() - minutes * 60_000);
    const expiry = { now, unusedSince: ago(720), attemptsBefore: ago(15), networksBefore: ago(1000) };
    await store.deleteExpired({ now, unusedSince: now, attemptsBefore: now, networksBefore: now });
    const [ended, unused, open_] = [
      await savedSession(store, owner, { expiresAt: now, lastUsedAt: ago(1) }),
      await savedSession(store, owner, { expiresAt: new Date('2031-01-01'), lastUsedAt: ago(720) }),
      await savedSession(store, owner, { expiresAt: new Date('2031-01-01'), lastUsedAt: ago(719) }),
    ];
    for (const minutes of [16, 15]) await store.addFailedLogin('account:x', ago(minutes));
    for (const minutes of [1001, 1000]) await store.noteKnownNetwork(owner.id, `net-${minutes}`, ago(minutes));
    expect(await store.deleteExpired(expiry)).toBe(4);
    for (const gone of [ended, unused]) expect(await store.findSession(gone.idHash)).toBeUndefined();
    expect(await store.findSession(open_.idHash)).toBeDefined();
    expect((await store.failedLogins('account:x', ago(60))).count).toBe(1);
    expect(await store.isKnownNetwork(owner.id, 'net-1000', ago(2000))).toBe(true);
    expect(await store.deleteExpired(expiry)).toBe(0);
  });
});

/** Three nodes on one database without any user. */
interface Nodes {
  readonly stores: readonly IdentityStore[];
  readonly close: () => Promise<void>;
}

function openMemoryNodes(): Promise<Nodes> {
  const store = new MemoryIdentityStore();
  return Promise.resolve({ stores: [store, store, store], close: () => Promise.resolve() });
}

async function openPostgresNodes(): Promise<Nodes> {
  const empty = await createTestDatabase();
  const settings = { url: empty.url, poolSize: 2, log: silentLog, clock: systemClock };
  const nodes = await Promise.all(['a', 'b', 'c'].map((nodeId) => openStorage({ ...settings, nodeId })));
  return {
    stores: nodes.map((node) => node.identity),
    close: async () => {
      await Promise.all(nodes.map((node) => node.close()));
      await empty.drop();
    },
  };
}

describe.each([
  { name: 'in memory', openNodes: openMemoryNodes },
  { name: 'in PostgreSQL', openNodes: openPostgresNodes },
])('the first user $name', ({ openNodes }) => {
  it.each([
    { settings: 'the same settings', id: () => 'admin' },
    { settings: 'different settings', id: () => `admin-${randomUUID()}` },
  ])('is one, also when nodes with $settings start at once', async ({ id }) => {
    const { stores, close } = await openNodes();
    try {
      expect(await stores[0]?.countUsers()).toBe(0);
      const firsts = stores.map(() => user({ id: id(), displayName: randomUUID() }));
      const answers = await Promise.all(stores.map((store, n) => store.saveFirstUser(firsts[n] ?? user())));
      expect(answers.filter(Boolean)).toHaveLength(1);
      expect(await stores[0]?.countUsers()).toBe(1);
      const winner = firsts[answers.indexOf(true)] ?? user();
      expect(await stores[1]?.findUser(winner.id)).toEqual(winner);
      expect(await stores[2]?.saveFirstUser(user())).toBe(false);
    } finally {
      await close();
    }
  });
});
