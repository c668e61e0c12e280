import { beforeEach, describe, expect, it } from 'vitest';
import { Deadline } from '../../server/domain/deadline.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { Patience, patient } from '../../server/domain/patience.js';
import { ManualClock } from '../support/manual-clock.js';

const AWAY = new TaskDashError('STORAGE_UNAVAILABLE');
let clock: ManualClock;
let patience: Patience;

beforeEach(() => {
  clock = new ManualClock();
  patience = new Patience(clock, { deadlineMs: 5000, maxWaiting: 2 });
});

/** Lets time pass in small steps, promises in between. */
async function pass(ms: number): Promise<void> {
  for (let step = 0; step < ms; step += 10) {
    clock.advance(10);
    await settle();
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

/** A read that fails until a moment, and how often it was tried. */
function awayUntil(ms: number) {
  const untilMs = clock.monotonicMs() + ms;
  const read = { tries: 0, attempt: () => Promise.resolve('') };
  read.attempt = () => {
    read.tries++;
    return clock.monotonicMs() < untilMs ? Promise.reject(AWAY) : Promise.resolve('answer');
  };
  return read;
}

function outcomeOf(read: Promise<unknown>): { now: unknown } {
  const outcome: { now: unknown } = { now: undefined };
  read.then(
    (value) => (outcome.now = value),
    (error: unknown) => (outcome.now = TaskDashError.from(error).code),
  );
  return outcome;
}

describe('a read', () => {
  it('waits until the database is back, with ever longer pauses', async () => {
    const away = awayUntil(3000);
    const outcome = outcomeOf(patience.keepTrying(away.attempt));
    await pass(2900);
    expect(outcome.now).toBeUndefined();
    await pass(500);
    expect(outcome.now).toBe('answer');
    expect(away.tries).toBeLessThan(13);
    expect([patience.waiting, clock.pendingTimers]).toEqual([0, 0]);
  });

  it('fails when its time is over', async () => {
    const outcome = outcomeOf(patience.keepTrying(awayUntil(60_000).attempt));
    await pass(4500);
    expect(outcome.now).toBeUndefined();
    await pass(500);
    expect(outcome.now).toBe('STORAGE_UNAVAILABLE');
    expect([patience.waiting, clock.pendingTimers]).toEqual([0, 0]);
  });

  it('fails when its time is over though the database says nothing at all', async () => {
    const outcome = outcomeOf(patience.keepTrying(() => new Promise(() => {})));
    await pass(5000);
    expect(outcome.now).toBe('STORAGE_UNAVAILABLE');
    expect(clock.pendingTimers).toBe(0);
  });

  it('fails when the time of all is over, whether it began before that was known or after', async () => {
    const silent = () => new Promise(() => {});
    const first = outcomeOf(patience.keepTrying(silent));
    patience.endBy(new Deadline(clock, 1000));
    const second = outcomeOf(patience.keepTrying(silent));
    await pass(990);
    expect([first.now, second.now]).toEqual([undefined, undefined]);
    await pass(10);
    expect([first.now, second.now]).toEqual(['STORAGE_UNAVAILABLE', 'STORAGE_UNAVAILABLE']);
    const third = outcomeOf(patience.keepTrying(silent));
    await pass(10);
    expect([third.now, patience.waiting, clock.pendingTimers]).toEqual(['STORAGE_UNAVAILABLE', 0, 0]);
  });

  it('that is refused fails at once', async () => {
    let tries = 0;
    const refused = () => {
      tries++;
      return Promise.reject(new TaskDashError('STORAGE_REFUSED'));
    };
    await expect(patience.keepTrying(refused)).rejects.toMatchObject({ code: 'STORAGE_REFUSED' });
    expect([tries, clock.pendingTimers]).toEqual([1, 0]);
  });

  it('fails at once when too many wait already', async () => {
    const waiting = [awayUntil(1000), awayUntil(1000)].map(({ attempt }) => outcomeOf(patience.keepTrying(attempt)));
    await settle();
    await expect(patience.keepTrying(awayUntil(1000).attempt)).rejects.toBe(AWAY);
    await pass(1600);
    expect(waiting.map(({ now }) => now)).toEqual(['answer', 'answer']);
  });
});

it('a store is patient where it reads, and nowhere else', async () => {
  class Store {
    readonly #answers = { read: 0, written: 0 };
    read(): Promise<string> {
      return this.#answers.read++ === 0 ? Promise.reject(AWAY) : Promise.resolve('read');
    }
    write(): Promise<string> {
      return this.#answers.written++ === 0 ? Promise.reject(AWAY) : Promise.resolve('written');
    }
  }
  const store = patient(new Store(), patience, ['read']);
  const outcome = outcomeOf(store.read());
  await pass(50);
  expect(outcome.now).toBe('read');
  await expect(store.write()).rejects.toBe(AWAY);
});
