import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseInstant } from '../../server/domain/reported-time.js';
import { DASH, formatInstant } from '../../web/src/i18n/format.js';
import { isNoTime, reportedWords } from '../../web/src/i18n/reported-time.js';

/** What the page shows of a text, whose instant is the one that the server reads from it. */
function shown(reported: string): string {
  return reportedWords(reported, parseInstant(reported)?.getTime(), 'en').text;
}

describe('no time', () => {
  it.each([
    '',
    '  ',
    '0001-01-01T00:00:00Z',
    '0001-01-01T00:00:00+08:00',
    '0001-01-01 00:00:00 +0000 UTC',
    '0001-01-01 08:05:43 +0805 LMT',
    '0000-12-31T19:00:00-05:00',
    '0001年01月01日',
    '00010101',
    '0001.01.01',
    '00010101000000',
    '0001年1月1日0时0分',
  ])('%j is a dash', (reported) => {
    expect([isNoTime(reported), shown(reported)]).toEqual([true, DASH]);
    // Also where a server took it for an instant.
    expect(reportedWords(reported, -62_135_596_800_000, 'zh-CN').text).toBe(DASH);
  });

  it.each(['12:00', '0', '0001-01-02', '2001-01-01', '10001-01-01', 'never'])('%j is a time, or a text', (reported) => {
    expect(isNoTime(reported)).toBe(false);
  });
});

describe('a day', () => {
  it.each(['2020年07月01日', '2020年7月1日', '20200701', '2020/7/1', ' 2020-07-01 ', '2020.07.01'])(
    '%j is shown without a time of day',
    (reported) => {
      const instant = parseInstant(reported)?.getTime();
      expect(reportedWords(reported, instant, 'en')).toEqual({ text: '2020-07-01', datetime: '2020-07-01' });
      expect(reportedWords(reported, instant, 'zh-CN').text).toBe('2020/07/01');
    },
  );

  it('is that day also where the server reads it in a zone east or west of the viewer', () => {
    for (const hours of [-14, 12]) {
      expect(reportedWords('2020-07-01', Date.UTC(2020, 6, 1, hours), 'en').text).toBe('2020-07-01');
    }
  });
});

describe('a time without a zone', () => {
  it.each([
    '2020-07-01 12:00',
    '2020.07.01 12:00:59',
    '2020-07-01T12:00:00.123',
    '20200701 12:00',
    '2020年7月1日 12:00:00,5',
    '2020年7月1日12:00',
    '2020年7月1日12时',
    '2020年7月1日 12时00分',
    '2020年7月1日12点0分59秒',
    '20200701T120000',
    '20200701 1200',
    '20200701120000',
    '20200701120000.5',
    '2020-07-01 12:00:00.123 m=+0.01',
  ])('%j keeps its clock', (reported) => {
    for (const instantMs of [Date.UTC(2020, 6, 1, 12), Date.UTC(2020, 6, 1, 4)]) {
      expect(reportedWords(reported, instantMs, 'en')).toEqual({
        text: '2020-07-01 12:00',
        datetime: '2020-07-01T12:00',
        isZoneless: true,
      });
    }
  });
});

describe('a time with a zone', () => {
  it.each([
    '2020-07-01T12:00:00Z',
    '2020-07-01 20:00:00 +0800 CST m=+0.01',
    '2020-07-01T12:00:00+00',
    '20200701T120000Z',
    '20200701T200000+0800',
    '2020年7月1日20时00分+08:00',
    '1593604800',
    '1593604800000',
  ])('%j is shown in the zone of the viewer, to the second on demand', (reported) => {
    const ms = Date.UTC(2020, 6, 1, 12);
    expect(reportedWords(reported, ms, 'en')).toMatchObject({
      text: formatInstant(ms, 'en'),
      exact: expect.stringMatching(/:00:00 /) as string,
      datetime: '2020-07-01T12:00:00.000Z',
    });
  });
});

describe('a text that the page reads as a day and a clock', () => {
  it('is one that the server reads as the same one, in UTC', () => {
    const two = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, '0'));
    const day = fc.tuple(two(13), two(32)).chain(([m, d]) => fc.constantFrom(`2020${m}${d}`, `2020年${m}月${d}日`));
    const clock = fc
      .tuple(two(25), two(61), two(59))
      .chain(([h, m, s]) =>
        fc.constantFrom(`${h}${m}${s}`, `${h}${m}`, `${h}时${m}分`, `${h}点${m}分${s}秒`, `${h}时`),
      );
    fc.assert(
      fc.property(day, fc.constantFrom('', ' ', 'T'), clock, (date, between, time) => {
        const reported = date + between + time;
        const instant = parseInstant(reported);
        const words = reportedWords(reported, instant?.getTime(), 'en');
        if (!instant) expect(words).toEqual({ text: reported });
        else expect(words).toMatchObject({ datetime: instant.toISOString().slice(0, 16), isZoneless: true });
      }),
      { numRuns: 2000, seed: 20200701 },
    );
  });
});

describe('any other text', () => {
  it.each([
    '12:00',
    'soon',
    '2020-02-31',
    '2020-13-01',
    '0000-00-00 00:00:00',
    '2020-07-01 25:00',
    '2020年7月1日25时',
    '20200701250000',
  ])('%j is shown as it is', (reported) => expect(shown(reported)).toBe(reported));

  it('never fails, whatever it is and whatever instant it is said to mean', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.stringMatching(
        /^[01289]{3,5}[-./年]?[0-9]{1,2}[-./月]?[0-9]{1,2}日?([ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2})?)?Z?$/,
      ),
    );
    fc.assert(
      fc.property(text, fc.option(fc.double(), { nil: undefined }), (reported, instantMs) => {
        const { text: words } = reportedWords(reported, instantMs, 'zh-CN');
        expect(words).not.toBe('');
        expect(words).not.toMatch(/NaN|Invalid/);
      }),
      { numRuns: 1000 },
    );
  });
});
