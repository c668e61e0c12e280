/**
 * Reported times as instants, where they are some. Services write what their language prints:
 *
 *   2020-07-01T12:00:00+08:00                 RFC 3339, also with a space, `,` or `.` before the fraction, `+0800`, `+08`
 *   2020.07.01 · 2020/7/1 · 20200701 · 2020年07月01日     a day, with or without a time of day behind it
 *   2020年7月1日12时30分 · 2020年7月1日 12点30分05秒       the same with a time of day in Chinese
 *   20200701T120000Z · 20200701T1200+0800 · 20200701120000   without separators, as Go's layout 20060102150405 has it
 *   2020-07-01 12:00:00.123 +0800 CST m=+0.01    Go's time.Now().String()
 *   1593576000 · 1593576000123                seconds or milliseconds since 1970, between 2001 and 2100
 *
 * A text without a zone counts as UTC. A time of day alone ("12:00") is no instant, nor is the first day of year 1, which is
 * Go's zero time in one zone or another, nor anything outside the years 1 to 9999 in UTC, for which the contracts have no
 * form.
 */

/** With what parts it from the time of day. */
const DAY =
  /^(?:(\d{4})[-./](\d{1,2})[-./](\d{1,2})(?=$|[ T])|(\d{4})(\d{2})(\d{2})(?=$|[ T]|\d{6}(?!\d))|(\d{4})年(\d{1,2})月(\d{1,2})日)[ T]?/;

/** Hour, minute, second, fraction, zone; behind a zone its name, and how Go's monotonic clock stood. */
const CLOCK =
  /^(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:\s*(Z|z|UTC|[+-]\d{2}(?::?\d{2})?)(?: (?:[A-Z]{1,5}|[+-]\d{2,4}))?)?(?: m=[+-]\d+\.\d+)?$/;

/** The same in Chinese; minutes and seconds may be missing. */
const CHINESE_CLOCK = /^(\d{1,2})[时時点點](?:(\d{1,2})分(?:(\d{1,2})秒)?)?(?![\d.,])/;
/** The same without separators, as it stands behind a day that has none either; only seconds have a fraction. */
const COMPACT_CLOCK = /^(\d{2})(\d{2})(?:(\d{2})(?![\d:])|(?![\d:.,]))/;

const FIRST_MS = new Date(0).setUTCFullYear(1, 0, 2);
const LAST_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
const UNIX_RANGE = { firstMs: 1e12, endMs: Date.UTC(2100, 0, 1) } as const;

/** A reported time as an instant, or null where it is none. */
export function parseInstant(text: string): Date | null {
  const trimmed = text.trim();
  const instant = /^\d{10}(\d{3})?$/.test(trimmed) ? unixInstant(trimmed) : calendarInstant(trimmed);
  return instant && isSendable(instant) ? instant : null;
}

/** Whether the contracts have a form for an instant (google.protobuf.Timestamp), and it is not Go's zero time. */
export function isSendable(instant: Date): boolean {
  // The driver gives a number where PostgreSQL has "infinity".
  const ms = Number(instant);
  return ms >= FIRST_MS && ms <= LAST_MS;
}

function unixInstant(digits: string): Date | null {
  const ms = Number(digits) * (digits.length === 10 ? 1000 : 1);
  return ms >= UNIX_RANGE.firstMs && ms < UNIX_RANGE.endMs ? new Date(ms) : null;
}

function calendarInstant(text: string): Date | null {
  const day = DAY.exec(text);
  if (!day) return null;
  const year = Number(day[1] ?? day[4] ?? day[7]);
  const month = Number(day[2] ?? day[5] ?? day[8]);
  const date = Number(day[3] ?? day[6] ?? day[9]);
  const rest = text.slice(day[0].length) || '00:00:00';
  const clock = CLOCK.exec(withColons(rest, day[4] !== undefined));
  if (!clock) return null;
  const [, hour = '0', minute = '0', second = '0', fraction = '0', zone = 'Z'] = clock;
  const offsetMs = zoneOffsetMs(zone);
  if (offsetMs === undefined || !isTimeOfDay(Number(hour), Number(minute), Number(second))) return null;
  const instant = new Date(0);
  instant.setUTCFullYear(year, month - 1, date);
  if (year < 1 || instant.getUTCMonth() !== month - 1 || instant.getUTCDate() !== date) return null;
  instant.setUTCHours(Number(hour), Number(minute), Number(second), Math.floor(Number(`0.${fraction}`) * 1000));
  return new Date(instant.getTime() - offsetMs);
}

/** A time of day with colons, also where it was written in Chinese or, behind a compact day, without separators. */
function withColons(text: string, isDayCompact: boolean): string {
  // As nearly all are written.
  if (text[2] === ':') return text;
  const clock = CHINESE_CLOCK.exec(text) ?? (isDayCompact ? COMPACT_CLOCK.exec(text) : null);
  if (!clock) return text;
  const [written, ...parts] = clock;
  const digits = parts.map((part = '0') => part.padStart(2, '0'));
  return digits.join(':') + text.slice(written.length);
}

/** Up to 24:00:00, the end of a day; a leap second is one. */
function isTimeOfDay(hour: number, minute: number, second: number): boolean {
  if (hour === 24) return minute === 0 && second === 0;
  return hour < 24 && minute < 60 && second <= 60;
}

/** Undefined where there is no such zone. */
function zoneOffsetMs(zone: string): number | undefined {
  if (zone === 'Z' || zone === 'z' || zone === 'UTC') return 0;
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(3).replace(':', ''))];
  if (hours > 23 || minutes > 59) return undefined;
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60_000;
}
