import { beforeEach, describe, expect, it } from 'vitest';
import { SessionWork } from '../../server/domain/session-work.js';
import { settle } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';

let clock: ManualClock;
let work: SessionWork;

beforeEach(() => {
  clock = new ManualClock();
  work = new SessionWork(clock, 3);
});

/** Begins a piece that ends when the test says so; undefined: it was not begun. */
function begin(sessionId: string): (() => void) | undefined {
  let finish = () => {};
  const piece = work.begin(sessionId, () => new Promise((resolve) => (finish = resolve)));
  return piece && finish;
}

describe('work for sessions', () => {
  it('is one piece at a time for each', async () => {
    const finish = begin('a');
    expect(begin('a')).toBeUndefined();
    expect(begin('b')).toBeDefined();
    finish?.();
    await settle();
    expect(begin('a')).toBeDefined();
  });

  it('is bounded', async () => {
    const [finish] = ['a', 'b', 'c'].map(begin);
    expect([work.room, begin('d')]).toEqual([0, undefined]);
    finish?.();
    await settle();
    expect(begin('d')).toBeDefined();
  });

  it('is waited for by a stop, for a second at most', async () => {
    const finish = begin('a');
    const stopped: string[] = [];
    const stop = (name: string) => work.stop().then(() => stopped.push(name));
    void stop('done');
    finish?.();
    await settle();
    expect(stopped).toEqual(['done']);
    begin('b');
    void stop('late');
    clock.advance(999);
    await settle();
    expect(stopped).toEqual(['done']);
    clock.advance(1);
    await settle();
    expect([stopped, clock.pendingTimers]).toEqual([['done', 'late'], 0]);
  });
});
