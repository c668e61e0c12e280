import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import type { User } from '../../server/domain/access.js';
import { Auth } from '../../server/domain/auth.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { hashOf } from '../../server/domain/secrets.js';
import { Users } from '../../server/domain/users.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryIdentityStore } from '../support/memory-identity-store.js';
import { PlainHasher } from '../support/plain-hasher.js';
import { silentLog } from '../support/silent-log.js';

/** Counts what it is asked, and can be made to fail or to wait. */
class CountingStore extends MemoryIdentityStore {
  asked = 0;
  touched = 0;
  ended = 0;
  failure: Error | undefined;
  gate: Promise<void> = Promise.resolve();

  override async findSession(idHash: string) {
    this.asked++;
    await this.gate;
    if (this.failure) throw this.failure;
    return super.findSession(idHash);
  }

  override async findTokenByHash(secretHash: string) {
    this.asked++;
    await this.gate;
    if (this.failure) throw this.failure;
    return super.findTokenByHash(secretHash);
  }

  override deleteSession(idHash: string) {
    this.ended++;
    return super.deleteSession(idHash);
  }

  override touchSession(idHash: string, lastUsedAt: Date) {
    this.touched++;
    return super.touchSession(idHash, lastUsedAt);
  }

  override touchToken(secretHash: string, lastUsedAt: Date) {
    this.touched++;
    return super.touchToken(secretHash, lastUsedAt);
  }
}

const PASSWORD = 'correct horse';
const HOME = { address: '10.0.0.7', userAgent: 'test' };

const judge = new ZxcvbnJudge();

let clock: ManualClock;
let store: CountingStore;
let auth: Auth;
let users: Users;

beforeEach(async () => {
  clock = new ManualClock();
  store = new CountingStore();
  const hasher = new PlainHasher();
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

const wellFormed = (n: number, prefix = 'tds_') => prefix + n.toString().padStart(43, '0');
const askAs = (cookie: string, address = '') => auth.authenticate({ cookie, address });

describe('who a session is', () => {
  it('is asked of the database once for a thousand callers at once, and again after two seconds', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    await Promise.all(Array.from({ length: 1000 }, (_, n) => askAs(token, `10.0.${n % 250}.1`)));
    expect(store.asked).toBe(1);
    clock.advance(1999);
    await askAs(token);
    expect(store.asked).toBe(1);
    clock.advance(1);
    await askAs(token);
    expect(store.asked).toBe(2);
  });

  it('is noted as used once a minute at most', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    for (let second = 0; second < 180; second += 3) {
      clock.advance(3000);
      await askAs(token);
    }
    expect(store.touched).toBe(3);
  });

  it('is not remembered when the database could not tell', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    store.failure = new TaskDashError('STORAGE_UNAVAILABLE');
    await expect(askAs(token)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    store.failure = undefined;
    expect(await askAs(token)).toMatchObject({ id: 'ssx' });
  });

  it('is forgotten at logout, whatever address asked before', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    await askAs(token, '10.0.0.7');
    await askAs(token, '10.0.0.8');
    await auth.logout({ bearer: token, address: '10.0.0.9' });
    expect(await askAs(token, '10.0.0.7')).toBeUndefined();
    expect(await askAs(token, '10.0.0.8')).toBeUndefined();
  });

  it('is not asked of the database, or remembered, when somebody logs out of one that was made up', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    await askAs(token);
    for (let n = 0; n < 20; n++) await auth.logout({ cookie: wellFormed(n), address: '10.0.0.1' });
    await expect(auth.logout({ cookie: wellFormed(20), address: '10.0.0.1' })).rejects.toMatchObject({
      code: 'OVERLOADED',
    });
    expect([store.asked, store.ended]).toEqual([1 + 20, 0]);
  });

  it('is not asked of the database for what cannot be a credential', async () => {
    for (const cookie of ['', 'x', 'tds_short', 'tds_' + 'ä'.repeat(43), wellFormed(1, 'xyz_'), 'y'.repeat(100_000)])
      expect(await askAs(cookie)).toBeUndefined();
    expect(store.asked).toBe(0);
  });

  it('stays remembered, also while it is not used, through a flood of invented ones', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    await askAs(token);
    for (let n = 0; n < 25_000; n++) await askAs(wellFormed(n), `10.${n % 250}.${(n >> 8) % 250}.1`);
    const before = store.asked;
    await askAs(token);
    expect(store.asked).toBe(before);
  });
});

describe('credentials that stand for nobody', () => {
  const refusal = { code: 'OVERLOADED', retryAfterMs: 1000 };

  /** Lets every look-up wait until the returned function is called. */
  function holdLookUps(): () => void {
    let open = () => {};
    store.gate = new Promise((resolve) => (open = resolve));
    return open;
  }

  it('cost one query in five seconds, however often they come', async () => {
    for (let n = 0; n < 100; n++) {
      expect(await askAs(wellFormed(1))).toBeUndefined();
      await expect(auth.authenticate({ bearer: wellFormed(2, 'tdt_'), address: '' })).rejects.toMatchObject({
        code: 'NOT_LOGGED_IN',
      });
      clock.advance(49);
    }
    expect(store.asked).toBe(2);
    clock.advance(100);
    await askAs(wellFormed(1));
    expect(store.asked).toBe(3);
  });

  it('cost a network twenty queries and then one a second, and the rest is refused with a time to wait', async () => {
    for (let n = 0; n < 20; n++) expect(await askAs(wellFormed(n), '10.0.0.1')).toBeUndefined();
    await expect(askAs(wellFormed(20), '10.0.0.1')).rejects.toMatchObject(refusal);
    await expect(askAs(wellFormed(21), '::ffff:10.0.0.1')).rejects.toMatchObject(refusal);
    expect(store.asked).toBe(20);
    clock.advance(1000);
    expect(await askAs(wellFormed(22), '10.0.0.1')).toBeUndefined();
    await expect(askAs(wellFormed(23), '10.0.0.1')).rejects.toMatchObject(refusal);
    expect(await askAs(wellFormed(24), '10.0.0.2')).toBeUndefined();
    expect(store.asked).toBe(22);
  });

  it('cost no more where many come at once', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 500 }, (_, n) => askAs(wellFormed(n), '10.0.0.1')));
    expect(outcomes.filter(({ status }) => status === 'rejected').length).toBeGreaterThanOrEqual(500 - 24);
    // Four were under way when the twentieth turned out to be wrong.
    expect(store.asked).toBeLessThanOrEqual(24);
  });

  it('are looked up four at once, and nobody who is known waits for them', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    await askAs(token);
    const open = holdLookUps();
    const strangers = Promise.allSettled(
      Array.from({ length: 300 }, (_, n) => askAs(wellFormed(n), `10.1.${n % 250}.1`)),
    );
    await Promise.resolve();
    expect(store.asked).toBe(1 + 4);
    store.gate = Promise.resolve();
    clock.advance(2000);
    expect(await askAs(token)).toMatchObject({ id: 'ssx' });
    open();
    await strangers;
  });

  it('do not keep a known one of the same network from being asked for again, or a new login from its first call', async () => {
    const { secret } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['read'] });
    const bearer = { bearer: secret, address: HOME.address };
    await auth.authenticate(bearer);
    for (let n = 0; n < 20; n++) await askAs(wellFormed(n), HOME.address);
    await expect(askAs(wellFormed(99), HOME.address)).rejects.toMatchObject({ code: 'OVERLOADED' });
    clock.advance(2000);
    for (let n = 0; n < 2; n++) await askAs(wellFormed(30 + n), HOME.address);
    expect(await auth.authenticate(bearer)).toMatchObject({ name: 'ci' });
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    expect(await askAs(token, HOME.address)).toMatchObject({ id: 'ssx' });
  });

  it('are told from a thousand valid ones of one network that come at once: those all get in', async () => {
    const secrets: string[] = [];
    for (let n = 0; n < 1000; n++)
      secrets.push((await users.createToken({ name: `ci-${n}`, groupId: 'mx', scopes: ['read'] })).secret);
    const callers = await Promise.all(secrets.map((bearer) => auth.authenticate({ bearer, address: '10.0.0.1' })));
    expect(callers.filter((caller) => caller?.kind === 'token')).toHaveLength(1000);
  });

  it('wait for a few seconds at most while the database does not answer, in a bounded number', async () => {
    const open = holdLookUps();
    const waiting = Promise.allSettled(
      Array.from({ length: 1004 }, (_, n) => askAs(wellFormed(n), `10.1.${n % 250}.1`)),
    );
    await Promise.resolve();
    await expect(askAs(wellFormed(2000), '10.1.7.1')).rejects.toMatchObject({ code: 'OVERLOADED' });
    clock.advance(5000);
    open();
    const outcomes = await waiting;
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(1000);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('a credential that has ended', () => {
  /** Many more guesses than a network has, from everywhere that anybody calls from. */
  async function guess(): Promise<void> {
    for (let n = 0; n < 100; n++)
      await askAs(`tds_${randomBytes(32).toString('base64url')}`, HOME.address).catch(() => {});
    await expect(askAs(wellFormed(0), HOME.address)).rejects.toMatchObject({ code: 'OVERLOADED' });
  }

  const session = async () => (await auth.login('ssx', PASSWORD, HOME)).token;
  const token = async () => {
    const expiresAt = new Date(clock.now().getTime() + 1_000);
    return (await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['read'], expiresAt })).secret;
  };
  const changePassword = async (own: string) =>
    auth.changePassword(
      (await auth.authenticate({ bearer: own, ...HOME })) as User,
      { bearer: own, ...HOME },
      PASSWORD,
      'a quite new one',
    );
  const disable = async () => {
    const user = await store.findUser('ssx');
    if (user) await store.saveUser({ ...user, disabled: true });
  };

  it.each<[string, () => Promise<string>, (secret: string) => unknown]>([
    ['by logging out here', session, (secret) => auth.logout({ bearer: secret, ...HOME })],
    ['by logging out at another server', session, (secret) => store.deleteSession(hashOf(secret))],
    ['with the password, changed here', session, async () => changePassword(await session())],
    ['with the password, set elsewhere', session, () => users.setPassword('ssx', 'a quite new one')],
    ['with the user, who was disabled', session, disable],
    ['as a token does in time', token, () => {}],
  ])('%s is known to have, for as long as anybody shows it, however many guesses come', async (_how, make, end) => {
    const secret = await make();
    const ask = () => auth.authenticate({ bearer: secret, ...HOME });
    await ask();
    await guess();
    await end(secret);
    clock.advance(2_000);
    for (let second = 2; second < 30; second += 2) {
      await guess();
      await expect(ask()).rejects.toMatchObject({ code: 'NOT_LOGGED_IN' });
      clock.advance(2_000);
    }
  });

  it('costs one query in five seconds', async () => {
    const secret = await session();
    await auth.logout({ bearer: secret, ...HOME });
    const before = store.asked;
    for (let n = 0; n < 100; n++) {
      expect(await askAs(secret)).toBeUndefined();
      clock.advance(50);
    }
    expect(store.asked).toBe(before);
    expect(await askAs(secret)).toBeUndefined();
    expect(store.asked).toBe(before + 1);
  });
});

describe('who a service token is', () => {
  it('waits for no note of its latest use, or of that of others', async () => {
    store.touchToken = () => new Promise(() => {});
    const callers: Promise<unknown>[] = [];
    for (let n = 0; n < 20; n++) {
      const { secret } = await users.createToken({ name: `ci-${n}`, groupId: 'mx', scopes: ['read'] });
      callers.push(auth.authenticate({ bearer: secret, address: '10.0.0.1' }));
    }
    const inTime = new Promise((resolve) => setImmediate(resolve, 'later'));
    const answers = await Promise.all(callers.map((caller) => Promise.race([caller, inTime])));
    expect(answers.filter((answer) => answer !== 'later')).toHaveLength(20);
  });

  it('is remembered for two seconds, for services at any address, each with its own', async () => {
    const { secret } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['read'] });
    expect(await auth.authenticate({ bearer: secret, address: '10.0.0.1' })).toMatchObject({ address: '10.0.0.1' });
    clock.advance(1_999);
    expect(await auth.authenticate({ bearer: secret, address: '10.0.0.2' })).toMatchObject({ address: '10.0.0.2' });
    expect(store.asked).toBe(1);
    clock.advance(1);
    await auth.authenticate({ bearer: secret, address: '10.0.0.2' });
    expect(store.asked).toBe(2);
  });

  it('ends with its end date, not when it is looked up next', async () => {
    const expiresAt = new Date(clock.now().getTime() + 60_000);
    const { secret } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['read'], expiresAt });
    clock.advance(59_999);
    expect(await auth.authenticate({ bearer: secret, address: '' })).toMatchObject({ name: 'ci' });
    clock.advance(1);
    await expect(auth.authenticate({ bearer: secret, address: '' })).rejects.toMatchObject({ code: 'NOT_LOGGED_IN' });
  });

  it('is nobody when it comes as a cookie', async () => {
    const { secret } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['read'] });
    expect(await askAs(secret)).toBeUndefined();
  });

  it('is looked up again for all who have one, however many come in the same moment', async () => {
    const secrets: string[] = [];
    for (let n = 0; n < 1500; n++)
      secrets.push((await users.createToken({ name: `ci-${n}`, groupId: 'mx', scopes: ['read'] })).secret);
    const askAll = () => Promise.all(secrets.map((bearer) => auth.authenticate({ bearer, address: '10.0.0.1' })));
    for (const bearer of secrets) await auth.authenticate({ bearer, address: '10.0.0.1' });
    clock.advance(2000);
    expect(new Set((await askAll()).map((caller) => caller?.kind))).toEqual(new Set(['token']));
    expect([store.asked, clock.pendingTimers]).toEqual([3000, 0]);
  });

  it('is noted as used once a minute at most', async () => {
    const { secret } = await users.createToken({ name: 'ci', groupId: 'mx', scopes: ['read'] });
    for (let second = 0; second < 180; second += 5) {
      await auth.authenticate({ bearer: secret, address: '' });
      clock.advance(5000);
    }
    expect(store.touched).toBe(3);
  });
});
