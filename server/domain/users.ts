/** People and tokens, as operators keep them. */
import { randomInt } from 'node:crypto';
import type { Role, TokenScope } from './access.js';
import { checkPassword, hashOf, newSecret, TOKEN_PREFIX } from './auth.js';
import type { Clock } from './clock.js';
import { TaskDashError } from './errors.js';
import type { IdentityStore, PasswordHasher, TokenRecord, UserRecord } from './ports.js';

const SHOWN_PREFIX_LENGTH = 12;
const MAX_NAME_LENGTH = 256;
/** Without what looks alike. */
const PASSWORD_ALPHABET = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789';
const GENERATED_LENGTH = 20;

/** A person to be added. */
export interface NewUser {
  readonly id: string;
  readonly displayName: string;
  readonly password: string;
  readonly administrator: boolean;
  readonly memberships: ReadonlyMap<string, Role>;
}

export class Users {
  constructor(
    private readonly store: IdentityStore,
    private readonly hasher: PasswordHasher,
    private readonly clock: Clock,
  ) {}

  /** Adds a user, or replaces one with all their memberships. Throws REQUEST_INVALID. */
  async add(user: NewUser): Promise<void> {
    checkName('id', user.id);
    for (const groupId of user.memberships.keys()) checkName('group', groupId);
    checkPassword(user.password, user.id);
    await this.store.saveUser(await this.#recordOf(user, false));
    await this.store.deleteSessionsOf(user.id, undefined);
  }

  /** Sets a password and ends the user's sessions. Throws REQUEST_INVALID, also for a user who does not exist. */
  async setPassword(id: string, password: string): Promise<void> {
    checkPassword(password, id);
    if (!(await this.store.findUser(id))) throw invalid('id', `names no user: ${JSON.stringify(id)}`);
    await this.store.setPassword(id, await this.hasher.hash(password), false);
    await this.store.deleteSessionsOf(id, undefined);
    await this.store.clearFailedLogins(`account:${id}`);
  }

  /** Makes a service token; its secret is known only to the caller from now on. Throws REQUEST_INVALID. */
  async createToken(token: {
    name: string;
    groupId: string;
    scopes: readonly TokenScope[];
    expiresAt?: Date | null;
  }): Promise<{ secret: string; record: TokenRecord }> {
    checkName('name', token.name);
    checkName('group', token.groupId);
    const secret = TOKEN_PREFIX + newSecret();
    const record: TokenRecord = {
      name: token.name,
      prefix: secret.slice(0, SHOWN_PREFIX_LENGTH),
      secretHash: hashOf(secret),
      groupId: token.groupId,
      scopes: token.scopes,
      createdAt: this.clock.now(),
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
    const password = first.password ?? generatePassword();
    const user = {
      id: first.username,
      displayName: first.username,
      password,
      administrator: true,
      memberships: new Map(),
    };
    const created = await this.store.saveFirstUser(await this.#recordOf(user, first.password === undefined));
    return { created, password: created && first.password === undefined ? password : undefined };
  }

  async #recordOf(user: NewUser, mustChangePassword: boolean): Promise<UserRecord> {
    const { id, displayName, administrator, memberships } = user;
    const passwordHash = await this.hasher.hash(user.password);
    return { id, displayName, administrator, memberships, passwordHash, mustChangePassword, disabled: false };
  }
}

/** A password that can be read aloud and typed; about 116 bits. */
function generatePassword(): string {
  const characters = Array.from(
    { length: GENERATED_LENGTH },
    () => PASSWORD_ALPHABET[randomInt(PASSWORD_ALPHABET.length)],
  );
  return characters.join('').replace(/(.{5})(?=.)/g, '$1-');
}

function checkName(field: string, value: string): void {
  if (value === '' || value.length > MAX_NAME_LENGTH || /\p{Cc}/u.test(value) || !value.isWellFormed()) {
    throw invalid(field, `must have 1 to ${MAX_NAME_LENGTH} characters and no control characters`);
  }
}

function invalid(field: string, description: string): TaskDashError {
  return new TaskDashError('REQUEST_INVALID', {
    message: `The ${field} ${description}.`,
    violations: [{ field, description }],
  });
}
