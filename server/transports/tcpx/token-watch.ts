/**
 * Looks again, for all connections of the door together, whether the tokens they have shown are still valid, and ends
 * those of a token that is not. One timer while there is anybody, one question a token however many connections have
 * shown it, few questions at once, and no second round while one is under way.
 *
 * Only the answer that a token is not valid ends anything: when the question fails for any other reason, such as that the
 * database is away, it is asked again in the next round.
 */
import { ownerOf, type Principal } from '../../domain/access.js';
import type { Clock, Timer } from '../../domain/clock.js';
import { TaskDashError } from '../../domain/errors.js';
import type { Log } from '../../domain/ports.js';

/** Decides who holds a token; throws NOT_LOGGED_IN for one that is not valid. */
export type TokenCheck = (token: string, address: string) => Promise<Principal>;

/** Who has shown a token. */
export interface TokenHolder {
  /** The client's address, without the port. */
  readonly address: string;
  /** The token is not valid any more. */
  onTokenEnded(): void;
}

interface Shown {
  readonly principal: Principal;
  readonly holders: Set<TokenHolder>;
}

const PERIOD_MS = 2_000;
const AT_ONCE = 4;

export class TokenWatch {
  readonly #shown = new Map<string, Shown>();
  #timer: Timer | undefined;
  #isAsking = false;

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly authenticate: TokenCheck,
  ) {}

  add(token: string, principal: Principal, holder: TokenHolder): void {
    const shown = this.#shown.get(token) ?? { principal, holders: new Set() };
    shown.holders.add(holder);
    this.#shown.set(token, shown);
    this.#arm();
  }

  /** Harmless for a holder that is not there. */
  remove(token: string, holder: TokenHolder): void {
    const shown = this.#shown.get(token);
    if (!shown?.holders.delete(holder) || shown.holders.size > 0) return;
    this.#shown.delete(token);
    if (this.#shown.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(): void {
    if (this.#timer || this.#isAsking || this.#shown.size === 0) return;
    this.#timer = this.clock.schedule(PERIOD_MS, () => {
      this.#timer = undefined;
      void this.#askAll();
    });
  }

  async #askAll(): Promise<void> {
    this.#isAsking = true;
    const tokens = [...this.#shown.keys()].values();
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (const token of tokens) await this.#ask(token);
      }),
    );
    this.#isAsking = false;
    this.#arm();
  }

  async #ask(token: string): Promise<void> {
    const shown = this.#shown.get(token);
    const [first] = shown?.holders ?? [];
    if (!shown || !first) return;
    try {
      await this.authenticate(token, first.address);
    } catch (thrown) {
      if (TaskDashError.from(thrown).code === 'NOT_LOGGED_IN') this.#end(token, shown);
    }
  }

  #end(token: string, { principal, holders }: Shown): void {
    // Whoever shows it again meanwhile is asked about anew.
    if (this.#shown.get(token)?.holders === holders) this.#shown.delete(token);
    const details = { holder: ownerOf(principal), connections: holders.size };
    this.log.info(details, 'a token is not valid any more; ending the legacy connections that showed it');
    for (const holder of holders) holder.onTokenEnded();
  }
}
