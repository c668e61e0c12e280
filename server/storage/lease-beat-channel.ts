/**
 * Beats of leases between nodes, and questions about them, by NOTIFY: no row is written for them. Each kind has a queue of
 * its own, so that an answer does not wait for beats that a stuck connection holds up.
 *
 *   beats      <from> <lease> <lease> …
 *   questions  <from> <lease>:<question> …
 *   ends       <from> <lease> <lease> …
 *   answers    <from> <to>:<lease>:<question>:<heard so many ms ago, or nothing> …
 */
import type { Clock } from '../domain/clock.js';
import type { LeaseBeats, LeaseBeatsHooks } from '../domain/liveness-ports.js';
import type { Log } from '../domain/ports.js';
import type { NotificationListener } from './notification-listener.js';
import { NotificationQueue } from './notification-queue.js';
import type { Postgres } from './postgres.js';

/** How soon an end is told: until then another server goes on answering beats. */
const END_AFTER_MS = 5;

export class LeaseBeatChannel implements LeaseBeats {
  #nodeId = '';
  #hooks: LeaseBeatsHooks | undefined;
  readonly #beats: NotificationQueue;
  readonly #ends: NotificationQueue;
  readonly #questions: NotificationQueue;
  readonly #answers: NotificationQueue;

  constructor(
    postgres: Postgres,
    private readonly notifications: NotificationListener,
    clock: Clock,
    log: Log,
  ) {
    const queue = (
      channel: string,
      take: (from: string, entries: readonly string[]) => void,
      firstAfterMs?: number,
    ) => {
      notifications.on(channel, (payload) => {
        const [from = '', ...entries] = payload.split(' ');
        if (from !== this.#nodeId) take(from, entries);
      });
      return new NotificationQueue(channel, () => this.#nodeId, postgres, clock, log, firstAfterMs);
    };
    this.#beats = queue('taskdash_lease_beat', (from, ids) => this.#hooks?.onBeats(from, ids));
    this.#ends = queue('taskdash_lease_over', (_from, ids) => this.#hooks?.onOver(ids), END_AFTER_MS);
    this.#questions = queue('taskdash_lease_question', (from, entries) => {
      for (const [id = '', question] of entries.map(partsOf)) this.#hooks?.onAsked(from, id, Number(question));
    });
    this.#answers = queue('taskdash_lease_answer', (from, entries) => {
      for (const [to, id = '', question, heard] of entries.map(partsOf)) {
        if (to === this.#nodeId) this.#hooks?.onAnswered(from, id, Number(question), heard ? Number(heard) : undefined);
      }
    });
  }

  get heardForMs(): number {
    return this.notifications.listeningForMs;
  }

  get untoldForMs(): number {
    return this.#beats.waitsForMs;
  }

  tell(leaseId: string): void {
    this.#beats.add(leaseId, leaseId);
  }

  tellOver(leaseId: string): void {
    this.#ends.add(leaseId, leaseId);
  }

  ask(leaseId: string, question: number): void {
    this.#questions.add(leaseId, `${leaseId}:${question}`);
  }

  answer(nodeId: string, leaseId: string, question: number, heardAgoMs: number | undefined): void {
    this.#answers.add(`${nodeId}:${leaseId}`, `${nodeId}:${leaseId}:${question}:${heardAgoMs ?? ''}`);
  }

  probe(): void {
    this.notifications.probe();
  }

  join(nodeId: string, hooks: LeaseBeatsHooks): void {
    this.#nodeId = nodeId;
    this.#hooks = hooks;
  }

  /** Tells no more; idempotent. */
  stop(): void {
    for (const queue of [this.#beats, this.#ends, this.#questions, this.#answers]) queue.stop();
  }
}

function partsOf(entry: string): string[] {
  return entry.split(':');
}
