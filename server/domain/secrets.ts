/**
 * The secrets that prove who somebody is: 256 random bits, base64url, after a prefix that tells their kind (and lets
 * scanners of repositories find leaked ones). They are stored only as SHA-256: they have too many bits for a slow hash
 * to add anything.
 */
import { createHash, randomBytes } from 'node:crypto';

/** How the token of a login session begins. */
export const SESSION_PREFIX = 'tds_';
/** How a service token begins. */
export const TOKEN_PREFIX = 'tdt_';

const SECRET_BYTES = 32;
const SECRET_FORM = /^(tds_|tdt_)[A-Za-z0-9_-]{43}$/;

/** 256 random bits as 43 characters. */
export function newSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64url');
}

/** How a secret is stored. */
export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url');
}

/** What a text can be by its form alone; undefined: no secret that was ever given. */
export function kindOfSecret(text: string): 'session' | 'token' | undefined {
  const prefix = SECRET_FORM.exec(text)?.[1];
  if (prefix === undefined) return undefined;
  return prefix === SESSION_PREFIX ? 'session' : 'token';
}
