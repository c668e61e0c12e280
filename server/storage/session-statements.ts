/** The statements of session-store.ts. */
import type { Statement } from './postgres.js';
import { beImpatient, lock, type AtLocked } from './locked-rows.js';
import { RECORD } from './session-rows.js';

/** A task that has not ended. Of one that has, a session keeps nothing but its name, until it ends itself. */
export const RUNS = `status NOT IN ('finish', 'shutdown')`;

/** A session s that is neither over nor revoked. A revoked one stays on record, so that nobody writes it down anew. */
const LIVES = `s.state NOT IN ('ended', 'revoked')`;

/** A session s that somebody has to do something about: it lives, or was revoked and still has tasks. */
const HAS_LEFT = `(${LIVES} OR s.state = 'revoked' AND EXISTS (SELECT FROM task t WHERE t.session_id = s.id AND t.${RUNS}))`;

/** What lapsed for the sake of a session, and is as it was then. */
const IS_LAPSED = `status = 'shutdown' AND status_before <> ''`;

/** The first and the last session id that a node gives. */
function idRange(nodeId: string): string {
  const ids = (rest: string) => `rpad(left(${nodeId}::text, 13), 36, '${rest}')::uuid`;
  return `${ids('-0000-0000-000000000000')} AND ${ids('-ffff-ffff-ffffffffffff')}`;
}

/** Moves the sessions that `picked` names to node $1, with `changes`; answers with their records. See session-moves.ts. */
function move(picked: string, changes: string): string {
  return `
WITH ${picked}, moved AS (
  UPDATE session s SET node_id = $1, ended_at = NULL, is_protected = false, ${changes}
  FROM picked p WHERE s.id = p.id RETURNING s.*
)
SELECT ${RECORD} FROM moved`;
}

/**
 * Changes tasks of the sessions $2 if they still are as they should be. $1 their ids as JSON, sorted: LATERAL with a locking
 * clause locks them in this order and finds each by its primary key, however many there are (see task-write-statements.ts).
 */
function changeTasks(condition: string, change: string, atLocked: AtLocked): string {
  return `
WITH patience AS MATERIALIZED (
  SELECT ${beImpatient(atLocked)}
), locked AS MATERIALIZED (
  SELECT t.id FROM patience CROSS JOIN json_array_elements_text($1::json) AS i (id)
  CROSS JOIN LATERAL (
    SELECT id FROM task WHERE task.id = i.id AND task.session_id = ANY ($2::uuid[]) AND ${condition}
    ${lock(atLocked)}
  ) AS t
)
UPDATE task t SET ${change} FROM locked l WHERE t.id = l.id RETURNING t.id, t.session_id, t.epoch`;
}

/** The sessions with ids like `ids` that nobody has locked; locks them. What is new is not among them. */
function freeAmong(ids: string): string {
  return `SELECT s.id FROM session s WHERE s.id = ANY (${ids}) ORDER BY s.id FOR UPDATE OF s SKIP LOCKED`;
}

/** A row r can be inserted, or changed, at once. */
const IS_WRITABLE = `(r.id IN (SELECT id FROM free) OR NOT EXISTS (SELECT FROM session s WHERE s.id = r.id))`;

/** What of the record `s` is written as the record `r` has it. Who found a session without its record does not know its owner. */
const isChanged = (s: string, r: string) => `(${s}.owner, ${s}.state, ${s}.is_protected, ${s}.has_claimed)
    IS DISTINCT FROM (${ownerAfter(s, r)}, ${r}.state, ${r}.is_protected, ${r}.has_claimed)`;
const ownerAfter = (s: string, r: string) => `coalesce(nullif(${r}.owner, ''), ${s}.owner)`;

/** $1 node, then the columns of the records. What has not changed is not written. Passing locked ones, it answers with them. */
function save(atLocked: AtLocked): string {
  const passes = atLocked === 'passes';
  return `
WITH patience AS MATERIALIZED (
  SELECT ${beImpatient(atLocked)}
), r AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::boolean[], $9::float8[],
    $10::float8[], $11::boolean[]) AS r (id, door, address, owner, ttl_ms, state, is_protected, opened_ago_ms, silent_ms, has_claimed)
), ${passes ? `free AS MATERIALIZED (${freeAmong('$2::uuid[]')}), ` : ''}written AS (
INSERT INTO session (id, node_id, door, address, owner, ttl_ms, state, is_protected, has_claimed, opened_at, silent_since)
SELECT r.id, $1::uuid, r.door, r.address, r.owner, r.ttl_ms, r.state, r.is_protected, r.has_claimed,
       now() - r.opened_ago_ms * interval '1 ms', now() - r.silent_ms * interval '1 ms'
FROM patience CROSS JOIN r ${passes ? `WHERE ${IS_WRITABLE}` : ''}
ORDER BY r.id
ON CONFLICT (id) DO UPDATE SET
  owner = ${ownerAfter('session', 'excluded')}, state = excluded.state, is_protected = excluded.is_protected,
  has_claimed = excluded.has_claimed, silent_since = excluded.silent_since, ended_at = NULL
WHERE session.node_id = $1::uuid AND session.state <> 'revoked' AND ${isChanged('session', 'excluded')}
)
${
  passes
    ? `SELECT r.id FROM r JOIN session s ON s.id = r.id
WHERE s.node_id = $1::uuid AND r.id NOT IN (SELECT id FROM free) AND ${isChanged('s', 'r')}`
    : 'SELECT id FROM r WHERE false'
}`;
}

export const SAVE: Statement = { name: 'session_save', text: save('waits') };

export const SAVE_FREE: Statement = { name: 'session_save_free', text: save('passes') };

/** A task whose session, of this id, nobody knows: it is not on record, or is over. What is left of a revoked one is found. */
function isUnattended(sessionId: string): string {
  return `NOT EXISTS (SELECT FROM session s WHERE s.id = ${sessionId} AND s.state <> 'ended')`;
}

/** A session r that no node but $1 holds. */
const IS_OURS = `NOT EXISTS (SELECT FROM session s WHERE s.id = r.id AND s.node_id <> $1::uuid)`;

/** $1 node, $2 ids of sessions, $3 how many. The order has the index read, and only as far as is needed. */
export const ENDED_TASKS: Statement = {
  name: 'session_ended_tasks',
  text: `
SELECT id FROM task
WHERE session_id = ANY (ARRAY(SELECT r.id FROM unnest($2::uuid[]) AS r (id) WHERE ${IS_OURS})) AND NOT ${RUNS}
ORDER BY session_id LIMIT $3`,
};

export const RELEASE: Statement = {
  name: 'session_release',
  text: changeTasks(`NOT ${RUNS}`, 'session_id = NULL', 'passes'),
};

/**
 * A connection that vouched for nothing when its server died: who comes from its address next may be whoever this was. Those
 * that close at a server which lives are remembered there.
 */
const WAS_BESIDE = `s.state = 'orphan' AND s.door = 'tcp' AND NOT s.has_claimed`;

/** $1 node, $2 ids, $3 how long each was silent. Rows are locked in the order of their ids, as by everybody. */
function end(atLocked: AtLocked): string {
  const [skip, isPassed] = atLocked === 'passes' ? ['SKIP LOCKED', 'true'] : ['', 'false'];
  return `
WITH patience AS MATERIALIZED (
  SELECT ${beImpatient(atLocked)}
), ours AS MATERIALIZED (
  SELECT r.id, r.silent_ms FROM patience CROSS JOIN unnest($2::uuid[], $3::float8[]) AS r (id, silent_ms) WHERE ${IS_OURS}
), leftover AS MATERIALIZED (
  SELECT t.id, t.session_id, t.epoch FROM task t
  WHERE t.session_id IN (SELECT id FROM ours) AND t.${RUNS}
), over AS MATERIALIZED (
  SELECT s.id, ours.silent_ms,
    (${WAS_BESIDE}) OR EXISTS (SELECT FROM task t WHERE t.lapsed_session_id = s.id AND ${IS_LAPSED}) AS is_kept
  FROM session s JOIN ours ON ours.id = s.id
  WHERE s.node_id = $1::uuid AND s.state <> 'revoked' AND s.id NOT IN (SELECT session_id FROM leftover) ORDER BY s.id FOR UPDATE OF s ${skip}
), removed AS (
  DELETE FROM session s USING over WHERE s.id = over.id AND NOT over.is_kept
), kept AS (
  UPDATE session s SET state = 'ended', is_protected = false, ended_at = now(),
                       silent_since = now() - over.silent_ms * interval '1 ms'
  FROM over WHERE s.id = over.id AND over.is_kept
)
SELECT id, session_id, epoch FROM leftover
UNION ALL
SELECT NULL, s.id, NULL FROM session s JOIN ours ON ours.id = s.id
WHERE ${isPassed} AND s.node_id = $1::uuid AND ${LIVES}
  AND s.id NOT IN (SELECT session_id FROM leftover UNION ALL SELECT id FROM over)`;
}

export const END: Statement = { name: 'session_end', text: end('waits') };

/** Of what it passes it answers with the session alone. */
export const END_FREE: Statement = { name: 'session_end_free', text: end('passes') };

export const SOMEBODY_DIED: Statement = {
  name: 'session_somebody_died',
  text: `SELECT id FROM node WHERE lease_until < now() AND NOT is_settled LIMIT 1`,
};

/**
 * A node that died before it had written a session down left tasks whose session id is in its range; so does a late write
 * for a session that is over. All of them are looked at, which waits until nothing is left to adopt of what is written down: the rest
 * is locked.
 */
export const UNRECORDED: Statement = {
  name: 'session_unrecorded',
  text: `
SELECT DISTINCT t.session_id AS id FROM node n JOIN task t ON t.session_id BETWEEN ${idRange('n.id')}
WHERE n.lease_until < now() AND NOT n.is_settled AND ${isUnattended('t.session_id')} ORDER BY id`,
};

/** $1 ids of such sessions. What is locked of them is left alone. A node is kept from renewing in the middle. */
export const WRITE_DOWN_UNRECORDED: Statement = {
  name: 'session_write_down_unrecorded',
  text: `
WITH patience AS MATERIALIZED (
  SELECT ${beImpatient('passes')}
), n AS MATERIALIZED (
  SELECT id, started_at, renewed_at FROM node WHERE lease_until < now() AND NOT is_settled FOR SHARE SKIP LOCKED
), r AS MATERIALIZED (
  SELECT t.session_id AS id, n.id AS node_id, max(t.addr) AS addr, bool_or(t.${RUNS}) AS has_claimed, n.started_at, n.renewed_at
  FROM n JOIN task t ON t.session_id BETWEEN ${idRange('n.id')}
  WHERE t.session_id = ANY ($1::uuid[]) AND ${isUnattended('t.session_id')}
  GROUP BY t.session_id, n.id, n.started_at, n.renewed_at
), free AS MATERIALIZED (${freeAmong('$1::uuid[]')})
INSERT INTO session (id, node_id, door, address, owner, ttl_ms, state, is_protected, has_claimed, opened_at, silent_since)
SELECT r.id, r.node_id, 'tcp', r.addr, '', 0, 'open', false, r.has_claimed, r.started_at, r.renewed_at
FROM patience CROSS JOIN r WHERE ${IS_WRITABLE}
ORDER BY r.id
ON CONFLICT (id) DO UPDATE SET
  node_id = excluded.node_id, state = excluded.state, silent_since = excluded.silent_since, ended_at = NULL
WHERE session.state = 'ended' RETURNING id`,
};

/**
 * $1 node, $2 how many sessions, $3 how many tasks: the sessions before the one that has a task too many, or the first. The
 * share lock on the dead node keeps it from renewing in the middle. The planner is not to know $3: so it has the index read
 * in order and only as far as is needed, whatever it expects.
 */
export const ADOPT: Statement = {
  name: 'session_adopt',
  text: move(
    `dead AS MATERIALIZED (
  SELECT id, renewed_at FROM node WHERE lease_until < now() AND NOT is_settled FOR SHARE SKIP LOCKED
), free AS MATERIALIZED (
  SELECT s.id, d.renewed_at FROM session s JOIN dead d ON d.id = s.node_id
  WHERE ${LIVES} ORDER BY s.id LIMIT $2 FOR UPDATE OF s SKIP LOCKED
), too_many AS MATERIALIZED (
  SELECT session_id AS id FROM task WHERE session_id = ANY (ARRAY(SELECT id FROM free)) AND ${RUNS}
  ORDER BY session_id OFFSET (SELECT $3::bigint) LIMIT 1
), picked AS MATERIALIZED (
  SELECT * FROM free WHERE (id < (SELECT id FROM too_many)) IS NOT FALSE OR id = (SELECT id FROM free ORDER BY id LIMIT 1)
)`,
    `state = 'orphan', silent_since = coalesce(s.silent_since, p.renewed_at)`,
  ),
};

/** What is left of dead nodes after all of it was adopted that could be: sessions that are locked, and nodes. */
export const LEFT_BEHIND: Statement = {
  name: 'session_left_behind',
  text: `
WITH free AS MATERIALIZED (
  SELECT id FROM node WHERE lease_until < now() AND NOT is_settled FOR SHARE SKIP LOCKED
)
(SELECT id, true AS is_node FROM node
  WHERE lease_until < now() AND NOT is_settled AND id NOT IN (SELECT id FROM free) LIMIT 100)
UNION ALL
(SELECT s.id, false FROM free JOIN session s ON s.node_id = free.id WHERE ${LIVES} LIMIT 100)`,
};

/** $1 sessions. */
export const RUNNING_TASKS: Statement = {
  name: 'session_running_tasks',
  text: `SELECT id FROM task WHERE session_id = ANY ($1::uuid[]) AND ${RUNS} ORDER BY id`,
};

export const RAISE: Statement = {
  name: 'session_raise',
  text: changeTasks(RUNS, 'epoch = t.epoch + 1', 'waits'),
};

/** The same of those that nobody has locked. */
export const RAISE_FREE: Statement = {
  name: 'session_raise_free',
  text: changeTasks(RUNS, 'epoch = t.epoch + 1', 'passes'),
};

/** $1 ids of tasks, $2 sessions. */
export const STILL_RUNNING: Statement = {
  name: 'session_still_running',
  text: `SELECT id, session_id, epoch FROM task WHERE id = ANY ($1::text[]) AND session_id = ANY ($2::uuid[]) AND ${RUNS}`,
};

export const SETTLE: Statement = {
  name: 'session_settle',
  text: `UPDATE node SET is_settled = true
  WHERE id IN (SELECT id FROM node WHERE lease_until < now() AND NOT is_settled FOR NO KEY UPDATE SKIP LOCKED)
  AND NOT EXISTS (SELECT FROM session s WHERE s.node_id = node.id AND ${HAS_LEFT})`,
};

/** A dead node that has something left after all is given to those who take over once more. */
export const UNSETTLE: Statement = {
  name: 'session_unsettle',
  text: `UPDATE node SET is_settled = false WHERE id IN (
  SELECT id FROM node WHERE is_settled AND lease_until < now() AND (
    EXISTS (SELECT FROM session s WHERE s.node_id = node.id AND ${HAS_LEFT})
    OR EXISTS (SELECT FROM task t WHERE t.session_id BETWEEN ${idRange('node.id')}
      AND ${isUnattended('t.session_id')})
  ) FOR NO KEY UPDATE SKIP LOCKED)`,
};

/** What node $1 may take back of $2. A lease that another node does not merely wait for has gone there with its client. */
const IS_RECLAIMABLE = `id = ANY ($2::uuid[]) AND node_id <> $1::uuid AND (door = 'tcp' OR state NOT IN ('open', 'revoked'))`;

/** $1 node, $2 ids. What somebody has locked is left alone. */
export const RECLAIM: Statement = {
  name: 'session_reclaim',
  text: move(
    `picked AS MATERIALIZED (
  SELECT id FROM session WHERE ${IS_RECLAIMABLE} ORDER BY id FOR UPDATE SKIP LOCKED
)`,
    `state = 'open', silent_since = NULL`,
  ),
};

/** The same: what is still to be taken back. */
export const RECLAIMABLE: Statement = {
  name: 'session_reclaimable',
  text: `SELECT id FROM session WHERE ${IS_RECLAIMABLE}`,
};

/** $1 node, $2 id, $3 owner. Locked, so that nobody else takes it before its tasks have been read. */
export const HELD_LEASE: Statement = {
  name: 'session_held_lease',
  text: `SELECT ${RECORD} FROM session
WHERE id = $2 AND owner = $3 AND door = 'grpc' AND node_id = $1 AND state = 'open' AND NOT is_protected FOR UPDATE`,
};

/** $1 session. */
export const HELD_TASKS: Statement = {
  name: 'session_held_tasks',
  text: `SELECT id, session_id, epoch FROM task WHERE session_id = $1 AND ${RUNS}`,
};

/** $1 node, $2 id, $3 owner. */
export const TAKE: Statement = {
  name: 'session_take',
  text: move(
    `picked AS MATERIALIZED (
  SELECT id FROM session WHERE id = $2 AND owner = $3 AND door = 'grpc' AND state <> 'revoked' FOR UPDATE
)`,
    `state = 'open', silent_since = NULL`,
  ),
};

/** $1 id, $2 owner. */
export const HOLDER_OF: Statement = {
  name: 'session_holder_of',
  text: `SELECT node_id, ttl_ms, state = 'open' AS is_open FROM session
WHERE id = $1 AND owner = $2 AND door = 'grpc' AND state <> 'revoked'`,
};

export const LAPSED_OF: Statement = {
  name: 'session_lapsed_of',
  text: `SELECT lapsed_session_id AS id, jsonb_agg(jsonb_build_array(id, revision)) AS tasks FROM task
WHERE lapsed_session_id = ANY ($1::uuid[]) AND ${IS_LAPSED} GROUP BY lapsed_session_id`,
};

/**
 * $1 claims as JSON. Epochs only grow, so that only a lost end of the history leaves a task as it is looked for here. What was
 * written later than the claim was written in the history that is, and so was a claim of the same epoch by somebody else.
 */
export const UNDONE: Statement = {
  name: 'session_undone',
  text: `SELECT t.id, t.revision, i.session_id, t.${RUNS} AND t.session_id IS NOT NULL AND (
  t.epoch = i.epoch OR t.updated_at > now() - i.claimed_ago_ms * interval '1 ms') AS is_theirs
FROM json_to_recordset($1::json) AS i (id text, session_id uuid, epoch bigint, claimed_ago_ms bigint)
CROSS JOIN LATERAL (SELECT * FROM task WHERE task.id = i.id) AS t
WHERE t.epoch <= i.epoch AND t.session_id IS DISTINCT FROM i.session_id AND (t.${RUNS} OR ${IS_LAPSED})
  AND t.lapsed_session_id IS DISTINCT FROM i.session_id`,
};

/** $1 node, $2 ids that it knows, $3 how many. */
export const STRAYS: Statement = {
  name: 'session_strays',
  text: `SELECT ${RECORD}, (
  SELECT coalesce(jsonb_agg(jsonb_build_array(t.id, t.epoch)), '[]') FROM task t WHERE t.session_id = s.id AND t.${RUNS}
) AS tasks
FROM session s WHERE s.node_id = $1 AND ${LIVES} AND NOT (s.id = ANY ($2::uuid[])) ORDER BY s.id LIMIT $3`,
};

export const UNATTENDED: Statement = {
  name: 'session_unattended',
  text: `SELECT t.id, t.session_id, t.epoch, coalesce(over.address, t.addr) AS address, coalesce(over.door, 'tcp') AS door,
  coalesce(over.owner, '') AS owner
FROM task t LEFT JOIN session over ON over.id = t.session_id
WHERE t.session_id BETWEEN ${idRange('$1')} AND t.${RUNS} AND ${isUnattended('t.session_id')}`,
};

export const WHEREABOUTS: Statement = {
  name: 'session_whereabouts',
  text: `SELECT r.id, coalesce(s.node_id <> $1::uuid, false) AS "isElsewhere",
  EXISTS (SELECT FROM task t WHERE t.session_id = r.id AND t.${RUNS}) AS "hasTasks"
FROM unnest($2::uuid[]) AS r (id) LEFT JOIN session s ON s.id = r.id`,
};

/** Sessions of the address of r that are open, or were heard within $5 ms, except r itself: a few of each kind. */
const NEARBY = ['s.silent_since IS NULL', `s.silent_since >= now() - $5 * interval '1 ms'`].map(
  (heard) => `(SELECT s.* FROM session s WHERE s.address = r.address AND s.id <> r.id AND ${heard} LIMIT 2)`,
);

/** $1 node, $2 ids, $3 addresses, $4 owners, $5 how long ago others may have been heard, in milliseconds. */
export const NEIGHBOURS: Statement = {
  name: 'session_neighbours',
  text: `
SELECT r.id AS asks, missed.for_ms AS missed_for_ms, s.id, s.node_id, s.is_open, s.is_same_owner, s.silent_ms, s.node_ms, held.*
FROM (SELECT coalesce(max(extract(epoch FROM now() - renewed_at) * 1000), 0)::float8 AS for_ms
      FROM node WHERE NOT is_settled AND id <> $1::uuid) AS missed
CROSS JOIN unnest($2::uuid[], $3::text[], $4::text[]) AS r (id, address, owner)
LEFT JOIN LATERAL (
  SELECT s.id, s.node_id, s.state = 'open' AS is_open, (s.owner = r.owner AND s.door = 'tcp') AS is_same_owner,
    coalesce(extract(epoch FROM now() - s.silent_since) * 1000, 0)::float8 AS silent_ms,
    coalesce(extract(epoch FROM now() - n.renewed_at) * 1000, 0)::float8 AS node_ms
  FROM (${NEARBY.join(' UNION ALL ')}) AS s LEFT JOIN node n ON n.id = s.node_id
) AS s ON true
LEFT JOIN LATERAL (
  SELECT jsonb_agg(jsonb_build_array(id, revision)) AS tasks,
    bool_or(unconfirmed_since >= now() - $5 * interval '1 ms') AS is_guess
  FROM (
    SELECT id, revision, unconfirmed_since FROM task WHERE session_id = s.id AND ${RUNS}
    UNION ALL
    SELECT id, revision, unconfirmed_since FROM task WHERE lapsed_session_id = s.id AND ${IS_LAPSED}
  ) AS t
  WHERE NOT s.is_open
) AS held ON true
ORDER BY s.is_open`,
};

export const TASKS_OF: Statement = {
  name: 'session_tasks_of',
  text: `SELECT id, revision FROM task WHERE session_id = $1 AND ${RUNS}`,
};

export const MARKED: Statement = {
  name: 'session_marked',
  text: `SELECT id, state FROM session
WHERE (state = 'orphan' OR is_protected) AND state <> 'ended' AND node_id <> $1 LIMIT $2`,
};

export const FLAPPING: Statement = {
  name: 'session_flapping',
  text: `SELECT id, (extract(epoch FROM flapping_until - now()) * 1000)::float8 AS for_ms FROM task
WHERE flapping_until > now() ORDER BY flapping_until DESC LIMIT $1`,
};

function list(counted: string): string {
  return `
SELECT ${RECORD.replace(/^id/, 's.id')}, s.node_id, n.name AS node_name, counted.tasks,
  round(extract(epoch FROM now() - n.renewed_at) * 1000)::float8 AS node_renewed_ago_ms
FROM session s LEFT JOIN node n ON n.id = s.node_id
${counted}
WHERE s.id > $1 AND ${LIVES}
ORDER BY s.id LIMIT $2`;
}

export const LIST_ALL: Statement = {
  name: 'session_list_all',
  text: list(
    `CROSS JOIN LATERAL (SELECT count(*)::int AS tasks FROM task WHERE session_id = s.id AND ${RUNS}) AS counted`,
  ),
};

/** $3 groups of which everything is visible, $4 groups of which the own tasks are, $5 the user. */
export const LIST_SCOPED: Statement = {
  name: 'session_list_scoped',
  text: list(
    `JOIN (
  SELECT session_id, (count(*) FILTER (WHERE ${RUNS}))::int AS tasks FROM task
  WHERE session_id > $1 AND (group_id = ANY ($3::text[]) OR (user_id = $5 AND group_id = ANY ($4::text[])))
  GROUP BY session_id
) AS counted ON counted.session_id = s.id`,
  ),
};

export const PURGE: Statement = {
  name: 'session_purge',
  text: `DELETE FROM session WHERE id IN (
  SELECT s.id FROM session s WHERE s.state IN ('ended', 'revoked') AND NOT ${HAS_LEFT}
    AND s.ended_at < now() - $1 * interval '1 ms' FOR UPDATE OF s SKIP LOCKED) RETURNING id`,
};
