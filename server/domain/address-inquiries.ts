/**
 * Whether somebody was connected to another node from an address while a connection from there was already open here. A node
 * that is killed tells nothing any more, and of its sessions only its last renewal is known: so it is asked beforehand, as
 * soon as a connection comes.
 *
 *   connection opened ──► asked ──somebody is connected there from the address──► known of the address since it was asked
 *                           └──────nobody is, or the node is dead: no answer────► nothing is known
 *                                                 the last connection of the address here is gone ──► forgotten
 *
 * A question says when it was asked, and its answer repeats it: what is waited for is kept nowhere, and who is asked has to be
 * connected at that time or later. Nobody waits for an answer: who decides knows what has arrived by then.
 */
import type { AddressVisits } from './address-visits.js';
import type { Clock } from './clock.js';
import type { AddressQuestions } from './liveness-ports.js';
import { isOpenedBy } from './liveness-session.js';

/** What inquiries need. */
export interface AddressInquiriesOptions {
  readonly nodeId: string;
  readonly questions: AddressQuestions;
  readonly visits: Pick<AddressVisits, 'openAt'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** Whether other nodes live. */
  readonly hasPeers: () => boolean;
  /** Questions or answers may have been missed until now. */
  readonly onMissed: () => void;
}

export class AddressInquiries {
  /** Until when somebody was there at least, by node, on this node's monotonic time. Addresses of open connections only. */
  readonly #present = new Map<string, Map<string, number>>();

  constructor(private readonly options: AddressInquiriesOptions) {
    const { nodeId, questions, visits, onMissed } = options;
    questions.join(nodeId, {
      onAsked: (from, address, askedAtMs) => {
        if (visits.openAt(address) > 0) questions.answer(from, address, askedAtMs);
      },
      onAnswered: (from, address, askedAtMs) => this.#onAnswered(from, address, askedAtMs),
      onListening: onMissed,
    });
  }

  /** Addresses of which something is known. */
  get size(): number {
    return this.#present.size;
  }

  /** A connection from an address is open here. */
  ask(address: string): void {
    const { questions, clock, hasPeers } = this.options;
    if (hasPeers()) questions.ask(address, Math.ceil(clock.monotonicMs()));
  }

  /** No connection from an address is open here any more. */
  forget(address: string): void {
    this.#present.delete(address);
    this.options.questions.withdraw(address);
  }

  /** Whether somebody was connected to the node that opened a session, from an address, at a time or later. */
  wasThere(address: string, sessionId: string, sinceMs: number): boolean {
    const byNode = this.#present.get(address) ?? [];
    return [...byNode].some(([nodeId, atMs]) => isOpenedBy(nodeId, sessionId) && atMs >= sinceMs);
  }

  #onAnswered(nodeId: string, address: string, askedAtMs: number): void {
    if (this.options.visits.openAt(address) === 0) return;
    const byNode = this.#present.get(address) ?? new Map<string, number>();
    byNode.set(nodeId, Math.max(askedAtMs, byNode.get(nodeId) ?? 0));
    this.#present.set(address, byNode);
  }
}
