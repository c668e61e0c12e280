/**
 * `tasks watch`: every change as it comes, until SIGINT or SIGTERM, or until nobody reads it any more.
 *
 *   waiting ──database found──► following ──it goes away──► waiting …
 *
 * The embedded database has another port after every restart of its server, so it is looked for anew each time. It is never
 * started from here: nothing would change in it, and the server that is to come would find its folder taken. What happens to
 * the connection is said in one line on standard error.
 */
import { resolve } from 'node:path';
import { defaultNodeName, type Config } from '../config.js';
import { explainDatabase } from '../database-url.js';
import { delay, systemClock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import type { ChangeHints, FeedEvent, FeedPosition } from '../domain/ports.js';
import { positionAfter } from '../domain/task-feed.js';
import { createLog } from '../logging.js';
import { nextSignal } from '../signals.js';
import { attachEmbeddedPostgres } from '../storage/embedded/embedded-postgres.js';
import { openStorage, type Storage } from '../storage/storage.js';
import { onOutputLost, print, printAside, printJson, sentenceOf } from './print.js';
import { requireDatabase } from './with-storage.js';

const POLL_MS = 500;
const LOOK_AGAIN_MS = 500;
/** How long connections that do not answer may take to close. */
const LEAVE_MS = 1_000;
const PAGE = { records: 500, bytes: 2 * 1024 * 1024 };
const MAX_BEHIND = 100_000;

/** Prints every change until it is interrupted, through restarts of the server and outages of the database. */
export async function watchTasks(config: Config, options: { json?: boolean }): Promise<number> {
  await requireDatabase(config);
  const ended = new AbortController();
  const left = new Promise<void>((resolve) => {
    ended.signal.addEventListener('abort', () => setTimeout(resolve, LEAVE_MS), { once: true });
  });
  void nextSignal().then(() => ended.abort());
  onOutputLost(() => ended.abort());
  // Its timers alone keep no process alive.
  const keepAlive = setInterval(() => {}, 60_000);
  try {
    await Promise.race([new Watch(config, options.json ? printAsJson : printLine, ended.signal).run(), left]);
    return 0;
  } finally {
    clearInterval(keepAlive);
  }
}

class Watch {
  /** After everything that was printed; undefined before the database was found for the first time. */
  #position: FeedPosition | undefined;
  #isWaiting = false;

  constructor(
    private readonly config: Config,
    private readonly printChange: (change: FeedEvent) => void,
    private readonly signal: AbortSignal,
  ) {}

  async run(): Promise<void> {
    while (!this.signal.aborted) {
      try {
        const url = this.config.databaseUrl ?? (await attachEmbeddedPostgres(this.config.dataDir))?.connectionString;
        if (url === undefined) this.#wait('no server has it open');
        else await this.#followAt(url);
      } catch (thrown) {
        const isFirst = this.#position === undefined && this.config.databaseUrl !== undefined;
        if (isFirst || TaskDashError.from(thrown).code !== 'STORAGE_UNAVAILABLE')
          throw explainDatabase(this.config, thrown);
        this.#wait(causeOf(thrown));
      }
      await delay(systemClock, LOOK_AGAIN_MS, this.signal);
    }
  }

  async #followAt(url: string): Promise<void> {
    // What the connections say of their state is said here, once.
    const log = createLog({
      logLevel: this.config.logLevel === 'debug' ? 'debug' : 'silent',
      logFormat: this.config.logFormat,
    });
    const storage = await openStorage({ url, nodeId: `cli-${defaultNodeName()}`, poolSize: 2, log });
    try {
      await this.#follow(storage);
    } finally {
      await Promise.race([storage.close().catch(() => {}), delay(systemClock, LEAVE_MS)]);
    }
  }

  async #follow(storage: Storage): Promise<void> {
    this.#position ??= await storage.feed.head();
    while (!this.signal.aborted) {
      const changes = await this.#next(storage, this.#position);
      this.#goOn();
      for (const change of changes) {
        this.printChange(change);
        this.#position = positionAfter(change);
      }
      if (changes.length === 0) await this.#hinted(storage.hints);
    }
  }

  /** What follows a place; nothing where the history no longer has it: then the place is now. */
  async #next(storage: Storage, position: FeedPosition): Promise<FeedEvent[]> {
    try {
      return await storage.feed.after(position, PAGE, MAX_BEHIND);
    } catch (thrown) {
      if (!TaskDashError.from(thrown).code.startsWith('RESUME_TOKEN_')) throw thrown;
      this.#position = await storage.feed.head();
      this.#goOn();
      printAside(
        'Changes may have been missed: the history does not go back to the last one that is printed here. Going on from now.',
      );
      return [];
    }
  }

  /** Resolves upon a hint that something changed, at the latest when it is time to look for it. */
  #hinted(hints: ChangeHints): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    const stop = hints.listen(wake);
    this.signal.addEventListener('abort', wake, { once: true });
    return delay(systemClock, POLL_MS, woken.signal).finally(() => {
      stop();
      this.signal.removeEventListener('abort', wake);
    });
  }

  /** Says that the database is away, and why, if that has not been said yet. */
  #wait(why: string): void {
    if (this.#isWaiting || this.signal.aborted) return;
    this.#isWaiting = true;
    const { databaseUrl, dataDir } = this.config;
    const which = databaseUrl === undefined ? `The database in ${resolve(dataDir)}` : 'The database';
    printAside(`${which} is away: ${why}. Waiting for it; Ctrl-C ends this.`);
  }

  #goOn(): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    printAside('The database is there; going on.');
  }
}

function causeOf(thrown: unknown): string {
  const { cause } = TaskDashError.from(thrown);
  return sentenceOf(cause ?? thrown).replace(/\.$/, '');
}

function printAsJson({ event, task }: FeedEvent): void {
  printJson({ event, task });
}

/** "2026-01-01T…Z  lapsed  133  running → shutdown  server  heartbeat_timeout" */
function printLine({ event, task }: FeedEvent): void {
  const { at, kind, fromStatus, toStatus, actor, cause } = event;
  const columns = [
    at.toISOString(),
    kind.padEnd(10),
    task.id,
    `${fromStatus || '-'} → ${toStatus}`,
    actor,
    ...(kind === 'lapsed' ? [cause] : []),
  ];
  print(columns.join('  '));
}
