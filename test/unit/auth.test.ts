import { beforeEach, describe, expect, it } from 'vitest';
import { Auth, AUTH_DEFAULTS, hashOf } from '../../server/domain/auth.js';
import type { PasswordHasher } from '../../server/domain/ports.js';
import { Users } from '../../server/domain/users.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryIdentityStore } from '../support/memory-identity-store.js';
import { silentLog } from '../support/silent-log.js';

/** Hashes nothing, and counts: what is tested here is what is asked of a hasher, not the hashing. */
class PlainHasher implements PasswordHasher {
  verified = 0;
  hash(password: string) {
    return Promise.resolve(`plain:${password}`);
  }
  verify(hash: string, password: string) {
    this.verified++;
    return Promise.resolve(hash === `plain:${password}`);
  }
}

const MINUTE = 60_000;
const ORIGIN = { address: '10.0.0.7', userAgent: 'test' };
const PASSWORD = 'correct horse';

let clock: ManualClock;
let store: MemoryIdentityStore;
let hasher: PlainHasher;
let auth: Auth;
let users: Users;

beforeEach(async () => {
  clock = new ManualClock();
  store = new MemoryIdentityStore();
  hasher = new PlainHasher();
  auth = new Auth(store, hasher, clock, silentLog);
  users = new Users(store, hasher, clock);
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
    await expect(auth.changePassword(principal, own, 'wrong', 'new password')).rejects.toMatchObject({
      code: 'LOGIN_FAILED',
    });
    await expect(auth.changePassword(principal, own, PASSWORD, 'short')).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    });
    await auth.changePassword(principal, own, PASSWORD, 'new password');
    expect(await auth.authenticate(own)).toBeDefined();
    expect(await auth.authenticate({ cookie: there.token, address: '' })).toBeUndefined();
    await expect(auth.login('ssx', 'new password', ORIGIN)).resolves.toBeDefined();
  });
});

describe('the first administrator', () => {
  it('is made once, with a generated password that has to be changed', async () => {
    const empty = new MemoryIdentityStore();
    const first = new Users(empty, hasher, clock);
    const made = await first.ensureFirstAdministrator({ username: 'admin', password: undefined });
    expect(made).toMatchObject({ created: true });
    expect(made.password?.length).toBeGreaterThanOrEqual(20);
    expect(await empty.findUser('admin')).toMatchObject({ administrator: true, mustChangePassword: true });
    expect(await first.ensureFirstAdministrator({ username: 'admin', password: undefined })).toEqual({
      created: false,
      password: undefined,
    });
  });

  it('takes a configured password as it is and never tells it', async () => {
    const empty = new MemoryIdentityStore();
    const made = await new Users(empty, hasher, clock).ensureFirstAdministrator({
      username: 'root',
      password: PASSWORD,
    });
    expect(made).toEqual({ created: true, password: undefined });
    expect(await empty.findUser('root')).toMatchObject({ mustChangePassword: false });
  });
});
