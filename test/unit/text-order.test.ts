import fc from 'fast-check';
import { expect, it } from 'vitest';
import { compareTexts } from '../../server/storage/text-order.js';

const text = fc.string({ unit: 'binary', maxLength: 6 });
const sign = (number: number) => Math.sign(number);

it('orders texts as PostgreSQL orders their bytes', () => {
  expect(compareTexts('！', '😀')).toBeLessThan(0);
  fc.assert(
    fc.property(text, text, text, (start, one, other) => {
      const [left, right] = [start + one, start + other];
      expect(sign(compareTexts(left, right))).toBe(Buffer.compare(Buffer.from(left), Buffer.from(right)));
    }),
  );
});
