/** People, sessions and tokens in memory; passes the same contract suite as PostgreSQL. */
import type { IdentityStore, LoginSession, TokenRecord, UserRecord } from '../../server/domain/ports.js';

export class MemoryIdentityStore implements IdentityStore {
  readonly #users = new Map<string, UserRecord>();
  readonly #sessions = new Map<string, LoginSession>();
  readonly #tokens = new Map<string, TokenRecord>();
  #failures: { key: string; at: Date }[] = [];

  findUser(id: string) {
    return Promise.resolve(this.#users.get(id));
  }

  countUsers() {
    return Promise.resolve(this.#users.size);
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

  setPassword(userId: string, passwordHash: string, mustChangePassword: boolean) {
    const user = this.#users.get(userId);
    if (user) this.#users.set(userId, { ...user, passwordHash, mustChangePassword });
    return Promise.resolve();
  }

  saveSession(session: LoginSession) {
    this.#sessions.set(session.idHash, session);
    return Promise.resolve();
  }

  findSession(idHash: string) {
    return Promise.resolve(this.#sessions.get(idHash));
  }

  touchSession(idHash: string, lastUsedAt: Date) {
    const session = this.#sessions.get(idHash);
    if (session) this.#sessions.set(idHash, { ...session, lastUsedAt });
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

  deleteExpired(now: Date, attemptsBefore: Date) {
    const ended = [...this.#sessions.values()].filter((session) => session.expiresAt <= now);
    for (const session of ended) this.#sessions.delete(session.idHash);
    const kept = this.#failures.filter((failure) => failure.at >= attemptsBefore);
    const removed = ended.length + this.#failures.length - kept.length;
    this.#failures = kept;
    return Promise.resolve(removed);
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
    if (token) this.#tokens.set(secretHash, { ...token, lastUsedAt });
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
    this.#failures = this.#failures.filter((failure) => failure.key !== key);
    return Promise.resolve();
  }
}
