/**
 * Questions between nodes whether somebody is connected from an address, by NOTIFY: no row is written for them. Only who has
 * somebody there answers.
 *
 *   questions  <from> <asked at>/<address> …
 *   answers    <from> <to>/<asked at>/<address> …
 */
import type { Clock } from '../domain/clock.js';
import type { AddressQuestions, AddressQuestionsHooks } from '../domain/liveness-ports.js';
import type { Log } from '../domain/ports.js';
import type { NotificationListener } from './notification-listener.js';
import { NotificationQueue } from './notification-queue.js';
import type { Postgres } from './postgres.js';

/** The first of a moment goes out this soon: a node that is killed before it is asked never answers. */
const FIRST_AFTER_MS = 10;

export class AddressQuestionChannel implements AddressQuestions {
  #nodeId = '';
  #hooks: AddressQuestionsHooks | undefined;
  readonly #questions: NotificationQueue;
  readonly #answers: NotificationQueue;

  constructor(postgres: Postgres, notifications: NotificationListener, clock: Clock, log: Log) {
    const queue = (channel: string, take: (from: string, parts: readonly string[]) => void) => {
      notifications.on(channel, (payload) => {
        const [from = '', ...entries] = payload.split(' ');
        if (from !== this.#nodeId) for (const entry of entries) take(from, entry.split('/'));
      });
      return new NotificationQueue(channel, () => this.#nodeId, postgres, clock, log, FIRST_AFTER_MS);
    };
    this.#questions = queue('taskdash_address_question', (from, [askedAtMs, address = '']) =>
      this.#hooks?.onAsked(from, address, Number(askedAtMs)),
    );
    this.#answers = queue('taskdash_address_answer', (from, [to, askedAtMs, address = '']) => {
      if (to === this.#nodeId) this.#hooks?.onAnswered(from, address, Number(askedAtMs));
    });
    notifications.onListening(() => this.#hooks?.onListening());
  }

  ask(address: string, atMs: number): void {
    this.#questions.add(address, `${atMs}/${address}`);
  }

  withdraw(address: string): void {
    this.#questions.remove(address);
  }

  answer(nodeId: string, address: string, askedAtMs: number): void {
    this.#answers.add(`${nodeId}/${address}`, `${nodeId}/${askedAtMs}/${address}`);
  }

  join(nodeId: string, hooks: AddressQuestionsHooks): void {
    this.#nodeId = nodeId;
    this.#hooks = hooks;
  }

  /** Tells no more; idempotent. */
  stop(): void {
    for (const queue of [this.#questions, this.#answers]) queue.stop();
  }
}
