/**
 * The nodes' leases on PostgreSQL. All time is the database's.
 *
 * A renewal locks its row before it looks at the clock, and whoever takes sessions over locks it in share (see
 * session-store.ts): so either the renewal comes first and the node keeps its sessions, or it finds its lease run out.
 */
import type {
  NodeEvent,
  NodeEventKind,
  NodeIdentity,
  NodeRenewal,
  NodeReport,
  NodeStore,
  ProtectionOrder,
} from '../domain/liveness-ports.js';
import { BE_IMPATIENT_WITH_NODE, isLocked, type LockedRows } from './locked-rows.js';
import type { Postgres, Statement } from './postgres.js';

const IS_OPEN = '(ordered_decision, ordered_by) IS DISTINCT FROM ($5::text, $6::text)';

/** $1 id, $2 name, $3 length of the lease, $4 report, $5 and $6 the order that has been carried out. */
const RENEW: Statement = {
  name: 'node_renew',
  text: `
WITH patience AS MATERIALIZED (
  SELECT ${BE_IMPATIENT_WITH_NODE}
), before AS MATERIALIZED (
  SELECT lease_until, ordered_decision, ordered_by FROM patience CROSS JOIN node WHERE id = $1 FOR UPDATE OF node
), known AS MATERIALIZED (
  SELECT count(*) AS nodes, coalesce(bool_or(lease_until <= clock_timestamp()), true) AS lapsed,
         min(ordered_decision) FILTER (WHERE ${IS_OPEN}) AS ordered_decision,
         min(ordered_by) FILTER (WHERE ${IS_OPEN}) AS ordered_by
  FROM before
), renewed AS (
  INSERT INTO node (id, name, started_at, renewed_at, lease_until, is_settled, report)
  SELECT $1, $2, clock_timestamp(), clock_timestamp(), clock_timestamp() + $3 * interval '1 ms', false, $4
  FROM known
  ON CONFLICT (id) DO UPDATE SET
    renewed_at = excluded.renewed_at, lease_until = excluded.lease_until, is_settled = false,
    report = excluded.report,
    ordered_decision = (SELECT ordered_decision FROM known), ordered_by = (SELECT ordered_by FROM known)
)
SELECT lapsed, ordered_decision, ordered_by,
  (SELECT coalesce(jsonb_agg(jsonb_build_object(
     'id', id, 'name', name, 'report', report)), '[]')
   FROM node WHERE id <> $1 AND lease_until > clock_timestamp()) AS peers
FROM known`,
};

const RELEASE: Statement = {
  name: 'node_release',
  text: `WITH patience AS MATERIALIZED (SELECT ${BE_IMPATIENT_WITH_NODE})
  UPDATE node SET lease_until = least(lease_until, clock_timestamp() - interval '1 ms') FROM patience WHERE id = $1`,
};

const ORDER: Statement = {
  name: 'node_order',
  text: `UPDATE node SET ordered_decision = $2, ordered_by = $3 WHERE name = $1 AND lease_until > now()
  AND jsonb_typeof(report -> 'protection') = 'object' RETURNING id`,
};

const NOTE: Statement = {
  name: 'node_note',
  text: `INSERT INTO node_event (node, at, kind, details) VALUES ($1, clock_timestamp(), $2, $3)`,
};

const EVENTS: Statement = {
  name: 'node_events',
  text: `SELECT node, at, kind, details FROM node_event ORDER BY seq DESC LIMIT $1`,
};

const PURGE: Statement = {
  name: 'node_purge',
  text: `DELETE FROM node WHERE id IN (
  SELECT id FROM node WHERE is_settled AND lease_until < now() - $1 * interval '1 ms'
  AND NOT EXISTS (SELECT FROM session WHERE node_id = node.id) FOR UPDATE SKIP LOCKED) RETURNING id`,
};

const PURGE_EVENTS: Statement = {
  name: 'node_purge_events',
  text: `DELETE FROM node_event WHERE seq IN (
  SELECT seq FROM node_event WHERE at < now() - $1 * interval '1 ms' FOR UPDATE SKIP LOCKED)`,
};

const EVENTS_KEPT_MS = 90 * 24 * 3_600_000;

export class PostgresNodeStore implements NodeStore {
  /** `lockedRows` tells who keeps a node locked, over another connection than that of the leases. */
  constructor(
    private readonly postgres: Postgres,
    private readonly lockedRows?: LockedRows,
  ) {}

  async renew(
    node: NodeIdentity,
    leaseMs: number,
    report: NodeReport,
    carriedOut?: ProtectionOrder,
  ): Promise<NodeRenewal> {
    const done = [carriedOut?.decision, carriedOut?.actor];
    const values = [node.id, node.name, leaseMs, JSON.stringify(report), ...done];
    const [row] = await this.#write<RenewalRow>(node.id, RENEW, values);
    if (!row) throw new Error('a renewal always answers with one row');
    const { lapsed, ordered_decision: decision, ordered_by: actor, peers } = row;
    return { lapsed, peers, order: decision && actor !== null ? { decision, actor } : undefined };
  }

  async release(nodeId: string): Promise<void> {
    await this.#write(nodeId, RELEASE, [nodeId]);
  }

  /** Somebody may keep the row of a node locked: nothing can be done about that here, but to say so. */
  async #write<Row extends object>(nodeId: string, statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    try {
      return await this.postgres.rows<Row>(statement, values);
    } catch (error) {
      if (isLocked(error)) this.lockedRows?.tell([nodeId], 'nodes');
      throw error;
    }
  }

  async order(nodeName: string, { decision, actor }: ProtectionOrder): Promise<boolean> {
    return (await this.postgres.rows(ORDER, [nodeName, decision, actor])).length > 0;
  }

  async note(nodeName: string, kind: NodeEventKind, details: NodeEvent['details']): Promise<void> {
    await this.postgres.rows(NOTE, [nodeName, kind, JSON.stringify(details)]);
  }

  events(limit: number): Promise<NodeEvent[]> {
    return this.postgres.rows<NodeEvent>(EVENTS, [limit]);
  }

  async purge(deadForMs: number): Promise<number> {
    await this.postgres.rows(PURGE_EVENTS, [Math.max(deadForMs, EVENTS_KEPT_MS)]);
    return (await this.postgres.rows(PURGE, [deadForMs])).length;
  }
}

interface RenewalRow {
  readonly lapsed: boolean;
  readonly ordered_decision: ProtectionOrder['decision'] | null;
  readonly ordered_by: string | null;
  readonly peers: NodeRenewal['peers'];
}
