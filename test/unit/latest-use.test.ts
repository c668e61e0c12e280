import { beforeEach, describe, expect, it } from 'vitest';
import { LatestUse } from '../../server/domain/latest-use.js';
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';

/** A store whose notes end when the test says so. */
class SlowStore {
  readonly begun: string[] = [];
  readonly #underWay: { resolve: () => void; reject: (error: Error) => void }[] = [];

  touchToken(hash: string, at: Date): Promise<void> {
    return this.#begin(`token ${hash} ${at.getTime()}`);
  }

  touchSession(hash: string, at: Date): Promise<void> {
    return this.#begin(`session ${hash} ${at.getTime()}`);
  }

  async finish(error?: Error): Promise<void> {
    const oldest = this.#underWay.shift();
    if (error) oldest?.reject(error);
    else oldest?.resolve();
    await settle();
  }

  #begin(note: string): Promise<void> {
    this.begun.push(note);
    return new Promise((resolve, reject) => this.#underWay.push({ resolve, reject }));
  }
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

let clock: ManualClock;
let store: SlowStore;
let warnings: string[];
let latestUse: LatestUse;

beforeEach(() => {
  clock = new ManualClock();
  store = new SlowStore();
  warnings = [];
  const log = { ...silentLog, warn: (_details: object, message: string) => void warnings.push(message) };
  latestUse = new LatestUse(store, clock, log);
});

const note = (hash: string, atMs: number) => latestUse.note('token', hash, new Date(atMs));

describe('the latest use of credentials', () => {
  it('is written one after the other, each credential once with the latest of its uses', async () => {
    note('a', 1);
    for (const atMs of [2, 3]) for (const hash of ['b', 'a', 'c']) note(hash, atMs);
    latestUse.note('session', 'b', new Date(4));
    expect([store.begun, latestUse.size]).toEqual([['token a 1'], 4]);
    for (let n = 0; n < 5; n++) await store.finish();
    expect(store.begun).toEqual(['token a 1', 'token b 3', 'token a 3', 'token c 3', 'session b 4']);
    expect(latestUse.size).toBe(0);
    note('a', 5);
    expect(store.begun.at(-1)).toBe('token a 5');
  });

  it('is told when it could not be written, and the others are written all the same', async () => {
    for (const hash of ['a', 'b']) note(hash, 1);
    await store.finish(new Error('away'));
    expect(warnings).toEqual(['the latest use of a credential could not be noted']);
    expect(store.begun).toEqual(['token a 1', 'token b 1']);
  });

  it('waits for at most ten thousand credentials, which still have the latest one noted', async () => {
    for (let n = 0; n <= 12_000; n++) note(`${n}`, 1);
    expect(latestUse.size).toBe(10_000);
    note('1', 2);
    await store.finish();
    expect(store.begun).toEqual(['token 0 1', 'token 1 2']);
  });

  it('is written before a stop is over, and taken no more after it', async () => {
    for (const hash of ['a', 'b']) note(hash, 1);
    const stopped = latestUse.stop();
    note('c', 1);
    for (let n = 0; n < 2; n++) await store.finish();
    await stopped;
    expect(store.begun).toEqual(['token a 1', 'token b 1']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('keeps a stop waiting for half a second at most, whatever it ends with', async () => {
    for (const hash of ['a', 'b']) note(hash, 1);
    let isOver = false;
    const stopped = latestUse.stop().then(() => (isOver = true));
    clock.advance(499);
    await settle();
    expect(isOver).toBe(false);
    clock.advance(1);
    await stopped;
    await store.finish(new Error('late'));
    expect([store.begun, warnings.length]).toEqual([['token a 1'], 1]);
  });
});
