import { beforeEach, describe, expect, it } from 'vitest';
import { Holding, SharedMemory } from '../../server/transports/tcpx/shared-memory.js';

let memory: SharedMemory;
let woken: string[];

beforeEach(() => {
  // 10,240 bytes beside 10 shares of 1,024.
  memory = new SharedMemory(20_480, 10);
  woken = [];
});

function waiter(name: string) {
  const [log] = [woken];
  return { wake: () => void log.push(name) };
}

function holding(bytes: number): Holding {
  const held = new Holding(memory);
  held.bytes = bytes;
  return held;
}

describe('memory that connections share', () => {
  it('has a share for each, however much others hold', () => {
    holding(100_000);
    expect([memory.hasRoom, memory.fits(1_024), memory.fits(1_025)]).toEqual([false, true, false]);
    expect(memory.admits(waiter('small'), 1_024)).toBe(true);
  });

  it('counts against what is left only what is beyond a share', () => {
    for (let n = 0; n < 9; n++) holding(1_024);
    const large = holding(10_000);
    expect(memory).toMatchObject({ bytes: 19_216, hasRoom: true });
    large.bytes = 11_264;
    expect(memory.hasRoom).toBe(false);
    large.bytes = 0;
    expect(memory).toMatchObject({ bytes: 9_216, hasRoom: true });
  });

  it('has small shares where there may be many connections', () => {
    memory = new SharedMemory(20_000, 1_000);
    expect([memory.fits(1_000_000), holding(1_000_000) && memory.fits(11), memory.fits(10)]).toEqual([
      true,
      false,
      true,
    ]);
  });

  it('is given to those who wait in their order, and nobody overtakes', () => {
    const first = holding(20_000);
    const [a, b, late] = [waiter('a'), waiter('b'), waiter('late')];
    expect([memory.admits(a, 5_000), memory.admits(b, 5_000)]).toEqual([false, false]);
    first.bytes = 9_000;
    expect(woken).toEqual(['a']);
    expect([memory.admits(late, 5_000), memory.admits(b, 5_000)]).toEqual([false, false]);
    expect(memory.admits(a, 5_000)).toBe(true);
    expect(woken).toEqual(['a', 'b']);
    expect(memory.admits(a, 9_000)).toBe(false);
    expect(memory.admits(b, 5_000)).toBe(true);
    expect(memory.admits(late, 5_000)).toBe(true);
    expect(woken).toEqual(['a', 'b', 'late', 'a']);
  });

  it('is in nobody’s way who leaves the line', () => {
    const first = holding(20_000);
    const [a, b] = [waiter('a'), waiter('b')];
    memory.admits(a, 5_000);
    memory.admits(b, 5_000);
    memory.leave(a);
    expect(woken).toEqual([]);
    first.bytes = 0;
    memory.leave(a);
    expect(woken).toEqual(['b']);
  });

  it('tells when there is room', async () => {
    const first = holding(20_000);
    let told = false;
    void memory.whenRoom().then(() => (told = true));
    first.bytes = 19_000;
    await Promise.resolve();
    expect(told).toBe(false);
    first.bytes = 0;
    await Promise.resolve();
    expect(told).toBe(true);
    await memory.whenRoom();
  });
});
