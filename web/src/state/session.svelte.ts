/**
 * Who is logged in.
 *
 *   unknown ──► in ◄──► out          away: the server did not answer the first question; asked again by itself
 */
import type { User } from '../../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import * as api from '../api/api.js';
import { failureOf, isLoginOver, type Failure } from '../api/failure.js';
import { BackOff } from './back-off.js';

export type SessionState = 'unknown' | 'away' | 'in' | 'out';

class Session {
  #state = $state<SessionState>('unknown');
  #user = $state.raw<User | undefined>();
  #hasEnded = $state(false);
  #failure = $state.raw<Failure | undefined>();
  readonly #backOff = new BackOff({ firstMs: 1000, maxMs: 15_000, random: Math.random });
  #retry: ReturnType<typeof setTimeout> | undefined;

  get state(): SessionState {
    return this.#state;
  }

  get user(): User | undefined {
    return this.#user;
  }

  /** Whether somebody was logged in here and is no longer, without having logged out. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Why the server could not be asked, while `away`. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Asks the server who is logged in; while it does not answer, again and again. */
  async start(): Promise<void> {
    clearTimeout(this.#retry);
    try {
      this.#enter(await api.getCurrentUser());
      this.#backOff.reset();
    } catch (thrown) {
      this.#failure = failureOf(thrown);
      this.#state = 'away';
      this.#retry = setTimeout(() => void this.start(), this.#backOff.nextMs(this.#failure.retryAfterMs));
    }
  }

  /** Asks again who is logged in and what they may see; keeps what is known when the server does not answer. */
  async refresh(): Promise<void> {
    try {
      const user = await api.getCurrentUser();
      if (user) this.#user = user;
      else this.end();
    } catch (thrown) {
      if (isLoginOver(failureOf(thrown))) this.end();
    }
  }

  /** Throws what the call threw. */
  async login(username: string, password: string): Promise<void> {
    const user = await api.login(username, password);
    this.#hasEnded = false;
    this.#enter(user ?? (await api.getCurrentUser()));
  }

  /** Throws what the call threw; the login stays then. */
  async logout(): Promise<void> {
    await api.logout();
    this.#hasEnded = false;
    this.#enter(undefined);
  }

  /** Throws what the call threw. */
  async changePassword(current: string, next: string): Promise<void> {
    await api.changePassword(current, next);
    await this.refresh();
  }

  /** The server says that nobody is logged in any more. */
  end(): void {
    this.#hasEnded = this.#state === 'in';
    this.#enter(undefined);
  }

  #enter(user: User | undefined): void {
    this.#user = user;
    this.#failure = undefined;
    this.#state = user ? 'in' : 'out';
  }
}

/** The one login of the page. */
export const session = new Session();
