/**
 * Whether what is stored can be sent. A database that somebody wrote to by hand, or restored from elsewhere, may hold values
 * that no message has a form for; one such record must not take a whole page or a watch away from everybody.
 */
import { TaskDashError } from '../../domain/errors.js';
import type { Log } from '../../domain/ports.js';

/** The years 1 to 9999, which every form of a google.protobuf.Timestamp has. */
export const FIRST_MS = -62_135_596_800_000;
export const LAST_MS = 253_402_300_799_999;
/** Ten thousand years, the most that a google.protobuf.Duration tells. */
const MAX_SPAN_MS = 315_576_000_000_000;

/** Whether an instant has a form on the wire. The driver gives a number where PostgreSQL has "infinity". */
export function hasTimestamp(instant: unknown): instant is Date {
  return instant instanceof Date && instant.getTime() >= FIRST_MS && instant.getTime() <= LAST_MS;
}

/** Throws TASK_UNSENDABLE where a text is no well-formed Unicode, an instant has no form, or a number is no whole one. */
export function requireSendable(what: string, values: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(values)) {
    if (isSendable(value)) continue;
    const field = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const message = `${what} cannot be sent: ${field} is ${shown(value)}.`;
    throw new TaskDashError('TASK_UNSENDABLE', { message, cause: new Error(message) });
  }
}

/** A span of time that has a form on the wire, to the millisecond; NaN for one that has none. */
export function sendableSpan(ms: number): number {
  return Math.abs(ms) <= MAX_SPAN_MS ? Math.round(ms) : NaN;
}

/** The messages of those that can be sent; the others are left out, and the log names them. */
export function sendableOnly<T, M>(items: readonly T[], log: Log, messageOf: (item: T) => M): M[] {
  return items.flatMap((item) => sendableOr(log, [], () => [messageOf(item)]));
}

/** What `make` returns, or `instead` where a stored value cannot be sent, which the log tells. */
export function sendableOr<M>(log: Log, instead: M, make: () => M): M {
  try {
    return make();
  } catch (thrown) {
    if (!(thrown instanceof TaskDashError) || thrown.code !== 'TASK_UNSENDABLE') throw thrown;
    log.error({ err: thrown.cause }, 'something stored is left out of an answer, because it cannot be sent');
    return instead;
  }
}

function isSendable(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed();
  if (value instanceof Date) return hasTimestamp(value);
  return Number.isSafeInteger(value);
}

function shown(value: unknown): string {
  if (typeof value === 'string') return `${JSON.stringify(value.slice(0, 100))}, which is no well-formed Unicode`;
  if (!(value instanceof Date)) return `${String(value)}, which is no value of its kind`;
  const year = value.getUTCFullYear();
  return Number.isNaN(year) ? 'no instant' : `in the year ${year}, and only the years 1 to 9999 have a form`;
}
