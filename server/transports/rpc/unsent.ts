/**
 * Answers that their callers have not taken yet: each has its limit, but a caller may ask for many and read none. Where those
 * of one connection, of one address, or of all grow beyond what there is room for, the one goes of which nothing was taken
 * for longest. So does one of which nothing is taken for too long; and who has next to no room left is refused beforehand.
 *
 * Answers that may be long have room before they are made, as much as answers are expected to take (page-turns.ts).
 */
import { createContextKey, type ConnectError } from '@connectrpc/connect';
import type { Clock } from '../../domain/clock.js';
import { TaskDashError } from '../../domain/errors.js';
import { describeError } from './errors.js';
import { HeldBytes, roomFor, type Held, type Peer } from './held-bytes.js';
import { MAX_UNSENT, MAX_UNSENT_MS, type RpcLimits } from './limits.js';

/** Which part of a connection's room an answer is expected to take at most: those that are made at once, four, leave it half. */
const EXPECTED_PART = 1 / 8;

export class Unsent extends HeldBytes {
  readonly #expectedBytes: number;

  constructor(clock: Clock, { maxMessageBytes }: RpcLimits) {
    const max = roomFor(MAX_UNSENT, maxMessageBytes);
    super(clock, { max, maxMs: MAX_UNSENT_MS, tooMuch, tooLate });
    this.#expectedBytes = Math.min(maxMessageBytes, max.connection * EXPECTED_PART);
  }

  /** Keeps room for an answer that is to be made. Throws OVERLOADED where the caller has to take others first. */
  expect(peer: Peer): Held {
    const crowded = this.crowded(peer);
    if (crowded) throw crowded;
    const held = this.begin(peer, () => {});
    // Nobody has to take anything of it yet.
    held.settle(this.#expectedBytes);
    return held;
  }
}

/** The answer to one call, from before it is made until its own bytes count. */
export class AwaitedAnswer {
  #held: Held | undefined;
  #isCounted = false;
  #onCounted: () => void = () => {};

  /** Without a door nothing is kept for anybody. */
  constructor(
    private readonly unsent?: Unsent,
    private readonly peer: Peer = { connection: {}, address: '' },
  ) {}

  /** Keeps room for it; resolves when its own bytes count, or there will be none. Throws OVERLOADED. */
  expect(): Promise<void> {
    if (!this.unsent || this.#isCounted) return Promise.resolve();
    this.#held = this.unsent.expect(this.peer);
    return new Promise((resolve) => (this.#onCounted = resolve));
  }

  /** For the door, at the latest when the call is over: what is kept of it counts from now on; idempotent. */
  counted(): void {
    this.#isCounted = true;
    this.#held?.end();
    this.#onCounted();
  }
}

/** Under which a door puts the answer into the context of a call. */
export const answerKey = createContextKey<AwaitedAnswer>(new AwaitedAnswer(), { description: 'answer' });

function tooMuch(who: string, maxBytes: number): ConnectError {
  return overloaded(`${who} has some ${maxBytes} bytes of answers to take, as many as are kept: read them first.`);
}

function tooLate(): ConnectError {
  return overloaded(`Nothing of the answer was taken for ${MAX_UNSENT_MS / 1_000} s.`);
}

function overloaded(message: string): ConnectError {
  return describeError(new TaskDashError('OVERLOADED', { message, retryAfterMs: 1_000 }));
}
