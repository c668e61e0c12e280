import { describe, expect, it } from 'vitest';
import { TurnQueue } from '../../server/transports/rpc/turn-queue.js';

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

describe('the queue of turns', () => {
  it('begins so much at once, and the rest in the next turns, in order', async () => {
    const queue = new TurnQueue(3);
    const begun: number[] = [];
    for (let n = 0; n < 8; n++) queue.enter(() => begun.push(n));
    const seen = [[...begun]];
    for (let turn = 0; turn < 2; turn++) {
      await nextTurn();
      seen.push([...begun]);
    }
    expect(seen).toEqual([
      [0, 1, 2],
      [0, 1, 2, 3, 4, 5],
      [0, 1, 2, 3, 4, 5, 6, 7],
    ]);
  });

  it('lets nobody overtake who waits, and begins at once again when nobody does', async () => {
    const queue = new TurnQueue(1);
    const begun: string[] = [];
    queue.enter(() => {
      begun.push('a');
      queue.enter(() => begun.push('b'));
    });
    queue.enter(() => begun.push('c'));
    expect(begun).toEqual(['a']);
    for (let turn = 0; turn < 3; turn++) await nextTurn();
    expect(begun).toEqual(['a', 'b', 'c']);
    queue.enter(() => begun.push('d'));
    expect(begun).toEqual(['a', 'b', 'c', 'd']);
  });
});
