/** The tables of people, their login sessions and service tokens, as TypeORM knows them; the rows are private to storage. */
import { EntitySchema, type EntitySchemaColumnOptions } from 'typeorm';

const text: EntitySchemaColumnOptions = { type: 'text', collation: 'C' };
const instant: EntitySchemaColumnOptions = { type: 'timestamptz', precision: 3 };
const flag: EntitySchemaColumnOptions = { type: 'boolean' };

function table(name: string, columns: Record<string, EntitySchemaColumnOptions>, keys: readonly string[]) {
  const keyed = keys.map((key) => [key, { ...columns[key], primary: true, primaryKeyConstraintName: `${name}_pkey` }]);
  return {
    name,
    tableName: name,
    columns: { ...columns, ...Object.fromEntries(keyed) } as Record<string, EntitySchemaColumnOptions>,
  };
}

/** People. */
export const userEntity = new EntitySchema<Record<string, unknown>>(
  table(
    'app_user',
    {
      id: text,
      display_name: text,
      password_hash: text,
      administrator: flag,
      disabled: flag,
      must_change_password: flag,
    },
    ['id'],
  ),
);

/** Groups of people and tasks. */
export const groupEntity = new EntitySchema<Record<string, unknown>>(
  table('app_group', { id: text, name: text }, ['id']),
);

/** Who is in which group, as what. */
export const membershipEntity = new EntitySchema<Record<string, unknown>>({
  ...table('membership', { user_id: text, group_id: text, role: text }, ['user_id', 'group_id']),
  foreignKeys: [
    {
      target: 'app_user',
      columnNames: ['user_id'],
      referencedColumnNames: ['id'],
      name: 'membership_user_fkey',
      onDelete: 'CASCADE',
    },
    {
      target: 'app_group',
      columnNames: ['group_id'],
      referencedColumnNames: ['id'],
      name: 'membership_group_fkey',
      onDelete: 'CASCADE',
    },
  ],
});

/** Logins that have not ended. */
export const loginSessionEntity = new EntitySchema<Record<string, unknown>>({
  ...table(
    'login_session',
    {
      id_hash: text,
      user_id: text,
      address: text,
      user_agent: text,
      created_at: instant,
      last_used_at: instant,
      expires_at: instant,
    },
    ['id_hash'],
  ),
  indices: [{ name: 'login_session_user', columns: ['user_id'] }],
  foreignKeys: [
    {
      target: 'app_user',
      columnNames: ['user_id'],
      referencedColumnNames: ['id'],
      name: 'login_session_user_fkey',
      onDelete: 'CASCADE',
    },
  ],
});

/** Tokens of services. */
export const serviceTokenEntity = new EntitySchema<Record<string, unknown>>(
  table(
    'service_token',
    {
      secret_hash: text,
      name: text,
      prefix: text,
      group_id: text,
      scopes: { type: 'text', array: true, collation: 'C' },
      created_at: instant,
      expires_at: { ...instant, nullable: true },
      last_used_at: { ...instant, nullable: true },
    },
    ['secret_hash'],
  ),
);

/** Failed logins, by account and by address. */
export const failedLoginEntity = new EntitySchema<Record<string, unknown>>({
  ...table(
    'failed_login',
    {
      seq: { type: 'bigint', generated: 'identity' as 'increment' },
      key: text,
      at: instant,
    },
    ['seq'],
  ),
  indices: [{ name: 'failed_login_key', columns: ['key', 'at'] }],
});

/** The networks that people have logged in from. */
export const knownNetworkEntity = new EntitySchema<Record<string, unknown>>({
  ...table('known_network', { user_id: text, network: text, last_login_at: instant }, ['user_id', 'network']),
  foreignKeys: [
    {
      target: 'app_user',
      columnNames: ['user_id'],
      referencedColumnNames: ['id'],
      name: 'known_network_user_fkey',
      onDelete: 'CASCADE',
    },
  ],
});
