/**
 * Who somebody is: logins, login sessions and service tokens.
 *
 * - A login answers the same, in the same time, for an unknown user and a wrong password: an unknown one is verified
 *   against a hash that no password has. How often it may be tried is the matter of login-throttle.ts. A crowd of logins
 *   waits in a fair queue before the first query and again before the hash, and whoever logs in from where they have
 *   before goes past strangers.
 * - What a credential stands for is remembered for two seconds, so that watches that look again and services that call
 *   often do not become queries. What this node ends, it knows at once. Credentials that are made up are kept apart from
 *   those that stand for somebody, or did, and have few queries: credential-cache.ts.
 * - Whoever still has to change the password is nobody's administrator and in no group until they have. They are looked up
 *   at every call, so that the change, which may be made at another node, opens everything at once.
 */
import type { Principal, User } from './access.js';
import { checkPassword, invalid, isName, MAX_PASSWORD_LENGTH } from './account-rules.js';
import type { Authenticator, Credentials, Login } from './authenticator.js';
import type { Clock, Timer } from './clock.js';
import { CredentialCache, type Answer, type CredentialCacheOptions } from './credential-cache.js';
import { TaskDashError } from './errors.js';
import { FairQueue, type FairQueueLimits, type Party } from './fair-queue.js';
import { LatestUse } from './latest-use.js';
import {
  accountKey,
  addressKey,
  accountAtKey,
  LoginThrottle,
  passwordChangeKey,
  type AttemptKeys,
  type ThrottleOptions,
} from './login-throttle.js';
import { networkOf } from './network.js';
import type { IdentityStore, Log, LoginSession, PasswordHasher, PasswordJudge, UserRecord } from './ports.js';
import { hashOf, kindOfSecret, newSecret, SESSION_PREFIX } from './secrets.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Times and limits of logins; the defaults are in AUTH_DEFAULTS. */
export interface AuthOptions extends ThrottleOptions {
  /** A session that is not used for this long ends. */
  readonly idleMs: number;
  /** A session ends after this long in any case. */
  readonly absoluteMs: number;
  /** How long a network that somebody logged in from stays known. */
  readonly knownNetworkMs: number;
  /** How long an answer about a login session may be old. */
  readonly cacheMs: number;
  /** How long an answer about a service token may be old: services call often, and their beats must not become queries. */
  readonly tokenCacheMs: number;
  /** Logins about which the database is asked for the first time. */
  readonly arrivals: FairQueueLimits;
  /** Of credentials that stand for nobody, and of those that nobody here knows yet. */
  readonly credentials: CredentialCacheOptions;
}

export const AUTH_DEFAULTS: AuthOptions = {
  idleMs: 12 * HOUR_MS,
  absoluteMs: 7 * DAY_MS,
  knownNetworkMs: 90 * DAY_MS,
  attemptWindowMs: 15 * MINUTE_MS,
  freeAccountFailures: 5,
  maxAddressFailures: 30,
  cacheMs: 2_000,
  tokenCacheMs: 2_000,
  arrivals: { running: 2, waiting: 1_000, waitMs: 5_000 },
  credentials: {
    // As many as one door has connections at most.
    capacity: 20_000,
    wrongMs: 5_000,
    guesses: { size: 20, refillMs: 1_000, networks: 10_000 },
    strangers: { running: 4, waiting: 1_000, waitMs: 5_000 },
  },
};

/** How many sessions a user may have; a login beyond them ends the one that was not used for longest. */
const MAX_SESSIONS = 100;
const MAX_ADDRESS_LENGTH = 64;
const MAX_USER_AGENT_LENGTH = 256;
const TOUCH_MS = MINUTE_MS;
const CLEAN_MS = 10 * MINUTE_MS;

type Found = Answer<Principal> | undefined;

export class Auth implements Authenticator {
  readonly #cache: CredentialCache<Principal>;
  readonly #throttle: LoginThrottle;
  readonly #arrivals: FairQueue;
  readonly #latestUse: LatestUse;
  #administratorWasHere = false;
  #dummyHash: Promise<string> | undefined;
  #cleaning: Timer | undefined;
  #cleaned: Promise<void> = Promise.resolve();

  constructor(
    private readonly store: IdentityStore,
    private readonly hasher: PasswordHasher,
    private readonly judge: PasswordJudge,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly options: AuthOptions = AUTH_DEFAULTS,
  ) {
    this.#cache = new CredentialCache(clock, options.credentials);
    this.#throttle = new LoginThrottle(store, clock, options);
    this.#arrivals = new FairQueue(clock, options.arrivals);
    this.#latestUse = new LatestUse(store, clock, log);
  }

  /** Removes from time to time what has ended; idempotent. */
  start(): void {
    if (this.#cleaning) return;
    const timer = this.clock.schedule(CLEAN_MS, () => {
      this.#cleaned = this.#clean().then(() => {
        if (this.#cleaning !== timer) return;
        this.#cleaning = undefined;
        this.start();
      });
    });
    this.#cleaning = timer;
  }

  /** Resolves when nothing is being removed or noted any more; idempotent. */
  async stop(): Promise<void> {
    this.#cleaning?.cancel();
    this.#cleaning = undefined;
    await Promise.all([this.#cleaned, this.#latestUse.stop()]);
  }

  async authenticate(credentials: Credentials): Promise<Principal | undefined> {
    const { bearer, cookie, address } = credentials;
    if (bearer !== undefined) {
      const principal = await this.#find(bearer, address);
      if (!principal) throw new TaskDashError('NOT_LOGGED_IN', { message: 'The token is not valid, or no longer.' });
      return principal.kind === 'token' ? { ...principal, address } : principal;
    }
    // Cookies carry sessions only: a page never holds a service token.
    return cookie === undefined || kindOfSecret(cookie) !== 'session' ? undefined : this.#find(cookie, address);
  }

  async login(username: string, password: string, origin: { address: string; userAgent: string }): Promise<Login> {
    const network = networkOf(origin.address);
    const { party, keys } = await this.#arrive(isName(username) ? username : '', network);
    const user = await this.#throttle.attempt(keys, () => this.#verify(username, password, origin.address, party));
    const login = await this.#openSession(user, origin);
    await this.store.noteKnownNetwork(user.id, network, this.clock.now());
    return login;
  }

  async logout(credentials: Credentials): Promise<void> {
    const token = credentials.bearer ?? credentials.cookie;
    if (token === undefined || kindOfSecret(token) !== 'session') return;
    // What is made up ends nothing: it is neither worth a query nor to be remembered as a session that was.
    if (!(await this.#find(token, credentials.address))) return;
    const idHash = hashOf(token);
    await this.store.deleteSession(idHash);
    this.#cache.end(idHash);
  }

  async describe(user: User): Promise<UserRecord> {
    const record = await this.store.findUser(user.id);
    if (!record || record.disabled) throw new TaskDashError('NOT_LOGGED_IN');
    return record;
  }

  async changePassword(user: User, credentials: Credentials, current: string, next: string): Promise<void> {
    const network = networkOf(credentials.address);
    // Who is logged in is no stranger, wherever it comes from.
    const keys = { account: passwordChangeKey(user.id), address: addressKey(network), isKnown: true };
    const party = { network, account: user.id, isKnown: true };
    const record = await this.#throttle.attempt(keys, () => this.#verify(user.id, current, credentials.address, party));
    // Judging is work, too: only for whoever knows the current one.
    await checkPassword(this.judge, next, user.id);
    if (next === current) throw invalid('new_password', 'must differ from the current one');
    const own = credentials.bearer ?? credentials.cookie;
    const changed = await this.store.setPassword(user.id, await this.hasher.hash(next, party), false, {
      keepSession: own === undefined ? undefined : hashOf(own),
      replaces: record.passwordHash,
    });
    this.#cache.ageAll();
    if (!changed) throw new TaskDashError('LOGIN_FAILED', { message: 'The password was changed at the same time.' });
  }

  /** Who tries to log in, and under which keys it counts. Names that nobody can have are one account, the empty one. */
  async #arrive(account: string, network: string): Promise<{ party: Party; keys: AttemptKeys }> {
    const stranger: Party = { network, account, isKnown: false };
    const { isKnown, isFirst } = await this.#arrivals.run(stranger, async () => ({
      isKnown: account !== '' && (await this.store.isKnownNetwork(account, network, this.#knownSince())),
      isFirst: await this.#waitsForFirstLogin(),
    }));
    const key = isKnown || isFirst ? accountAtKey(account, network) : accountKey(account);
    return { party: { ...stranger, isKnown }, keys: { account: key, address: addressKey(network), isKnown } };
  }

  /**
   * Whether no administrator has ever logged in, as far as is known. Until then no network is known from which they could
   * pass by a crowd of strangers, so failures count by network: whatever the name, so that it tells nothing of any.
   */
  async #waitsForFirstLogin(): Promise<boolean> {
    if (this.#administratorWasHere) return false;
    this.#administratorWasHere = await this.store.hasAdministratorLoggedIn();
    return !this.#administratorWasHere;
  }

  /** The user whose password this is; undefined for any other, after the same work. */
  async #verify(username: string, password: string, address: string, party: Party): Promise<UserRecord | undefined> {
    if (password.length > MAX_PASSWORD_LENGTH) return undefined;
    const dummyHash = await this.#unmatchableHash();
    const user = isName(username) ? await this.store.findUser(username) : undefined;
    const matches = await this.hasher.verify(user?.passwordHash ?? dummyHash, password, party);
    if (user && !user.disabled && matches) return user;
    // An unknown name is not logged: it may be a password in the wrong field.
    this.log.info({ address, user: user?.id ?? null }, 'a password was refused');
    return undefined;
  }

  async #openSession(user: UserRecord, origin: { address: string; userAgent: string }): Promise<Login> {
    const token = SESSION_PREFIX + newSecret();
    const createdAt = this.clock.now();
    const expiresAt = new Date(createdAt.getTime() + this.options.absoluteMs);
    const session: LoginSession = {
      idHash: hashOf(token),
      userId: user.id,
      address: origin.address.slice(0, MAX_ADDRESS_LENGTH),
      userAgent: printable(origin.userAgent),
      createdAt,
      lastUsedAt: createdAt,
      expiresAt,
    };
    // The password may have been changed, or the user disabled, while it was being verified.
    const saved = await this.store.saveSession(session, user.passwordHash, MAX_SESSIONS - 1);
    if (!saved) throw new TaskDashError('LOGIN_FAILED');
    // Whoever has just logged in does not queue with strangers.
    this.#cache.expect(session.idHash);
    return { token, user, expiresAt };
  }

  /** Made once; every login waits for it, so that it costs a known user's first login as much as an unknown one's. */
  async #unmatchableHash(): Promise<string> {
    const hash = (this.#dummyHash ??= this.hasher.hash(newSecret()));
    try {
      return await hash;
    } catch (error) {
      // The next login tries again.
      if (this.#dummyHash === hash) this.#dummyHash = undefined;
      throw error;
    }
  }

  #find(secret: string, address: string): Promise<Principal | undefined> {
    const kind = kindOfSecret(secret);
    if (kind === undefined) return Promise.resolve(undefined);
    const hash = hashOf(secret);
    return this.#cache.get(hash, address, () => (kind === 'token' ? this.#findToken(hash) : this.#findSession(hash)));
  }

  /** Without the address that it comes from, which differs from call to call. */
  async #findToken(secretHash: string): Promise<Found> {
    const token = await this.store.findTokenByHash(secretHash);
    const now = this.clock.now();
    const leftMs = token?.expiresAt ? token.expiresAt.getTime() - now.getTime() : Infinity;
    if (!token || leftMs <= 0) return undefined;
    if (isStale(token.lastUsedAt, now)) this.#latestUse.note('token', secretHash, now);
    return {
      value: { kind: 'token', name: token.name, groupId: token.groupId, scopes: token.scopes, address: '' },
      validForMs: Math.min(this.options.tokenCacheMs, leftMs),
    };
  }

  async #findSession(idHash: string): Promise<Found> {
    const session = await this.store.findSession(idHash);
    const now = this.clock.now();
    if (!session || this.#hasEnded(session, now)) return undefined;
    const user = await this.store.findUser(session.userId);
    if (!user || user.disabled) return undefined;
    if (isStale(session.lastUsedAt, now)) this.#latestUse.note('session', idHash, now);
    const cacheMs = user.mustChangePassword ? 0 : this.options.cacheMs;
    const validForMs = Math.min(cacheMs, session.expiresAt.getTime() - now.getTime());
    return { value: principalOf(user), validForMs };
  }

  #hasEnded(session: LoginSession, now: Date): boolean {
    return session.expiresAt <= now || now.getTime() - session.lastUsedAt.getTime() >= this.options.idleMs;
  }

  #knownSince(): Date {
    return this.#ago(this.options.knownNetworkMs);
  }

  #ago(ms: number): Date {
    return new Date(this.clock.now().getTime() - ms);
  }

  async #clean(): Promise<void> {
    try {
      await this.store.deleteExpired({
        now: this.clock.now(),
        unusedSince: this.#ago(this.options.idleMs),
        attemptsBefore: this.#ago(this.options.attemptWindowMs),
        networksBefore: this.#knownSince(),
      });
    } catch (error) {
      this.log.warn({ err: error }, 'ended sessions could not be removed; trying again later');
    }
  }
}

function principalOf(user: UserRecord): User {
  const { id, administrator, memberships } = user;
  if (user.mustChangePassword)
    return { kind: 'user', id, administrator: false, memberships: new Map(), mustChangePassword: true };
  return { kind: 'user', id, administrator, memberships };
}

function isStale(lastUsedAt: Date | null, now: Date): boolean {
  return lastUsedAt === null || now.getTime() - lastUsedAt.getTime() >= TOUCH_MS;
}

function printable(userAgent: string): string {
  return userAgent.replace(/[^\x20-\x7e]/g, '').slice(0, MAX_USER_AGENT_LENGTH);
}
