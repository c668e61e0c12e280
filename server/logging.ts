/** The log: pino, one JSON line an entry, or readable lines on a terminal. Secrets never reach it. */
import { pino, type Logger } from 'pino';
import pretty from 'pino-pretty';
import type { Config } from './config.js';

/** Opens the log on standard output; lines are written synchronously, so that none is lost at the end. */
export function createLog(config: Pick<Config, 'logLevel' | 'logFormat'>): Logger {
  const format = config.logFormat ?? (process.stdout.isTTY ? 'pretty' : 'json');
  const options = { level: config.logLevel, base: null, serializers: { err: describeError } };
  const destination = pino.destination({ dest: 1, sync: true });
  // Whoever read the log is gone, or the disk is full: the server goes on without.
  destination.on('error', () => {});
  if (format === 'json') return pino(options, destination);
  const look = { colorize: process.stdout.isTTY, ignore: 'pid,hostname', translateTime: 'HH:MM:ss.l' };
  const lines = pretty({ sync: true, destination, ...look });
  lines.on('error', () => {});
  return pino(options, lines);
}

/** What is worth keeping of an error. Drivers hang whole connections on theirs, with settings that are nobody's business. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, stack, cause } = error;
  const code = 'code' in error ? error.code : undefined;
  return { name, message, code, stack, ...(cause !== undefined && { cause: describeError(cause) }) };
}
