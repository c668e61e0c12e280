/** The tables of nodes and sessions, as TypeORM knows them; the rows are private to storage. */
import { EntitySchema, type EntitySchemaColumnOptions } from 'typeorm';

const text: EntitySchemaColumnOptions = { type: 'text', collation: 'C' };
const instant: EntitySchemaColumnOptions = { type: 'timestamptz', precision: 3 };
const flag: EntitySchemaColumnOptions = { type: 'boolean' };
const uuid: EntitySchemaColumnOptions = { type: 'uuid' };

/** Runs of servers, with their leases. */
export const nodeEntity = new EntitySchema<Record<string, unknown>>({
  name: 'node',
  tableName: 'node',
  columns: {
    id: { ...uuid, primary: true, primaryKeyConstraintName: 'node_pkey' },
    name: text,
    started_at: instant,
    renewed_at: instant,
    lease_until: instant,
    is_settled: flag,
    report: { type: 'jsonb' },
    ordered_decision: { ...text, nullable: true },
    ordered_by: { ...text, nullable: true },
  },
});

/** What nodes decided about many sessions, or lost. */
export const nodeEventEntity = new EntitySchema<Record<string, unknown>>({
  name: 'node_event',
  tableName: 'node_event',
  columns: {
    seq: {
      type: 'bigint',
      primary: true,
      primaryKeyConstraintName: 'node_event_pkey',
      // EntitySchema's types leave out a strategy that TypeORM has.
      generated: 'identity' as 'increment',
    },
    node: text,
    at: instant,
    kind: text,
    details: { type: 'jsonb' },
  },
});

/** Sessions as they are written down. */
export const sessionEntity = new EntitySchema<Record<string, unknown>>({
  name: 'session',
  tableName: 'session',
  columns: {
    id: { ...uuid, primary: true, primaryKeyConstraintName: 'session_pkey' },
    node_id: uuid,
    door: text,
    address: text,
    owner: text,
    ttl_ms: { type: 'integer' },
    state: text,
    is_protected: flag,
    has_claimed: flag,
    opened_at: instant,
    silent_since: { ...instant, nullable: true },
    ended_at: { ...instant, nullable: true },
  },
  indices: [
    { name: 'session_node', columns: ['node_id'] },
    { name: 'session_address', columns: ['address', 'silent_since'] },
    { name: 'session_marked', columns: ['id'], where: `state = 'orphan' OR is_protected` },
    { name: 'session_ended', columns: ['ended_at'], where: 'ended_at IS NOT NULL' },
  ],
});
