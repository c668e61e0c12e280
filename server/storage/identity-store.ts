/** People, login sessions, service tokens and failed logins in PostgreSQL. */
import type { Role, TokenScope } from '../domain/access.js';
import type { Expiry, IdentityStore, LoginSession, PasswordChange, TokenRecord, UserRecord } from '../domain/ports.js';
import type { Postgres, Statement } from './postgres.js';

interface UserRow {
  id: string;
  display_name: string;
  password_hash: string;
  administrator: boolean;
  disabled: boolean;
  must_change_password: boolean;
  memberships: Record<string, Role> | null;
}
interface SessionRow {
  id_hash: string;
  user_id: string;
  address: string;
  user_agent: string;
  created_at: Date;
  last_used_at: Date;
  expires_at: Date;
}
interface TokenRow {
  secret_hash: string;
  name: string;
  prefix: string;
  group_id: string;
  scopes: TokenScope[];
  created_at: Date;
  expires_at: Date | null;
  last_used_at: Date | null;
}

const USER_COLUMNS = 'id, display_name, password_hash, administrator, disabled, must_change_password';

/** $1 to $6 are the user's columns, $7 the groups and $8 the roles of the memberships. */
function saveUserText(condition: string, onConflict: string): string {
  return `WITH saved AS (
      INSERT INTO app_user (${USER_COLUMNS}) SELECT $1, $2, $3, $4::boolean, $5::boolean, $6::boolean ${condition} ${onConflict} RETURNING id
    ), listed AS (
      SELECT * FROM unnest($7::text[], $8::text[]) AS m(group_id, role)
    ), groups AS (
      INSERT INTO app_group (id, name) SELECT group_id, group_id FROM listed, saved ORDER BY group_id ON CONFLICT DO NOTHING
    ), removed AS (
      DELETE FROM membership USING saved WHERE user_id = saved.id AND group_id NOT IN (SELECT group_id FROM listed)
    ), kept AS (
      INSERT INTO membership (user_id, group_id, role) SELECT saved.id, group_id, role FROM listed, saved
      ON CONFLICT (user_id, group_id) DO UPDATE SET role = excluded.role
    )
    SELECT id FROM saved`;
}

const REPLACE = `ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, password_hash = excluded.password_hash,
  administrator = excluded.administrator, disabled = excluded.disabled, must_change_password = excluded.must_change_password`;

const IF_FREE = 'FOR UPDATE SKIP LOCKED';
const deleteFree = (table: string, condition: string) =>
  `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${table} WHERE ${condition} ${IF_FREE})) RETURNING 1`;

/** Two that delete some of the same rows take them in one order, and do not wait for each other. */
const deleteInOrder = (condition: string) =>
  `DELETE FROM login_session WHERE id_hash = ANY (ARRAY(
    SELECT id_hash FROM login_session WHERE id_hash ${condition} ORDER BY id_hash FOR UPDATE))`;

const SQL = {
  findUser: `SELECT ${USER_COLUMNS}, (SELECT jsonb_object_agg(group_id, role) FROM membership WHERE user_id = app_user.id) AS memberships
    FROM app_user WHERE id = $1`,
  countUsers: 'SELECT count(*)::int AS count FROM app_user',
  countAdministrators: 'SELECT count(*)::int AS count FROM app_user WHERE administrator AND NOT disabled',
  saveUser: saveUserText('', REPLACE),
  // Whoever adds a user waits for this lock, and the statement after it sees what they added.
  lockUsers: 'LOCK TABLE app_user IN SHARE ROW EXCLUSIVE MODE',
  saveFirstUser: saveUserText('WHERE NOT EXISTS (SELECT FROM app_user)', ''),
  // A hash is salted: where it is there already, this is the same change once more, after an answer that was lost.
  setPassword: `UPDATE app_user SET password_hash = $2, must_change_password = $3
    WHERE id = $1 AND ($4::text IS NULL OR password_hash IN ($4, $2)) RETURNING id`,
  // The lock on the user makes this wait for a change of the password, and the change wait for this.
  saveSession: `WITH owner AS (
      SELECT id FROM app_user WHERE id = $2 AND password_hash = $8 AND NOT disabled FOR SHARE
    ), surplus AS (
      SELECT id_hash FROM login_session, owner WHERE user_id = owner.id AND id_hash <> $1
      ORDER BY last_used_at DESC, id_hash OFFSET $9
    ), removed AS (${deleteInOrder('IN (SELECT id_hash FROM surplus)')})
    INSERT INTO login_session (id_hash, user_id, address, user_agent, created_at, last_used_at, expires_at)
    SELECT $1, id, $3, $4, $5, $6, $7 FROM owner
    ON CONFLICT (id_hash) DO UPDATE SET id_hash = excluded.id_hash RETURNING id_hash`,
  findSession: 'SELECT * FROM login_session WHERE id_hash = $1',
  // Every look-up may note the latest use, and clean up: none of them waits for a row that somebody else keeps locked.
  touchSession: `UPDATE login_session SET last_used_at = $2
    WHERE id_hash = (SELECT id_hash FROM login_session WHERE id_hash = $1 AND last_used_at < $2 ${IF_FREE})`,
  deleteSession: 'DELETE FROM login_session WHERE id_hash = $1',
  deleteSessionsOf: deleteInOrder('IS DISTINCT FROM $2 AND user_id = $1'),
  deleteExpired: `WITH sessions AS (${deleteFree('login_session', 'expires_at <= $1 OR last_used_at <= $2')}),
      attempts AS (${deleteFree('failed_login', 'at < $3')}),
      networks AS (${deleteFree('known_network', 'last_login_at < $4')}),
      removed AS (SELECT FROM sessions UNION ALL SELECT FROM attempts UNION ALL SELECT FROM networks)
    SELECT count(*)::int AS count FROM removed`,
  saveToken: `WITH known_group AS (INSERT INTO app_group (id, name) VALUES ($4, $4) ON CONFLICT DO NOTHING)
    INSERT INTO service_token (secret_hash, name, prefix, group_id, scopes, created_at, expires_at, last_used_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
  findToken: 'SELECT * FROM service_token WHERE secret_hash = $1',
  touchToken: `UPDATE service_token SET last_used_at = $2 WHERE secret_hash = (
    SELECT secret_hash FROM service_token
    WHERE secret_hash = $1 AND (last_used_at IS NULL OR last_used_at < $2) ${IF_FREE})`,
  addFailedLogin: 'INSERT INTO failed_login (key, at) VALUES ($1, $2)',
  failedLogins: 'SELECT count(*)::int AS count, max(at) AS latest FROM failed_login WHERE key = $1 AND at >= $2',
  clearFailedLogins: `DELETE FROM failed_login WHERE key = $1 OR starts_with(key, $1 || '@')`,
  noteKnownNetwork: `INSERT INTO known_network AS known (user_id, network, last_login_at) VALUES ($1, $2, $3)
    ON CONFLICT (user_id, network) DO UPDATE SET last_login_at = greatest(known.last_login_at, excluded.last_login_at)`,
  isKnownNetwork: 'SELECT FROM known_network WHERE user_id = $1 AND network = $2 AND last_login_at >= $3',
  hasAdministratorLoggedIn: 'SELECT FROM known_network JOIN app_user ON id = user_id WHERE administrator LIMIT 1',
} as const;

export class PostgresIdentityStore implements IdentityStore {
  constructor(private readonly postgres: Postgres) {}

  async findUser(id: string): Promise<UserRecord | undefined> {
    const [row] = await this.#rows<UserRow>('findUser', id);
    return row && userOf(row);
  }

  countUsers(): Promise<number> {
    return this.#count('countUsers');
  }

  countAdministrators(): Promise<number> {
    return this.#count('countAdministrators');
  }

  async saveUser(user: UserRecord): Promise<void> {
    await this.#rows('saveUser', ...userValues(user));
  }

  saveFirstUser(user: UserRecord): Promise<boolean> {
    return this.postgres.transaction(async (rows) => {
      await rows(statement('lockUsers'), []);
      return (await rows(statement('saveFirstUser'), userValues(user))).length > 0;
    });
  }

  setPassword(userId: string, hash: string, mustChange: boolean, change: PasswordChange = {}): Promise<boolean> {
    return this.postgres.transaction(async (rows) => {
      const changed = await rows(statement('setPassword'), [userId, hash, mustChange, change.replaces ?? null]);
      if (changed.length === 0) return false;
      await rows(statement('deleteSessionsOf'), [userId, change.keepSession ?? null]);
      return true;
    });
  }

  async saveSession(session: LoginSession, passwordHash: string, keepOthers: number): Promise<boolean> {
    const { idHash, userId, address, userAgent, createdAt, lastUsedAt, expiresAt } = session;
    const values = [idHash, userId, address, userAgent, createdAt, lastUsedAt, expiresAt, passwordHash, keepOthers];
    return (await this.#rows('saveSession', ...values)).length > 0;
  }

  async findSession(idHash: string): Promise<LoginSession | undefined> {
    const [row] = await this.#rows<SessionRow>('findSession', idHash);
    return row && sessionOf(row);
  }

  async touchSession(idHash: string, lastUsedAt: Date): Promise<void> {
    await this.#rows('touchSession', idHash, lastUsedAt);
  }

  async deleteSession(idHash: string): Promise<void> {
    await this.#rows('deleteSession', idHash);
  }

  async deleteSessionsOf(userId: string, exceptIdHash: string | undefined): Promise<void> {
    await this.#rows('deleteSessionsOf', userId, exceptIdHash ?? null);
  }

  async deleteExpired({ now, unusedSince, attemptsBefore, networksBefore }: Expiry): Promise<number> {
    const values = [now, unusedSince, attemptsBefore, networksBefore];
    const [row] = await this.#rows<{ count: number }>('deleteExpired', ...values);
    return row?.count ?? 0;
  }

  async saveToken(token: TokenRecord): Promise<void> {
    const { secretHash, name, prefix, groupId, scopes, createdAt, expiresAt, lastUsedAt } = token;
    await this.#rows('saveToken', secretHash, name, prefix, groupId, scopes, createdAt, expiresAt, lastUsedAt);
  }

  async findTokenByHash(secretHash: string): Promise<TokenRecord | undefined> {
    const [row] = await this.#rows<TokenRow>('findToken', secretHash);
    return row && tokenOf(row);
  }

  async touchToken(secretHash: string, lastUsedAt: Date): Promise<void> {
    await this.#rows('touchToken', secretHash, lastUsedAt);
  }

  async addFailedLogin(key: string, at: Date): Promise<void> {
    await this.#rows('addFailedLogin', key, at);
  }

  async failedLogins(key: string, since: Date): Promise<{ count: number; latest: Date | null }> {
    const [row] = await this.#rows<{ count: number; latest: Date | null }>('failedLogins', key, since);
    return row ?? { count: 0, latest: null };
  }

  async clearFailedLogins(key: string): Promise<void> {
    await this.#rows('clearFailedLogins', key);
  }

  async noteKnownNetwork(userId: string, network: string, at: Date): Promise<void> {
    await this.#rows('noteKnownNetwork', userId, network, at);
  }

  async isKnownNetwork(userId: string, network: string, since: Date): Promise<boolean> {
    return (await this.#rows('isKnownNetwork', userId, network, since)).length > 0;
  }

  async hasAdministratorLoggedIn(): Promise<boolean> {
    return (await this.#rows('hasAdministratorLoggedIn')).length > 0;
  }

  async #count(name: 'countUsers' | 'countAdministrators'): Promise<number> {
    const [row] = await this.#rows<{ count: number }>(name);
    return row?.count ?? 0;
  }

  #rows<Row extends object>(name: keyof typeof SQL, ...values: unknown[]): Promise<Row[]> {
    return this.postgres.rows<Row>(statement(name), values);
  }
}

function statement(name: keyof typeof SQL): Statement {
  return { name: `identity-${name}`, text: SQL[name] };
}

function userValues(user: UserRecord): unknown[] {
  const { id, displayName, passwordHash, administrator, disabled, mustChangePassword, memberships } = user;
  const groups = [...memberships.keys()];
  return [
    id,
    displayName,
    passwordHash,
    administrator,
    disabled,
    mustChangePassword,
    groups,
    [...memberships.values()],
  ];
}

function userOf(row: UserRow): UserRecord {
  return {
    id: row.id,
    displayName: row.display_name,
    passwordHash: row.password_hash,
    administrator: row.administrator,
    disabled: row.disabled,
    mustChangePassword: row.must_change_password,
    memberships: new Map(Object.entries(row.memberships ?? {})),
  };
}

function sessionOf(row: SessionRow): LoginSession {
  return {
    idHash: row.id_hash,
    userId: row.user_id,
    address: row.address,
    userAgent: row.user_agent,
    createdAt: row.created_at,
    lastUsedAt: row.last_used_at,
    expiresAt: row.expires_at,
  };
}

function tokenOf(row: TokenRow): TokenRecord {
  return {
    secretHash: row.secret_hash,
    name: row.name,
    prefix: row.prefix,
    groupId: row.group_id,
    scopes: row.scopes,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
  };
}
