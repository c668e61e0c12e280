import type { PasswordHasher } from '../../server/domain/ports.js';

/** Hashes nothing, and counts: for tests of what is asked of a hasher, not of the hashing. */
export class PlainHasher implements PasswordHasher {
  verified = 0;
  hashed = 0;
  /** What the next hash fails with, once. */
  failNextHashWith: Error | undefined;
  /** Runs before every verification; a test can hold it up here. */
  beforeVerify: () => Promise<unknown> = () => Promise.resolve();

  hash(password: string): Promise<string> {
    this.hashed++;
    const failure = this.failNextHashWith;
    this.failNextHashWith = undefined;
    return failure ? Promise.reject(failure) : Promise.resolve(`plain:${password}`);
  }

  async verify(hash: string, password: string): Promise<boolean> {
    this.verified++;
    await this.beforeVerify();
    return hash === `plain:${password}`;
  }
}
