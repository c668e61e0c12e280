import { describe, expect, it } from 'vitest';
import { FailureBuckets } from '../../server/domain/failure-buckets.js';
import { ManualClock } from '../support/manual-clock.js';

const OPTIONS = { size: 3, refillMs: 1000, networks: 2 };

describe('guesses of a network', () => {
  it('are some at once, then one every while, and never more than some', () => {
    const clock = new ManualClock();
    const buckets = new FailureBuckets(clock, OPTIONS);
    for (let n = 0; n < 3; n++) {
      expect(buckets.waitMs('a')).toBe(0);
      buckets.spend('a');
    }
    expect([buckets.waitMs('a'), buckets.waitMs('b')]).toEqual([1000, 0]);
    clock.advance(400);
    expect(buckets.waitMs('a')).toBe(600);
    clock.advance(600);
    expect(buckets.waitMs('a')).toBe(0);
    clock.advance(60_000);
    for (let n = 0; n < 3; n++) buckets.spend('a');
    expect(buckets.waitMs('a')).toBe(1000);
  });

  it('that were under way when the last one was spent make nobody wait longer', () => {
    const buckets = new FailureBuckets(new ManualClock(), OPTIONS);
    for (let n = 0; n < 7; n++) buckets.spend('a');
    expect(buckets.waitMs('a')).toBe(1000);
  });

  it('are kept of a bounded number of networks, the latest', () => {
    const buckets = new FailureBuckets(new ManualClock(), OPTIONS);
    for (const network of ['a', 'b', 'a', 'c']) for (let n = 0; n < 3; n++) buckets.spend(network);
    expect(['a', 'b', 'c'].map((network) => buckets.waitMs(network))).toEqual([1000, 0, 1000]);
  });
});
