/**
 * Remembers for a short while what credentials stand for, so that a thousand watches that look again are one query.
 * Callers at the same time share one look-up, and a look-up that fails is not remembered. Keys are hashes: no secret is
 * kept.
 *
 * There are two memories and two lanes, so that whoever makes up credentials is in nobody's way:
 *
 *   known     stands for somebody, or did: told while it is fresh, looked up again when it is not. The least recently used
 *             goes when there are too many, and made-up ones push none out. Looking up again waits for no stranger, also
 *             where it has ended: who still shows it, such as an open stream, hears so however many strangers guess.
 *   wrong     stood for nobody a moment ago, and never did here: told so without a query.
 *   stranger  anything else: is looked up in a fair queue, few at once, and only while the caller's network has not
 *             guessed wrong too often. What turns out to stand for somebody costs the network nothing.
 */
import type { Clock } from './clock.js';
import { TaskDashError } from './errors.js';
import { FailureBuckets, type BucketOptions } from './failure-buckets.js';
import { FairQueue, type FairQueueLimits } from './fair-queue.js';
import { networkOf } from './network.js';

/** Whom a credential stands for, and for how many milliseconds after its look-up began that may be told again. */
export interface Answer<T> {
  readonly value: T;
  readonly validForMs: number;
}

/** Looks a credential up; undefined: it stands for nobody. */
export type LookUp<T> = () => Promise<Answer<T> | undefined>;

/** Limits of a cache. */
export interface CredentialCacheOptions {
  /** How many credentials are remembered that stand for somebody or did, and how many that do not. */
  readonly capacity: number;
  /** How long it is remembered that a credential stands for nobody. */
  readonly wrongMs: number;
  /** Wrong guesses of a network. */
  readonly guesses: BucketOptions;
  /** Look-ups of strangers. */
  readonly strangers: FairQueueLimits;
}

interface Known<T> {
  /** Undefined: it stands for nobody any more, or is still to be looked up. */
  value: T | undefined;
  untilMs: number;
  /** The look-up under way. */
  asking: Promise<T | undefined> | undefined;
}

/** How many known credentials may be looked up again at once, and how long the others wait for that. */
const RECHECKS = { running: 1_000, waitMs: 5_000 };

export class CredentialCache<T> {
  readonly #known = new Map<string, Known<T>>();
  /** Until when a credential is known to stand for nobody. */
  readonly #wrong = new Map<string, number>();
  readonly #strangers = new Map<string, Promise<T | undefined>>();
  readonly #guesses: FailureBuckets;
  readonly #queue: FairQueue;
  readonly #rechecks: FairQueue;

  constructor(
    private readonly clock: Clock,
    private readonly options: CredentialCacheOptions,
  ) {
    this.#guesses = new FailureBuckets(clock, options.guesses);
    this.#queue = new FairQueue(clock, options.strangers);
    this.#rechecks = new FairQueue(clock, { ...RECHECKS, waiting: options.capacity });
  }

  /**
   * The remembered answer, or a new one; undefined for a credential that stands for nobody. Throws what the look-up
   * throws, and OVERLOADED.
   */
  get(key: string, address: string, lookUp: LookUp<T>): Promise<T | undefined> {
    const known = this.#known.get(key);
    if (known) return this.#tell(key, known, address, lookUp);
    if ((this.#wrong.get(key) ?? 0) > this.clock.monotonicMs()) return Promise.resolve(undefined);
    return this.#strangers.get(key) ?? this.#askForStranger(key, address, lookUp);
  }

  /** Knows from now on that a credential stands for somebody; whom is still to be looked up. */
  expect(key: string): void {
    this.#put(this.#known, key, { value: undefined, untilMs: 0, asking: undefined });
  }

  /** Knows from now on that a credential that stood for somebody does so no more. */
  end(key: string): void {
    this.#strangers.delete(key);
    this.#noteEnded(key, this.clock.monotonicMs());
  }

  /** Whoever asks from now on is answered anew; who is known stays so. */
  ageAll(): void {
    for (const known of this.#known.values()) {
      known.untilMs = 0;
      known.asking = undefined;
    }
    this.#wrong.clear();
    this.#strangers.clear();
  }

  #tell(key: string, known: Known<T>, address: string, lookUp: LookUp<T>): Promise<T | undefined> {
    this.#put(this.#known, key, known);
    if (known.asking) return known.asking;
    if (known.untilMs > this.clock.monotonicMs()) return Promise.resolve(known.value);
    return this.#recheck(key, known, address, lookUp);
  }

  #recheck(key: string, known: Known<T>, address: string, lookUp: LookUp<T>): Promise<T | undefined> {
    let startedMs = 0;
    const answer = this.#rechecks.run({ network: networkOf(address), account: key, isKnown: true }, () => {
      startedMs = this.clock.monotonicMs();
      return lookUp();
    });
    const asking = answer.then((found) => found?.value);
    known.asking = asking;
    const conclude = (note: () => void) => {
      if (known.asking !== asking) return;
      known.asking = undefined;
      if (this.#known.get(key) === known) note();
    };
    answer.then(
      (found) => conclude(() => this.#note(key, found, startedMs)),
      () => conclude(() => {}),
    );
    return asking;
  }

  #askForStranger(key: string, address: string, lookUp: LookUp<T>): Promise<T | undefined> {
    const network = networkOf(address);
    let startedMs = 0;
    const answer = this.#inTurn(network, () => {
      startedMs = this.clock.monotonicMs();
      return lookUp();
    });
    const asking = answer.then((found) => found?.value);
    this.#strangers.set(key, asking);
    const conclude = (note: () => void) => {
      if (this.#strangers.get(key) !== asking) return;
      this.#strangers.delete(key);
      note();
    };
    answer.then(
      (found) => conclude(() => this.#note(key, found, startedMs)),
      () => conclude(() => {}),
    );
    return asking;
  }

  async #inTurn(network: string, lookUp: LookUp<T>): Promise<Answer<T> | undefined> {
    this.#requireGuess(network);
    return this.#queue.run({ network, account: '', isKnown: false }, async () => {
      // Others of this network may have guessed wrong meanwhile.
      this.#requireGuess(network);
      const found = await lookUp();
      if (!found) this.#guesses.spend(network);
      return found;
    });
  }

  #requireGuess(network: string): void {
    const waitMs = this.#guesses.waitMs(network);
    if (waitMs === 0) return;
    const seconds = Math.ceil(waitMs / 1000);
    const message = `Too many tokens or sessions that are not valid came from this network; try again in ${seconds} s.`;
    throw new TaskDashError('OVERLOADED', { message, retryAfterMs: waitMs });
  }

  #note(key: string, found: Answer<T> | undefined, startedMs: number): void {
    if (found) {
      this.#wrong.delete(key);
      this.#put(this.#known, key, { value: found.value, untilMs: startedMs + found.validForMs, asking: undefined });
    } else if (this.#known.has(key)) {
      this.#noteEnded(key, startedMs);
    } else {
      this.#put(this.#wrong, key, startedMs + this.options.wrongMs);
    }
  }

  #noteEnded(key: string, sinceMs: number): void {
    this.#put(this.#known, key, { value: undefined, untilMs: sinceMs + this.options.wrongMs, asking: undefined });
  }

  /** Puts an entry at the end, which is where the most recently used are. */
  #put<V>(memory: Map<string, V>, key: string, entry: V): void {
    memory.delete(key);
    memory.set(key, entry);
    if (memory.size <= this.options.capacity) return;
    const [oldest] = memory.keys();
    if (oldest !== undefined) memory.delete(oldest);
  }
}
