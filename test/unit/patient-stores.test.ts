/** Every question to a store is patient, or has a reason why it is not. */
import { describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { Patience } from '../../server/domain/patience.js';
import { MANNERS, withPatience, type Stores } from '../../server/domain/patient-stores.js';
import { PostgresIdentityStore } from '../../server/storage/identity-store.js';
import { PostgresNodeStore } from '../../server/storage/node-store.js';
import { PostgresSessionStore } from '../../server/storage/session-store.js';
import { PostgresFeedStore } from '../../server/storage/task-feed-store.js';
import { PostgresTaskStore } from '../../server/storage/task-store.js';
import { ManualClock } from '../support/manual-clock.js';

const STORES = [
  ['tasks', PostgresTaskStore],
  ['identity', PostgresIdentityStore],
  ['sessions', PostgresSessionStore],
  ['nodes', PostgresNodeStore],
  ['feed', PostgresFeedStore],
] as const;

/** A store that is away when each of its methods is called for the first time. */
function storeInABlip(methods: readonly string[]) {
  const called = new Set<string>();
  const answer = (method: string) => () => {
    if (called.has(method)) return Promise.resolve();
    called.add(method);
    return Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
  };
  return Object.fromEntries(methods.map((method) => [method, answer(method)]));
}

describe.each(STORES)('the store of %s', (name, store) => {
  const methods = Object.getOwnPropertyNames(store.prototype).filter((method) => method !== 'constructor');

  it('has no method of which it is not said how patient it is, and why not', () => {
    expect(Object.keys(MANNERS[name]).sort()).toEqual(methods.sort());
    for (const manner of Object.values(MANNERS[name]))
      expect(typeof manner === 'string' ? manner : manner.because).toMatch(/^patient$|\w+ \w+/);
  });

  it('is asked again after a blip where it is said to be patient, and nowhere else', async () => {
    const clock = new ManualClock();
    const stores = { [name]: storeInABlip(methods) } as unknown as Stores;
    const storage = withPatience({ ...EMPTY, ...stores }, new Patience(clock, { deadlineMs: 5000, maxWaiting: 100 }));
    const asked = storage[name] as unknown as Record<string, () => Promise<void>>;
    const outcomes = Promise.allSettled(methods.map(async (method) => asked[method]?.()));
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    clock.advance(20);
    const answered = (await outcomes).flatMap(({ status }, index) => (status === 'fulfilled' ? [methods[index]] : []));
    const manners: Readonly<Record<string, unknown>> = MANNERS[name];
    expect(answered.sort()).toEqual(methods.filter((method) => manners[method] === 'patient').sort());
    expect(clock.pendingTimers).toBe(0);
  });
});

const EMPTY = Object.fromEntries(STORES.map(([name]) => [name, {}])) as unknown as Stores;
