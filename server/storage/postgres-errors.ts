/**
 * What PostgreSQL and the network say, in the two words of the port: STORAGE_UNAVAILABLE (trying again later can help;
 * nothing is known about the outcome) and STORAGE_REFUSED (the same would be refused again).
 *
 * Source: PostgreSQL documentation, appendix A (error codes); Node.js error codes of sockets and look-ups.
 */
import { TaskDashError } from '../domain/errors.js';

/** Whole SQLSTATE classes of a database that is away, overloaded or in between. */
const UNAVAILABLE_CLASSES = new Set([
  '08', // connection exception
  '53', // insufficient resources: disk full, out of memory, too many connections
  '57', // operator intervention: shutdown, cannot connect now, query cancelled (statement_timeout)
  '58', // system error: I/O
]);

/** Single SQLSTATEs outside of those classes. */
const UNAVAILABLE_STATES = new Set([
  '25006', // read-only transaction: a standby, or a primary that has just been demoted
  '25P03', // idle-in-transaction timeout
  '25P04', // transaction timeout
  '40001', // serialization failure
  '40P01', // deadlock detected
  '55006', // object in use: a database that is being cloned
  '55P03', // lock not available (lock_timeout)
]);

/** The transaction may only read. */
export const READ_ONLY = '25006';

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'EMFILE',
  'ENFILE',
  'ENOENT', // a Unix socket that is not there
  'ENOTFOUND',
  'EAI_AGAIN',
]);

/** Sentences of pg and pg-pool, which give these errors no code. */
const DRIVER_SENTENCES =
  /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|Client was closed|Cannot use a pool after calling end|timeout expired|The server closed the connection|Driver not Connected)/i;

/** Whether an error of the driver means that the database is away or slow for now. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.length > 0 && error.errors.every(isUnavailable);
  const code = codeOf(error);
  if (isSqlState(code)) return UNAVAILABLE_CLASSES.has(code.slice(0, 2)) || UNAVAILABLE_STATES.has(code);
  if (NETWORK_CODES.has(code)) return true;
  return error instanceof Error && DRIVER_SENTENCES.test(error.message);
}

/**
 * An error of the driver as a catalogue error with its cause kept: STORAGE_UNAVAILABLE or STORAGE_REFUSED. Catalogue
 * errors pass as they are, and what came from neither database nor network (a defect of ours) becomes INTERNAL.
 */
export function asStorageError(error: unknown): TaskDashError {
  if (error instanceof TaskDashError) return error;
  if (isUnavailable(error)) return new TaskDashError('STORAGE_UNAVAILABLE', { cause: error, retryAfterMs: 1000 });
  if (isSqlState(codeOf(error))) return new TaskDashError('STORAGE_REFUSED', { cause: error });
  return new TaskDashError('INTERNAL', { cause: error });
}

/**
 * Whether the connection can go on after an error: the server reported it, and did not end the session with it. One that
 * may only read is of no use: it leads to a standby or a demoted primary, or was made in a moment that is over.
 */
export function leavesConnectionUsable(error: unknown): boolean {
  const code = codeOf(error);
  return code !== READ_ONLY && isSqlState(code) && (error as { severity?: unknown }).severity === 'ERROR';
}

/** The SQLSTATE or Node code of an error, or an empty text. TypeORM keeps the driver's error under `driverError`. */
export function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  if (typeof code === 'string') return code;
  const inner = (error as { driverError?: unknown } | undefined)?.driverError;
  return inner === undefined ? '' : codeOf(inner);
}

/** SQLSTATEs have five characters and a digit among them; Node's codes that begin with E are all letters. */
function isSqlState(code: string): boolean {
  return /^[0-9A-Z]{5}$/.test(code) && /\d/.test(code);
}
