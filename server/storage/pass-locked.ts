/**
 * Writing beside rows that somebody has inserted and not committed. Nobody sees such a row, so it cannot be left alone like one
 * that is locked: whoever would insert it too waits for it and fails, and with it all that the statement writes.
 *
 *   all ──written──► done
 *    └──failed for a lock──► each half by itself ──one alone failed──► that is the one
 *                                └──too many failed──► the rest is left for another time, by which some are known
 */
import { isLocked } from './locked-rows.js';

/** Each waits for the patience of a statement. One in a thousand is found with eleven. */
const MAX_FAILURES = 12;

/** What was not written: for a lock, or since it was not tried any more. */
export interface Passed<T> {
  readonly locked: readonly T[];
  readonly untried: readonly T[];
}

/** Writes all that can be written; `write` answers with what it found locked, and left alone. */
export async function passLocked<T>(
  all: readonly T[],
  write: (part: readonly T[]) => Promise<readonly T[]>,
): Promise<Passed<T>> {
  const passed = { locked: [] as T[], untried: [] as T[] };
  let failures = 0;
  const writeSome = async (part: readonly T[]): Promise<void> => {
    if (failures >= MAX_FAILURES) return void passed.untried.push(...part);
    try {
      return void passed.locked.push(...(await write(part)));
    } catch (error) {
      if (!isLocked(error)) throw error;
      failures++;
    }
    if (part.length === 1) return void passed.locked.push(...part);
    const middle = part.length >> 1;
    await writeSome(part.slice(0, middle));
    await writeSome(part.slice(middle));
  };
  if (all.length > 0) await writeSome(all);
  return passed;
}
