import { beforeEach, describe, expect, it } from 'vitest';
import { Turns } from '../../server/transports/tcpx/turns.js';
import { ManualClock } from '../support/manual-clock.js';

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

let clock: ManualClock;
let turns: Turns;
let taken: string[];

beforeEach(() => {
  clock = new ManualClock();
  turns = new Turns(clock);
  taken = [];
});

/** A connection with so many frames that wait, each of which takes so long. */
function connection(name: string, frames: number, frameMs = 1 / 32) {
  const [its, log] = [turns, taken];
  const self = {
    flush: () => {
      while (frames > 0 && its.admits(self)) {
        frames--;
        log.push(name);
        clock.advance(frameMs);
      }
    },
  };
  return self;
}

const times = (name: string) => taken.filter((one) => one === name).length;

describe('a turn of the legacy door', () => {
  it('takes frames for five milliseconds, of whomever, and the others in the next turns', async () => {
    connection('a', 300).flush();
    expect(times('a')).toBe(160);
    connection('b', 50).flush();
    expect(times('b')).toBe(0);
    await nextTurn();
    expect(taken).toHaveLength(320);
    await nextTurn();
    expect(taken).toHaveLength(350);
  });

  it('takes a frame that takes longer than it, and no second one', async () => {
    connection('a', 2, 15).flush();
    expect(times('a')).toBe(1);
    await nextTurn();
    expect(times('a')).toBe(2);
  });

  it('ends by whatever else is done in it, too', async () => {
    connection('a', 1).flush();
    clock.advance(5);
    connection('b', 1).flush();
    expect(times('b')).toBe(0);
    await nextTurn();
    expect(times('b')).toBe(1);
  });

  it('is a new one for whoever comes in the next turn of the loop', async () => {
    connection('a', 160).flush();
    await nextTurn();
    connection('b', 160).flush();
    expect(times('b')).toBe(160);
  });

  it('has a slice for each of those who wait, in their order', async () => {
    connection('x', 1, 5).flush();
    connection('a', 1_000).flush();
    connection('b', 8).flush();
    connection('c', 2, 1).flush();
    await nextTurn();
    expect(taken.slice(1, 20).join('')).toBe('aaaaabbbbbcaaaaabbb');
    expect(times('c')).toBe(2);
  });

  it('lets nobody in who has not waited while others do', async () => {
    connection('a', 1_000).flush();
    await nextTurn();
    const before = taken.length;
    connection('b', 1).flush();
    expect(taken).toHaveLength(before);
    await nextTurn();
    expect(times('b')).toBe(1);
  });
});
