/**
 * Turns of calls whose answers may be long, or take the database long: lists, histories, counts. So few are under way at once
 * that they leave most of the database's connections to writes, finds and look-ups, and that what their answers take while
 * they are made is bounded; networks and accounts take turns at them (fair-queue.ts).
 *
 * A turn begins before anything is read, with room for the answer. It ends when the work is done and the door counts the
 * bytes of the answer itself (unsent.ts), or knows that there is none.
 */
import { Code, ConnectError, type HandlerContext } from '@connectrpc/connect';
import { ownerOf, type Principal } from '../../domain/access.js';
import type { Clock } from '../../domain/clock.js';
import { FairQueue, type Party } from '../../domain/fair-queue.js';
import { networkOf } from '../../domain/network.js';
import type { ReadingTurns } from '../reading-turns.js';
import { callerKey } from './guard.js';
import { answerKey } from './unsent.js';

/** The line has room for some dozens of people with some tabs each; nobody waits for longer than a find may take. */
const LINE = { waiting: 1_000, waitMs: 5_000 };

export class PageTurns {
  readonly #queue: FairQueue;

  /** `atOnce`: how many turns there are at the same time. */
  constructor(
    clock: Clock,
    atOnce: number,
    private readonly turns: Pick<ReadingTurns, 'forLongWork'>,
  ) {
    this.#queue = new FairQueue(clock, { ...LINE, running: atOnce });
  }

  /** Does the work when it is the caller's turn. Throws OVERLOADED, why the caller went, and what the work throws. */
  async run<T>(context: HandlerContext, principal: Principal, work: () => Promise<T>): Promise<T> {
    const end = await this.#queue.begin(partyOf(context, principal), signalOfGoing(context));
    try {
      const counted = context.values.get(answerKey).expect();
      const working = this.#work(work);
      // In the same turn of the event loop the answer is handed to where its bytes count.
      void Promise.allSettled([working, counted]).then(() => setImmediate(end));
      return working;
    } catch (crowded) {
      end();
      throw crowded;
    }
  }

  /** What follows, putting the answer into bytes, is long work. */
  async #work<T>(work: () => Promise<T>): Promise<T> {
    const page = await work();
    await this.turns.forLongWork();
    return page;
  }
}

function partyOf({ values }: HandlerContext, principal: Principal): Party {
  return { network: networkOf(values.get(callerKey).address), account: ownerOf(principal), isKnown: true };
}

/** Aborts when nobody waits for the answer any more. A stop alone does not mean that. */
function signalOfGoing({ signal }: HandlerContext): AbortSignal {
  const gone = new AbortController();
  const look = () => {
    const { code } = ConnectError.from(signal.reason);
    if (code === Code.Canceled || code === Code.DeadlineExceeded) gone.abort(signal.reason);
  };
  if (signal.aborted) look();
  else signal.addEventListener('abort', look, { once: true });
  return gone.signal;
}
