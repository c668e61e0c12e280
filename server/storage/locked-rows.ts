/**
 * Tasks, sessions and nodes whose rows somebody keeps locked: a forgotten `psql`, a transaction that hangs, an operator's long
 * UPDATE.
 *
 * Other servers lock rows too, for milliseconds. So a statement waits a moment for a row; then it fails, and is run again in
 * a form that leaves alone what is locked. One such row is thereby the trouble of its own task or session, and of nobody else.
 *
 * A row that somebody has inserted and not committed cannot be left alone, since nobody sees it before they insert the same.
 * Whoever looks for it among others by trying them in parts uses a third form, which hardly waits at all.
 */
import { TaskDashError } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { codeOf } from './postgres-errors.js';
import type { Postgres, Statement } from './postgres.js';

/** How long a statement waits for a row: many times what servers need for each other, and short for whoever waits with it. */
const LOCK_PATIENCE_MS = 400;
/** The same when it had been waited for in vain: what may be in the way then is a row that somebody has just inserted. */
const SECOND_PATIENCE_MS = 100;
/** The same while it is looked for: it costs so much a try, and whoever is met in a moment of another server is tried again. */
const HURRIED_PATIENCE_MS = 10;

const LOCK_NOT_AVAILABLE = '55P03';
/** Rows that a line of the log names. */
const MAX_NAMED = 5;
const PAUSE_MS = 60_000;

/** Whether a statement failed because its patience with a row was over. Then it has done nothing. */
export function isLocked(error: unknown): boolean {
  return codeOf(error instanceof TaskDashError ? error.cause : error) === LOCK_NOT_AVAILABLE;
}

/**
 * What a statement does about a row that another transaction has locked: waits for a moment, or leaves it alone, or that in a
 * hurry.
 */
export type AtLocked = 'waits' | 'passes' | 'hurries';

const PATIENCE_MS: Readonly<Record<AtLocked, number>> = {
  waits: LOCK_PATIENCE_MS,
  passes: SECOND_PATIENCE_MS,
  hurries: HURRIED_PATIENCE_MS,
};

/** Waits for as long as a server needs that takes over from the node, bit by bit; less than a renewal may take. */
const NODE_PATIENCE_MS = 2000;

/** What `beImpatient` is, for the row of a node. */
export const BE_IMPATIENT_WITH_NODE = `set_config('lock_timeout', '${NODE_PATIENCE_MS}ms', true)`;

/** From its evaluation on, and to the end of the transaction, waits for locks are short. */
export function beImpatient(atLocked: AtLocked): string {
  return `set_config('lock_timeout', '${PATIENCE_MS[atLocked]}ms', true)`;
}

/** Locks the rows that a SELECT finds. */
export function lock(atLocked: AtLocked): string {
  return `FOR NO KEY UPDATE${atLocked === 'waits' ? '' : ' SKIP LOCKED'}`;
}

/** What is told of the rows of a table. */
interface Kind {
  readonly words: string;
  readonly holders: Statement;
}

/** $1 ids. A row that one transaction alone has locked names it; of other users' sessions a role may see less. */
function holdersOf(table: string, idType: string): Statement {
  const text = `
SELECT DISTINCT a.pid, a.usename AS "user", a.application_name AS application, host(a.client_addr) AS address, a.state,
  round(extract(epoch FROM now() - a.xact_start))::int AS "forS"
FROM ${table} t JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = t.xmax AND l.mode = 'ExclusiveLock' AND l.granted
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE t.id = ANY ($1::${idType}[]) LIMIT ${MAX_NAMED}`;
  return { name: `${table}_lock_holders`, text };
}

const KINDS = {
  tasks: {
    holders: holdersOf('task', 'text'),
    words:
      'another transaction keeps tasks locked in the database; they cannot be changed until it ends, all others can. ' +
      'End it, or its session: SELECT pg_terminate_backend(pid)',
  },
  sessions: {
    holders: holdersOf('session', 'uuid'),
    words:
      'another transaction keeps sessions locked in the database; they can be neither written down nor moved between servers ' +
      'until it ends, all others can. End it, or its session: SELECT pg_terminate_backend(pid)',
  },
  nodes: {
    holders: holdersOf('node', 'uuid'),
    words:
      'another transaction keeps a server locked in the database: until it ends, that server cannot renew its lease, without ' +
      'which it decides no shutdown, and nobody takes over from it. End it, or its session: SELECT pg_terminate_backend(pid)',
  },
} satisfies Record<string, Kind>;

/** Tells operators of locked rows, and of who holds them as far as that can be seen. */
export class LockedRows {
  readonly #toldAtMs = new Map<keyof typeof KINDS, number>();

  constructor(
    private readonly postgres: Postgres,
    private readonly log: Log,
    private readonly monotonicMs: () => number,
  ) {}

  /**
   * These were left alone. Once a minute is enough for each kind. `forS`: transactions that are younger are the everyday work of
   * other servers.
   */
  tell(ids: readonly string[], kind: keyof typeof KINDS = 'tasks', forS = 0): void {
    const nowMs = this.monotonicMs();
    if (ids.length === 0 || nowMs - (this.#toldAtMs.get(kind) ?? -Infinity) < PAUSE_MS) return;
    this.#toldAtMs.set(kind, nowMs);
    void this.#tell(ids, kind, forS);
  }

  async #tell(ids: readonly string[], kind: keyof typeof KINDS, forS: number): Promise<void> {
    const named = ids.slice(0, MAX_NAMED);
    const details = { [kind]: named, count: ids.length };
    const { holders, words } = KINDS[kind];
    try {
      const found = await this.postgres.rows<{ forS: number | null }>(holders, [named]);
      const areYoung = found.length > 0 && found.every((holder) => holder.forS !== null && holder.forS < forS);
      if (areYoung) this.#toldAtMs.delete(kind);
      else this.log.warn({ ...details, holders: found }, words);
    } catch (error) {
      this.log.warn({ ...details, err: error }, words);
    }
  }
}
