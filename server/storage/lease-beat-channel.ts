/**
 * Beats of leases between nodes, by NOTIFY: no row is written for them. Many are told at once, each lease once in a round,
 * and told again until the database has taken them.
 */
import type { Clock, Timer } from '../domain/clock.js';
import type { LeaseBeats } from '../domain/liveness-ports.js';
import type { Log } from '../domain/ports.js';
import type { NotificationListener } from './notification-listener.js';
import type { Postgres, Statement } from './postgres.js';

const CHANNEL = 'taskdash_lease_beat';
const NOTIFY: Statement = { name: 'lease_beat_notify', text: 'SELECT pg_notify($1, $2)' };
const TELL_EVERY_MS = 200;
const RETRY_MS = 500;
/** A payload has room for 8000 bytes; an id takes 37. */
const MAX_IDS = 200;

export class LeaseBeatChannel implements LeaseBeats {
  #nodeId = '';
  readonly #waiting = new Set<string>();
  #onBeats: (fromNodeId: string, leaseIds: readonly string[]) => void = () => {};
  #timer: Timer | undefined;
  #isTelling = false;
  #stopped = false;

  constructor(
    private readonly postgres: Postgres,
    private readonly notifications: NotificationListener,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    notifications.on(CHANNEL, (payload) => {
      const [sender = '', ...ids] = payload.split(' ');
      if (sender !== this.#nodeId) this.#onBeats(sender, ids);
    });
  }

  get heardForMs(): number {
    return this.notifications.listeningForMs;
  }

  tell(leaseId: string): void {
    this.#waiting.add(leaseId);
    this.#arm(TELL_EVERY_MS);
  }

  join(nodeId: string, onBeats: (fromNodeId: string, leaseIds: readonly string[]) => void): void {
    this.#nodeId = nodeId;
    this.#onBeats = onBeats;
  }

  /** Tells no more; idempotent. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #arm(delayMs: number): void {
    if (this.#timer || this.#isTelling || this.#stopped) return;
    this.#timer = this.clock.schedule(delayMs, () => {
      this.#timer = undefined;
      void this.#tellAll();
    });
  }

  async #tellAll(): Promise<void> {
    this.#isTelling = true;
    let nextMs = TELL_EVERY_MS;
    try {
      while (this.#waiting.size > 0 && !this.#stopped) {
        const ids = [...this.#waiting].slice(0, MAX_IDS);
        await this.postgres.rows(NOTIFY, [CHANNEL, [this.#nodeId, ...ids].join(' ')]);
        for (const id of ids) this.#waiting.delete(id);
      }
    } catch (error) {
      nextMs = RETRY_MS;
      this.log.warn({ err: error }, 'other nodes could not be told that their leases were heard here; told again soon');
    }
    this.#isTelling = false;
    if (this.#waiting.size > 0) this.#arm(nextMs);
  }
}
