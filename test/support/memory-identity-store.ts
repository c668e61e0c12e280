/** People, sessions and tokens in memory; passes the same contract suite as PostgreSQL. */
import type {
  Expiry,
  IdentityStore,
  LoginSession,
  PasswordChange,
  TokenRecord,
  UserRecord,
} from '../../server/domain/ports.js';

export class MemoryIdentityStore implements IdentityStore {
  readonly #users = new Map<string, UserRecord>();
  readonly #sessions = new Map<string, LoginSession>();
  readonly #tokens = new Map<string, TokenRecord>();
  #failures: { key: string; at: Date }[] = [];
  /** When a user last logged in from a network, by user and network. */
  readonly #networks = new Map<string, Date>();

  findUser(id: string) {
    return Promise.resolve(this.#users.get(id));
  }

  countUsers() {
    return Promise.resolve(this.#users.size);
  }

  countAdministrators() {
    const able = [...this.#users.values()].filter(({ administrator, disabled }) => administrator && !disabled);
    return Promise.resolve(able.length);
  }

  saveUser(user: UserRecord) {
    this.#users.set(user.id, user);
    return Promise.resolve();
  }

  saveFirstUser(user: UserRecord) {
    if (this.#users.size > 0) return Promise.resolve(false);
    this.#users.set(user.id, user);
    return Promise.resolve(true);
  }

  setPassword(
    userId: string,
    passwordHash: string,
    mustChange: boolean,
    { keepSession, replaces }: PasswordChange = {},
  ) {
    const user = this.#users.get(userId);
    if (!user || (replaces !== undefined && ![replaces, passwordHash].includes(user.passwordHash)))
      return Promise.resolve(false);
    this.#users.set(userId, { ...user, passwordHash, mustChangePassword: mustChange });
    return this.deleteSessionsOf(userId, keepSession).then(() => true);
  }

  saveSession(session: LoginSession, passwordHash: string, keepOthers: number) {
    const user = this.#users.get(session.userId);
    if (!user || user.disabled || user.passwordHash !== passwordHash) return Promise.resolve(false);
    const others = [...this.#sessions.values()].filter(
      ({ userId, idHash }) => userId === user.id && idHash !== session.idHash,
    );
    others.sort((a, b) => b.lastUsedAt.getTime() - a.lastUsedAt.getTime() || (a.idHash < b.idHash ? -1 : 1));
    for (const surplus of others.slice(keepOthers)) this.#sessions.delete(surplus.idHash);
    this.#sessions.set(session.idHash, session);
    return Promise.resolve(true);
  }

  findSession(idHash: string) {
    return Promise.resolve(this.#sessions.get(idHash));
  }

  touchSession(idHash: string, lastUsedAt: Date) {
    const session = this.#sessions.get(idHash);
    if (session && session.lastUsedAt < lastUsedAt) this.#sessions.set(idHash, { ...session, lastUsedAt });
    return Promise.resolve();
  }

  deleteSession(idHash: string) {
    this.#sessions.delete(idHash);
    return Promise.resolve();
  }

  deleteSessionsOf(userId: string, exceptIdHash: string | undefined) {
    for (const [idHash, session] of this.#sessions) {
      if (session.userId === userId && idHash !== exceptIdHash) this.#sessions.delete(idHash);
    }
    return Promise.resolve();
  }

  deleteExpired({ now, unusedSince, attemptsBefore, networksBefore }: Expiry) {
    const before = this.#size;
    for (const [idHash, session] of this.#sessions) {
      if (session.expiresAt <= now || session.lastUsedAt <= unusedSince) this.#sessions.delete(idHash);
    }
    this.#failures = this.#failures.filter((failure) => failure.at >= attemptsBefore);
    for (const [key, at] of this.#networks) if (at < networksBefore) this.#networks.delete(key);
    return Promise.resolve(before - this.#size);
  }

  saveToken(token: TokenRecord) {
    this.#tokens.set(token.secretHash, token);
    return Promise.resolve();
  }

  findTokenByHash(secretHash: string) {
    return Promise.resolve(this.#tokens.get(secretHash));
  }

  touchToken(secretHash: string, lastUsedAt: Date) {
    const token = this.#tokens.get(secretHash);
    if (token && (token.lastUsedAt === null || token.lastUsedAt < lastUsedAt))
      this.#tokens.set(secretHash, { ...token, lastUsedAt });
    return Promise.resolve();
  }

  addFailedLogin(key: string, at: Date) {
    this.#failures.push({ key, at });
    return Promise.resolve();
  }

  failedLogins(key: string, since: Date) {
    const failures = this.#failures.filter((failure) => failure.key === key && failure.at >= since);
    const latest = failures.reduce<Date | null>((max, { at }) => (max && max >= at ? max : at), null);
    return Promise.resolve({ count: failures.length, latest });
  }

  clearFailedLogins(key: string) {
    this.#failures = this.#failures.filter((failure) => failure.key !== key && !failure.key.startsWith(`${key}@`));
    return Promise.resolve();
  }

  noteKnownNetwork(userId: string, network: string, at: Date) {
    const key = JSON.stringify([userId, network]);
    const noted = this.#networks.get(key);
    if (!noted || noted < at) this.#networks.set(key, at);
    return Promise.resolve();
  }

  isKnownNetwork(userId: string, network: string, since: Date) {
    const at = this.#networks.get(JSON.stringify([userId, network]));
    return Promise.resolve(at !== undefined && at >= since);
  }

  hasAdministratorLoggedIn() {
    const owners = [...this.#networks.keys()].map((key) => (JSON.parse(key) as [string, string])[0]);
    return Promise.resolve(owners.some((owner) => this.#users.get(owner)?.administrator));
  }

  get #size(): number {
    return this.#sessions.size + this.#failures.length + this.#networks.size;
  }
}
