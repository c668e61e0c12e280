import { beforeEach, describe, expect, it } from 'vitest';
import { Poll, POLL_TIMES, type PollDoor } from '../../web/src/state/poll.js';
import { settle, WebTime } from '../support/web-time.js';

const REST_MS = 5_000;

/** A server that is asked, and answers when the test says so. */
class Door implements PollDoor<string> {
  readonly answers: string[] = [];
  readonly failures: unknown[] = [];
  readonly signals: AbortSignal[] = [];
  retryAfterMs: number | undefined = 0;
  #pending: { resolve: (answer: string) => void; reject: (reason: Error) => void } | undefined;

  get asked(): number {
    return this.signals.length;
  }

  ask(signal: AbortSignal): Promise<string> {
    this.signals.push(signal);
    return new Promise((resolve, reject) => (this.#pending = { resolve, reject }));
  }

  onAnswer(answer: string): number {
    this.answers.push(answer);
    return REST_MS;
  }

  onFailure(thrown: unknown): number | undefined {
    this.failures.push(thrown);
    return this.retryAfterMs;
  }

  async answer(text: string): Promise<void> {
    this.#pending?.resolve(text);
    await settle();
  }

  async fail(): Promise<void> {
    this.#pending?.reject(new Error('away'));
    await settle();
  }
}

let time: WebTime;
let door: Door;
let poll: Poll<string>;

beforeEach(() => {
  time = new WebTime();
  door = new Door();
  poll = new Poll(door, time);
});

describe('a poll', () => {
  it('asks sooner when told to, but not while an answer is under way or failed, nor oftener than its share of time allows', async () => {
    poll.askSooner();
    expect(door.asked).toBe(0);
    poll.start();
    poll.askSooner();
    expect(door.asked).toBe(1);
    await time.pass(100);
    await door.answer('one');
    await time.pass(100 / POLL_TIMES.share - 1);
    poll.askSooner();
    expect(door.asked).toBe(1);
    await time.pass(1);
    poll.askSooner();
    expect(door.asked).toBe(2);
    await door.fail();
    poll.askSooner();
    expect([door.asked, time.alarms]).toEqual([2, 1]);
  });

  it('asks at once, and again when the answer is no longer good', async () => {
    poll.start();
    await door.answer('one');
    await time.pass(REST_MS - 1);
    expect(door.asked).toBe(1);
    await time.pass(1);
    await door.answer('two');
    expect(door.answers).toEqual(['one', 'two']);
  });

  it('never has two questions under way, and starts only once', async () => {
    poll.start();
    poll.start();
    await time.pass(60_000);
    expect(door.asked).toBe(1);
    expect(time.alarms).toBe(0);
  });

  it('leaves a slow server alone for twenty times as long as it took', async () => {
    poll.start();
    await time.pass(1_000);
    await door.answer('slow');
    await time.pass(1_000 / POLL_TIMES.share - 1);
    expect(door.asked).toBe(1);
    await time.pass(1);
    expect(door.asked).toBe(2);
  });

  it('waits longer after each failure, never shorter than the server asks, and anew after an answer', async () => {
    poll.start();
    await door.fail();
    await time.pass(2_000);
    await door.fail();
    await time.pass(4_000);
    door.retryAfterMs = 9_000;
    await door.fail();
    await time.pass(9_000);
    await door.answer('back');
    await time.pass(REST_MS);
    door.retryAfterMs = 0;
    await door.fail();
    expect(time.waits).toEqual([2_000, 4_000, 9_000, REST_MS, 2_000]);
    expect(door.failures).toHaveLength(4);
  });

  it('ends when asking again makes no sense', async () => {
    door.retryAfterMs = undefined;
    poll.start();
    await door.fail();
    await time.pass(3_600_000);
    expect(door.asked).toBe(1);
    expect(time.alarms).toBe(0);
  });

  it('asks nothing and takes no answer once stopped, and goes on when started again', async () => {
    poll.start();
    poll.stop();
    expect(door.signals[0]?.aborted).toBe(true);
    await door.answer('too late');
    await time.pass(3_600_000);
    expect(door.answers).toEqual([]);
    expect(door.asked).toBe(1);
    poll.start();
    await door.answer('now');
    expect(door.answers).toEqual(['now']);
  });

  it('takes no failure once stopped', async () => {
    poll.start();
    poll.stop();
    await door.fail();
    expect(door.failures).toEqual([]);
    expect(time.alarms).toBe(0);
  });

  it('asked at once, drops the answer that is under way, and the planned time', async () => {
    poll.start();
    poll.askNow();
    expect(door.signals[0]?.aborted).toBe(true);
    await door.answer('new');
    poll.askNow();
    await door.answer('newer');
    expect(door.answers).toEqual(['new', 'newer']);
    expect(time.alarms).toBe(1);
  });

  it('is not woken while it is stopped', () => {
    poll.askNow();
    expect(door.asked).toBe(0);
  });
});
