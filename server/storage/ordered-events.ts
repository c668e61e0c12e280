/**
 * How statements write events: numbered in the order of their commits, and in the name of a batch.
 *
 * Serial numbers alone commit out of order. So whoever writes events first takes one lock for the whole installation,
 * which PostgreSQL frees after the commit has become visible; then come the numbers. It is the last lock that a statement
 * takes, after all rows are locked and inserted, so nobody waits for anybody in a circle; and a statement without events
 * does not take it. The lock is advisory: it costs no row, no version of a row, and nothing in the log.
 *
 * Everybody who writes waits in line for it, so however short a statement's patience with rows was (locked-rows.ts), here it
 * waits as long as it may.
 */

/** One lock a database: the letters of "taskfeed". */
const LOCK_KEY = '8386110886257190244';

/** The CTE `ordered`: one row, with the lock held, if `count` (an expression over earlier CTEs) is above zero. */
export function orderedCte(count: string): string {
  return `ordered AS MATERIALIZED (
  SELECT pg_advisory_xact_lock(${LOCK_KEY})::text FROM (SELECT ${count} AS n) AS total
  WHERE CASE WHEN n > 0 THEN set_config('lock_timeout', '0', true) END IS NOT NULL
)`;
}
