import { randomBytes, randomInt } from 'node:crypto';
import { expect, it } from 'vitest';
import { Pile } from '../../server/transports/rpc/pile.js';

it('gives back what was put on it, in whatever pieces either happens', () => {
  for (let round = 0; round < 200; round++) {
    const bytes = randomBytes(randomInt(1, 300_000));
    const pile = new Pile();
    const taken: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const chunk = bytes.subarray(at, at + randomInt(1, 100_000));
      pile.add(chunk);
      at += chunk.length;
      if (randomInt(2) === 0) taken.push(pile.take(randomInt(0, pile.length + 1)));
    }
    taken.push(pile.take(pile.length));
    expect(Buffer.concat(taken).equals(bytes)).toBe(true);
    expect([pile.length, pile.size]).toEqual([0, 0]);
  }
});

it('takes no more memory than twice its bytes, or a block more', () => {
  const pile = new Pile();
  for (let n = 1; n <= 200_000; n++) {
    pile.add(Buffer.from([n & 255]));
    if (pile.size > 2 * n + 65_536) expect.fail(`${pile.size} bytes for ${n}`);
  }
  pile.clear();
  expect(pile.size).toBe(0);
});
