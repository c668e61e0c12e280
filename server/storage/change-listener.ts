/**
 * Hints that there may be something new, between nodes by NOTIFY and LISTEN, inside a node directly.
 *
 * Only ever a hint: what changed is in task_event, and whoever reads there keeps a position. A hint that was lost while
 * the listening connection was down is made up for by one when it is back. A NOTIFY in every commit would make commits
 * wait for each other; here one follows after the commits, at most every 50 ms, on a connection of the pool.
 */
import { randomUUID } from 'node:crypto';
import type { Clock, Timer } from '../domain/clock.js';
import type { ChangeHints, Log } from '../domain/ports.js';
import type { NotificationListener } from './notification-listener.js';
import type { Postgres, Statement } from './postgres.js';

const CHANNEL = 'taskdash_change';
const NOTIFY: Statement = { name: 'change_notify', text: 'SELECT pg_notify($1, $2)' };
const ANNOUNCE_EVERY_MS = 50;

export class ChangeListener implements ChangeHints {
  /** Tells our own notifications from those of other nodes. */
  readonly #sender = randomUUID();
  readonly #listeners = new Set<() => void>();
  #stopped = false;
  #announcePause: Timer | undefined;
  #announceAgain = false;

  constructor(
    private readonly postgres: Postgres,
    notifications: NotificationListener,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    notifications.on(CHANNEL, (sender) => sender !== this.#sender && this.#hint());
    notifications.onListening(() => this.#hint());
  }

  /** Announces no more; idempotent. */
  stop(): void {
    this.#stopped = true;
    this.#announcePause?.cancel();
    this.#announcePause = undefined;
  }

  announce(): void {
    if (this.#stopped) return;
    if (this.#announcePause) {
      this.#announceAgain = true;
      return;
    }
    this.#announceAgain = false;
    this.#announcePause = this.clock.schedule(ANNOUNCE_EVERY_MS, () => {
      this.#announcePause = undefined;
      if (this.#announceAgain) this.announce();
    });
    this.#hint();
    this.postgres.rows(NOTIFY, [CHANNEL, this.#sender]).catch((error: unknown) => {
      this.log.debug({ err: error }, 'other nodes could not be told of a change; they find it by themselves');
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
}
