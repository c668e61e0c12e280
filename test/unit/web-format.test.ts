import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DASH,
  formatAgo,
  formatClock,
  formatDay,
  formatDuration,
  formatExactInstant,
  formatInstant,
  formatNumber,
  formatTime,
  isoInstant,
} from '../../web/src/i18n/format.js';
import { checkNewPassword } from '../../web/src/state/new-password.js';
import { languageFor, readPreferences, DEFAULT_PREFERENCES } from '../../web/src/state/preferences.js';
import { safeLink, shortLink } from '../../web/src/state/safe-link.js';
import { eventsAfter, mergeEvents, newerTask } from '../../web/src/state/task-history.js';
import { BackOff } from '../../web/src/state/back-off.js';
import { create } from '@bufbuild/protobuf';
import { TaskEventSchema, TaskMark } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { aTask } from '../support/web-tasks.js';

const MINUTE = 60_000;

describe('a duration in words', () => {
  it.each([
    [0, '0 milliseconds', '0毫秒'],
    [999, '999 milliseconds', '999毫秒'],
    [1000, '1 second', '1秒钟'],
    [42_900, '42 seconds', '42秒钟'],
    [78 * MINUTE + 30_000, '1 hour 18 minutes', '1小时 18分钟'],
    [24 * 60 * MINUTE, '1 day', '1天'],
    [49 * 60 * MINUTE, '2 days 1 hour', '2天 1小时'],
  ])('of %i ms is %s', (ms, english, chinese) => {
    expect(formatDuration(ms, 'en')).toBe(english);
    expect(formatDuration(ms, 'zh-CN')).toBe(chinese);
  });
});

describe('how long ago something was', () => {
  it.each([
    [0, 'now', '现在'],
    [-5000, 'now', '现在'],
    [30_000, '30 sec. ago', '30秒前'],
    [3 * MINUTE, '3 min. ago', '3分钟前'],
    [26 * 60 * MINUTE, 'yesterday', '昨天'],
  ])('of %i ms is %s', (agoMs, english, chinese) => {
    expect(formatAgo(1e12 - agoMs, 1e12, 'en')).toBe(english);
    expect(formatAgo(1e12 - agoMs, 1e12, 'zh-CN')).toBe(chinese);
  });
});

describe('a day', () => {
  it('is that day everywhere, also where the clock of UTC shows the day before', () => {
    expect(formatDay(Date.UTC(2020, 6, 1), 'en')).toBe('2020-07-01');
    expect(formatDay(Date.UTC(2020, 6, 1), 'zh-CN')).toBe('2020/07/01');
  });
});

it('groups the digits of numbers', () => {
  expect(formatNumber(1234567, 'en')).toBe('1,234,567');
});

describe('what is no instant, or no number', () => {
  const TOO_FAR_MS = 8.64e15 + 1;
  const NUMBERS = [NaN, Infinity, -Infinity, TOO_FAR_MS, -TOO_FAR_MS, 1e300, Number('text'), Number.MAX_VALUE];
  const INSTANTS = { formatInstant, formatExactInstant, formatTime, formatDay, formatClock };

  describe.each(['en', 'zh-CN'] as const)('in %s', (locale) => {
    it.each(Object.entries(INSTANTS))('is a dash for %s', (_name, format) => {
      expect(NUMBERS.map((ms) => format(ms, locale))).toEqual(NUMBERS.map(() => DASH));
    });

    it('is a dash as a distance and as a duration', () => {
      for (const ms of NUMBERS) {
        expect([formatAgo(ms, 0, locale), formatAgo(0, ms, locale), formatDuration(ms, locale)]).toEqual([
          DASH,
          DASH,
          DASH,
        ]);
      }
      expect([NaN, Infinity, -Infinity].map((count) => formatNumber(count, locale))).toEqual([DASH, DASH, DASH]);
    });

    it('is a word for every number that there is', () => {
      fc.assert(
        fc.property(fc.double(), fc.double(), (ms, nowMs) => {
          const shown = [
            ...Object.values(INSTANTS).map((format) => format(ms, locale)),
            formatAgo(ms, nowMs, locale),
            formatDuration(ms, locale),
            formatNumber(ms, locale),
          ];
          expect(shown.every((text) => text !== '' && !/NaN|∞|undefined/.test(text))).toBe(true);
        }),
      );
    });
  });

  it('has no form for programs', () => {
    expect(NUMBERS.map(isoInstant)).toEqual(NUMBERS.map(() => undefined));
    expect(isoInstant(0)).toBe('1970-01-01T00:00:00.000Z');
  });
});

describe('what a browser remembers', () => {
  it('is read as far as it makes sense', () => {
    expect(readPreferences(null)).toEqual(DEFAULT_PREFERENCES);
    for (const broken of ['{', '[]', 'null', '"x"', '{"theme":"pink","density":3,"shortcuts":"no"}']) {
      expect(readPreferences(broken), broken).toEqual(DEFAULT_PREFERENCES);
    }
    const kept = { theme: 'dark', language: 'zh-CN', density: 'relaxed', shortcuts: false };
    expect(readPreferences(JSON.stringify(kept))).toEqual(kept);
  });

  it.each([
    [['zh-TW', 'en'], 'zh-CN'],
    [['fr', 'zh'], 'zh-CN'],
    [['en-GB', 'zh'], 'en'],
    [['fr'], 'en'],
    [[], 'en'],
  ])('%j makes the page speak %s', (wished, language) => {
    expect(languageFor(wished)).toBe(language);
  });
});

describe('an address of a task', () => {
  it.each([
    'javascript:alert(1)',
    'data:text/html,x',
    'file:///etc/passwd',
    'vbscript:x',
    '?',
    '',
    '/relative',
    '//host',
    'ftp://h/',
  ])('%j is no link', (url) => {
    expect(safeLink(url)).toBeUndefined();
  });

  it.each(['http://localhost:8080/v1/task', 'HTTPS://example.test/a?b=c#d'])('%j is one', (url) => {
    expect(safeLink(url)).toBe(new URL(url).href);
  });

  it('is shown without what is the same for all', () => {
    expect(shortLink('http://localhost:8080/')).toBe('localhost:8080');
  });
});

describe('a new password', () => {
  it.each([
    ['old password', 'short', 'short', 'short'],
    ['old password', '七个字的密码啊', '七个字的密码啊', 'short'],
    ['old password', 'old password', 'old password', 'same'],
    ['old password', 'new password', 'other password', 'different'],
    ['old password', 'new password', 'new password', ''],
  ])('%j → %j and %j: %j', (current, wanted, repeated, wrong) => {
    expect(checkNewPassword(current, wanted, repeated)).toBe(wrong);
  });
});

describe('the history of a task', () => {
  it('has each event once, newest first, and the newest record', () => {
    const event = (id: number) => create(TaskEventSchema, { id: BigInt(id) });
    const merged = mergeEvents([event(3), event(1)], [event(10), event(3), event(2)]);
    expect(merged.map((one) => Number(one.id))).toEqual([10, 3, 2, 1]);
    const [old, young] = [aTask({ revision: 1 }), aTask({ revision: 2 })];
    expect([newerTask(old, young), newerTask(young, old), newerTask(undefined, old)]).toEqual([young, young, old]);
    expect(eventsAfter([event(10), event(3), event(2)], [event(3), event(1)])).toEqual([event(10)]);
    expect(eventsAfter([event(10)], [])).toEqual([event(10)]);
  });

  it('takes the marks of the later reading of one version', () => {
    const [fresh, suspect] = [aTask({ marks: [] }), aTask({ marks: [TaskMark.SUSPECT] })];
    expect([newerTask(fresh, suspect), newerTask(suspect, fresh)]).toEqual([suspect, fresh]);
  });
});

describe('the waiting time', () => {
  it('doubles up to a bound, is spread by half, and keeps to what the server asks', () => {
    const waits = (random: number) => {
      const backOff = new BackOff({ firstMs: 100, maxMs: 1000, random: () => random });
      return Array.from({ length: 6 }, () => backOff.nextMs());
    };
    expect(waits(0)).toEqual([50, 100, 200, 400, 500, 500]);
    expect(waits(1)).toEqual([100, 200, 400, 800, 1000, 1000]);
    const backOff = new BackOff({ firstMs: 100, maxMs: 1000, random: () => 1 });
    expect([backOff.nextMs(5000), backOff.nextMs()]).toEqual([5000, 200]);
    backOff.reset();
    expect(backOff.nextMs()).toBe(100);
  });
});
