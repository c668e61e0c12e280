import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { markOf, parseMark, reaches, type Snapshot } from '../../server/storage/feed-mark.js';

const snapshot = (xmax: number, ...xip: number[]): Snapshot => ({
  generation: 'ab',
  xmax: BigInt(xmax),
  xip: xip.map(BigInt),
});

describe('a mark', () => {
  it('keeps what a snapshot of PostgreSQL says', () => {
    expect(parseMark(markOf('ab', '795:799:795,797'))).toEqual(snapshot(799, 795, 797));
    expect(parseMark(markOf('ab', '799:799:'))).toEqual(snapshot(799));
    expect(parseMark(markOf('ab', '18446744073709551614:18446744073709551615:')).xmax).toBe(2n ** 64n - 1n);
  });

  it('of a thousand open transactions fits into a token', () => {
    const xip = Array.from({ length: 1000 }, (_, index) => 4_000_000_000 + index * 37);
    expect(markOf('abcdef01', `${xip[0]}:4000099999:${xip.join(',')}`).length).toBeLessThan(4000);
  });

  it.each(['', 'ab', 'ab:1', 'ab:1:2', 'ab::', 'xy:1:', 'ab:1:1,', 'ab:-1:', 'ab:18446744073709551616:', 'ab:5:3,3'])(
    'is not %j',
    (text) => {
      expect(() => parseMark(text)).toThrowError(expect.objectContaining({ code: 'RESUME_TOKEN_INVALID' }) as Error);
    },
  );
});

describe('reaching', () => {
  it('means having seen everything that the other has seen', () => {
    expect(reaches(snapshot(10), snapshot(10))).toBe(true);
    expect(reaches(snapshot(11), snapshot(10))).toBe(true);
    expect(reaches(snapshot(10), snapshot(11))).toBe(false);
    expect(reaches(snapshot(11, 9), snapshot(10))).toBe(false);
    expect(reaches(snapshot(11, 9), snapshot(10, 9))).toBe(true);
    expect(reaches(snapshot(10), snapshot(12, 10, 11))).toBe(true);
    expect(reaches(snapshot(10), snapshot(12, 11))).toBe(false);
  });

  it('never holds between generations', () => {
    expect(reaches(snapshot(11), { ...snapshot(10), generation: 'cd' })).toBe(false);
  });

  it('agrees with the sets of transactions that two snapshots have seen', () => {
    const anySnapshot = fc
      .tuple(fc.integer({ min: 1, max: 12 }), fc.uniqueArray(fc.integer({ min: 1, max: 11 })))
      .map(([xmax, open]) => snapshot(xmax, ...open.filter((xid) => xid < xmax).sort((a, b) => a - b)));
    const seenBy = ({ xmax, xip }: Snapshot) =>
      Array.from({ length: Number(xmax) }, (_, xid) => BigInt(xid)).filter((xid) => !xip.includes(xid));
    fc.assert(
      fc.property(anySnapshot, anySnapshot, (later, earlier) => {
        const seen = new Set(seenBy(later));
        expect(reaches(later, earlier)).toBe(seenBy(earlier).every((xid) => seen.has(xid)));
      }),
      { numRuns: 2000 },
    );
  });
});
