/**
 * What is arriving and not whole yet, of all callers together: each message has its limit, but a caller may begin many and
 * end none. Where those of one connection, of one address, or of all grow beyond what there is room for, the oldest one has
 * to go, since whoever means it sends what they began. So does one that takes too long.
 */
import { Code, ConnectError } from '@connectrpc/connect';
import type { Clock } from '../../domain/clock.js';
import { TaskDashError } from '../../domain/errors.js';
import { describeError } from './errors.js';
import { HeldBytes, roomFor, type Held, type Peer } from './held-bytes.js';
import { MAX_ARRIVING, MAX_ARRIVING_MS, type RpcLimits } from './limits.js';

/** Who is sending. */
export type Sender = Peer;

/** One message, or the wait for one. */
export type Arrival = Held;

export class Arrivals extends HeldBytes {
  constructor(clock: Clock, { maxMessageBytes }: RpcLimits) {
    super(clock, { max: roomFor(MAX_ARRIVING, maxMessageBytes), maxMs: MAX_ARRIVING_MS, tooMuch, tooLate });
  }
}

function tooMuch(who: string, maxBytes: number): ConnectError {
  const message =
    `${who} had more than ${maxBytes} bytes of unfinished messages, and this one was the oldest: ` +
    'send fewer at once, and each to its end.';
  return describeError(new TaskDashError('OVERLOADED', { message, retryAfterMs: 1_000 }));
}

function tooLate(): ConnectError {
  const message = `the request did not arrive whole within ${MAX_ARRIVING_MS / 1_000} s; send it again, to its end`;
  return new ConnectError(message, Code.DeadlineExceeded);
}
