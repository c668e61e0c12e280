/**
 * Opaque tokens for pages and watches: signed, so that only what a node of this installation gave is taken back, and
 * bound to what they were given for, so that a token of one list does not continue another.
 *
 * Form: base64url(JSON payload) "." base64url(first 16 bytes of HMAC-SHA-256 over purpose, binding and payload).
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

const SIGNATURE_BYTES = 16;
const MAX_TOKEN_LENGTH = 4096;

export class TokenSealer {
  /** `secret` is shared by all nodes on one database. */
  constructor(private readonly secret: Uint8Array) {}

  /** Seals a JSON value for one purpose and binding (any JSON value, for example the filter of a list). */
  seal(purpose: string, binding: unknown, payload: unknown): string {
    const body = Buffer.from(JSON.stringify(payload)).toString('base64url');
    return `${body}.${this.#sign(purpose, binding, body).toString('base64url')}`;
  }

  /** The sealed value, or undefined when the token is not one that was sealed for this purpose and binding. */
  open(purpose: string, binding: unknown, token: string): unknown {
    const dot = token.indexOf('.');
    if (dot < 0 || token.length > MAX_TOKEN_LENGTH) return undefined;
    const body = token.slice(0, dot);
    const given = Buffer.from(token.slice(dot + 1), 'base64url');
    const expected = this.#sign(purpose, binding, body);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    return JSON.parse(Buffer.from(body, 'base64url').toString('utf8'));
  }

  #sign(purpose: string, binding: unknown, body: string): Buffer {
    const hmac = createHmac('sha256', this.secret);
    hmac.update(JSON.stringify([purpose, binding ?? null, body]));
    return hmac.digest().subarray(0, SIGNATURE_BYTES);
  }
}
