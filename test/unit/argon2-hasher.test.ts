import { describe, expect, it } from 'vitest';
import { Argon2Hasher, HASHER_LIMITS } from '../../server/identity/argon2-hasher.js';
import type { Party } from '../../server/domain/fair-queue.js';
import { ManualClock } from '../support/manual-clock.js';

const OVERLOADED = { status: 'rejected', reason: { code: 'OVERLOADED' } };

describe('Argon2id', () => {
  it('makes hashes of the recommended strength that match their password and no other', async () => {
    const hasher = new Argon2Hasher();
    const hash = await hasher.hash('correct horse');
    expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    expect(await hasher.verify(hash, 'correct horse')).toBe(true);
    expect(await hasher.verify(hash, 'correct horsf')).toBe(false);
  });

  it('salts: a password has another hash every time', async () => {
    const hasher = new Argon2Hasher();
    expect(await hasher.hash('correct horse')).not.toBe(await hasher.hash('correct horse'));
  });

  it('refuses what is more than it can bear, and serves the rest', async () => {
    const hasher = new Argon2Hasher();
    const outcomes = await Promise.allSettled(Array.from({ length: 80 }, () => hasher.hash('x')));
    const served = HASHER_LIMITS.running + 64;
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(served);
    for (const outcome of outcomes.slice(served)) expect(outcome).toMatchObject(OVERLOADED);
    expect(await hasher.verify(await hasher.hash('y'), 'y')).toBe(true);
  });

  it('gives turns by network, those first who are known, and refuses the largest crowd where it is full', async () => {
    const hasher = new Argon2Hasher(new ManualClock(), { running: 1, waiting: 3, waitMs: 1000 });
    const done: string[] = [];
    const note = (name: string, party: Party) =>
      hasher.hash('x', party).then(
        () => done.push(name),
        (error: { code: string }) => done.push(`${name} ${error.code}`),
      );
    const crowd = (n: number) => note(`crowd ${n}`, { network: 'a', account: 'x', isKnown: false });
    const all = [0, 1, 2, 3].map(crowd);
    all.push(note('alone', { network: 'b', account: 'x', isKnown: false }));
    all.push(note('known', { network: 'c', account: 'x', isKnown: true }));
    await Promise.all(all);
    expect(done).toEqual(['crowd 3 OVERLOADED', 'crowd 0', 'known', 'crowd 1', 'alone', 'crowd 2']);
  });

  it('lets nobody wait beyond the deadline', async () => {
    const clock = new ManualClock();
    const hasher = new Argon2Hasher(clock, { running: 1, waiting: 2, waitMs: 1000 });
    const all = Promise.allSettled([hasher.hash('a'), hasher.hash('b'), hasher.hash('c')]);
    clock.advance(1000);
    const [first, ...late] = await all;
    expect(first).toMatchObject({ status: 'fulfilled' });
    expect(late).toMatchObject([OVERLOADED, OVERLOADED]);
    expect(clock.pendingTimers).toBe(0);
    await expect(hasher.hash('d')).resolves.toBeDefined();
  });

  it('gives its place on when a hash cannot be read, and does not repeat it in the error', async () => {
    const hasher = new Argon2Hasher(new ManualClock(), { running: 1, waiting: 1, waitMs: 1000 });
    const broken = '$argon2id$v=19$m=19456,t=2,p=1$abc';
    const error = await hasher.verify(broken, 'x').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(String(error)).not.toContain('abc');
    await expect(hasher.hash('x')).resolves.toBeDefined();
  });
});
