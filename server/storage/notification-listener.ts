/**
 * The one connection of a node that listens for what other nodes tell it by NOTIFY.
 *
 *   stopped ──start──► connecting ──LISTEN──► listening ──connection lost──► waiting ──back-off──► connecting …
 *                          └─────────── failed ──────────────────────────────►┘
 *
 * What is sent while it does not stand is missed; whoever depends on it has another way to find out, or asks for how long it
 * has been listening. It listens once it has heard what it sent to itself on another connection, and is probed in the same
 * way from then on: a connection without traffic can be dead for hours without anybody noticing, and behind a pooler that
 * lends connections by transaction nothing ever arrives.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { Clock, Timer } from '../domain/clock.js';
import type { Log } from '../domain/ports.js';
import { asUnavailable } from './postgres-errors.js';
import type { Postgres, Statement } from './postgres.js';
import { sessionConfig, type SessionSettings } from './session-options.js';

const PROBE_CHANNEL = 'taskdash_probe';
const NOTIFY: Statement = { name: 'probe_notify', text: 'SELECT pg_notify($1, $2)' };
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;
const PROBE_EVERY_MS = 15_000;
const ANSWER_TIMEOUT_MS = 5_000;

/** How to listen. */
export interface NotificationListenerSettings extends SessionSettings {
  readonly applicationName: string;
  readonly clock: Clock;
  readonly log: Log;
  /** How long the listening connection may take to stand or to answer, in milliseconds; 5 s where absent. */
  readonly answerTimeoutMs?: number;
}

export class NotificationListener {
  readonly #channels = new Map<string, (payload: string) => void>();
  readonly #onListening: (() => void)[] = [];
  #client: pg.Client | undefined;
  /** A connection that does not listen yet. */
  #candidate: pg.Client | undefined;
  #retry: Timer | undefined;
  #probe: Timer | undefined;
  #isProbing = false;
  #retryMs = RETRY_FIRST_MS;
  #sinceMs = Infinity;
  /** What is to arrive, and what then happens. */
  #echo: { readonly payload: string; readonly onHeard: () => void } | undefined;
  #started = false;

  constructor(
    private readonly postgres: Postgres,
    private readonly settings: NotificationListenerSettings,
  ) {
    this.on(PROBE_CHANNEL, (payload) => payload === this.#echo?.payload && this.#echo.onHeard());
  }

  /** Takes what is sent to a channel, one taker a channel. Before `start`. */
  on(channel: string, onPayload: (payload: string) => void): void {
    this.#channels.set(channel, onPayload);
  }

  /** Calls whenever listening has begun: what was sent before may have been missed. */
  onListening(callback: () => void): void {
    this.#onListening.push(callback);
  }

  /** Begins to listen. Idempotent. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    void this.#connect();
  }

  /** Ends listening; idempotent. */
  async stop(): Promise<void> {
    this.#started = false;
    this.#retry?.cancel();
    await this.#disconnect();
  }

  /** Whether what other nodes send arrives at the moment. */
  get isListening(): boolean {
    return this.#client !== undefined;
  }

  /** For how long that has been so without a break, in milliseconds. */
  get listeningForMs(): number {
    return this.isListening ? Math.max(0, this.settings.clock.monotonicMs() - this.#sinceMs) : 0;
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({
      ...sessionConfig(this.settings, this.#answerTimeoutMs),
      application_name: `${this.settings.applicationName} listener`,
      connectionTimeoutMillis: this.#answerTimeoutMs,
    });
    this.#candidate = client;
    // Without a listener, an error of an idle connection would end the process.
    client.on('error', (error) => this.#onLost(client, error));
    client.on('end', () => this.#onLost(client, undefined));
    client.on('notification', ({ channel, payload = '' }) => this.#channels.get(channel)?.(payload));
    try {
      await client.connect();
      for (const channel of this.#channels.keys()) await client.query(`LISTEN ${channel}`);
      await this.#hearItself();
      if (this.#candidate === client) this.#onStands(client);
    } catch (error) {
      await endClient(client);
      if (this.#candidate === client) this.#scheduleRetry(error);
    }
  }

  #onStands(client: pg.Client): void {
    this.#candidate = undefined;
    this.#client = client;
    this.#retryMs = RETRY_FIRST_MS;
    this.#sinceMs = this.settings.clock.monotonicMs();
    this.#scheduleProbe();
    for (const callback of this.#onListening) callback();
  }

  #scheduleProbe(): void {
    this.#probe = this.settings.clock.schedule(PROBE_EVERY_MS, () => this.probe());
  }

  /** Finds out whether the connection still hears, now; it is another one soon if not. */
  probe(): void {
    const client = this.#client;
    if (!client || this.#isProbing) return;
    this.#isProbing = true;
    this.#probe?.cancel();
    this.#hearItself()
      .finally(() => (this.#isProbing = false))
      .then(
        () => this.#client === client && this.#scheduleProbe(),
        (error: unknown) => this.#onLost(client, error),
      );
  }

  /** Resolves when what is sent on a connection of the pool has arrived here. */
  async #hearItself(): Promise<void> {
    const payload = randomUUID();
    let timer: NodeJS.Timeout | undefined;
    const heard = new Promise<void>((onHeard, reject) => {
      this.#echo = { payload, onHeard };
      timer = setTimeout(() => reject(new Error('a notification to ourselves did not arrive')), this.#answerTimeoutMs);
    });
    try {
      await Promise.all([heard, this.postgres.rows(NOTIFY, [PROBE_CHANNEL, payload])]);
    } finally {
      clearTimeout(timer);
    }
  }

  get #answerTimeoutMs(): number {
    return this.settings.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
  }

  #onLost(client: pg.Client, error: unknown): void {
    if (this.#client !== client) return;
    void this.#disconnect();
    this.#scheduleRetry(error);
  }

  #scheduleRetry(error: unknown): void {
    this.#candidate = undefined;
    this.settings.log.warn(
      { ...(error !== undefined && { err: asUnavailable(error) }), retryMs: this.#retryMs },
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
