/** People and tokens, as operators keep them. */
import { randomInt } from 'node:crypto';
import type { Role, TokenScope } from './access.js';
import { checkName, checkNewName, checkPassword, invalid } from './account-rules.js';
import type { Clock } from './clock.js';
import { accountKey, passwordChangeKey } from './login-throttle.js';
import type {
  IdentityStore,
  PasswordHasher,
  PasswordJudge,
  PasswordStrength,
  TokenRecord,
  UserRecord,
} from './ports.js';
import { hashOf, newSecret, TOKEN_PREFIX } from './secrets.js';

const SHOWN_PREFIX_LENGTH = 12;
/** Without what looks alike. */
const PASSWORD_ALPHABET = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789';
const GENERATED_LENGTH = 20;

/** A person to be added. */
export interface NewUser {
  readonly id: string;
  readonly displayName: string;
  /** Absent: keeps what a user who exists has; a new one cannot log in with a password until one is set. */
  readonly password?: string;
  readonly administrator: boolean;
  readonly memberships: ReadonlyMap<string, Role>;
}

export class Users {
  constructor(
    private readonly store: IdentityStore,
    private readonly hasher: PasswordHasher,
    private readonly judge: PasswordJudge,
    private readonly clock: Clock,
  ) {}

  /** Adds a user, or replaces one with all their memberships and ends their sessions. Throws REQUEST_INVALID. */
  async add(user: NewUser): Promise<void> {
    checkName('id', user.id);
    const before = await this.store.findUser(user.id);
    checkNamesOf(user, before);
    if (user.password !== undefined) await checkPassword(this.judge, user.password, user.id);
    const kept = user.password === undefined ? before : undefined;
    const passwordHash = kept?.passwordHash ?? (await this.hasher.hash(user.password ?? newSecret()));
    await this.store.saveUser(recordOf(user, passwordHash, kept?.mustChangePassword ?? false));
    await this.store.deleteSessionsOf(user.id, undefined);
  }

  /**
   * Sets a password, ends the user's sessions, and says how strong it is. Throws REQUEST_INVALID, also for a user who does
   * not exist.
   */
  async setPassword(id: string, password: string): Promise<PasswordStrength> {
    checkName('id', id);
    const strength = await checkPassword(this.judge, password, id);
    const isKnown = await this.store.setPassword(id, await this.hasher.hash(password), false);
    if (!isKnown) throw invalid('id', `names no user: ${JSON.stringify(id)}`);
    await this.store.clearFailedLogins(accountKey(id));
    await this.store.clearFailedLogins(passwordChangeKey(id));
    return strength;
  }

  /** Makes a service token; its secret is known only to the caller from now on. Throws REQUEST_INVALID. */
  async createToken(token: {
    name: string;
    groupId: string;
    scopes: readonly TokenScope[];
    expiresAt?: Date | null;
  }): Promise<{ secret: string; record: TokenRecord }> {
    checkNewName('name', token.name);
    checkNewName('group', token.groupId);
    if (token.scopes.length === 0) throw invalid('scopes', 'must name at least one');
    const createdAt = this.clock.now();
    if (token.expiresAt && token.expiresAt <= createdAt) throw invalid('expires_at', 'must lie ahead');
    const secret = TOKEN_PREFIX + newSecret();
    const record: TokenRecord = {
      name: token.name,
      prefix: secret.slice(0, SHOWN_PREFIX_LENGTH),
      secretHash: hashOf(secret),
      groupId: token.groupId,
      scopes: [...new Set(token.scopes)],
      createdAt,
      expiresAt: token.expiresAt ?? null,
      lastUsedAt: null,
    };
    await this.store.saveToken(record);
    return { secret, record };
  }

  /**
   * Adds an administrator when there is no user at all. Without a password one is made up and returned, and has to be
   * changed at the first login. Safe among nodes that start at once.
   */
  async ensureFirstAdministrator(first: {
    username: string;
    password: string | undefined;
  }): Promise<{ created: boolean; password: string | undefined }> {
    if ((await this.store.countUsers()) > 0) return { created: false, password: undefined };
    const { username: id } = first;
    checkNewName('id', id);
    if (first.password !== undefined) await checkPassword(this.judge, first.password, id);
    const password = first.password ?? generatePassword();
    const user: NewUser = { id, displayName: id, administrator: true, memberships: new Map() };
    const mustChange = first.password === undefined;
    const created = await this.store.saveFirstUser(recordOf(user, await this.hasher.hash(password), mustChange));
    return { created, password: created && mustChange ? password : undefined };
  }
}

/** Throws REQUEST_INVALID for a name that must not be, unless the user has it already. */
function checkNamesOf({ id, displayName, memberships }: NewUser, before: UserRecord | undefined): void {
  if (!before) checkNewName('id', id);
  if (displayName !== before?.displayName) checkNewName('display_name', displayName);
  for (const groupId of memberships.keys()) if (!before?.memberships.has(groupId)) checkNewName('group', groupId);
}

function recordOf(user: NewUser, passwordHash: string, mustChangePassword: boolean): UserRecord {
  const { id, displayName, administrator, memberships } = user;
  return { id, displayName, administrator, memberships, passwordHash, mustChangePassword, disabled: false };
}

/** A password that can be read aloud and typed; about 116 bits. */
function generatePassword(): string {
  const characters = Array.from(
    { length: GENERATED_LENGTH },
    () => PASSWORD_ALPHABET[randomInt(PASSWORD_ALPHABET.length)],
  );
  return characters.join('').replace(/(.{5})(?=.)/g, '$1-');
}
