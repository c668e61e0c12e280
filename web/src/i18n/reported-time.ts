/**
 * Reported times as people read them. The server says which instant a text means; how much of it the text itself knows
 * is read here: a day has no time of day, and a clock without a zone shows the same everywhere.
 */
import { DASH, formatClock, formatDay, formatExactInstant, formatInstant, isoInstant, type Locale } from './format.js';
import { visible } from './visible-text.js';

/** A reported time in words. */
export interface ReportedWords {
  readonly text: string;
  /** To the second and with the zone, where the text knows both. */
  readonly exact?: string;
  /** For programs, as `<time>` has it; absent where the text is no instant. */
  readonly datetime?: string | undefined;
  /** Whether it is a clock of no known zone. */
  readonly isZoneless?: boolean;
}

/** A day in the forms that the server reads, and what is behind it. */
const DAY =
  /^(?:(\d{4})[-./](\d{1,2})[-./](\d{1,2})(?![-./\d])|(\d{4})(\d{2})(\d{2})(?=\D|$|\d{6}(?!\d))|(\d{4})年(\d{1,2})月(\d{1,2})日)[ T]?(.*)$/s;
/** A clock without a zone; Go writes behind one how its monotonic clock stood. */
const CLOCK = /^(\d{1,2}):(\d{2})(?::\d{2}(?:[.,]\d{1,9})?)?(?: m=[+-]\d+\.\d+)?$/;
/** The same in Chinese, and without separators, as behind a day that has none. */
const CHINESE_CLOCK = /^(\d{1,2})[时時点點](?:(\d{1,2})分(?:\d{1,2}秒)?)?$/;
const COMPACT_CLOCK = /^(\d{2})(\d{2})(?:\d{2}(?:[.,]\d{1,9})?)?$/;
/** The first day of year 1, or in zones west of Greenwich the last one before it. */
const ZERO_DAYS = ['1-1-1', '0-12-31'];

/** Whether a text names no time: empty, or Go's zero time in one zone or another. */
export function isNoTime(reported: string): boolean {
  const day = readDay(reported);
  return day === undefined ? reported.trim() === '' : ZERO_DAYS.includes(day.date.join('-'));
}

/** A reported time, and the instant that it means; undefined: it means none, and is shown as it was reported. */
export function reportedWords(reported: string, instantMs: number | undefined, locale: Locale): ReportedWords {
  if (isNoTime(reported)) return { text: DASH };
  if (instantMs === undefined) return { text: visible(reported) };
  const day = readDay(reported);
  if (day?.rest === '') return dayWords(day.date, locale);
  const clock = day && (CLOCK.exec(day.rest) ?? CHINESE_CLOCK.exec(day.rest) ?? COMPACT_CLOCK.exec(day.rest));
  if (clock) return clockWords(day.date, [Number(clock[1]), Number(clock[2] ?? 0)], locale);
  const datetime = isoInstant(instantMs);
  if (datetime === undefined) return { text: visible(reported) };
  return { text: formatInstant(instantMs, locale), exact: formatExactInstant(instantMs, locale), datetime };
}

function dayWords(date: DateParts, locale: Locale): ReportedWords {
  const ms = msOf(date, [0, 0]);
  return { text: formatDay(ms, locale), datetime: isoInstant(ms)?.slice(0, 'yyyy-mm-dd'.length) };
}

/** The digits of the text, in no zone: the installation may read them in one of its own. */
function clockWords(date: DateParts, time: readonly [number, number], locale: Locale): ReportedWords {
  const ms = msOf(date, time);
  const datetime = isoInstant(ms)?.slice(0, 'yyyy-mm-ddThh:mm'.length);
  return { text: formatClock(ms, locale), datetime, isZoneless: true };
}

type DateParts = readonly [year: number, month: number, day: number];

function readDay(reported: string): { date: DateParts; rest: string } | undefined {
  const found = DAY.exec(reported.trim());
  if (!found) return undefined;
  const [year = 0, month = 0, day = 0] = found.slice(1, 10).filter(Boolean).map(Number);
  return { date: [year, month, day], rest: found[10] ?? '' };
}

function msOf([year, month, day]: DateParts, [hour, minute]: readonly [number, number]): number {
  const instant = new Date(0);
  instant.setUTCFullYear(year, month - 1, day);
  return instant.setUTCHours(hour, minute);
}
