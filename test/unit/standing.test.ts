import { beforeEach, describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { Standing } from '../../server/domain/standing.js';
import { ManualClock } from '../support/manual-clock.js';

const EVERY_MS = 2_000;

let clock: ManualClock;
let looks: number;
let lookUp: () => Promise<void>;
let standing: Standing;

beforeEach(() => {
  clock = new ManualClock();
  looks = 0;
  lookUp = () => Promise.resolve();
  standing = new Standing(() => (looks++, lookUp()), clock, EVERY_MS);
});

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

async function pass(ms: number): Promise<void> {
  clock.advance(ms);
  await settle();
}

/** Whether a promise is settled by now, and how. */
async function stateOf(promise: Promise<unknown>): Promise<unknown> {
  let state: unknown = 'waiting';
  promise.then(
    () => (state = 'confirmed'),
    (error: unknown) => (state = error),
  );
  await settle();
  return state;
}

const refusal = new TaskDashError('NOT_LOGGED_IN');

describe('the standing of a caller', () => {
  it('is looked up again and again, whether or not anybody asks', async () => {
    for (let n = 0; n < 5; n++) await pass(EVERY_MS);
    expect(looks).toBe(5);
  });

  it('needs no look-up where the last one is young', async () => {
    await pass(EVERY_MS - 1);
    expect(await stateOf(standing.confirmed())).toBe('confirmed');
    expect(looks).toBe(0);
  });

  it('ends with the refusal, for those who listen and those who ask', async () => {
    lookUp = () => Promise.reject(refusal);
    await pass(EVERY_MS);
    expect(standing.signal.reason).toBe(refusal);
    expect(await stateOf(standing.confirmed())).toBe(refusal);
    await pass(10 * EVERY_MS);
    expect([looks, clock.pendingTimers]).toEqual([1, 0]);
  });

  it('is waited for while it is being looked up', async () => {
    let refuse: (error: unknown) => void = () => {};
    lookUp = () => new Promise((_resolve, reject) => (refuse = reject));
    await pass(EVERY_MS);
    const asked = standing.confirmed();
    expect(await stateOf(asked)).toBe('waiting');
    refuse(refusal);
    expect(await stateOf(asked)).toBe(refusal);
  });

  it('is looked up at once by who asks after a standstill', async () => {
    clock.skip(10 * EVERY_MS);
    lookUp = () => Promise.reject(refusal);
    expect(await stateOf(standing.confirmed())).toBe(refusal);
  });

  it.each(['STORAGE_UNAVAILABLE', 'OVERLOADED'] as const)('is neither lost nor confirmed by %s', async (code) => {
    lookUp = () => Promise.reject(new TaskDashError(code));
    await pass(EVERY_MS);
    const asked = standing.confirmed();
    await pass(60_000);
    expect(await stateOf(asked)).toBe('waiting');
    expect(standing.signal.aborted).toBe(false);
    lookUp = () => Promise.resolve();
    await pass(EVERY_MS);
    expect(await stateOf(asked)).toBe('confirmed');
  });

  it('leaves nothing behind when the stream is over', async () => {
    await pass(EVERY_MS);
    standing.close();
    standing.close();
    await pass(10 * EVERY_MS);
    expect([looks, clock.pendingTimers]).toEqual([1, 0]);
    expect(await stateOf(standing.confirmed())).toBe('confirmed');
  });
});
