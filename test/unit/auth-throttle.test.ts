import { beforeEach, describe, expect, it } from 'vitest';
import { Auth } from '../../server/domain/auth.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { FairQueue, type Party } from '../../server/domain/fair-queue.js';
import { Users } from '../../server/domain/users.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryIdentityStore } from '../support/memory-identity-store.js';
import { PlainHasher } from '../support/plain-hasher.js';
import { silentLog } from '../support/silent-log.js';

const MINUTE_MS = 60_000;
const HOME = { address: '10.0.0.7', userAgent: 'test' };
const PASSWORD = 'correct horse';

/** Counts what it is asked. */
class CountingJudge extends ZxcvbnJudge {
  judged = 0;

  override judge(password: string, userId: string) {
    this.judged++;
    return super.judge(password, userId);
  }
}

const judge = new CountingJudge();

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
  for (const id of ['ssx', 'admin']) {
    await users.add({ id, displayName: id, password: PASSWORD, administrator: id === 'admin', memberships: new Map() });
  }
  // Somebody who has been here: how it is before is told below.
  await store.noteKnownNetwork('admin', '10.250.0.1', clock.now());
});

const from = (address: string) => ({ ...HOME, address });
const codeOf = (attempt: Promise<unknown>) =>
  attempt.then(
    () => 'OK',
    (error: unknown) => (error as TaskDashError).code,
  );
const fail = (username = 'ssx', address = HOME.address) => codeOf(auth.login(username, 'wrong', from(address)));
const succeed = (username = 'ssx', address = HOME.address) => codeOf(auth.login(username, PASSWORD, from(address)));

describe('failures of an account', () => {
  it('do not keep somebody who is logged in from changing the own password', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    const credentials = { cookie: token, address: '10.9.9.9' };
    const user = await auth.authenticate(credentials);
    if (user?.kind !== 'user') throw new Error('not logged in');
    for (let n = 0; n < 30; n++) await fail(`user-${n}`, '10.9.9.9');
    expect(await codeOf(auth.changePassword(user, credentials, PASSWORD, 'a quite new one'))).toBe('OK');
  });

  it('count while they are under way: a hundred guesses at once get five answers', async () => {
    const codes = await Promise.all(Array.from({ length: 100 }, (_, n) => fail('ssx', `10.1.${n}.1`)));
    expect(codes.filter((code) => code === 'LOGIN_FAILED')).toHaveLength(5);
    expect(codes.filter((code) => code === 'LOGIN_THROTTLED')).toHaveLength(95);
    expect(hasher.verified).toBe(5);
  });

  it('let one guess through when the wait is over, also when a hundred come at that moment', async () => {
    for (let n = 0; n < 5; n++) await fail('ssx', `10.1.${n}.1`);
    clock.advance(1000);
    await Promise.all(Array.from({ length: 100 }, (_, n) => fail('ssx', `10.2.${n}.1`)));
    expect(hasher.verified).toBe(6);
  });

  it('are not made more by attempts that are refused', async () => {
    for (let n = 0; n < 5; n++) await fail();
    for (let n = 0; n < 50; n++) expect(await fail()).toBe('LOGIN_THROTTLED');
    clock.advance(1000);
    expect(await succeed()).toBe('OK');
  });

  it('make nobody wait longer than a quarter of an hour', async () => {
    let longestMs = 0;
    for (let n = 0; n < 40; n++) {
      const error = await auth.login('ssx', 'wrong', from(`10.1.${n}.1`)).catch((thrown: unknown) => thrown);
      const waitMs = (error as TaskDashError).retryAfterMs ?? 0;
      longestMs = Math.max(longestMs, waitMs);
      clock.advance(waitMs);
    }
    expect(longestMs).toBeGreaterThan(4 * MINUTE_MS);
    expect(longestMs).toBeLessThanOrEqual(15 * MINUTE_MS);
  });

  it('are cleared by an honest login', async () => {
    for (let n = 0; n < 4; n++) await fail();
    expect(await succeed()).toBe('OK');
    for (let n = 0; n < 5; n++) expect(await fail()).toBe('LOGIN_FAILED');
    expect(await fail()).toBe('LOGIN_THROTTLED');
  });

  it('do not keep the owner out of a network that they logged in from before, however long the attack lasts', async () => {
    expect(await succeed('admin')).toBe('OK');
    for (let second = 0; second < 2 * 60 * 60; second += 10) {
      await fail('admin', `10.${second % 200}.9.9`);
      if (second % 600 === 0) expect(await succeed('admin')).toBe('OK');
      clock.advance(10_000);
    }
    expect(await fail('admin', '10.77.9.9')).toBe('LOGIN_THROTTLED');
  });

  it('count in a known network too', async () => {
    expect(await succeed()).toBe('OK');
    for (let n = 0; n < 5; n++) expect(await fail()).toBe('LOGIN_FAILED');
    expect(await succeed()).toBe('LOGIN_THROTTLED');
  });

  it('do not keep somebody who is logged in from changing the password', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    for (let n = 0; n < 20; n++) await fail('ssx', `10.1.${n}.1`);
    const credentials = { cookie: token, address: '10.9.9.9' };
    const user = await auth.authenticate(credentials);
    if (user?.kind !== 'user') throw new Error('not logged in');
    await auth.changePassword(user, credentials, PASSWORD, 'a quite new one');
    expect(await store.findUser('ssx')).toMatchObject({ passwordHash: 'plain:a quite new one' });
  });

  it('are forgotten when an operator sets the password, in known networks too', async () => {
    expect(await succeed()).toBe('OK');
    for (let n = 0; n < 5; n++) await fail();
    for (let n = 0; n < 5; n++) await fail('ssx', '10.8.8.8');
    await users.setPassword('ssx', PASSWORD);
    expect(await succeed()).toBe('OK');
    expect(await succeed('ssx', '10.8.8.8')).toBe('OK');
  });
});

describe('before the first login of an administrator', () => {
  beforeEach(async () => {
    store = new MemoryIdentityStore();
    auth = new Auth(store, hasher, judge, clock, silentLog);
    users = new Users(store, hasher, judge, clock);
    await users.ensureFirstAdministrator({ username: 'admin', password: PASSWORD });
    await users.add({
      id: 'ssx',
      displayName: 'ssx',
      password: PASSWORD,
      administrator: false,
      memberships: new Map(),
    });
  });

  it('failures from other networks keep nobody out, however long the attack lasts', async () => {
    for (let second = 0; second < 2 * 60 * 60; second += 10) {
      await fail('admin', `10.${second % 200}.9.9`);
      clock.advance(10_000);
    }
    expect(await succeed('admin')).toBe('OK');
    expect(await succeed('admin')).toBe('OK');
  });

  it('every network gets as few answers as ever: five of an account, and thirty of all', async () => {
    for (let n = 0; n < 5; n++) expect(await fail('admin', '10.1.1.1')).toBe('LOGIN_FAILED');
    expect(await fail('admin', '10.1.1.1')).toBe('LOGIN_THROTTLED');
    for (let n = 0; n < 25; n++) expect(await fail(`user-${n}`, '10.1.1.1')).toBe('LOGIN_FAILED');
    expect(await fail('user-26', '10.1.1.1')).toBe('LOGIN_THROTTLED');
  });

  it('a name that nobody has is answered like that of the administrator', async () => {
    const answers = async (name: string) => {
      const codes: string[] = [];
      for (let n = 0; n < 12; n++) codes.push(await fail(name, `10.2.${n % 2}.1`));
      return codes;
    };
    expect(await answers('admin')).toEqual(await answers('nobody'));
  });

  it('the login of somebody else changes nothing; theirs does, and strangers count together from then on', async () => {
    const lockOut = async () => {
      for (let n = 0; n < 5; n++) await fail('admin', `10.3.${n}.1`);
      return fail('admin', '10.3.9.1');
    };
    expect(await succeed('ssx')).toBe('OK');
    expect(await lockOut()).toBe('LOGIN_FAILED');
    expect(await succeed('admin')).toBe('OK');
    expect(await lockOut()).toBe('LOGIN_THROTTLED');
    expect(await succeed('admin')).toBe('OK');
  });
});

describe('guesses of the current password', () => {
  it('are slowed down like logins', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    const credentials = { cookie: token, address: HOME.address };
    const user = await auth.authenticate(credentials);
    if (user?.kind !== 'user') throw new Error('not logged in');
    const guess = () => codeOf(auth.changePassword(user, credentials, 'wrong', 'a quite new one'));
    for (let n = 0; n < 5; n++) expect(await guess()).toBe('LOGIN_FAILED');
    expect(await guess()).toBe('LOGIN_THROTTLED');
  });

  it('have no new password judged, however bad it is', async () => {
    const { token } = await auth.login('ssx', PASSWORD, HOME);
    const credentials = { cookie: token, address: HOME.address };
    const user = await auth.authenticate(credentials);
    if (user?.kind !== 'user') throw new Error('not logged in');
    const before = judge.judged;
    const change = (current: string) => codeOf(auth.changePassword(user, credentials, current, '12345678'));
    for (let n = 0; n < 4; n++) expect(await change('wrong')).toBe('LOGIN_FAILED');
    expect(judge.judged).toBe(before);
    expect(await change(PASSWORD)).toBe('REQUEST_INVALID');
    expect(judge.judged).toBe(before + 1);
  });
});

describe('failures of an address', () => {
  it('are not held against somebody who has logged in from there before, whose own failures are', async () => {
    expect(await succeed('ssx')).toBe('OK');
    for (let n = 0; n < 30; n++) await fail(`user-${n}`);
    expect(await succeed('admin')).toBe('LOGIN_THROTTLED');
    expect(await succeed('ssx')).toBe('OK');
    for (let n = 0; n < 5; n++) expect(await fail('ssx')).toBe('LOGIN_FAILED');
    expect(await fail('ssx')).toBe('LOGIN_THROTTLED');
  });

  it('count while they are under way: a hundred guesses at once get thirty answers', async () => {
    await Promise.all(Array.from({ length: 100 }, (_, n) => fail(`user-${n}`)));
    expect(hasher.verified).toBe(30);
  });

  it('count for a whole IPv6 network of 64 bits, however it is written', async () => {
    for (let n = 0; n < 30; n++) await fail(`user-${n}`, `2001:db8:0:7:${n.toString(16)}::1`);
    expect(await succeed('ssx', '2001:db8::7:a:b:c:d')).toBe('LOGIN_THROTTLED');
    expect(await succeed('ssx', '2001:db8:0:8::1')).toBe('OK');
  });

  it('count for an IPv4 address also where it comes in the clothes of IPv6', async () => {
    for (let n = 0; n < 30; n++) await fail(`user-${n}`, '::ffff:10.0.0.7');
    expect(await succeed('ssx', '10.0.0.7')).toBe('LOGIN_THROTTLED');
    expect(await succeed('ssx', '::ffff:10.0.0.8')).toBe('OK');
  });
});

describe('a crowd of logins', () => {
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

  /** Verifies one password after the other, in the fair queue of the real one, and notes when it was whose turn. */
  class QueuedHasher extends PlainHasher {
    readonly turns: string[] = [];
    readonly #queue = new FairQueue(new ManualClock(), { running: 1, waiting: 64, waitMs: 10_000 });

    override verify(hash: string, password: string, party?: Party): Promise<boolean> {
      return this.#queue.run(party ?? { network: '', account: '', isKnown: true }, async () => {
        this.turns.push(party?.account ?? '');
        await settle();
        return super.verify(hash, password);
      });
    }
  }

  it.each([
    ['many addresses', (n: number) => `10.1.${n}.1`],
    ['the same address', () => HOME.address],
  ])('from %s does not keep somebody waiting who has logged in from there before', async (_which, addressOf) => {
    expect(await succeed('ssx')).toBe('OK');
    const queued = new QueuedHasher();
    const busy = new Auth(store, queued, judge, clock, silentLog);
    const crowd = Array.from({ length: 200 }, (_, n) => codeOf(busy.login(`user-${n}`, 'wrong', from(addressOf(n)))));
    while (queued.turns.length === 0) await settle();
    const turnsBefore = queued.turns.length;
    expect(await codeOf(busy.login('ssx', PASSWORD, HOME))).toBe('OK');
    // One that was being verified, and one more while the database was asked who this is.
    expect(queued.turns.indexOf('ssx')).toBeLessThanOrEqual(turnsBefore + 2);
    const codes = new Set(await Promise.all(crowd));
    expect([...codes].filter((code) => !['LOGIN_FAILED', 'LOGIN_THROTTLED', 'OVERLOADED'].includes(code))).toEqual([]);
  });

  it('from many addresses keeps no place from a network that nobody else comes from', async () => {
    const queued = new QueuedHasher();
    const busy = new Auth(store, queued, judge, clock, silentLog);
    const crowd = Array.from({ length: 200 }, (_, n) =>
      codeOf(busy.login(`user-${n}`, 'wrong', from(`10.1.${n % 5}.1`))),
    );
    while (queued.turns.length === 0) await settle();
    expect(await codeOf(busy.login('ssx', PASSWORD, from('10.9.9.9')))).toBe('OK');
    expect(queued.turns.indexOf('ssx')).toBeLessThan(10);
    await Promise.all(crowd);
  });

  it('from one address costs hardly a query once as many are under way as may fail', async () => {
    const asked: string[] = [];
    const failedLogins = store.failedLogins.bind(store);
    store.failedLogins = (key, since) => {
      asked.push(key);
      return failedLogins(key, since);
    };
    let open = () => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    hasher.beforeVerify = () => gate;
    const first = Array.from({ length: 30 }, (_, n) => fail(`user-${n}`));
    while (hasher.verified < 30) await settle();
    asked.length = 0;
    expect(new Set(await Promise.all(Array.from({ length: 200 }, (_, n) => fail(`other-${n}`))))).toEqual(
      new Set(['LOGIN_THROTTLED']),
    );
    expect(asked).toEqual([]);
    open();
    await Promise.all(first);
  });
});

describe('the answer to an unknown user', () => {
  it('is the same when the hash to compare with could not be made at first', async () => {
    hasher.failNextHashWith = new TaskDashError('OVERLOADED');
    const first = await fail('nobody');
    expect(['OVERLOADED', 'LOGIN_FAILED']).toContain(first);
    expect(await fail('nobody')).toBe('LOGIN_FAILED');
  });

  it('takes as many hashes as that to a known user, from the first login on', async () => {
    const costOf = async (username: string) => {
      const fresh = new PlainHasher();
      await new Auth(store, fresh, judge, clock, silentLog).login(username, 'wrong', HOME).catch(() => undefined);
      return [fresh.hashed, fresh.verified];
    };
    expect(await costOf('nobody')).toEqual(await costOf('ssx'));
  });

  it.each(['', 'a\u0000b', 'x'.repeat(300), '\ud800'])('is LOGIN_FAILED for the impossible name %j', async (name) => {
    expect(await fail(name)).toBe('LOGIN_FAILED');
  });
});
