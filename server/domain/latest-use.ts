/**
 * Notes when credentials were used last, beside the calls that use them: none of those waits for it, and none is refused for it.
 *
 * One note is written at a time, so that a database that is slow loses one connection to them at most. A credential waits once,
 * with the latest of its uses. What does not find room, fails or is left at a stop is dropped: the next use is noted.
 */
import { doneWithin, type Clock } from './clock.js';
import type { IdentityStore, Log } from './ports.js';

const METHODS = { token: 'touchToken', session: 'touchSession' } as const;

/** Of what a use is noted. */
type Kind = keyof typeof METHODS;

interface Use {
  readonly kind: Kind;
  readonly hash: string;
  readonly at: Date;
}

const MAX_WAITING = 10_000;
const STOP_PATIENCE_MS = 500;

export class LatestUse {
  /** By credential, the one that has waited for longest first. */
  readonly #waiting = new Map<string, Use>();
  #isWriting = false;
  #writing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(
    private readonly store: Pick<IdentityStore, (typeof METHODS)[Kind]>,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Credentials whose latest use waits to be written. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Has a use written soon, unless too many wait. */
  note(kind: Kind, hash: string, at: Date): void {
    const key = `${kind} ${hash}`;
    if (this.#stopped || (this.#waiting.size >= MAX_WAITING && !this.#waiting.has(key))) return;
    this.#waiting.set(key, { kind, hash, at });
    if (!this.#isWriting) this.#writing = this.#writeAll();
  }

  /** Takes no more; resolves when what waits is written, or has waited for long enough. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await doneWithin(this.clock, STOP_PATIENCE_MS, this.#writing);
    this.#waiting.clear();
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    for (const [key, use] of this.#waiting) {
      this.#waiting.delete(key);
      await this.#write(use);
    }
    this.#isWriting = false;
  }

  async #write({ kind, hash, at }: Use): Promise<void> {
    try {
      await this.store[METHODS[kind]](hash, at);
    } catch (error) {
      this.log.warn({ err: error }, 'the latest use of a credential could not be noted');
    }
  }
}
