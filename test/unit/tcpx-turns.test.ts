import { beforeEach, describe, expect, it } from 'vitest';
import { Turns } from '../../server/transports/tcpx/turns.js';

const MIB = 1024 * 1024;
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

let turns: Turns;
let taken: string[];

beforeEach(() => {
  turns = new Turns();
  taken = [];
});

/** A connection with so many frames that wait, of so many bytes each. */
function connection(name: string, frames: number, bytes = 0) {
  const [its, log] = [turns, taken];
  const self = {
    flush: () => {
      while (frames > 0 && its.admits(self)) {
        frames--;
        log.push(name);
        its.onTaken(bytes);
      }
    },
  };
  return self;
}

const times = (name: string) => taken.filter((one) => one === name).length;

describe('a turn of the legacy door', () => {
  it('takes 128 small frames, of whomever, and the others in the next turns', async () => {
    connection('a', 300).flush();
    expect(times('a')).toBe(128);
    connection('b', 10).flush();
    expect(times('b')).toBe(0);
    await nextTurn();
    expect(taken).toHaveLength(256);
    await nextTurn();
    expect(taken).toHaveLength(310);
  });

  it('takes a frame that is larger than it, and no second one', async () => {
    connection('a', 2, 3 * MIB).flush();
    expect(times('a')).toBe(1);
    await nextTurn();
    expect(times('a')).toBe(2);
  });

  it('ends by what is only read, too', async () => {
    turns.onRead(MIB);
    connection('a', 1).flush();
    expect(times('a')).toBe(0);
    await nextTurn();
    expect(times('a')).toBe(1);
  });

  it('has a slice for each of those who wait, in their order', async () => {
    turns.onRead(MIB);
    connection('a', 1_000).flush();
    connection('b', 6).flush();
    connection('c', 1, MIB / 2).flush();
    await nextTurn();
    expect(taken.slice(0, 12).join('')).toBe('aaaabbbbcaaa');
    expect(times('b')).toBe(6);
  });

  it('lets nobody in who has not waited while others do', async () => {
    turns.onRead(MIB);
    connection('a', 1_000).flush();
    await nextTurn();
    const before = taken.length;
    connection('b', 1).flush();
    expect(taken).toHaveLength(before);
    await nextTurn();
    expect(times('b')).toBe(1);
  });
});
