import { describe, expect, it } from 'vitest';
import { FairQueue, type FairQueueLimits, type Party } from '../../server/domain/fair-queue.js';
import { ManualClock } from '../support/manual-clock.js';

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));
const party = (network: string, account = '', isKnown = false): Party => ({ network, account, isKnown });

/** A queue with one place that somebody holds, and who got a turn after that. */
function rig(limits: Partial<FairQueueLimits> = {}) {
  const clock = new ManualClock();
  const queue = new FairQueue(clock, { running: 1, waiting: 100, waitMs: 1000, ...limits });
  const turns: string[] = [];
  const refused: string[] = [];
  let release = () => {};
  const held = queue.run(party('holder'), () => new Promise<void>((resolve) => (release = resolve)));
  const ask = (name: string, who: Party) =>
    queue
      .run(who, () => Promise.resolve(turns.push(name)))
      .catch((error: { code: string }) => refused.push(`${name} ${error.code}`));
  const finish = async () => {
    release();
    await held;
    await settle();
  };
  return { clock, queue, turns, refused, ask, finish };
}

describe('a fair queue', () => {
  it('gives networks turns one after the other, however many one of them has sent', async () => {
    const { turns, ask, finish } = rig();
    for (let n = 0; n < 50; n++) void ask(`a${n}`, party('a', `user-${n}`));
    void ask('b', party('b'));
    void ask('c', party('c'));
    await finish();
    expect(turns.slice(0, 4)).toEqual(['a0', 'b', 'c', 'a1']);
    expect(turns).toHaveLength(52);
  });

  it('gives accounts of a network turns one after the other', async () => {
    const { turns, ask, finish } = rig();
    for (let n = 0; n < 5; n++) void ask(`x${n}`, party('a', 'x'));
    void ask('y', party('a', 'y'));
    await finish();
    expect(turns).toEqual(['x0', 'y', 'x1', 'x2', 'x3', 'x4']);
  });

  it('gives every second turn to those who are known, and every second to strangers', async () => {
    const { turns, ask, finish } = rig();
    for (let n = 0; n < 3; n++) void ask(`s${n}`, party(`s${n}`));
    for (let n = 0; n < 3; n++) void ask(`k${n}`, party(`k${n}`, '', true));
    await finish();
    expect(turns).toEqual(['k0', 's0', 'k1', 's1', 'k2', 's2']);
  });

  it('keeps places for those who are known, full as it is of strangers', async () => {
    const { turns, refused, ask, finish } = rig({ waiting: 2 });
    for (let n = 0; n < 3; n++) void ask(`s${n}`, party(`s${n}`));
    void ask('k', party('k', '', true));
    await settle();
    expect(refused).toEqual(['s2 OVERLOADED']);
    await finish();
    expect(turns).toEqual(['k', 's0', 's1']);
  });

  it('gives the place of the latest of the largest crowd to somebody who comes alone, and refuses that one at once', async () => {
    const { turns, refused, ask, finish } = rig({ waiting: 3 });
    for (let n = 0; n < 3; n++) void ask(`a${n}`, party('a', 'x'));
    void ask('b', party('b'));
    void ask('b-more', party('b'));
    await settle();
    expect(refused).toEqual(['a2 OVERLOADED', 'b-more OVERLOADED']);
    await finish();
    expect(turns).toEqual(['a0', 'b', 'a1']);
  });

  it('gives an account that comes alone the place of another one of its network that has many', async () => {
    const { turns, refused, ask, finish } = rig({ waiting: 3 });
    for (let n = 0; n < 3; n++) void ask(`x${n}`, party('a', 'x'));
    void ask('y', party('a', 'y'));
    await finish();
    expect(refused).toEqual(['x2 OVERLOADED']);
    expect(turns).toEqual(['x0', 'y', 'x1']);
  });

  it('lets nobody wait beyond the deadline, and leaves no timer behind', async () => {
    const { clock, turns, refused, ask, finish } = rig();
    void ask('late', party('a'));
    clock.advance(999);
    void ask('early', party('b'));
    clock.advance(1);
    await finish();
    expect([refused, turns]).toEqual([['late OVERLOADED'], ['early']]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('lets go of whoever goes while they wait, and gives the turn to the next', async () => {
    const { clock, queue, turns, ask, finish } = rig();
    const caller = new AbortController();
    const reason = new Error('the caller went away');
    const waiting = queue.begin(party('a'), caller.signal);
    void ask('b', party('b'));
    caller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await finish();
    expect(turns).toEqual(['b']);
    expect(clock.pendingTimers).toBe(0);
    await expect(queue.begin(party('a'), caller.signal)).rejects.toBe(reason);
  });

  it('is held until a turn that was begun ends, and not by who goes meanwhile', async () => {
    const { queue } = rig({ running: 2 });
    const caller = new AbortController();
    const end = await queue.begin(party('a'), caller.signal);
    const next = queue.begin(party('b'));
    let isNext = false;
    void next.then(() => (isNext = true));
    caller.abort(new Error('gone'));
    await settle();
    expect(isNext).toBe(false);
    end();
    (await next)();
  });

  it('gives the place on when the work fails', async () => {
    const { queue } = rig({ running: 2 });
    await expect(queue.run(party('a'), () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    await expect(queue.run(party('a'), () => Promise.resolve(7))).resolves.toBe(7);
  });
});
