/** The order of a stop, and how its time is shared out. */
import { beforeEach, describe, expect, it } from 'vitest';
import { Deadline } from '../../server/domain/deadline.js';
import { sayGoodbye } from '../../server/domain/goodbye.js';
import { StopDeadline, Undo } from '../../server/stop.js';
import { KeptLog, settle } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';

let clock: ManualClock;
const never = () => new Promise<never>(() => {});

beforeEach(() => {
  clock = new ManualClock();
});

describe('a deadline', () => {
  it('tells whether something was done by then, and what it threw', async () => {
    const deadline = new Deadline(clock, 1000);
    expect(await deadline.holds(Promise.resolve())).toBe(true);
    await expect(deadline.holds(Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    const waited = deadline.holds(never());
    clock.advance(1000);
    expect(await waited).toBe(false);
    expect([deadline.leftMs, clock.pendingTimers]).toEqual([0, 0]);
  });

  it('counts from when it was made, also for an earlier one', () => {
    const deadline = new Deadline(clock, 1000);
    clock.advance(300);
    expect([deadline.leftMs, deadline.earlier(200).endsAtMs, deadline.earlier(5000).leftMs]).toEqual([700, 800, 0]);
  });

  it.each([
    { timeoutMs: 10_000, whole: 10_000, doors: 8_000, answers: 7_500 },
    { timeoutMs: 2_000, whole: 2_000, doors: 1_600, answers: 1_500 },
    { timeoutMs: 60_000, whole: 60_000, doors: 58_000, answers: 57_500 },
    { timeoutMs: 500, whole: 1_000, doors: 400, answers: 375 },
    { timeoutMs: 0, whole: 1_000, doors: 0, answers: 0 },
  ])('of $timeoutMs ms leaves time to answers and to the goodbye', ({ timeoutMs, whole, doors, answers }) => {
    const deadline = new StopDeadline(clock, timeoutMs);
    expect([deadline.endsAtMs, deadline.doors.endsAtMs, deadline.answers.endsAtMs]).toEqual([whole, doors, answers]);
  });
});

describe('undoing', () => {
  it('goes backwards, one after the other, all by the one deadline', async () => {
    const undo = new Undo();
    const order: string[] = [];
    undo.add(({ leftMs }) => void order.push(`database, ${leftMs} ms left`));
    undo.add(async (deadline) => {
      order.push(`goodbye, ${deadline.leftMs} ms left`);
      await deadline.holds(never());
    });
    undo.add(async ({ doors }) => {
      order.push(`doors, ${doors.leftMs} ms left`);
      await doors.holds(never());
    });
    const done = undo.run(new StopDeadline(clock, 10_000));
    expect(undo.run(new StopDeadline(clock, 99_000))).toBe(done);
    for (const ms of [8_000, 2_000]) {
      clock.advance(ms);
      await settle();
    }
    await done;
    expect(order).toEqual(['doors, 8000 ms left', 'goodbye, 2000 ms left', 'database, 0 ms left']);
  });

  it('goes on after a failure, and tells the first', async () => {
    const undo = new Undo();
    const order: string[] = [];
    undo.add(() => void order.push('last'));
    for (const name of ['second', 'first'])
      undo.add(() => {
        order.push(name);
        throw new Error(name);
      });
    await expect(undo.run(new StopDeadline(clock, 1000))).rejects.toThrow('first');
    expect(order).toEqual(['first', 'second', 'last']);
  });
});

describe('a goodbye', () => {
  it('gives each an equal part of what is left, and tells in one line what did not come through', async () => {
    const log = new KeptLog();
    const begun: number[] = [];
    const say = (how: () => Promise<boolean | void>) => () => (begun.push(clock.monotonicMs()), how());
    const farewells = [
      { what: 'a', say: say(never) },
      { what: 'b', say: say(() => Promise.resolve()) },
      { what: 'c', say: say(() => Promise.reject(new Error('refused'))) },
      { what: 'd', say: say(() => Promise.resolve(false)) },
      { what: 'e', say: say(never) },
    ];
    const done = sayGoodbye(farewells, new Deadline(clock, 1000), log);
    for (const ms of [200, 799]) {
      clock.advance(ms);
      await settle();
    }
    expect(begun).toEqual([0, 200, 200, 200, 200]);
    expect(log.lines).toEqual([]);
    clock.advance(1);
    await done;
    expect(log.lines).toMatchObject([
      { level: 'warn', details: { unsaid: ['a', 'c', 'd', 'e'], err: { message: 'refused' } } },
    ]);
  });

  it('that all came through needs no word', async () => {
    const log = new KeptLog();
    await sayGoodbye([{ what: 'a', say: () => Promise.resolve(true) }], new Deadline(clock, 1000), log);
    expect(log.lines).toEqual([]);
  });
});
