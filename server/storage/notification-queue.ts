/**
 * What is to be sent by NOTIFY on one channel: many entries at once, each key once in a round, and again until the database
 * has taken them. A queue sends one notification at a time; others do not wait for it.
 */
import type { Clock, Timer } from '../domain/clock.js';
import type { Log } from '../domain/ports.js';
import type { Postgres, Statement } from './postgres.js';

const NOTIFY: Statement = { name: 'queue_notify', text: 'SELECT pg_notify($1, $2)' };
const SEND_EVERY_MS = 200;
const RETRY_MS = 500;
/** A payload has room for 8000 bytes. */
const MAX_BYTES = 7900;

interface Entry {
  readonly text: string;
  /** When it was first to be sent. */
  readonly sinceMs: number;
}

export class NotificationQueue {
  #waiting = new Map<string, Entry>();
  #sending: ReadonlyMap<string, Entry> = new Map();
  #timer: Timer | undefined;
  #isSending = false;
  #sentAtMs = -Infinity;
  #stopped = false;

  constructor(
    private readonly channel: string,
    /** What each notification begins with. */
    private readonly header: () => string,
    private readonly postgres: Postgres,
    private readonly clock: Clock,
    private readonly log: Log,
    /** How soon the first entry is sent after a pause; those of a crowd go together, a round every SEND_EVERY_MS. */
    private readonly firstAfterMs = SEND_EVERY_MS,
  ) {}

  /** Sends a text without spaces soon, in place of one of the same key that still waits. */
  add(key: string, text: string): void {
    const sinceMs = this.#waiting.get(key)?.sinceMs ?? this.clock.monotonicMs();
    this.#waiting.set(key, { text, sinceMs });
    this.#arm(Math.max(this.firstAfterMs, this.#sentAtMs + SEND_EVERY_MS - this.clock.monotonicMs()));
  }

  /** What waits under a key is not to be sent any more. */
  remove(key: string): void {
    this.#waiting.delete(key);
  }

  /** For how long the longest waiting entry has waited, in milliseconds; 0: none waits. */
  get waitsForMs(): number {
    const [sending] = this.#sending.values();
    const [waiting] = this.#waiting.values();
    const first = sending ?? waiting;
    return first ? this.clock.monotonicMs() - first.sinceMs : 0;
  }

  /** Sends no more; idempotent. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #arm(delayMs: number): void {
    if (this.#timer || this.#isSending || this.#stopped) return;
    this.#timer = this.clock.schedule(delayMs, () => {
      this.#timer = undefined;
      void this.#sendAll();
    });
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true;
    let nextMs = SEND_EVERY_MS;
    try {
      while (this.#waiting.size > 0 && !this.#stopped) await this.#sendSome();
    } catch (error) {
      nextMs = RETRY_MS;
      this.log.warn({ err: error, channel: this.channel }, 'other nodes could not be told yet; told again soon');
    }
    this.#isSending = false;
    this.#sentAtMs = this.clock.monotonicMs();
    if (this.#waiting.size > 0) this.#arm(nextMs);
  }

  async #sendSome(): Promise<void> {
    let payload = this.header();
    const sending = new Map<string, Entry>();
    for (const [key, entry] of this.#waiting) {
      if (payload.length + 1 + entry.text.length > MAX_BYTES) break;
      payload += ` ${entry.text}`;
      sending.set(key, entry);
      // What is to be sent of it from now on may come too late for this notification.
      this.#waiting.delete(key);
    }
    this.#sending = sending;
    try {
      await this.postgres.rows(NOTIFY, [this.channel, payload]);
    } catch (error) {
      this.#waiting = new Map([...sending, ...this.#waiting]);
      throw error;
    } finally {
      this.#sending = new Map();
    }
  }
}
