/**
 * A log that does not drown in its own warnings. The first of a kind is told at once and whole; while it goes on, it is told
 * again with how often it happened meanwhile, ever more seldom (one minute, three, nine, then every ten), and without its
 * stack. When a minute or more has passed without it, the next one is the first again.
 *
 * Of a kind are lines of the same level and words whose errors have the same code, or the same words. Information passes as
 * it is. That the database is not available is told without stack by whoever is hindered by it, whatever it says itself: one
 * outage fails whatever goes to it, each in its own way.
 */
import type { Clock } from './domain/clock.js';
import { TaskDashError } from './domain/errors.js';
import type { Log } from './domain/ports.js';

const FIRST_PAUSE_MS = 60_000;
const MAX_PAUSE_MS = 600_000;
const PAUSE_FACTOR = 3;
/** Kinds whose repetitions are counted; beyond them, errors of the same words are one kind whatever they say. */
const MAX_KINDS = 500;
const MAX_WORDS = 200;

type Level = 'warn' | 'error';

interface Kind {
  readonly level: Level;
  readonly message: string;
  details: object;
  times: number;
  pauseMs: number;
}

export class QuietLog implements Log {
  readonly #kinds = new Map<string, Kind>();

  constructor(
    private readonly log: Log,
    private readonly clock: Clock,
  ) {}

  debug(details: object, message: string): void {
    this.log.debug(details, message);
  }

  info(details: object, message: string): void {
    this.log.info(details, message);
  }

  warn(details: object, message: string): void {
    this.#tell('warn', details, message);
  }

  error(details: object, message: string): void {
    this.#tell('error', details, message);
  }

  #tell(level: Level, details: object, message: string): void {
    const key = this.#keyOf(level, details, message);
    const kind = this.#kinds.get(key);
    if (kind) {
      kind.times++;
      kind.details = details;
      return;
    }
    this.log[level](isOutage(errorOf(details)) ? briefly(details) : details, message);
    const first = { level, message, details, times: 0, pauseMs: FIRST_PAUSE_MS };
    this.#kinds.set(key, first);
    this.#arm(key, first);
  }

  #keyOf(level: Level, details: object, message: string): string {
    const words = `${level} ${message}`;
    const key = `${words} ${textOf(errorOf(details))}`;
    return this.#kinds.has(key) || this.#kinds.size < MAX_KINDS ? key : words;
  }

  #arm(key: string, kind: Kind): void {
    this.clock.schedule(kind.pauseMs, () => {
      if (kind.times === 0) return void this.#kinds.delete(key);
      const { level, message, details, times, pauseMs } = kind;
      this.log[level]({ ...briefly(details), times, withinMs: pauseMs }, `${message} (again)`);
      kind.times = 0;
      kind.pauseMs = Math.min(pauseMs * PAUSE_FACTOR, MAX_PAUSE_MS);
      this.#arm(key, kind);
    });
  }
}

function errorOf(details: object): unknown {
  return 'err' in details ? details.err : undefined;
}

/** What an error is about, in a few words. */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  if (isOutage(error)) return error.code;
  const { code } = error as { code?: unknown };
  const own = typeof code === 'string' ? code : error.message.slice(0, MAX_WORDS);
  return error.cause instanceof Error ? `${own} ${textOf(error.cause)}` : own;
}

/** Without the stack, which was told the first time or tells nothing. */
function briefly(details: object): object {
  const error = errorOf(details);
  return error instanceof Error ? { ...details, err: wordsOf(error) } : details;
}

/** "The database did not answer in time. (Query read timeout)" */
function wordsOf({ message, cause }: Error): string {
  return cause instanceof Error ? `${message} (${wordsOf(cause)})` : message;
}

function isOutage(error: unknown): error is TaskDashError {
  return error instanceof TaskDashError && error.code === 'STORAGE_UNAVAILABLE';
}
