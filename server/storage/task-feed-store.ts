/**
 * The change feed over task_event.
 *
 * Serial numbers commit out of order, so a cursor by number loses what commits late. Here every event carries the number
 * of its transaction (xid), and a mark is what a database snapshot has seen: an event lies after a mark when its
 * transaction either had not begun (xid ≥ xmax) or was still under way (xid in xip). Both are ranges of the primary key,
 * so that a transaction that stays open for hours, anywhere in the cluster, neither stalls the feed nor makes it read
 * old events again.
 *
 * A read without `until` takes its own snapshot as `until`, in the same statement that reads the events: the statement
 * sees exactly what the snapshot has seen, so nothing is lost between the two, and nothing comes twice.
 */
import type { FeedEvent, FeedMark, FeedStore } from '../domain/ports.js';
import { invalidMark, markOf, parseMark, reaches } from './feed-mark.js';
import type { Postgres, Statement } from './postgres.js';
import { FEED_COLUMNS, feedEventOf, type FeedRow } from './task-rows.js';

const MARK: Statement = { name: 'feed_mark', text: 'SELECT pg_current_snapshot()::text AS snapshot' };

/** Larger than every transaction number. */
export const NEVER = '18446744073709551615';

const UNTIL_AND_AFTER = 'xid < $3::xid8 AND xid <> ALL ($4::xid8[]) AND seq > $5::bigint';

/** $1 from.xmax, $2 from.xip, $3 until.xmax, $4 until.xip, $5 after, $6 limit. Always at least one row. */
export const BETWEEN: Statement = {
  name: 'feed_between',
  text: `
SELECT here.snapshot, events.* FROM (SELECT pg_current_snapshot()::text AS snapshot) AS here
LEFT JOIN (
  (SELECT ${FEED_COLUMNS} FROM task_event
   WHERE xid >= $1::xid8 AND ${UNTIL_AND_AFTER} ORDER BY seq LIMIT $6)
  UNION ALL
  (SELECT ${FEED_COLUMNS} FROM task_event
   WHERE xid = ANY ($2::xid8[]) AND ${UNTIL_AND_AFTER} ORDER BY seq LIMIT $6)
  ORDER BY seq LIMIT $6
) AS events ON true
ORDER BY events.seq`,
};

export class PostgresFeedStore implements FeedStore {
  constructor(
    private readonly postgres: Postgres,
    private readonly generation: string,
  ) {}

  async mark(): Promise<FeedMark> {
    const rows = await this.postgres.rows<{ snapshot: string }>(MARK, []);
    return markOf(this.generation, rows[0]?.snapshot ?? '');
  }

  reaches(later: FeedMark, earlier: FeedMark): boolean {
    return reaches(parseMark(later), parseMark(earlier));
  }

  async between(
    from: FeedMark,
    until: FeedMark | undefined,
    afterId: number,
    limit: number,
  ): Promise<{ until: FeedMark; events: FeedEvent[] }> {
    const begin = this.#parse(from);
    const end = until === undefined ? undefined : this.#parse(until);
    const rows = await this.postgres.rows<{ snapshot: string } & FeedRow>(BETWEEN, [
      String(begin.xmax),
      begin.xip.map(String),
      String(end?.xmax ?? NEVER),
      (end?.xip ?? []).map(String),
      afterId,
      limit,
    ]);
    const now = markOf(this.generation, rows[0]?.snapshot ?? '');
    this.#requireReached(now, from, until);
    // The one row of an empty read has no event in it.
    const events = rows.filter((row) => (row.seq as string | null) !== null).map(feedEventOf);
    return { until: until ?? now, events };
  }

  #parse(mark: FeedMark) {
    const snapshot = parseMark(mark);
    if (snapshot.generation !== this.generation) throw invalidMark();
    return snapshot;
  }

  /** A mark of the future is none of this database: it was restored to an earlier state. */
  #requireReached(now: FeedMark, ...marks: readonly (FeedMark | undefined)[]): void {
    const { xmax } = parseMark(now);
    if (marks.some((mark) => mark !== undefined && parseMark(mark).xmax > xmax)) throw invalidMark();
  }
}
