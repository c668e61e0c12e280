/** What doors need to know who calls. The implementation is auth.ts. */
import type { Principal, User } from './access.js';
import type { UserRecord } from './ports.js';

/** What a call brought along to prove who it is. */
export interface Credentials {
  /** From `authorization: Bearer …`: a service token, or a login session's token. */
  readonly bearer?: string;
  /** From the session cookie. */
  readonly cookie?: string;
  /** The peer's address, without the port. */
  readonly address: string;
}

/** A fresh login; `token` goes into the cookie, or to the caller who asked for it. */
export interface Login {
  readonly token: string;
  readonly user: UserRecord;
  readonly expiresAt: Date;
}

/** Decides who somebody is. */
export interface Authenticator {
  /**
   * The principal behind the credentials, or undefined where there are none or the cookie's session has ended.
   * Throws NOT_LOGGED_IN for a bearer that is not valid (any more), and OVERLOADED for credentials that nobody here knows
   * yet, when their network has shown too many wrong ones. Answers may be some seconds old: two at most.
   */
  authenticate(credentials: Credentials): Promise<Principal | undefined>;
  /** Throws LOGIN_FAILED (same answer, same time for an unknown user and a wrong password), LOGIN_THROTTLED. */
  login(username: string, password: string, origin: { address: string; userAgent: string }): Promise<Login>;
  /** Ends the session behind the credentials; harmless when there is none. */
  logout(credentials: Credentials): Promise<void>;
  /** The stored user behind a principal. */
  describe(user: User): Promise<UserRecord>;
  /** Throws LOGIN_FAILED, REQUEST_INVALID; ends all other sessions of the user. */
  changePassword(user: User, credentials: Credentials, current: string, next: string): Promise<void>;
}
