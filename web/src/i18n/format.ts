/**
 * Numbers, instants and durations in words, in the viewer's language and time zone. What is no number, or no instant of
 * a calendar, is a dash: one odd record must not keep a page from showing all others.
 */

/** The languages of the page, as BCP 47 names them. */
export type Locale = 'en' | 'zh-CN';

/** What stands where there is nothing to show. */
export const DASH = '–';

/** The calendar of JavaScript ends a hundred million days before and after 1970. */
const LAST_MS = 8.64e15;

const SECOND = 1000;
const STEPS = [
  ['day', 86_400 * SECOND],
  ['hour', 3600 * SECOND],
  ['minute', 60 * SECOND],
  ['second', SECOND],
] as const;

const cache = new Map<string, unknown>();

function cached<T>(key: string, make: () => T): T {
  const known = cache.get(key) as T | undefined;
  if (known !== undefined) return known;
  const made = make();
  cache.set(key, made);
  return made;
}

function dateFormat(locale: Locale, name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  return cached(`date ${locale} ${name}`, () => new Intl.DateTimeFormat(dateLocale(locale), options));
}

/** In a tool with tables, dates are numbers in the order of their size: the Swedish convention is ISO 8601's. */
function dateLocale(locale: Locale): string {
  return locale === 'en' ? 'sv-SE' : 'zh-CN';
}

function isInstant(ms: number): boolean {
  return Number.isFinite(ms) && Math.abs(ms) <= LAST_MS;
}

function formatDate(ms: number, locale: Locale, name: string, options: Intl.DateTimeFormatOptions): string {
  return isInstant(ms) ? dateFormat(locale, name, options).format(ms) : DASH;
}

const TO_THE_MINUTE = {
  year: 'numeric',
  month: '2-digit',
  day: '2-digit',
  hour: '2-digit',
  minute: '2-digit',
  hourCycle: 'h23',
} as const;

/** "2026-01-15 08:00": date and time to the minute. */
export function formatInstant(ms: number, locale: Locale): string {
  return formatDate(ms, locale, 'instant', TO_THE_MINUTE);
}

/** What a calendar and a clock of no known zone showed; the milliseconds are those of UTC with the same digits. */
export function formatClock(ms: number, locale: Locale): string {
  return formatDate(ms, locale, 'clock', { ...TO_THE_MINUTE, timeZone: 'UTC' });
}

/** An instant for programs, as `<time>` has it; undefined where it is none. */
export function isoInstant(ms: number): string | undefined {
  return isInstant(ms) ? new Date(ms).toISOString() : undefined;
}

/** "2026-01-15 08:00:05 GMT+8": for those who want to know exactly. */
export function formatExactInstant(ms: number, locale: Locale): string {
  const options = { dateStyle: 'short', timeStyle: 'long', hourCycle: 'h23' } as const;
  return formatDate(ms, locale, 'exact', options);
}

/** "08:00:05" */
export function formatTime(ms: number, locale: Locale): string {
  return formatDate(ms, locale, 'time', { timeStyle: 'medium', hourCycle: 'h23' });
}

/** A calendar day that was reported without a time of day: it is that day in every time zone. */
export function formatDay(ms: number, locale: Locale): string {
  const options = { year: 'numeric', month: '2-digit', day: '2-digit', timeZone: 'UTC' } as const;
  return formatDate(ms, locale, 'day', options);
}

/** "3 min. ago"; instants in the near future, by a clock that is ahead, count as now. */
export function formatAgo(ms: number, nowMs: number, locale: Locale): string {
  if (!isInstant(ms) || !isInstant(nowMs)) return DASH;
  const agoMs = Math.max(0, nowMs - ms);
  const [unit, sizeMs] = STEPS.find(([, size]) => agoMs >= size) ?? ['second', SECOND];
  const format = cached(
    `ago ${locale}`,
    () => new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' }),
  );
  return format.format(-Math.floor(agoMs / sizeMs), unit);
}

/** "2 hours 5 minutes": the two largest units; below a second in milliseconds. */
export function formatDuration(ms: number, locale: Locale): string {
  if (!isInstant(ms)) return DASH;
  if (ms < SECOND) return formatUnit(Math.max(0, Math.round(ms)), 'millisecond', locale);
  const first = STEPS.findIndex(([, size]) => ms >= size);
  const parts: string[] = [];
  let restMs = ms;
  for (const [unit, sizeMs] of STEPS.slice(first, first + 2)) {
    const count = Math.floor(restMs / sizeMs);
    restMs -= count * sizeMs;
    if (count > 0) parts.push(formatUnit(count, unit, locale));
  }
  return parts.join(' ');
}

function formatUnit(count: number, unit: string, locale: Locale): string {
  const options = { style: 'unit', unit, unitDisplay: 'long' } as const;
  return cached(`unit ${locale} ${unit}`, () => new Intl.NumberFormat(locale, options)).format(count);
}

/** "12,345" */
export function formatNumber(count: number, locale: Locale): string {
  if (!Number.isFinite(count)) return DASH;
  return cached(`number ${locale}`, () => new Intl.NumberFormat(locale)).format(count);
}
