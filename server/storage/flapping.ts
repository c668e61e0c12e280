/**
 * Flapping: five changes of a task's status within ten minutes. The statements that change tasks count, so that every
 * node tells the same, after a restart too: a task keeps the times of its last four changes, and with the fifth it is
 * known until when it counts as flapping.
 */

/** The time of the fourth change before this one, where there was one. */
const FOURTH_LAST = 't.status_changes[cardinality(t.status_changes) - 3]';

/**
 * The columns to set in an UPDATE of `task t`; `changes`: whether the status changes, `at`: when, in SQL. Reads the columns as
 * they were before.
 */
export function countChange(changes: string, at: string): string {
  return `status_changes = CASE WHEN ${changes}
      THEN (t.status_changes || ${at})[greatest(1, cardinality(t.status_changes) - 2):]
      ELSE t.status_changes END,
    flapping_until = CASE WHEN NOT (${changes}) THEN t.flapping_until
      WHEN ${FOURTH_LAST} > ${at} - interval '10 min' THEN ${FOURTH_LAST} + interval '10 min' END`;
}
