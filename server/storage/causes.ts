/**
 * Why the database is not available, for whoever runs the server and may not be told where it is, as whom it is used or what is
 * asked of it: everybody may ask whether a server is ready.
 */
import { TaskDashError } from '../domain/errors.js';
import { codeOf } from './postgres-errors.js';

const LATE = 'the database did not answer in time';
const NOBODY_THERE = 'nothing takes connections where the database should be';
const NO_HOST = 'the host of the database cannot be looked up by its name';
const UNREACHED = 'the database cannot be reached';
const UNKNOWN = 'the database cannot be used; the log of the server says why';

/** By SQLSTATE or its class, which counts where the SQLSTATE is not named; and by code of Node. */
const WORDS: Readonly<Record<string, string>> = {
  '08': 'the connection to the database broke',
  '28': 'the database refuses the login of this server',
  '3D000': 'there is no database of the name that this server is to use',
  '25006': 'the database takes no writes: it is a standby, or set to read-only',
  '42': 'the database has not the tables that this server needs, or keeps it from them',
  '42P01': 'the database has no tables; run "taskdash migrate"',
  '53': 'the database lacks memory, files or room',
  '53100': 'the disk of the database is full',
  '53300': 'the database has as many connections as it may have, and takes no more',
  '55P03': 'somebody keeps locked in the database what this server needs',
  '57': 'the database is being stopped, or has been',
  '57014': LATE,
  '57P03': 'the database is starting or stopping, and takes no connections yet',
  '58': 'the database has trouble with its files',
  XX: 'the database has trouble of its own, which its log tells',
  EAI_AGAIN: NO_HOST,
  ECONNREFUSED: NOBODY_THERE,
  EMFILE: 'this process may not open more files',
  ENFILE: 'this machine may not open more files',
  ENOENT: NOBODY_THERE,
  ENOTFOUND: NO_HOST,
  ETIMEDOUT: LATE,
};

/** The words for an SQLSTATE or a code of Node. */
export function causeOf(code: string): string {
  const isOfNode = /^E[A-Z_]+$/.test(code);
  return WORDS[code] ?? WORDS[code.slice(0, 2)] ?? (isOfNode ? UNREACHED : UNKNOWN);
}

/** The words for what went wrong with a statement or a connection. */
export function causeInWords(error: unknown): string {
  if (error instanceof TaskDashError && error.cause !== undefined) return causeInWords(error.cause);
  if (error instanceof AggregateError && error.errors.length > 0) return causeInWords(error.errors[0]);
  const code = codeOf(error);
  // The driver gives its own errors no code.
  if (code === '' && error instanceof Error) return causeOfDriver(error.message);
  return causeOf(code);
}

function causeOfDriver(sentence: string): string {
  if (/time-?out|timeout expired/i.test(sentence)) return LATE;
  return /terminated|closed the connection|connection error/i.test(sentence) ? causeOf('08') : UNKNOWN;
}
