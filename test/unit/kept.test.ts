import { describe, expect, it } from 'vitest';
import { Kept } from '../../server/transports/kept.js';
import { ManualClock } from '../support/manual-clock.js';

describe('an answer that everybody may ask for', () => {
  it('is found once at a time, however long that takes, and told again for a second', async () => {
    const clock = new ManualClock();
    const finding: ((answer: number) => void)[] = [];
    const kept = new Kept(() => new Promise<number>((resolve) => finding.push(resolve)), clock);
    const asked = [kept.get(), kept.get()];
    clock.advance(1_500);
    asked.push(kept.get());
    expect(finding).toHaveLength(1);
    finding[0]?.(1);
    expect(await Promise.all(asked)).toEqual([1, 1, 1]);
    void kept.get();
    finding[1]?.(2);
    expect(await kept.get()).toBe(2);
    clock.advance(999);
    expect(await kept.get()).toBe(2);
    clock.advance(1);
    void kept.get();
    expect(finding).toHaveLength(3);
  });

  it('that could not be found is not looked for again at once either', async () => {
    const clock = new ManualClock();
    let times = 0;
    const kept = new Kept(() => Promise.reject(new Error(`not found ${++times}`)), clock);
    await expect(kept.get()).rejects.toThrow('not found 1');
    await expect(kept.get()).rejects.toThrow('not found 1');
    clock.advance(1_000);
    await expect(kept.get()).rejects.toThrow('not found 2');
  });
});
