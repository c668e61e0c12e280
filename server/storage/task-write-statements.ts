/**
 * The statements that change tasks. Each does everything that a batch needs at once, history included, so that one
 * round trip and one commit carry hundreds of writes.
 *
 *   fence ─► input ─┬─► existing (rows locked, verdicts reached) ─► changed (UPDATE) ─┐
 *                   └─► fresh (registrations of unknown ids) ─────► inserted (INSERT) ├─► ordered ─► events, answer
 *
 * Why it is written the way it is:
 * - The input is one JSON text. The planner expects 100 rows of it whatever the batch, so that PostgreSQL settles on one
 *   generic plan after a few executions, and a batch of one does not pay for nineteen array functions.
 * - LATERAL with a locking clause cannot be turned into any other join: each input row probes the primary key, in the
 *   order of the input, which the caller has sorted. Two nodes therefore lock in the same order and cannot deadlock.
 * - `NOT IN` over a CTE stays a hashed subplan (never a nested loop over 1000 × 1000 rows), and it needs all of
 *   `existing` before it gives its first row: every lock is taken before anything is inserted.
 * - What another transaction inserts meanwhile is a duplicate key, which fails the statement; the caller runs it again.
 *   That costs nothing where nobody races, which ON CONFLICT would (a second probe and a second WAL record each row).
 * - After a wait for a lock PostgreSQL looks at the newest version of the row again, so old values are exact. The clock is
 *   read after it, so that the times of a task's history go the way of its revisions.
 * - A batch may get its locks long after its callers were told that its outcome is unknown. Whether it is too late is asked
 *   after each lock: who writes the task next waits for that lock, so what is late overwrites nothing newer.
 * - The first event of a batch names it in a unique index, so that a batch is written once: a second run finds the fence
 *   closed, or, when the first is under way, fails by the index and is run again. Then RECALL answers from the events.
 *   A batch without events changed nothing and leaves no fence: its second run may find what the first did not. Whoever
 *   sends one again takes its refusals for no answer (write-batcher.ts).
 * - A row may be locked for as long as somebody forgets a transaction. A statement waits a moment for each, which is enough
 *   for other servers, and fails; then its twin, which passes over what is locked and answers so, writes the others, in the
 *   name of the same batch: of both, one at most gets past the fence. An ordinary batch pays for that with no round trip. A
 *   row that somebody has inserted and not committed cannot be seen: both fail by it. A third form, which hardly waits, is for
 *   whoever looks for that row by halving (write-batcher.ts).
 * - What claims a task for a lease that is written down as revoked is left out before anything is locked. Only leases are asked for:
 *   most sessions are not on record when they claim their first task, and never revoked.
 * - `ordered` (ordered-events.ts) comes after everything that can wait, and before the numbers of the events.
 */
import { LAPSE_CAUSES } from '../domain/task.js';
import { countChange } from './flapping.js';
import { beImpatient, lock, type AtLocked } from './locked-rows.js';
import { orderedCte } from './ordered-events.js';
import type { Statement } from './postgres.js';
import { FEED_COLUMNS, RECORD_COLUMNS, TASK_COLUMNS, TASK_ONLY_COLUMNS } from './task-rows.js';

const LAPSES = LAPSE_CAUSES.map((cause) => `'${cause}'`).join(', ');
const RECORD = RECORD_COLUMNS.join(', ');
const WRITTEN = ['id', ...RECORD_COLUMNS, ...TASK_ONLY_COLUMNS];
const EVENT_TARGET = `task_event (task_id, kind, from_status, event_cause, actor, node, at, gap_ms,
    previous_user_id, previous_group_id, lane, batch, leads, ${RECORD})`;

/** When something is written: by the database's clock, since several servers write one history, unless $3 says otherwise. */
const NOW = `COALESCE($3::timestamptz, date_trunc('milliseconds', clock_timestamp()))`;

/** Whether it is later than $6 allows, which may be null. */
const IS_LATE = `COALESCE(clock_timestamp() > $6::timestamptz, false)`;

/**
 * $1 writes as JSON, sorted by id; $2 node; $3 now, or null; $4 lane and $5 number of the batch; $6 when it is too late, or
 * null. A registration that is not answered was too late, or one of known ids only.
 */
function writing(answer: string, atLocked: AtLocked): string {
  const nothing = answer.replace(/\w+/g, 'NULL');
  return `
WITH fence AS MATERIALIZED (
  SELECT NOT EXISTS (SELECT FROM task_event WHERE lane = $4::bigint AND batch = $5::bigint AND leads) AS is_open,
    ${beImpatient(atLocked)}
), given AS MATERIALIZED (
  SELECT i.* FROM fence CROSS JOIN json_to_recordset($1::json) AS i (n int, id text, registers bool, only_known bool, name text, url text, user_id text,
    group_id text, description text, status text, start_time text, stop_time text, started_at timestamptz,
    stopped_at timestamptz, addr text, claims bool, guess text, session_id uuid, is_lease bool, cause text, actor text,
    groups text[], expected_revision bigint) WHERE fence.is_open
), revoked AS MATERIALIZED (
  SELECT s.id FROM session s WHERE s.id = ANY (ARRAY(SELECT session_id FROM given WHERE is_lease)) AND s.state = 'revoked'
), input AS MATERIALIZED (
  SELECT * FROM given WHERE (session_id IN (SELECT id FROM revoked)) IS NOT TRUE
), existing AS MATERIALIZED (
  SELECT i.*, n.at, r.restores, t.status AS old_status, t.user_id AS old_user_id, t.group_id AS old_group_id,
    CASE WHEN n.is_late THEN 'late'
         WHEN i.groups IS NOT NULL AND t.group_id <> ALL (i.groups) THEN 'forbidden'
         WHEN i.expected_revision <> t.revision THEN 'changed' ELSE 'written' END AS outcome,
    COALESCE(i.status, CASE WHEN r.restores THEN t.status_before END, t.status) AS new_status,
    CASE WHEN r.restores THEN
      GREATEST(0, round(extract(epoch FROM n.at - COALESCE(t.silent_since, t.status_changed_at)) * 1000))
    END::bigint AS gap_ms
  FROM input i
  CROSS JOIN LATERAL (SELECT * FROM task WHERE task.id = i.id ${lock(atLocked)}) AS t
  CROSS JOIN LATERAL (
    SELECT CASE WHEN t.id IS NOT NULL THEN ${NOW} END AS at, CASE WHEN t.id IS NOT NULL THEN ${IS_LATE} END AS is_late
  ) AS n
  CROSS JOIN LATERAL (
    SELECT i.session_id IS NOT NULL AND t.status_before <> '' AND t.cause IN (${LAPSES}) AS restores
  ) AS r
), locked AS MATERIALIZED (
  SELECT i.n, i.id FROM input i CROSS JOIN LATERAL (SELECT FROM task WHERE task.id = i.id LIMIT 1) AS t
  WHERE ${atLocked !== 'waits'} AND i.id NOT IN (SELECT id FROM existing)
), changed AS (
  UPDATE task t SET
    name = COALESCE(e.name, t.name), url = COALESCE(e.url, t.url),
    user_id = COALESCE(e.user_id, t.user_id), group_id = COALESCE(e.group_id, t.group_id),
    description = COALESCE(e.description, t.description), status = e.new_status,
    start_time = COALESCE(e.start_time, t.start_time), stop_time = COALESCE(e.stop_time, t.stop_time),
    started_at = CASE WHEN e.start_time IS NULL THEN t.started_at ELSE e.started_at END,
    stopped_at = CASE WHEN e.stop_time IS NULL THEN t.stopped_at ELSE e.stopped_at END,
    addr = COALESCE(e.addr, t.addr),
    cause = CASE WHEN e.restores THEN 'restored'
                 WHEN e.registers OR e.new_status <> t.status THEN e.cause ELSE t.cause END,
    status_changed_at = CASE WHEN e.restores OR e.new_status <> t.status THEN e.at ELSE t.status_changed_at END,
    status_before = CASE WHEN e.restores OR e.status IS NOT NULL THEN '' ELSE t.status_before END,
    silent_since = CASE WHEN e.restores OR e.status IS NOT NULL THEN NULL ELSE t.silent_since END,
    lapsed_session_id = CASE WHEN e.restores OR e.status IS NOT NULL THEN NULL ELSE t.lapsed_session_id END,
    session_id = CASE WHEN e.claims THEN e.session_id ELSE t.session_id END,
    unconfirmed_since = CASE WHEN e.guess = 'made' THEN e.at WHEN e.guess = 'kept' OR NOT e.claims THEN t.unconfirmed_since END,
    epoch = CASE WHEN e.claims THEN t.epoch + 1 ELSE t.epoch END,
    revision = t.revision + 1, updated_at = e.at,
    ${countChange('e.new_status <> t.status', 'e.at')}
  FROM existing e WHERE t.id = e.id AND e.outcome = 'written'
  RETURNING ${WRITTEN.map((column) => `t.${column}`).join(', ')}, e.n, e.actor, e.gap_ms,
    CASE WHEN e.restores THEN 'restored' WHEN e.registers THEN 'registered' ELSE 'updated' END AS kind,
    CASE WHEN e.restores THEN 'restored' ELSE e.cause END AS event_cause,
    e.old_status AS from_status, NULLIF(e.old_user_id, t.user_id) AS previous_user_id,
    NULLIF(e.old_group_id, t.group_id) AS previous_group_id
), fresh AS MATERIALIZED (
  SELECT i.id, i.name, i.url, i.user_id, i.group_id, i.description, i.status, i.start_time, i.stop_time,
    COALESCE(i.addr, '') AS addr, i.cause, '' AS status_before, n.at AS status_changed_at,
    n.at AS created_at, i.session_id, NULL::timestamptz AS unconfirmed_since, COALESCE(i.claims, false)::int::bigint AS epoch, 1::bigint AS revision,
    n.at AS updated_at, i.started_at, i.stopped_at, i.n, i.actor
  FROM input i CROSS JOIN (SELECT ${NOW} AS at) AS n
  WHERE i.registers AND i.only_known IS NOT TRUE AND i.id NOT IN (SELECT id FROM existing)
    AND i.id NOT IN (SELECT id FROM locked) AND NOT ${IS_LATE}
), inserted AS (
  INSERT INTO task (${WRITTEN.join(', ')}) SELECT ${WRITTEN.join(', ')} FROM fresh RETURNING 1
), ${orderedCte('(SELECT count(*) FROM changed) + (SELECT count(*) FROM inserted)')}, events AS (
  INSERT INTO ${EVENT_TARGET}
  SELECT id, kind, from_status, event_cause, actor, $2::text, updated_at, gap_ms,
    previous_user_id, previous_group_id, $4::bigint, $5::bigint, row_number() OVER () = 1, ${RECORD}
  FROM ordered CROSS JOIN (
    SELECT id, kind, from_status, event_cause, actor, updated_at, gap_ms, previous_user_id, previous_group_id, ${RECORD}
    FROM changed
    UNION ALL
    SELECT id, 'registered', '', cause, actor, updated_at, NULL, NULL, NULL, ${RECORD} FROM fresh
  ) AS e
)
SELECT n, 'written' AS outcome, ${answer} FROM changed
UNION ALL SELECT n, 'written', ${answer} FROM fresh
UNION ALL SELECT n, outcome, ${nothing} FROM existing WHERE outcome <> 'written'
UNION ALL SELECT n, 'locked', ${nothing} FROM locked
UNION ALL SELECT n, 'revoked', ${nothing} FROM given WHERE session_id IN (SELECT id FROM revoked)
UNION ALL SELECT -1, 'repeated', ${nothing} FROM fence WHERE NOT is_open`;
}

const VERSION = 'revision, epoch, status';

/** Answers with the versions and what the status is now. */
export const WRITE: Statement = { name: 'task_write', text: writing(VERSION, 'waits') };
export const WRITE_FREE: Statement = { name: 'task_write_free', text: writing(VERSION, 'passes') };
export const WRITE_HURRIED: Statement = { name: 'task_write_hurried', text: writing(VERSION, 'hurries') };

/** Answers with the whole records. */
export const WRITE_AND_RETURN: Statement = { name: 'task_write_and_return', text: writing(TASK_COLUMNS, 'waits') };
export const WRITE_FREE_AND_RETURN: Statement = {
  name: 'task_write_free_and_return',
  text: writing(TASK_COLUMNS, 'passes'),
};
export const WRITE_HURRIED_AND_RETURN: Statement = {
  name: 'task_write_hurried_and_return',
  text: writing(TASK_COLUMNS, 'hurries'),
};

/** $1 lane, $2 number of a batch, $3 how many writes it had: the events that it wrote, which follow each other. */
export const RECALL: Statement = {
  name: 'task_recall',
  text: `
SELECT ${FEED_COLUMNS} FROM task_event, (
  SELECT seq AS first FROM task_event WHERE lane = $1::bigint AND batch = $2::bigint AND leads
) AS lead
WHERE seq BETWEEN first AND first + $3::bigint AND lane = $1::bigint AND batch = $2::bigint`,
};

/** $1 lanes, $2 numbers of batches that wrote events: how many of them the history does not have. */
export const LOST: Statement = {
  name: 'task_lost',
  text: `
SELECT count(*)::int AS lost FROM unnest($1::bigint[], $2::bigint[]) AS written (lane, batch)
WHERE NOT EXISTS (SELECT FROM task_event e WHERE e.lane = written.lane AND e.batch = written.batch AND e.leads)`,
};

/** Whether the verdict i still holds for a task. */
const HOLDS = `task.id = i.task_id
      AND (task.epoch = i.epoch AND task.session_id = i.session_id
        OR task.epoch < i.epoch AND task.updated_at <= ${NOW} - i.silent_ms * interval '1 ms')
      AND status NOT IN ('finish', 'shutdown')`;

/**
 * $1 lapses as JSON, sorted by id; $2 node; $3 now, or null; $4 a lane of its own; $5 its only number; $6 when it is too late; $7 the
 * id of the node, or null. A session that moves takes tasks along that somebody keeps locked, with their epochs as they are: what
 * its former node sends after that is void by the record.
 * Epochs only grow: a task with an earlier one than the verdict's is in a history from which a failover has taken the claim.
 * Nobody else vouches for it, unless it was written after the session was last heard: then somebody has claimed it in the
 * history that is.
 */
function lapsing(atLocked: AtLocked): string {
  return `
WITH patience AS MATERIALIZED (
  SELECT ${beImpatient(atLocked)}
), given AS MATERIALIZED (
  SELECT i.* FROM patience CROSS JOIN json_to_recordset($1::json)
    AS i (task_id text, session_id uuid, epoch bigint, cause text, silent_ms bigint)
), elsewhere AS MATERIALIZED (
  SELECT s.id FROM session s WHERE s.id = ANY (ARRAY(SELECT session_id FROM given)) AND s.node_id <> $7::uuid
), input AS MATERIALIZED (
  SELECT * FROM given WHERE session_id NOT IN (SELECT id FROM elsewhere)
), verdict AS MATERIALIZED (
  SELECT i.*, t.status AS old_status, n.at FROM input i
  CROSS JOIN LATERAL (
    SELECT status FROM task WHERE ${HOLDS} ${lock(atLocked)}
  ) AS t
  CROSS JOIN LATERAL (
    SELECT CASE WHEN t.status IS NOT NULL THEN ${NOW} END AS at, CASE WHEN t.status IS NOT NULL THEN ${IS_LATE} END AS is_late
  ) AS n
  WHERE NOT n.is_late
), lapsed AS (
  UPDATE task t SET status = 'shutdown', status_before = v.old_status, cause = v.cause, status_changed_at = v.at,
    silent_since = v.at - v.silent_ms * interval '1 ms', lapsed_session_id = v.session_id,
    session_id = NULL, revision = t.revision + 1, updated_at = v.at,
    ${countChange('true', 'v.at')}
  FROM verdict v WHERE t.id = v.task_id
  RETURNING t.id, ${RECORD_COLUMNS.map((column) => `t.${column}`).join(', ')}, t.updated_at, v.old_status, v.silent_ms
), ${orderedCte('(SELECT count(*) FROM lapsed)')}, events AS (
  INSERT INTO ${EVENT_TARGET}
  SELECT id, 'lapsed', old_status, cause, 'server', $2::text, updated_at, silent_ms, NULL, NULL,
    $4::bigint, $5::bigint, row_number() OVER () = 1, ${RECORD} FROM ordered CROSS JOIN lapsed
)
SELECT id, false AS is_locked FROM lapsed
UNION ALL
SELECT i.task_id, true FROM input i CROSS JOIN LATERAL (SELECT FROM task WHERE ${HOLDS} LIMIT 1) AS t
WHERE ${atLocked === 'passes'} AND i.task_id NOT IN (SELECT task_id FROM verdict)`;
}

export const LAPSE: Statement = { name: 'task_lapse', text: lapsing('waits') };
export const LAPSE_FREE: Statement = { name: 'task_lapse_free', text: lapsing('passes') };
