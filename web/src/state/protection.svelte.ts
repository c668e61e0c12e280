/**
 * Mass silence, and what administrators decide about it. Asked for every few seconds, which costs the server nothing but
 * an answer from memory; oftener while there is something to see.
 */
import * as api from '../api/api.js';
import { failureOf, isLoginOver, type Failure } from '../api/failure.js';
import { browserTime } from './browser-time.js';
import { incidentsOf, type Incident } from './incidents.js';
import { Poll } from './poll.js';
import { pollWhileVisible } from './poll-while-visible.js';
import { session } from './session.svelte.js';
import { findSessions, tasksOf, wouldExpire } from './session-walk.js';

/** What an administrator has decided here. */
export interface Decision {
  readonly kind: 'expired' | 'held';
  readonly node: string;
  readonly atMs: number;
}

/** What 'expire now' would end. */
export interface Stake {
  readonly sessions: number;
  readonly tasks: number;
  /** Whether these are all. */
  readonly isWhole: boolean;
}

const QUIET_MS = 5_000;
const ALARMED_MS = 2_000;

class ProtectionWatch {
  #incidents = $state.raw<readonly Incident[]>([]);
  #decision = $state.raw<Decision | undefined>();
  #failure = $state.raw<Failure | undefined>();

  readonly #poll = new Poll(
    {
      ask: (signal) => api.listProtections(signal),
      onAnswer: (answer) => {
        this.#incidents = incidentsOf(answer, Date.now(), this.#incidents);
        return this.#incidents.length > 0 ? ALARMED_MS : QUIET_MS;
      },
      onFailure: (thrown) => this.#onFailure(thrown),
    },
    browserTime,
  );

  /** The servers that protect tasks from mass silence now. */
  get incidents(): readonly Incident[] {
    return this.#incidents;
  }

  /** The names of these servers; empty when there is none. */
  get nodes(): string {
    return this.#incidents.map(({ node }) => node).join(', ');
  }

  /** What was decided here last, until it is dismissed. */
  get decision(): Decision | undefined {
    return this.#decision;
  }

  /** Why the last decision could not be carried out. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Whether it was decided here to end this, and the server has not yet done so. */
  isEnding({ node, sinceMs }: Incident): boolean {
    const decision = this.#decision;
    return decision?.kind === 'expired' && decision.node === node && decision.atMs > sinceMs;
  }

  /** Looks from now on; returns how to stop, which also forgets everything. */
  start(): () => void {
    const stop = pollWhileVisible(this.#poll);
    return () => {
      stop();
      this.#incidents = [];
      this.dismiss();
    };
  }

  /** What would end if this were ended now. Throws what the call threw. */
  async stakeOf({ node }: Incident, signal: AbortSignal): Promise<Stake> {
    const { sessions, isWhole } = await findSessions(api.listSessions, wouldExpire(node), signal);
    return { sessions: sessions.length, tasks: tasksOf(sessions), isWhole };
  }

  /** Lets what is silent on the incident's server expire now. */
  expireNow({ node }: Incident): Promise<void> {
    return this.#decide({ kind: 'expired', node }, () => api.expireNow(node));
  }

  /** Has nothing silent on the incident's server expire, for the longest time from now on. */
  hold({ node }: Incident): Promise<void> {
    return this.#decide({ kind: 'held', node }, () => api.holdProtection(node));
  }

  /** The viewer has taken note of what was decided, or could not be. */
  dismiss(): void {
    this.#decision = undefined;
    this.#failure = undefined;
  }

  async #decide(decision: Omit<Decision, 'atMs'>, carryOut: () => Promise<void>): Promise<void> {
    this.dismiss();
    try {
      await carryOut();
      this.#decision = { ...decision, atMs: Date.now() };
    } catch (thrown) {
      this.#failure = failureOf(thrown);
    }
    this.#poll.askNow();
  }

  /** What is known stays as it is: the header says how old everything is. */
  #onFailure(thrown: unknown): number | undefined {
    const failure = failureOf(thrown);
    if (!isLoginOver(failure)) return failure.retryAfterMs;
    session.end();
    return undefined;
  }
}

/** The one watch over mass silence. */
export const protection = new ProtectionWatch();
