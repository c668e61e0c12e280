/**
 * The change feed over task_event.
 *
 * Events are numbered in the order of their commits: whoever writes some takes a lock before the first number and holds
 * it until the commit (ordered-events.ts). So every snapshot sees a prefix of the numbers, gaps of what was undone aside,
 * and a place in the history is a plain number. Numbers are durable: the sequence is never behind what was committed.
 *
 * What was acknowledged can still be lost in one way: a failover to a standby that had not received it, or a restore.
 * Then numbers are given again. So a place also names the batch that wrote its event, and each page begins with that
 * event: where it is another one, or none, the history that the place belongs to no longer exists, and who watches is
 * told to list again. Where it is the same one, so is everything before it.
 */
import { TaskDashError } from '../domain/errors.js';
import type { FeedEvent, FeedPosition, FeedStore, PageLimits } from '../domain/ports.js';
import type { Postgres, Statement } from './postgres.js';
import { FEED_COLUMNS, feedEventOf, storedBytes, type FeedRow } from './task-rows.js';

const HEAD: Statement = {
  name: 'feed_head',
  text: 'SELECT seq, lane, batch FROM task_event ORDER BY seq DESC LIMIT 1',
};

/**
 * $1 the number of the place, $2 limit, $3 how far behind at most, $4 how many bytes. Always at least one row, which may have
 * no event. The event of the place itself counts for nothing.
 */
export const AFTER: Statement = {
  name: 'feed_after',
  text: `
SELECT latest.head, events.* FROM (SELECT max(seq) AS head FROM task_event) AS latest
LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT page.*, sum(CASE WHEN seq > $1::bigint THEN ${storedBytes('task_id')} END)
      OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
      SELECT ${FEED_COLUMNS} FROM task_event
      WHERE seq >= $1::bigint AND latest.head - $1::bigint <= $3::bigint ORDER BY seq LIMIT $2
    ) AS page
  ) AS measured WHERE COALESCE(bytes_before, 0) < $4::bigint
) AS events ON true
ORDER BY events.seq`,
};

type AfterRow = FeedRow & { readonly head: string | null };

export class PostgresFeedStore implements FeedStore {
  constructor(private readonly postgres: Postgres) {}

  async head(): Promise<FeedPosition> {
    const [row] = await this.postgres.rows<{ seq: string; lane: string; batch: string }>(HEAD, []);
    return row ? { id: Number(row.seq), batch: `${row.lane}.${row.batch}` } : { id: 0, batch: '' };
  }

  async after(position: FeedPosition, { records, bytes }: PageLimits, maxBehind: number): Promise<FeedEvent[]> {
    const isBeginning = position.id === 0;
    const values = [position.id, isBeginning ? records : records + 1, maxBehind, bytes];
    const rows = await this.postgres.rows<AfterRow>(AFTER, values);
    if (Number(rows[0]?.head ?? 0) - position.id > maxBehind) throw new TaskDashError('RESUME_TOKEN_EXPIRED');
    const events = rows.filter((row) => (row.seq as string | null) !== null).map(feedEventOf);
    if (isBeginning) return events;
    const [own, ...following] = events;
    if (own?.event.id !== position.id || own.batch !== position.batch) throw new TaskDashError('RESUME_TOKEN_INVALID');
    return following;
  }
}
