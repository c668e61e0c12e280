/**
 * What PostgreSQL and the network say, in the two words of the port: STORAGE_UNAVAILABLE (trying again later can help;
 * nothing is known about the outcome, unless `nothingSent` says that no statement was sent) and STORAGE_REFUSED (the same would
 * be refused again).
 *
 * Only what the data of a statement caused is a refusal. A login that is refused, a table that is not there and a full disk
 * are trouble of the database: the same record is taken when that is mended.
 *
 * Errors are judged by their SQLSTATEs. The severity that pg tells is a word of the server's language.
 *
 * Source: PostgreSQL documentation, appendix A (error codes); Node.js error codes of sockets and look-ups.
 */
import { TaskDashError } from '../domain/errors.js';

/** SQLSTATE classes of what the data caused. */
const REFUSED_CLASSES = new Set([
  '21', // cardinality violation
  '22', // data exception
  '23', // integrity constraint violation
  '27', // triggered data change violation
  '38', // external routine exception: a trigger that an operator has added
  '39', // external routine invocation exception
  '44', // WITH CHECK OPTION violation
  '54', // program limit exceeded: a text too long for an index
  'P0', // PL/pgSQL: RAISE EXCEPTION
]);

/** SQLSTATEs after which the connection is as it was, beside those of refusals. */
const KEEPING = new Set([
  '40001', // serialization failure
  '40P01', // deadlock detected
  '55P03', // lock not available (lock_timeout)
  '57014', // query cancelled (statement_timeout)
]);

/** SQLSTATE classes with which the server ends a connection, or refuses to begin one. */
const ENDING_CLASSES = new Set([
  '08', // connection exception
  '28', // invalid authorization
  '57', // operator intervention: shutdown, crash, cannot connect now, idle session timeout
]);

/** Single SQLSTATEs of the same kind. */
const ENDING = new Set([
  '25006', // read-only transaction: a standby, or a primary that has just been demoted
  '25P03', // idle-in-transaction timeout
  '25P04', // transaction timeout
  '3D000', // no such database
  '53300', // too many connections
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

/** What failed before a statement was sent: nothing was refused but the connection, whatever the database says. */
export function asUnavailable(error: unknown): TaskDashError {
  if (error instanceof TaskDashError) return error;
  const message = isSqlState(codeOf(error)) ? 'The database takes no connection of the server.' : undefined;
  return new TaskDashError('STORAGE_UNAVAILABLE', {
    ...{ cause: error, retryAfterMs: 1000, nothingSent: true },
    ...(message && { message }),
  });
}

/**
 * What failed in a statement, as a catalogue error with its cause kept: STORAGE_REFUSED for what the data caused, else
 * STORAGE_UNAVAILABLE. Catalogue errors pass as they are, and what came from neither database nor network (a defect of
 * ours) becomes INTERNAL.
 */
export function asStorageError(error: unknown): TaskDashError {
  if (error instanceof TaskDashError) return error;
  const code = codeOf(error);
  if (REFUSED_CLASSES.has(classOf(code))) return new TaskDashError('STORAGE_REFUSED', { cause: error });
  if (isSqlState(code) && connectionAfter(error) === 'doubtful')
    return new TaskDashError('STORAGE_UNAVAILABLE', {
      message: 'The database could not carry out a statement.',
      cause: error,
      retryAfterMs: 1000,
    });
  if (isSqlState(code) || isOfNetwork(error))
    return new TaskDashError('STORAGE_UNAVAILABLE', { cause: error, retryAfterMs: 1000 });
  return new TaskDashError('INTERNAL', { cause: error });
}

/** Whether an error says that the database could not be reached, or went away. */
function isOfNetwork(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.length > 0 && error.errors.every(isOfNetwork);
  return NETWORK_CODES.has(codeOf(error)) || (error instanceof Error && DRIVER_SENTENCES.test(error.message));
}

/**
 * What an error of a statement says of the connection that it came by.
 *
 * - kept: the statement alone failed.
 * - doubtful: it may be the connection's own state that made it fail: its settings, its prepared statements.
 * - lost: it is no more, or of no use, and others may be so without having noticed.
 */
export function connectionAfter(error: unknown): 'kept' | 'doubtful' | 'lost' {
  const code = codeOf(error);
  if (!isSqlState(code)) return 'lost';
  if (KEEPING.has(code) || REFUSED_CLASSES.has(classOf(code))) return 'kept';
  return ENDING.has(code) || ENDING_CLASSES.has(classOf(code)) ? 'lost' : 'doubtful';
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

/** The class of an SQLSTATE, or an empty text. */
function classOf(code: string): string {
  return isSqlState(code) ? code.slice(0, 2) : '';
}
