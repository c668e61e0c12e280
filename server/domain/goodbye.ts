/** How a node takes leave of the others: one thing after the other, by a deadline. */
import type { Deadline } from './deadline.js';
import type { Log } from './ports.js';

/** One thing that is said. */
export interface GoodbyePart {
  readonly what: string;
  /** False: not all of it came through. */
  readonly say: () => Promise<boolean | void>;
}

/**
 * Says all, and tells in one line what did not come through. Each has an equal part of the time that is left, so that what one
 * waits for in vain does not keep the database from the next.
 */
export async function sayGoodbye(parts: readonly GoodbyePart[], deadline: Deadline, log: Log): Promise<void> {
  const unsaid: string[] = [];
  let trouble: unknown;
  for (const [index, { what, say }] of parts.entries()) {
    const left = parts.length - index;
    let isSaid: boolean | void = false;
    const said = say().then((outcome) => (isSaid = outcome ?? true));
    await deadline
      .earlier(deadline.leftMs * (1 - 1 / left))
      .holds(said)
      .catch((error: unknown) => (trouble ??= error));
    if (!isSaid) unsaid.push(what);
  }
  if (unsaid.length === 0) return;
  log.warn(
    { unsaid, err: trouble },
    'the database did not take the whole goodbye of this server; others go by what they find, and by the end of its lease',
  );
}
