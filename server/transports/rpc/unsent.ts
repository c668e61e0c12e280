/**
 * Answers that their callers have not taken yet: each has its limit, but a caller may ask for many and read none. Where those
 * of one connection, of one address, or of all grow beyond what there is room for, the one goes of which nothing was taken
 * for longest. So does one of which nothing is taken for too long; and who has next to no room left is refused beforehand.
 */
import type { ConnectError } from '@connectrpc/connect';
import type { Clock } from '../../domain/clock.js';
import { TaskDashError } from '../../domain/errors.js';
import { describeError } from './errors.js';
import { HeldBytes, roomFor } from './held-bytes.js';
import { MAX_UNSENT, MAX_UNSENT_MS, type RpcLimits } from './limits.js';

export class Unsent extends HeldBytes {
  constructor(clock: Clock, { maxMessageBytes }: RpcLimits) {
    super(clock, { max: roomFor(MAX_UNSENT, maxMessageBytes), maxMs: MAX_UNSENT_MS, tooMuch, tooLate });
  }
}

function tooMuch(who: string, maxBytes: number): ConnectError {
  return overloaded(`${who} has some ${maxBytes} bytes of answers to take, as many as are kept: read them first.`);
}

function tooLate(): ConnectError {
  return overloaded(`Nothing of the answer was taken for ${MAX_UNSENT_MS / 1_000} s.`);
}

function overloaded(message: string): ConnectError {
  return describeError(new TaskDashError('OVERLOADED', { message, retryAfterMs: 1_000 }));
}
