/**
 * Remembers for a short while what a credential stands for, so that a thousand watches that look again are one query:
 * callers at the same time share one look-up, failures are not remembered, and the least recently used goes when it is
 * full. Keys are hashes: no secret is kept.
 */
import type { Clock } from './clock.js';
import { TaskDashError } from './errors.js';

/** What a look-up found, and for how many milliseconds after its start that may be told again. */
export interface Answer<T> {
  readonly value: T;
  readonly validForMs: number;
}

interface Entry<T> {
  value: Promise<T>;
  untilMs: number;
}

/** How many look-ups may be under way before new ones are refused. */
const MAX_UNDER_WAY = 1_000;

export class CredentialCache<T> {
  readonly #entries = new Map<string, Entry<T>>();
  #underWay = 0;

  constructor(
    private readonly clock: Clock,
    private readonly capacity: number,
  ) {}

  /** The remembered answer, or a new one. Throws what the look-up throws, and OVERLOADED. */
  get(key: string, lookUp: () => Promise<Answer<T>>): Promise<T> {
    const entry = this.#entries.get(key);
    if (!entry || entry.untilMs <= this.clock.monotonicMs()) return this.#ask(key, lookUp);
    this.#put(key, entry);
    return entry.value;
  }

  /** Forgets one credential: whoever asks from now on is answered anew. */
  forget(key: string): void {
    this.#entries.delete(key);
  }

  forgetAll(): void {
    this.#entries.clear();
  }

  #ask(key: string, lookUp: () => Promise<Answer<T>>): Promise<T> {
    if (this.#underWay >= MAX_UNDER_WAY) return Promise.reject(new TaskDashError('OVERLOADED', { retryAfterMs: 1000 }));
    const startedMs = this.clock.monotonicMs();
    const answer = lookUp();
    const entry: Entry<T> = { value: answer.then(({ value }) => value), untilMs: Infinity };
    this.#underWay++;
    this.#put(key, entry);
    answer.then(
      ({ validForMs }) => {
        this.#underWay--;
        entry.untilMs = startedMs + validForMs;
      },
      () => {
        this.#underWay--;
        if (this.#entries.get(key) === entry) this.#entries.delete(key);
      },
    );
    return entry.value;
  }

  /** Puts an entry at the end, which is where the most recently used are. */
  #put(key: string, entry: Entry<T>): void {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size <= this.capacity) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }
}
