import { beforeEach, describe, expect, it } from 'vitest';
import { Auth, AUTH_DEFAULTS } from '../../server/domain/auth.js';
import { hashOf } from '../../server/domain/secrets.js';
import { Users } from '../../server/domain/users.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryIdentityStore } from '../support/memory-identity-store.js';
import { PlainHasher } from '../support/plain-hasher.js';
import { silentLog } from '../support/silent-log.js';

const MINUTE = 60_000;
const ORIGIN = { address: '10.0.0.7', userAgent: 'test' };
const PASSWORD = 'correct horse';

const judge = new ZxcvbnJudge();

let clock: ManualClock;
let store: MemoryIdentityStore;
let hasher: PlainHasher;
let auth: Auth;
let users: Users;

beforeEach(async () => {
  clock = new ManualClock();
  store = new MemoryIdentityStore();
  hasher = new PlainHasher();
  auth = new Auth(store, hasher, judge, clock, silentLog);
  users = new Users(store, hasher, judge, clock);
  await users.add({
    id: 'ssx',
    displayName: 'ssx',
    password: PASSWORD,
    administrator: false,
    memberships: new Map([['mx', 'member']]),
  });
});

const failLogin = (username = 'ssx', origin = ORIGIN) =>
  auth.login(username, 'wrong', origin).catch((error: unknown) => error);

describe('a login', () => {
  it('opens a session that stands for the user with their memberships', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    expect(await auth.authenticate({ cookie: token, address: '' })).toEqual({
      kind: 'user',
      id: 'ssx',
      administrator: false,
      memberships: new Map([['mx', 'member']]),
    });
  });

  it('is stored only as a hash', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    expect(await store.findSession(token)).toBeUndefined();
    expect(await store.findSession(hashOf(token))).toMatchObject({ userId: 'ssx', address: '10.0.0.7' });
  });

  it('answers an unknown user and a wrong password alike, having verified a hash for both', async () => {
    const wrong = await failLogin('ssx');
    const afterWrong = hasher.verified;
    const unknown = await failLogin('nobody');
    expect(unknown).toEqual(wrong);
    expect(wrong).toMatchObject({ code: 'LOGIN_FAILED' });
    expect([afterWrong, hasher.verified]).toEqual([1, 2]);
  });

  it('fails for a disabled user as for a wrong password', async () => {
    const record = await store.findUser('ssx');
    await store.saveUser({ ...(record as NonNullable<typeof record>), disabled: true });
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).rejects.toMatchObject({ code: 'LOGIN_FAILED' });
  });

  it('takes the user name to the letter', async () => {
    for (const name of ['SSX', ' ssx', 'ssx ']) expect(await failLogin(name)).toMatchObject({ code: 'LOGIN_FAILED' });
    await expect(auth.login('Ssx', PASSWORD, ORIGIN)).rejects.toMatchObject({ code: 'LOGIN_FAILED' });
  });

  it('has a new token every time, of 256 bits', async () => {
    const tokens = [await auth.login('ssx', PASSWORD, ORIGIN), await auth.login('ssx', PASSWORD, ORIGIN)];
    expect(tokens[0]?.token).toMatch(/^tds_[\w-]{43}$/);
    expect(tokens[0]?.token).not.toBe(tokens[1]?.token);
  });

  it('keeps address and user agent, cut to what fits and without control characters', async () => {
    const origin = { address: 'f'.repeat(500), userAgent: `Mozilla\r\n\u0000${'x'.repeat(500)}` };
    const { token } = await auth.login('ssx', PASSWORD, origin);
    const session = await store.findSession(hashOf(token));
    expect(session?.address).toBe('f'.repeat(64));
    expect(session?.userAgent).toBe(`Mozilla${'x'.repeat(249)}`);
  });

  it('fails when the password is changed while it is being verified', async () => {
    hasher.beforeVerify = () => users.setPassword('ssx', 'another good one');
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).rejects.toMatchObject({ code: 'LOGIN_FAILED' });
  });

  it('beyond a hundred ends the session that was not used for longest', async () => {
    const { token: first } = await auth.login('ssx', PASSWORD, ORIGIN);
    clock.advance(1000);
    for (let n = 0; n < 99; n++) await auth.login('ssx', PASSWORD, ORIGIN);
    expect(await auth.authenticate({ cookie: first, address: '' })).toBeDefined();
    const { token: last } = await auth.login('ssx', PASSWORD, ORIGIN);
    clock.advance(2000);
    expect(await auth.authenticate({ cookie: first, address: '' })).toBeUndefined();
    expect(await auth.authenticate({ cookie: last, address: '' })).toBeDefined();
  });

  it('tells the log who was refused where, and no password or hash or name that nobody has', async () => {
    const lines: string[] = [];
    const info = (details: object, message: string) => void lines.push(JSON.stringify([details, message]));
    const observed = new Auth(store, hasher, judge, clock, { ...silentLog, info });
    for (const name of ['ssx', 'my-secret-password']) await observed.login(name, 'guess', ORIGIN).catch(() => {});
    expect(lines).toEqual([
      '[{"address":"10.0.0.7","user":"ssx"},"a password was refused"]',
      '[{"address":"10.0.0.7","user":null},"a password was refused"]',
    ]);
  });

  it('has to wait after five failures, twice as long after each more, and is always let through in the end', async () => {
    for (let n = 0; n < 5; n++) expect(await failLogin()).toMatchObject({ code: 'LOGIN_FAILED' });
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).rejects.toMatchObject({
      code: 'LOGIN_THROTTLED',
      retryAfterMs: 1000,
    });
    clock.advance(1000);
    expect(await failLogin()).toMatchObject({ code: 'LOGIN_FAILED' });
    expect(await failLogin()).toMatchObject({ code: 'LOGIN_THROTTLED', retryAfterMs: 2000 });
    clock.advance(2000);
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).resolves.toMatchObject({ user: { id: 'ssx' } });
    expect(await failLogin()).toMatchObject({ code: 'LOGIN_FAILED' });
  });

  it('verifies nothing while it has to wait', async () => {
    for (let n = 0; n < 5; n++) await failLogin();
    const before = hasher.verified;
    await failLogin();
    expect(hasher.verified).toBe(before);
  });

  it('is refused to an address that failed thirty times in a quarter of an hour, whatever the account', async () => {
    for (let n = 0; n < 30; n++) await failLogin(`user-${n}`);
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).rejects.toMatchObject({ code: 'LOGIN_THROTTLED' });
    await expect(auth.login('ssx', PASSWORD, { ...ORIGIN, address: '10.0.0.8' })).resolves.toBeDefined();
    clock.advance(15 * MINUTE + 1);
    await expect(auth.login('ssx', PASSWORD, ORIGIN)).resolves.toBeDefined();
  });
});

describe('a session', () => {
  it('ends when it is not used for the idle time', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    clock.advance(AUTH_DEFAULTS.idleMs - MINUTE);
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeDefined();
    clock.advance(AUTH_DEFAULTS.idleMs - MINUTE);
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeDefined();
    clock.advance(AUTH_DEFAULTS.idleMs);
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeUndefined();
  });

  it('ends after its absolute time however much it is used', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    for (let passed = 0; passed < AUTH_DEFAULTS.absoluteMs - 6 * 60 * MINUTE; passed += 6 * 60 * MINUTE) {
      clock.advance(6 * 60 * MINUTE);
      expect(await auth.authenticate({ cookie: token, address: '' })).toBeDefined();
    }
    clock.advance(6 * 60 * MINUTE);
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeUndefined();
  });

  it('ends at once at logout', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeDefined();
    await auth.logout({ cookie: token, address: '' });
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeUndefined();
  });

  it('shows a membership that is taken away within two seconds', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    await auth.authenticate({ cookie: token, address: '' });
    const record = await store.findUser('ssx');
    await store.saveUser({ ...(record as NonNullable<typeof record>), memberships: new Map() });
    clock.advance(2001);
    expect(await auth.authenticate({ cookie: token, address: '' })).toMatchObject({ memberships: new Map() });
  });

  it('of a disabled user is nobody’s within two seconds', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    await auth.authenticate({ cookie: token, address: '' });
    const record = await store.findUser('ssx');
    await store.saveUser({ ...(record as NonNullable<typeof record>), disabled: true });
    clock.advance(2000);
    expect(await auth.authenticate({ cookie: token, address: '' })).toBeUndefined();
  });

  it('is no answer to a bearer that is wrong: that is an error', async () => {
    await expect(auth.authenticate({ bearer: 'tds_wrong', address: '' })).rejects.toMatchObject({
      code: 'NOT_LOGGED_IN',
    });
    expect(await auth.authenticate({ address: '' })).toBeUndefined();
  });
});

describe('a service token', () => {
  it('stands for its group and scopes until it ends', async () => {
    const expiresAt = new Date(clock.now().getTime() + MINUTE);
    const { secret, record } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['register'], expiresAt });
    expect(secret.startsWith(record.prefix)).toBe(true);
    expect(await auth.authenticate({ bearer: secret, address: '10.1.1.1' })).toEqual({
      kind: 'token',
      name: 'ci',
      groupId: 'mx',
      scopes: ['register'],
      address: '10.1.1.1',
    });
    clock.advance(MINUTE);
    await expect(auth.authenticate({ bearer: secret, address: '10.1.1.1' })).rejects.toMatchObject({
      code: 'NOT_LOGGED_IN',
    });
  });
});

describe('changing a password', () => {
  it('needs the current one, ends all other sessions, and lets the new one in', async () => {
    const [here, there] = [await auth.login('ssx', PASSWORD, ORIGIN), await auth.login('ssx', PASSWORD, ORIGIN)];
    const principal = await auth.authenticate({ cookie: here.token, address: '' });
    if (principal?.kind !== 'user') throw new Error('not logged in');
    const own = { cookie: here.token, address: '' };
    await expect(auth.changePassword(principal, own, 'wrong', 'a quite new one')).rejects.toMatchObject({
      code: 'LOGIN_FAILED',
    });
    await expect(auth.changePassword(principal, own, PASSWORD, 'short')).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    });
    await auth.changePassword(principal, own, PASSWORD, 'a quite new one');
    expect(await auth.authenticate(own)).toBeDefined();
    expect(await auth.authenticate({ cookie: there.token, address: '' })).toBeUndefined();
    await expect(auth.login('ssx', 'a quite new one', ORIGIN)).resolves.toBeDefined();
  });
});

describe('a password that has to be changed', () => {
  it('opens nothing but the change, and the change opens everything at once', async () => {
    const record = await store.findUser('ssx');
    await store.saveUser({ ...(record as NonNullable<typeof record>), administrator: true, mustChangePassword: true });
    const { token, user } = await auth.login('ssx', PASSWORD, ORIGIN);
    expect(user.mustChangePassword).toBe(true);
    const own = { bearer: token, address: '' };
    const before = await auth.authenticate(own);
    const nothing = { administrator: false, memberships: new Map(), mustChangePassword: true };
    expect(before).toEqual({ kind: 'user', id: 'ssx', ...nothing });
    if (before?.kind !== 'user') throw new Error('not logged in');
    expect(await auth.describe(before)).toMatchObject({ mustChangePassword: true, administrator: true });
    await auth.changePassword(before, own, PASSWORD, 'a quite new one');
    expect(await auth.authenticate(own)).toMatchObject({
      administrator: true,
      memberships: new Map([['mx', 'member']]),
    });
  });

  it('opens everything at once at other nodes, too', async () => {
    const record = await store.findUser('ssx');
    await store.saveUser({ ...(record as NonNullable<typeof record>), mustChangePassword: true });
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    const own = { bearer: token, address: '' };
    const elsewhere = new Auth(store, hasher, judge, clock, silentLog);
    const before = await elsewhere.authenticate(own);
    if (before?.kind !== 'user') throw new Error('not logged in');
    expect(before.mustChangePassword).toBe(true);
    await auth.changePassword(before, own, PASSWORD, 'a quite new one');
    expect(await elsewhere.authenticate(own)).toMatchObject({ memberships: new Map([['mx', 'member']]) });
  });

  it('is not changed to itself, to the user name, or beyond the lengths', async () => {
    await users.add({
      id: 'long user name',
      displayName: 'x',
      password: PASSWORD,
      administrator: false,
      memberships: new Map(),
    });
    const { token } = await auth.login('long user name', PASSWORD, ORIGIN);
    const own = { cookie: token, address: '' };
    const user = await auth.authenticate(own);
    if (user?.kind !== 'user') throw new Error('not logged in');
    const longest = 'the longest that it may be'.padEnd(1024, 'x');
    for (const next of [PASSWORD, 'long user name', '1234567', 'x'.repeat(1025)]) {
      await expect(auth.changePassword(user, own, PASSWORD, next)).rejects.toMatchObject({
        code: 'REQUEST_INVALID',
        violations: [{ field: 'new_password' }],
      });
    }
    await auth.changePassword(user, own, PASSWORD, longest);
    await auth.changePassword(user, own, longest, 'x8Kq2mZp');
  });

  it('is not changed when an operator has set another meanwhile', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    const own = { cookie: token, address: '' };
    const user = await auth.authenticate(own);
    if (user?.kind !== 'user') throw new Error('not logged in');
    hasher.beforeVerify = () => users.setPassword('ssx', 'set by operator');
    await expect(auth.changePassword(user, own, PASSWORD, 'a quite new one')).rejects.toMatchObject({
      code: 'LOGIN_FAILED',
    });
    expect(await store.findUser('ssx')).toMatchObject({ passwordHash: 'plain:set by operator' });
    expect(await auth.authenticate(own)).toBeUndefined();
  });
});

describe('what has ended', () => {
  const TEN_MINUTES_MS = 10 * MINUTE;
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

  it('is removed every ten minutes from start to stop', async () => {
    const { token } = await auth.login('ssx', PASSWORD, ORIGIN);
    await failLogin();
    auth.start();
    auth.start();
    expect(clock.pendingTimers).toBe(1);
    for (let passedMs = 0; passedMs < AUTH_DEFAULTS.idleMs; passedMs += TEN_MINUTES_MS) {
      clock.advance(TEN_MINUTES_MS);
      await settle();
    }
    expect(await store.findSession(hashOf(token))).toBeUndefined();
    expect((await store.failedLogins('account:"ssx"', new Date(0))).count).toBe(0);
    await auth.stop();
    await auth.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  it('is tried again after the database was away', async () => {
    const warnings: string[] = [];
    const log = { ...silentLog, warn: (_details: object, message: string) => void warnings.push(message) };
    const away = new MemoryIdentityStore();
    let calls = 0;
    away.deleteExpired = () => (++calls === 1 ? Promise.reject(new Error('away')) : Promise.resolve(0));
    const observed = new Auth(away, hasher, judge, clock, log);
    observed.start();
    for (let n = 0; n < 2; n++) {
      clock.advance(TEN_MINUTES_MS);
      await settle();
    }
    expect([calls, warnings.length]).toEqual([2, 1]);
    await observed.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  it('keeps a stop waiting while it is being removed, and starts no timer after it', async () => {
    const slow = new MemoryIdentityStore();
    let finish = () => {};
    slow.deleteExpired = () => new Promise((resolve) => (finish = () => resolve(0)));
    const observed = new Auth(slow, hasher, judge, clock, silentLog);
    observed.start();
    clock.advance(TEN_MINUTES_MS);
    let stopped = false;
    const stopping = observed.stop().then(() => (stopped = true));
    await settle();
    expect(stopped).toBe(false);
    finish();
    await stopping;
    expect(clock.pendingTimers).toBe(0);
  });
});
