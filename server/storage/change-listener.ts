/**
 * Hints that there may be something new, between nodes by NOTIFY and LISTEN, inside a node directly.
 *
 *   stopped ──start──► connecting ──LISTEN──► listening ──connection lost──► waiting ──back-off──► connecting …
 *                          └─────────── failed ──────────────────────────────►┘
 *
 * Only ever a hint: what changed is in task_event, and whoever reads there keeps a position. A hint that was lost while
 * the connection was down is made up for by one when it is back. A NOTIFY in every commit would make commits wait for
 * each other; here one follows after the commits, at most every 50 ms, on a connection of the pool. Listening has a
 * connection of its own, which is probed, since a connection without traffic can be dead for hours without anybody
 * noticing.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { Clock, Timer } from '../domain/clock.js';
import type { ChangeHints, Log } from '../domain/ports.js';
import type { Postgres, Statement } from './postgres.js';

const CHANNEL = 'taskdash_change';
const NOTIFY: Statement = { name: 'change_notify', text: 'SELECT pg_notify($1, $2)' };
const ANNOUNCE_EVERY_MS = 50;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;
const PROBE_EVERY_MS = 15_000;
const ANSWER_TIMEOUT_MS = 5_000;

/** How to listen. */
export interface ChangeListenerSettings {
  readonly url: string;
  readonly applicationName: string;
  readonly clock: Clock;
  readonly log: Log;
  /** How long the listening connection may take to stand or to answer, in milliseconds; 5 s where absent. */
  readonly answerTimeoutMs?: number;
}

export class ChangeListener implements ChangeHints {
  /** Tells our own notifications from those of other nodes. */
  readonly #sender = randomUUID();
  readonly #listeners = new Set<() => void>();
  #client: pg.Client | undefined;
  /** A connection that does not listen yet. */
  #candidate: pg.Client | undefined;
  #retry: Timer | undefined;
  #probe: Timer | undefined;
  #retryMs = RETRY_FIRST_MS;
  #started = false;
  #announcePause: Timer | undefined;
  #announceAgain = false;

  constructor(
    private readonly postgres: Postgres,
    private readonly settings: ChangeListenerSettings,
  ) {}

  /** Begins to listen; until the connection stands, other nodes' hints are missed. Idempotent. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    void this.#connect();
  }

  /** Ends listening and announcing; idempotent. */
  async stop(): Promise<void> {
    this.#started = false;
    this.#retry?.cancel();
    this.#announcePause?.cancel();
    this.#announcePause = undefined;
    await this.#disconnect();
  }

  /** Whether hints of other nodes arrive at the moment. */
  get isListening(): boolean {
    return this.#client !== undefined;
  }

  announce(): void {
    if (!this.#started) return;
    if (this.#announcePause) {
      this.#announceAgain = true;
      return;
    }
    this.#announceAgain = false;
    this.#announcePause = this.settings.clock.schedule(ANNOUNCE_EVERY_MS, () => {
      this.#announcePause = undefined;
      if (this.#announceAgain) this.announce();
    });
    this.#hint();
    this.postgres.rows(NOTIFY, [CHANNEL, this.#sender]).catch((error: unknown) => {
      this.settings.log.debug({ err: error }, 'other nodes could not be told of a change; they find it by themselves');
    });
  }

  listen(onHint: () => void): () => void {
    // A wrapper, so that one function may listen twice.
    const listener = () => onHint();
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #hint(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  async #connect(): Promise<void> {
    const { answerTimeoutMs = ANSWER_TIMEOUT_MS } = this.settings;
    const client = new pg.Client({
      connectionString: this.settings.url,
      application_name: `${this.settings.applicationName} listener`,
      connectionTimeoutMillis: answerTimeoutMs,
      query_timeout: answerTimeoutMs,
      keepAlive: true,
    });
    this.#candidate = client;
    // Without a listener, an error of an idle connection would end the process.
    client.on('error', (error) => this.#onLost(client, error));
    client.on('end', () => this.#onLost(client, undefined));
    client.on('notification', (message) => {
      if (message.payload !== this.#sender) this.#hint();
    });
    try {
      await client.connect();
      await client.query(`LISTEN ${CHANNEL}`);
      if (this.#candidate === client) this.#onListening(client);
    } catch (error) {
      await endClient(client);
      if (this.#candidate === client) this.#scheduleRetry(error);
    }
  }

  #onListening(client: pg.Client): void {
    this.#candidate = undefined;
    this.#client = client;
    this.#retryMs = RETRY_FIRST_MS;
    this.#scheduleProbe(client);
    this.#hint();
  }

  #scheduleProbe(client: pg.Client): void {
    this.#probe = this.settings.clock.schedule(PROBE_EVERY_MS, () => {
      client.query('SELECT 1').then(
        () => this.#client === client && this.#scheduleProbe(client),
        (error: unknown) => this.#onLost(client, error),
      );
    });
  }

  #onLost(client: pg.Client, error: unknown): void {
    if (this.#client !== client) return;
    void this.#disconnect();
    this.#scheduleRetry(error);
  }

  #scheduleRetry(error: unknown): void {
    this.#candidate = undefined;
    this.settings.log.warn(
      { err: error, retryMs: this.#retryMs },
      'hints of other nodes do not arrive for now: the listening connection was lost',
    );
    this.#retry = this.settings.clock.schedule(this.#retryMs, () => void this.#connect());
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }

  async #disconnect(): Promise<void> {
    const clients = [this.#client, this.#candidate];
    this.#client = undefined;
    this.#candidate = undefined;
    this.#probe?.cancel();
    for (const client of clients) if (client) await endClient(client);
  }
}

/** Ends a connection, at once if it does not take its leave in time. */
async function endClient(client: pg.Client): Promise<void> {
  const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } }).connection;
  const giveUp = setTimeout(() => stream.destroy(), 1_000);
  await client.end().catch(() => {});
  clearTimeout(giveUp);
  stream.destroy();
}
