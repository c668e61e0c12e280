/**
 * Puts right what a dump brings along that was restored into a cluster with smaller transaction numbers.
 *
 * Events carry the numbers of the transactions that wrote them. In a new cluster those lie in the future: every reader
 * of the feed would take them for new, again and again, until the cluster's own numbers have caught up. So they get a
 * number that lies before everything, and the feed a new generation, since marks from before mean nothing any more.
 */
import type { QueryRunner } from 'typeorm';
import type { Log } from '../domain/ports.js';
import { FEED_GENERATION_KEY } from './settings-store.js';

/** Below every transaction number that PostgreSQL gives; events keep their order by seq. */
const BEFORE_EVERYTHING = '1';

const IS_FROM_THE_FUTURE = `SELECT EXISTS (
  SELECT FROM task_event WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
) AS found`;

const RENUMBER = `WITH renumbered AS (
  UPDATE task_event SET xid = '${BEFORE_EVERYTHING}' WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) RETURNING 1
), forgotten AS (
  DELETE FROM setting WHERE key = '${FEED_GENERATION_KEY}'
) SELECT count(*)::int AS count FROM renumbered`;

/** Call at the start, under the migration lock. */
export async function renumberRestoredEvents(queryRunner: QueryRunner, log: Log): Promise<void> {
  const [future] = (await queryRunner.query(IS_FROM_THE_FUTURE)) as { found: boolean }[];
  if (!future?.found) return;
  const [renumbered] = (await queryRunner.query(RENUMBER)) as { count: number }[];
  log.warn({ events: renumbered?.count }, 'the database was restored from a dump: its history was renumbered');
}
