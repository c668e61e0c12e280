/** How much stores read at once. */
import type { PageLimits } from '../../server/domain/ports.js';
import { storedBytesOf, type Task } from '../../server/domain/task.js';

/** So many records, however long. */
export function upTo(records: number): PageLimits {
  return { records, bytes: Number.MAX_SAFE_INTEGER };
}

/** The first of some entries, as far as the limits of a page go. */
export function withinLimits<T>(entries: readonly T[], limits: PageLimits, taskOf: (entry: T) => Task): T[] {
  let bytes = 0;
  return entries.slice(0, limits.records).filter((entry) => {
    const fits = bytes < limits.bytes;
    bytes += storedBytesOf(taskOf(entry));
    return fits;
  });
}
