/**
 * Marks of the change feed: what a database snapshot has seen.
 *
 * Text form: generation ":" xmax ":" xip, the transactions below xmax that the snapshot has not seen, separated by
 * commas, each but the first as the distance from the one before. The generation is a random text that changes when a
 * dump is restored into a cluster whose transaction numbers begin anew: marks from before mean nothing there.
 */
import { TaskDashError } from '../domain/errors.js';
import type { FeedMark } from '../domain/ports.js';

/** A mark, taken apart. */
export interface Snapshot {
  readonly generation: string;
  /** The first transaction that had not begun. */
  readonly xmax: bigint;
  /** Transactions below xmax that were under way, ascending. */
  readonly xip: readonly bigint[];
}

const MARK = /^([0-9a-f]{1,32}):(\d{1,20}):((?:\d{1,20}(?:,\d{1,20}){0,9999})?)$/;
const LARGEST_XID = 2n ** 64n - 1n;

/** A mark from PostgreSQL's text of a snapshot, "xmin:xmax:xip,xip". */
export function markOf(generation: string, pgSnapshot: string): FeedMark {
  const [, xmax = '', xipText = ''] = pgSnapshot.split(':');
  const xip = xipText === '' ? [] : xipText.split(',').map(BigInt);
  const distances = xip.map((xid, index) => xid - (xip[index - 1] ?? 0n));
  return `${generation}:${xmax}:${distances.join(',')}`;
}

/** A mark taken apart. Throws RESUME_TOKEN_INVALID for a text that is none. */
export function parseMark(mark: FeedMark): Snapshot {
  const match = MARK.exec(mark);
  if (!match) throw invalidMark();
  const [, generation = '', xmaxText = '', xipText = ''] = match;
  let last = 0n;
  const xip = xipText === '' ? [] : xipText.split(',').map((distance) => (last += BigInt(distance)));
  const xmax = BigInt(xmaxText);
  if (xmax > LARGEST_XID || last > xmax) throw invalidMark();
  return { generation, xmax, xip };
}

/** Whether everything that `earlier` has seen, `later` has seen too. */
export function reaches(later: Snapshot, earlier: Snapshot): boolean {
  if (later.generation !== earlier.generation) return false;
  const unseen = new Set(earlier.xip);
  if (later.xip.some((xid) => xid < earlier.xmax && !unseen.has(xid))) return false;
  if (later.xmax >= earlier.xmax) return true;
  // What began after `later` must all be unseen by `earlier` too.
  const between = earlier.xip.filter((xid) => xid >= later.xmax);
  return BigInt(between.length) === earlier.xmax - later.xmax;
}

/** The error for a text that is no mark of this database. */
export function invalidMark(): TaskDashError {
  return new TaskDashError('RESUME_TOKEN_INVALID');
}
