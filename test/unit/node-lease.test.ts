import { expect, it } from 'vitest';
import type { NodeRenewal, NodeReport } from '../../server/domain/liveness-ports.js';
import { NodeLease } from '../../server/domain/node-lease.js';
import { KeptLog, settle } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';

/** A clock whose timers go off a little before their time, as those of Node may. */
class EarlyClock extends ManualClock {
  override schedule(delayMs: number, callback: () => void) {
    return super.schedule(delayMs > 1 ? delayMs - 0.5 : delayMs, callback);
  }
}

it('a lease that runs out is noticed once, also by a timer that goes off early', async () => {
  const clock = new EarlyClock();
  let isAway = false;
  const renewal: NodeRenewal = { lapsed: false, peers: [], order: undefined };
  const store = {
    renew: () => (isAway ? Promise.reject(new Error('away')) : Promise.resolve(renewal)),
    release: () => Promise.resolve(),
  };
  let lost = 0;
  const lease = new NodeLease({
    ...{ store, clock, log: new KeptLog(), node: { id: 'a', name: 'a' }, leaseMs: 10_000, ttlMs: 30_000 },
    ...{ report: () => ({}) as NodeReport, onRenewed: () => {}, onLost: () => void lost++ },
  });
  await lease.start();
  isAway = true;
  for (let second = 0; second < 20; second++) {
    clock.advance(1_000);
    await settle();
  }
  expect([lease.isHeld, lost]).toEqual([false, 1]);
  await lease.stop();
});
