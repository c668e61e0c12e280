/**
 * The statements by which a lease is revoked. Its record stays: whoever would write the lease down anew, or take it, finds it, and so
 * does each write that claims a task for it (task-write-statements.ts).
 */
import { beImpatient } from './locked-rows.js';
import type { Statement } from './postgres.js';
import { RUNS } from './session-statements.js';

/**
 * $1 node, $2 id, $3 address, $4 owner, $5 TTL, $6 how long ago it was opened. By its address nobody is to find it any more.
 */
export const REVOKE: Statement = {
  name: 'session_revoke',
  text: `
WITH patience AS MATERIALIZED (
  SELECT ${beImpatient('waits')}
)
INSERT INTO session (id, node_id, door, address, owner, ttl_ms, state, is_protected, has_claimed, opened_at, silent_since, ended_at)
SELECT $2::uuid, $1::uuid, 'grpc', $3::text, $4::text, $5::int, 'revoked', false, false,
  now() - $6::float8 * interval '1 ms', timestamptz 'epoch', now()
FROM patience
ON CONFLICT (id) DO UPDATE SET node_id = excluded.node_id, state = excluded.state, is_protected = false,
  silent_since = excluded.silent_since, ended_at = excluded.ended_at
WHERE session.owner = excluded.owner`,
};

/** $1 ids. */
export const LEAVING: Statement = {
  name: 'session_leaving',
  text: `
SELECT s.id, s.owner, s.address FROM session s
CROSS JOIN LATERAL (SELECT FROM task t WHERE t.session_id = s.id AND t.${RUNS} LIMIT 1) AS left_over
WHERE s.state = 'revoked'
  AND (s.id = ANY ($1::uuid[])
    OR s.node_id = ANY (ARRAY(SELECT id FROM node WHERE lease_until < now() AND NOT is_settled)))`,
};
