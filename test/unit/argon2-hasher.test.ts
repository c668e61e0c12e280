import { describe, expect, it } from 'vitest';
import { Argon2Hasher } from '../../server/identity/argon2-hasher.js';

describe('Argon2id', () => {
  it('makes hashes of the recommended strength that match their password and no other', async () => {
    const hasher = new Argon2Hasher();
    const hash = await hasher.hash('correct horse');
    expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    expect(await hasher.verify(hash, 'correct horse')).toBe(true);
    expect(await hasher.verify(hash, 'correct horsf')).toBe(false);
  });

  it('refuses what is more than it can bear, and serves the rest', async () => {
    const hasher = new Argon2Hasher();
    const outcomes = await Promise.allSettled(Array.from({ length: 80 }, () => hasher.hash('x')));
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(66);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'OVERLOADED' });
    }
    expect(await hasher.verify(await hasher.hash('y'), 'y')).toBe(true);
  });
});
