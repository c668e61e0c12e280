import { beforeEach, describe, expect, it } from 'vitest';
import { strengthWords } from '../../server/domain/account-rules.js';
import { Auth } from '../../server/domain/auth.js';
import { Users, type NewUser } from '../../server/domain/users.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryIdentityStore } from '../support/memory-identity-store.js';
import { PlainHasher } from '../support/plain-hasher.js';
import { silentLog } from '../support/silent-log.js';

const ORIGIN = { address: '10.0.0.7', userAgent: 'test' };
const PASSWORD = 'correct horse';
const SSX: NewUser = {
  id: 'ssx',
  displayName: '孙小小',
  password: PASSWORD,
  administrator: false,
  memberships: new Map([['mx', 'member']]),
};

const judge = new ZxcvbnJudge();

let clock: ManualClock;
let store: MemoryIdentityStore;
let hasher: PlainHasher;
let auth: Auth;
let users: Users;

beforeEach(() => {
  clock = new ManualClock();
  store = new MemoryIdentityStore();
  hasher = new PlainHasher();
  auth = new Auth(store, hasher, judge, clock, silentLog);
  users = new Users(store, hasher, judge, clock);
});

const refusal = (field: string) => ({ code: 'REQUEST_INVALID', violations: [{ field }] });

describe('adding a user', () => {
  it('stores them with a hash and their memberships', async () => {
    await users.add(SSX);
    expect(await store.findUser('ssx')).toEqual({
      id: 'ssx',
      displayName: '孙小小',
      passwordHash: `plain:${PASSWORD}`,
      administrator: false,
      disabled: false,
      mustChangePassword: false,
      memberships: new Map([['mx', 'member']]),
    });
  });

  it('who exists replaces them and ends their sessions', async () => {
    await users.add(SSX);
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    await users.add({ ...SSX, password: 'another good one', memberships: new Map() });
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeUndefined();
    await expect(auth.login('ssx', 'another good one', ORIGIN)).resolves.toBeDefined();
  });

  it('without a password keeps the one that they have', async () => {
    const { password: _, ...withoutPassword } = SSX;
    await users.add(SSX);
    await users.add({ ...withoutPassword, administrator: true });
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).resolves.toMatchObject({ user: { administrator: true } });
  });

  it('without a password lets nobody in until one is set', async () => {
    const { password: _, ...withoutPassword } = SSX;
    await users.add(withoutPassword);
    for (const guess of ['', 'undefined', 'plain:'])
      await expect(auth.login('ssx', guess, ORIGIN)).rejects.toMatchObject({ code: 'LOGIN_FAILED' });
    await users.setPassword('ssx', PASSWORD);
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).resolves.toBeDefined();
  });

  it.each([
    [{ id: '' }, 'id'],
    [{ id: 'a\nb' }, 'id'],
    [{ id: 'x'.repeat(257) }, 'id'],
    [{ id: '\ud800' }, 'id'],
    [{ displayName: '' }, 'display_name'],
    [{ memberships: new Map([['', 'member'] as const]) }, 'group'],
    [{ password: '1234567' }, 'new_password'],
    [{ id: 'username', password: 'username' }, 'new_password'],
  ])('refuses %j', async (wrong, field) => {
    await expect(users.add({ ...SSX, ...wrong })).rejects.toMatchObject(refusal(field));
    expect(await store.countUsers()).toBe(0);
  });
});

const ODD_NAMES = [
  ...[
    ' ssx',
    'ssx ',
    '\u3000ssx',
    'ssx\u00a0',
    ' ',
    'a\tb',
    'a\u009bb',
    'a\u202eb',
    'a\u2066b',
    'a\u200bb',
    'a\u200db',
    'a\u2060b',
  ],
  ...['\ufeffa', 'a\u00adb', 'a\ufe0f', 'a\u{e0041}', '\u3164', '\u2800', 'a\u2028b', 'ren\ufffd', ''],
];

describe('a name that looks like another one, or like none', () => {
  it.each(ODD_NAMES)('%j is refused wherever a name is made', async (name) => {
    const refusals: [Promise<unknown>, string][] = [
      [users.add({ ...SSX, id: name }), 'id'],
      [users.add({ ...SSX, displayName: name }), 'display_name'],
      [users.add({ ...SSX, memberships: new Map([[name, 'member']]) }), 'group'],
      [users.createToken({ name, groupId: 'mx', scopes: ['read'] }), 'name'],
      [users.createToken({ name: 'ci', groupId: name, scopes: ['read'] }), 'group'],
      [users.ensureFirstAdministrator({ username: name, password: PASSWORD }), 'id'],
    ];
    for (const [made, field] of refusals) await expect(made).rejects.toMatchObject(refusal(field));
  });

  it('tells which character is not seen', async () => {
    await expect(users.add({ ...SSX, id: 'a\u202eb' })).rejects.toThrow(
      'The id must have no characters that are not seen or turn texts around; this one has U+202E.',
    );
  });

  it.each(['孙小小', 'Ana María', "O'Neill", 'ж', 'עברית', 'मोहन', 'build 🚀', '.', 'a/b@c'])(
    '%s is none',
    async (name) => {
      await expect(users.add({ ...SSX, id: name, displayName: name })).resolves.toBeUndefined();
    },
  );

  it('stays with who has it already: they log in, and are changed', async () => {
    const id = 'turned\u202e ';
    const passwordHash = await hasher.hash(PASSWORD);
    const before = { ...SSX, id, displayName: id, memberships: new Map([[' mx', 'member' as const]]), passwordHash };
    await store.saveUser({ ...before, disabled: false, mustChangePassword: false });
    await expect(auth.login(id, PASSWORD, ORIGIN)).resolves.toBeDefined();
    await users.setPassword(id, 'another good one');
    await users.add({ ...before, password: PASSWORD });
    await expect(auth.login(id, PASSWORD, ORIGIN)).resolves.toBeDefined();
    await expect(users.add({ ...before, memberships: new Map([['mx ', 'member']]) })).rejects.toMatchObject(
      refusal('group'),
    );
  });
});

describe('setting a password', () => {
  it('that could not be read is refused', async () => {
    await users.add(SSX);
    await expect(users.setPassword('ssx', 'correct hors\ufffd')).rejects.toThrow(
      'must be valid UTF-8; this one has U+FFFD',
    );
  });

  it('ends all sessions and lets the new one in', async () => {
    await users.add(SSX);
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    await users.setPassword('ssx', 'another good one');
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeUndefined();
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).rejects.toMatchObject({ code: 'LOGIN_FAILED' });
    await expect(auth.login('ssx', 'another good one', ORIGIN)).resolves.toBeDefined();
  });

  it('of nobody is refused with the name', async () => {
    await expect(users.setPassword('nobody', PASSWORD)).rejects.toMatchObject({
      ...refusal('id'),
      message: 'The id names no user: "nobody".',
    });
  });
});

describe('a password that is tried first', () => {
  it.each([
    [
      '12345678',
      'The new password must not be, or be built on, one of the passwords that are tried first; a few words',
    ],
    [
      'password',
      'The new password must not be, or be built on, one of the passwords that are tried first; a few words',
    ],
    [
      'TaskDash2026',
      'The new password must not be little more than the user name or the name of TaskDash; a few words',
    ],
    ['abcdefgh', 'The new password must not be a repetition, a sequence, a date or a row of keys; a few words'],
  ])('is refused wherever one is set, with the reason and without itself: %s', async (password, reason) => {
    await users.add({ ...SSX, id: 'known' });
    const { token } = await auth.login('known', PASSWORD, ORIGIN);
    const own = { cookie: token, address: '' };
    const user = await auth.authenticate(own);
    if (user?.kind !== 'user') throw new Error('not logged in');
    const refusals = await Promise.all(
      [
        users.add({ ...SSX, password }),
        users.setPassword('known', password),
        auth.changePassword(user, own, PASSWORD, password),
        new Users(new MemoryIdentityStore(), hasher, judge, clock).ensureFirstAdministrator({
          username: 'admin',
          password,
        }),
      ].map((setting: Promise<unknown>) => setting.catch((error: unknown) => error as Error)),
    );
    for (const refusal of refusals) {
      expect(refusal).toMatchObject({ code: 'REQUEST_INVALID', violations: [{ field: 'new_password' }] });
      expect((refusal as Error).message.startsWith(reason)).toBe(true);
      expect((refusal as Error).message).not.toContain(password === 'password' ? '"password"' : password);
    }
  });

  it('or user name in other letters is refused', async () => {
    await expect(users.add({ ...SSX, id: 'sunxiaoxiao', password: 'SunXiaoXiao1' })).rejects.toMatchObject(
      refusal('new_password'),
    );
  });

  it('is no other one, of which is told how strong it is', async () => {
    await users.add(SSX);
    expect(strengthWords(await users.setPassword('ssx', 'x8Kq2mZp'))).toBe('fair (2 of 4)');
    expect(strengthWords(await users.setPassword('ssx', 'correct horse battery'))).toBe('strong (4 of 4)');
  });
});

describe('a service token', () => {
  it('has a secret of 256 bits that is stored only as a hash, and a prefix to be recognised by', async () => {
    const { secret, record } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['register', 'read'] });
    expect(secret).toMatch(/^tdt_[\w-]{43}$/);
    expect(record).toMatchObject({ prefix: secret.slice(0, 12), groupId: 'mx', expiresAt: null, lastUsedAt: null });
    expect(JSON.stringify(record)).not.toContain(secret.slice(12));
    expect(await store.findTokenByHash(record.secretHash)).toEqual(record);
  });

  it('names each scope once', async () => {
    const { record } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['read', 'read'] });
    expect(record.scopes).toEqual(['read']);
  });

  it.each([
    [{ name: '' }, 'name'],
    [{ groupId: 'a\u0000' }, 'group'],
    [{ scopes: [] }, 'scopes'],
    [{ expiresAt: new Date('2026-01-01T00:00:00Z') }, 'expires_at'],
  ])('refuses %j', async (wrong, field) => {
    const token = { name: 'ci', groupId: 'mx', scopes: ['read'] as const };
    await expect(users.createToken({ ...token, ...wrong })).rejects.toMatchObject(refusal(field));
  });
});

describe('the first administrator', () => {
  it('is made once, with a generated password that has to be changed', async () => {
    const made = await users.ensureFirstAdministrator({ username: 'admin', password: undefined });
    expect(made.created).toBe(true);
    expect(made.password).toMatch(/^\w{5}-\w{5}-\w{5}-\w{5}$/);
    expect(await store.findUser('admin')).toMatchObject({ administrator: true, mustChangePassword: true });
    const login = await auth.login('admin', made.password ?? '', ORIGIN);
    expect(login.user.mustChangePassword).toBe(true);
    const again = await users.ensureFirstAdministrator({ username: 'admin', password: undefined });
    expect(again).toEqual({ created: false, password: undefined });
  });

  it('takes a configured password as it is and never tells it', async () => {
    const made = await users.ensureFirstAdministrator({ username: 'root', password: PASSWORD });
    expect(made).toEqual({ created: true, password: undefined });
    expect(await store.findUser('root')).toMatchObject({ administrator: true, mustChangePassword: false });
  });

  it('is one, with one password told, when nodes start at once', async () => {
    const made = await Promise.all(
      Array.from({ length: 5 }, (_, n) =>
        users.ensureFirstAdministrator({ username: `admin-${n}`, password: undefined }),
      ),
    );
    expect(made.filter(({ created, password }) => created && password !== undefined)).toHaveLength(1);
    expect(made.filter(({ created, password }) => !created && password === undefined)).toHaveLength(4);
    expect(await store.countUsers()).toBe(1);
  });

  it('is not made where there is a user already, whatever the settings say', async () => {
    await users.add(SSX);
    const made = await users.ensureFirstAdministrator({ username: '', password: 'x' });
    expect(made).toEqual({ created: false, password: undefined });
  });

  it.each([
    [{ username: 'a\nb', password: PASSWORD }, 'id'],
    [{ username: 'administrator', password: 'administrator' }, 'new_password'],
  ])('refuses %j', async (first, field) => {
    await expect(users.ensureFirstAdministrator(first)).rejects.toMatchObject(refusal(field));
  });
});
