/**
 * Who somebody is: logins, login sessions and service tokens.
 *
 * - A login answers the same, in the same time, for an unknown user and a wrong password: an unknown one is verified
 *   against a hash that no password has.
 * - Failures are counted in the database, for all nodes. An account that has failed often makes the next attempt wait,
 *   twice as long after each further failure and 15 minutes at most, after which one attempt is always let through: an
 *   attacker can slow the owner down, never lock them out. An address is refused for good after many failures in a while.
 * - Secrets are random and stored only as SHA-256; they have too many bits for a slow hash to add anything.
 * - What a credential stands for is remembered, a login session for two seconds and a service token for thirty, so that
 *   watches that look again and services that call often do not become queries. What this node ends, it forgets at once.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Principal, User } from './access.js';
import type { Authenticator, Credentials, Login } from './authenticator.js';
import type { Clock, Timer } from './clock.js';
import { TaskDashError } from './errors.js';
import type { IdentityStore, Log, LoginSession, PasswordHasher, UserRecord } from './ports.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Times and limits of logins; the defaults are in AUTH_DEFAULTS. */
export interface AuthOptions {
  /** A session that is not used for this long ends. */
  readonly idleMs: number;
  /** A session ends after this long in any case. */
  readonly absoluteMs: number;
  /** How far back failures count. */
  readonly attemptWindowMs: number;
  /** Failures of an account before attempts have to wait. */
  readonly freeAccountFailures: number;
  /** Failures of an address before its attempts are refused. */
  readonly maxAddressFailures: number;
  /** How long an answer about a login session may be old. */
  readonly cacheMs: number;
  /** How long an answer about a service token may be old: services call often, and their beats must not become queries. */
  readonly tokenCacheMs: number;
}

export const AUTH_DEFAULTS: AuthOptions = {
  idleMs: 12 * HOUR_MS,
  absoluteMs: 7 * 24 * HOUR_MS,
  attemptWindowMs: 15 * MINUTE_MS,
  freeAccountFailures: 5,
  maxAddressFailures: 30,
  cacheMs: 2_000,
  tokenCacheMs: 30_000,
};

const SESSION_PREFIX = 'tds_';
export const TOKEN_PREFIX = 'tdt_';
const SECRET_BYTES = 32;
const MAX_CACHED = 10_000;
const MAX_CREDENTIAL_LENGTH = 256;
const MAX_USERNAME_LENGTH = 256;
export const MIN_PASSWORD_LENGTH = 8;
export const MAX_PASSWORD_LENGTH = 1024;
const FIRST_WAIT_MS = 1_000;
const TOUCH_MS = MINUTE_MS;
const CLEAN_MS = 10 * MINUTE_MS;

interface Cached {
  readonly principal: Promise<Principal | undefined>;
  readonly untilMs: number;
}

export class Auth implements Authenticator {
  readonly #cache = new Map<string, Cached>();
  #dummyHash: Promise<string> | undefined;
  #cleaning: Timer | undefined;

  constructor(
    private readonly store: IdentityStore,
    private readonly hasher: PasswordHasher,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly options: AuthOptions = AUTH_DEFAULTS,
  ) {}

  /** Removes from time to time what has ended; idempotent. */
  start(): void {
    this.#cleaning ??= this.clock.schedule(CLEAN_MS, () => void this.#clean());
  }

  stop(): void {
    this.#cleaning?.cancel();
    this.#cleaning = undefined;
  }

  async authenticate(credentials: Credentials): Promise<Principal | undefined> {
    if (credentials.bearer !== undefined) {
      const principal = await this.#resolve(credentials.bearer, credentials.address);
      if (!principal) throw new TaskDashError('NOT_LOGGED_IN', { message: 'The token is not valid, or no longer.' });
      return principal;
    }
    return credentials.cookie === undefined ? undefined : this.#resolve(credentials.cookie, credentials.address);
  }

  async login(username: string, password: string, origin: { address: string; userAgent: string }): Promise<Login> {
    if (username.length > MAX_USERNAME_LENGTH || password.length > MAX_PASSWORD_LENGTH)
      throw new TaskDashError('LOGIN_FAILED');
    const user = await this.#verify(username, password, origin.address);
    const token = SESSION_PREFIX + newSecret();
    const createdAt = this.clock.now();
    const expiresAt = new Date(createdAt.getTime() + this.options.absoluteMs);
    const session = { idHash: hashOf(token), userId: user.id, createdAt, lastUsedAt: createdAt, expiresAt };
    await this.store.saveSession({
      ...session,
      address: origin.address.slice(0, 64),
      userAgent: printable(origin.userAgent),
    });
    return { token, user, expiresAt };
  }

  async logout(credentials: Credentials): Promise<void> {
    const token = credentials.bearer ?? credentials.cookie;
    if (!token?.startsWith(SESSION_PREFIX)) return;
    await this.store.deleteSession(hashOf(token));
    this.#forget((key) => key.startsWith(`${hashOf(token)}|`));
  }

  async describe(user: User): Promise<UserRecord> {
    const record = await this.store.findUser(user.id);
    if (!record || record.disabled) throw new TaskDashError('NOT_LOGGED_IN');
    return record;
  }

  async changePassword(user: User, credentials: Credentials, current: string, next: string): Promise<void> {
    checkPassword(next, user.id);
    await this.#verify(user.id, current, credentials.address);
    await this.store.setPassword(user.id, await this.hasher.hash(next), false);
    const own = credentials.bearer ?? credentials.cookie;
    await this.store.deleteSessionsOf(user.id, own === undefined ? undefined : hashOf(own));
    this.#cache.clear();
  }

  /** The user whose password this is. Throws LOGIN_FAILED, LOGIN_THROTTLED. */
  async #verify(username: string, password: string, address: string): Promise<UserRecord> {
    const account = `account:${username}`;
    const origin = `address:${address}`;
    await this.#requirePatience(account, origin);
    const user = await this.store.findUser(username);
    const matches = await this.hasher.verify(user?.passwordHash ?? (await this.#unmatchableHash()), password);
    if (!user || user.disabled || !matches) {
      const at = this.clock.now();
      await Promise.all([this.store.addFailedLogin(account, at), this.store.addFailedLogin(origin, at)]);
      throw new TaskDashError('LOGIN_FAILED');
    }
    await this.store.clearFailedLogins(account);
    return user;
  }

  async #requirePatience(account: string, origin: string): Promise<void> {
    const now = this.clock.now();
    const since = new Date(now.getTime() - this.options.attemptWindowMs);
    const [ofAccount, ofAddress] = await Promise.all([
      this.store.failedLogins(account, since),
      this.store.failedLogins(origin, since),
    ]);
    const waitMs = Math.max(
      this.#waitOf(ofAccount, this.options.freeAccountFailures, now),
      ofAddress.count >= this.options.maxAddressFailures
        ? sinceLatest(ofAddress, this.options.attemptWindowMs, now)
        : 0,
    );
    if (waitMs <= 0) return;
    const seconds = Math.ceil(waitMs / 1000);
    throw new TaskDashError('LOGIN_THROTTLED', {
      message: `There were too many failed logins; try again in ${seconds} s.`,
      retryAfterMs: waitMs,
    });
  }

  #waitOf(failures: { count: number; latest: Date | null }, free: number, now: Date): number {
    if (failures.count < free) return 0;
    const delayMs = Math.min(FIRST_WAIT_MS * 2 ** (failures.count - free), this.options.attemptWindowMs);
    return sinceLatest(failures, delayMs, now);
  }

  #unmatchableHash(): Promise<string> {
    this.#dummyHash ??= this.hasher.hash(newSecret());
    return this.#dummyHash;
  }

  #resolve(secret: string, address: string): Promise<Principal | undefined> {
    if (secret.length > MAX_CREDENTIAL_LENGTH) return Promise.resolve(undefined);
    const idHash = hashOf(secret);
    const key = `${idHash}|${address}`;
    const cached = this.#cache.get(key);
    if (cached && cached.untilMs > this.clock.monotonicMs()) return cached.principal;
    const isToken = secret.startsWith(TOKEN_PREFIX);
    const principal = isToken ? this.#findToken(idHash, address) : this.#findSession(idHash);
    this.#remember(key, principal, isToken ? this.options.tokenCacheMs : this.options.cacheMs);
    return principal;
  }

  #remember(key: string, principal: Promise<Principal | undefined>, forMs: number): void {
    this.#cache.delete(key);
    this.#cache.set(key, { principal, untilMs: this.clock.monotonicMs() + forMs });
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= MAX_CACHED) break;
      this.#cache.delete(oldest);
    }
    // A failed look-up is no answer: the next caller asks again.
    principal.catch(() => this.#forget((other) => other === key));
  }

  #forget(matches: (key: string) => boolean): void {
    for (const key of this.#cache.keys()) if (matches(key)) this.#cache.delete(key);
  }

  async #findToken(secretHash: string, address: string): Promise<Principal | undefined> {
    const token = await this.store.findTokenByHash(secretHash);
    const now = this.clock.now();
    if (!token || (token.expiresAt && token.expiresAt <= now)) return undefined;
    if (isStale(token.lastUsedAt, now)) await this.store.touchToken(secretHash, now);
    return { kind: 'token', name: token.name, groupId: token.groupId, scopes: token.scopes, address };
  }

  async #findSession(idHash: string): Promise<Principal | undefined> {
    const session = await this.store.findSession(idHash);
    const now = this.clock.now();
    if (!session || this.#hasEnded(session, now)) return undefined;
    const user = await this.store.findUser(session.userId);
    if (!user || user.disabled) return undefined;
    if (isStale(session.lastUsedAt, now)) await this.store.touchSession(idHash, now);
    return { kind: 'user', id: user.id, administrator: user.administrator, memberships: user.memberships };
  }

  #hasEnded(session: LoginSession, now: Date): boolean {
    return session.expiresAt <= now || now.getTime() - session.lastUsedAt.getTime() >= this.options.idleMs;
  }

  async #clean(): Promise<void> {
    try {
      const now = this.clock.now();
      await this.store.deleteExpired(now, new Date(now.getTime() - this.options.attemptWindowMs));
    } catch (error) {
      this.log.warn({ err: error }, 'ended sessions could not be removed; trying again later');
    }
    if (!this.#cleaning) return;
    this.#cleaning = this.clock.schedule(CLEAN_MS, () => void this.#clean());
  }
}

/** Throws REQUEST_INVALID for a password that must not be. */
export function checkPassword(password: string, userId: string): void {
  const description =
    password.length < MIN_PASSWORD_LENGTH || password.length > MAX_PASSWORD_LENGTH
      ? `must have ${MIN_PASSWORD_LENGTH} to ${MAX_PASSWORD_LENGTH} characters`
      : password === userId
        ? 'must not be the user name'
        : undefined;
  if (description === undefined) return;
  throw new TaskDashError('REQUEST_INVALID', {
    message: `The new password ${description}.`,
    violations: [{ field: 'new_password', description }],
  });
}

/** 256 random bits as text. */
export function newSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64url');
}

/** How a secret is stored. */
export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url');
}

function sinceLatest(failures: { latest: Date | null }, delayMs: number, now: Date): number {
  return (failures.latest?.getTime() ?? 0) + delayMs - now.getTime();
}

function isStale(lastUsedAt: Date | null, now: Date): boolean {
  return lastUsedAt === null || now.getTime() - lastUsedAt.getTime() >= TOUCH_MS;
}

function printable(userAgent: string): string {
  return userAgent.replace(/[^\x20-\x7e]/g, '').slice(0, 256);
}
