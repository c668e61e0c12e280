import { create, fromBinary, toBinary, toJsonString } from '@bufbuild/protobuf';
import { timestampFromDate, TimestampSchema } from '@bufbuild/protobuf/wkt';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseInstant } from '../../server/domain/reported-time.js';

const told = (text: string) => parseInstant(text)?.toISOString() ?? null;

describe('a reported time', () => {
  it.each([
    ['2020-07-01T12:00:00+08:00', '2020-07-01T04:00:00.000Z'],
    ['2020-07-01 12:00:00 +0800', '2020-07-01T04:00:00.000Z'],
    ['2020-07-01 12:00:00.123 +0800 CST', '2020-07-01T04:00:00.123Z'],
    ['2020-07-01 12:00:00.123456789 +0800 CST m=+0.012345678', '2020-07-01T04:00:00.123Z'],
    ['2020-07-01 12:00:00 +0000 UTC', '2020-07-01T12:00:00.000Z'],
    ['2020-07-01 12:00:00 +0530 +0530', '2020-07-01T06:30:00.000Z'],
    ['2020-07-01T12:00:00+08', '2020-07-01T04:00:00.000Z'],
    ['20200701', '2020-07-01T00:00:00.000Z'],
    ['20200701 12:30', '2020-07-01T12:30:00.000Z'],
    ['2020年07月01日', '2020-07-01T00:00:00.000Z'],
    ['2020年7月1日 12:00:00', '2020-07-01T12:00:00.000Z'],
    ['2020/7/1', '2020-07-01T00:00:00.000Z'],
    ['1593576000', '2020-07-01T04:00:00.000Z'],
    ['1593576000123', '2020-07-01T04:00:00.123Z'],
    ['2020-07-01T24:00:00Z', '2020-07-02T00:00:00.000Z'],
    ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z'],
  ])('%s is an instant', (text, instant) => expect(told(text)).toBe(instant));

  it.each([
    '0001-01-01T00:00:00Z',
    '0001-01-01T00:00:00+08:00',
    '0001-01-01 00:00:00 +0000 UTC',
    '0001-01-01 08:05:43 +0805 LMT',
    '9999-12-31 23:59:59-01:00',
    '2020-07-01 24:30:00',
    '2020-07-01 12:60',
    '2020-07-01 12:00:00+99:99',
    '2020-02-30',
    '20201301',
    '12:00',
    '4102444800',
    '12345678901',
    '2020-07-01 12:00:00 CST',
    '',
  ])('%j is none', (text) => expect(told(text)).toBeNull());

  it('that is an instant can be sent, whatever it is', () => {
    const part = (max: number) => fc.integer({ min: 0, max });
    const text = fc
      .tuple(part(9999), part(13), part(32), part(25), part(61), part(61), part(99), fc.constantFrom('+', '-'))
      .map(([y, mo, d, h, mi, s, z, sign]) => {
        const two = (n: number) => String(n).padStart(2, '0');
        const day = `${String(y).padStart(4, '0')}-${two(mo)}-${two(d)}`;
        return `${day}T${two(h)}:${two(mi)}:${two(s)}${sign}${two(z)}:00`;
      });
    fc.assert(
      fc.property(fc.oneof(text, fc.string()), (reported) => {
        const instant = parseInstant(reported);
        if (!instant) return;
        const message = create(TimestampSchema, timestampFromDate(instant));
        expect(toJsonString(TimestampSchema, message)).toContain('T');
        expect(fromBinary(TimestampSchema, toBinary(TimestampSchema, message))).toEqual(message);
      }),
      { numRuns: 2000 },
    );
  });
});
