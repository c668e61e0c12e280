/**
 * How often passwords may be tried.
 *
 * Failures are counted in the database, for all nodes, under two keys each: the account and the address.
 *
 * - An account that has failed five times in a quarter of an hour makes the next attempt wait one second after the last
 *   failure, two after the next, and so on up to a quarter of an hour. An honest login clears the account's failures.
 * - An address that has failed thirty times in a quarter of an hour is refused until a quarter of an hour after the last.
 * - A refused attempt is not counted: whoever only keeps knocking does not make the wait longer.
 *
 * Waiting alone would let an attacker who knocks all the time take every attempt that comes free, and so keep the owner
 * out. Therefore a network that the account has logged in from before counts on its own, and what others fail at from the
 * same address is not held against it: strangers slow down strangers only. Before an administrator has logged in for the
 * first time nobody could be known, so every account counts for each network on its own (auth.ts). Changing the password counts on its own too, because it needs a login already.
 *
 * The check happens before a hash is computed, and attempts under way count as failures until they have ended: many
 * guesses at once get no further than as many in a row. What other nodes have under way is not known here, so that a
 * cluster lets through as many at once as it has nodes, at most.
 */
import type { Clock } from './clock.js';
import { TaskDashError } from './errors.js';
import type { IdentityStore } from './ports.js';

/** Limits of attempts. */
export interface ThrottleOptions {
  /** How far back failures count, and the longest wait, in milliseconds. */
  readonly attemptWindowMs: number;
  /** Failures of an account before attempts have to wait. */
  readonly freeAccountFailures: number;
  /** Failures of an address before its attempts are refused. */
  readonly maxAddressFailures: number;
}

/** Under which keys an attempt counts. */
export interface AttemptKeys {
  readonly account: string;
  readonly address: string;
  /** Whether the account has logged in from this network before: then only its own failures there are held against it. */
  readonly isKnown?: boolean;
}

const FIRST_WAIT_MS = 1_000;

/** The key of an account for strangers, and how all keys begin that an honest login of a stranger clears. */
export function accountKey(username: string): string {
  return `account:${JSON.stringify(username)}`;
}

/** The key of an account for one network. */
export function accountAtKey(username: string, network: string): string {
  return `${accountKey(username)}@${network}`;
}

/** The key for somebody who is logged in and changes the password. */
export function passwordChangeKey(username: string): string {
  return `change:${JSON.stringify(username)}`;
}

/** The key of an address. */
export function addressKey(network: string): string {
  return `address:${network}`;
}

/** What this node knows of a key that the database may not tell yet. */
interface Tally {
  /** Attempts that were let through and have not ended. */
  underWay: number;
  /** Failures that this node has stored while anybody here looks at the key. */
  stored: number;
  /** When the latest of them was. */
  latest: Date | null;
  /** Who looks at the key; with the last one the tally goes. */
  holders: number;
}

type Tallies = Record<'account' | 'address', Tally>;

interface Failures {
  readonly count: number;
  readonly latest: Date | null;
}

export class LoginThrottle {
  readonly #tallies = new Map<string, Tally>();

  constructor(
    private readonly store: IdentityStore,
    private readonly clock: Clock,
    private readonly options: ThrottleOptions,
  ) {}

  /**
   * Runs an attempt; undefined means that it failed. Throws LOGIN_FAILED then, LOGIN_THROTTLED without running it, and
   * whatever the attempt throws, which counts as neither.
   */
  async attempt<T>(keys: AttemptKeys, work: () => Promise<T | undefined>): Promise<T> {
    const tallies = { account: this.#hold(keys.account), address: this.#hold(keys.address) };
    try {
      await this.#letIn(keys, tallies);
      try {
        return await this.#judge(keys, tallies, await work());
      } finally {
        tallies.account.underWay--;
        tallies.address.underWay--;
      }
    } finally {
      this.#letGo(keys.account, tallies.account);
      this.#letGo(keys.address, tallies.address);
    }
  }

  /** Counts the attempt as under way, or throws LOGIN_THROTTLED. */
  async #letIn(keys: AttemptKeys, { account, address }: Tallies): Promise<void> {
    const { freeAccountFailures, maxAddressFailures, attemptWindowMs } = this.options;
    const maxOfAddress = keys.isKnown ? Infinity : maxAddressFailures;
    // A crowd costs no query.
    if (account.underWay >= freeAccountFailures || address.underWay >= maxOfAddress) throw throttled(FIRST_WAIT_MS);
    const before = { account: account.stored, address: address.stored };
    const since = new Date(this.clock.now().getTime() - this.options.attemptWindowMs);
    const [ofAccount, ofAddress] = await Promise.all([
      this.store.failedLogins(keys.account, since),
      this.store.failedLogins(keys.address, since),
    ]);
    // From here on nothing is awaited, so that of many attempts at once each sees those before it.
    const afterFailures = (count: number) =>
      Math.min(FIRST_WAIT_MS * 2 ** (count - freeAccountFailures), attemptWindowMs);
    const waitMs = Math.max(
      this.#waitMs(withNewer(ofAccount, account, before.account), account, freeAccountFailures, afterFailures),
      this.#waitMs(withNewer(ofAddress, address, before.address), address, maxOfAddress, () => attemptWindowMs),
    );
    if (waitMs > 0) throw throttled(waitMs);
    account.underWay++;
    address.underWay++;
  }

  async #judge<T>(keys: AttemptKeys, tallies: Tallies, result: T | undefined): Promise<T> {
    if (result !== undefined) {
      await this.store.clearFailedLogins(keys.account);
      return result;
    }
    const at = this.clock.now();
    await Promise.all([this.store.addFailedLogin(keys.account, at), this.store.addFailedLogin(keys.address, at)]);
    for (const tally of [tallies.account, tallies.address]) {
      tally.stored++;
      tally.latest = at;
    }
    throw new TaskDashError('LOGIN_FAILED');
  }

  /** How long to wait: after the latest failure, or for those under way when they are as many as may still fail. */
  #waitMs(failures: Failures, tally: Tally, free: number, waitAfter: (count: number) => number): number {
    const restMs = failures.count < free ? 0 : this.#restOf(waitAfter(failures.count), failures.latest);
    if (restMs > 0) return restMs;
    const room = Math.max(1, free - failures.count);
    return tally.underWay < room ? 0 : FIRST_WAIT_MS;
  }

  /** What is left of a wait; never more than the whole, also where another node's clock is ahead. */
  #restOf(waitMs: number, latest: Date | null): number {
    const passedMs = this.clock.now().getTime() - (latest?.getTime() ?? 0);
    return Math.max(0, waitMs - Math.max(0, passedMs));
  }

  #hold(key: string): Tally {
    const tally = this.#tallies.get(key) ?? { underWay: 0, stored: 0, latest: null, holders: 0 };
    tally.holders++;
    this.#tallies.set(key, tally);
    return tally;
  }

  #letGo(key: string, tally: Tally): void {
    tally.holders--;
    if (tally.holders === 0) this.#tallies.delete(key);
  }
}

/** With the failures that were stored while the database was being asked: it may have answered without them. */
function withNewer(failures: Failures, tally: Tally, before: number): Failures {
  const newer = tally.stored - before;
  return { count: failures.count + newer, latest: newer > 0 ? tally.latest : failures.latest };
}

function throttled(waitMs: number): TaskDashError {
  return new TaskDashError('LOGIN_THROTTLED', {
    message: `There were too many failed logins; try again in ${Math.ceil(waitMs / 1000)} s.`,
    retryAfterMs: waitMs,
  });
}
