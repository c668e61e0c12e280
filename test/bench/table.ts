/** The performance table, as Markdown. */
import type { HeartbeatResult } from './heartbeats.js';
import type { IdleResult } from './idle.js';

/** One line of the table. */
export interface Row {
  readonly work: string;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuPercent: number;
  readonly memoryMb: number;
  readonly yardstick: string;
  readonly yardstickPerSecond: number;
  readonly ratio: number;
}

/** The medians of the rounds of one work; of memory, the most. */
export function medianRow(rows: readonly Row[]): Row {
  const [first] = rows;
  if (!first) throw new Error('no rounds');
  const medianOf = (value: (row: Row) => number) => median(rows.map(value));
  return {
    ...first,
    perSecond: medianOf((row) => row.perSecond),
    p50Ms: medianOf((row) => row.p50Ms),
    p99Ms: medianOf((row) => row.p99Ms),
    cpuPercent: medianOf((row) => row.cpuPercent),
    memoryMb: Math.max(...rows.map((row) => row.memoryMb)),
    yardstickPerSecond: medianOf((row) => row.yardstickPerSecond),
    ratio: medianOf((row) => row.ratio),
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

const whole = (value: number): string => Math.round(value).toLocaleString('en-US');

export function tableOf(rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const times = `${row.p50Ms.toFixed(2)} | ${row.p99Ms.toFixed(1)}`;
    const cost = `${whole(row.cpuPercent)} | ${whole(row.memoryMb)}`;
    const yardstick = `${row.yardstick} | ${whole(row.yardstickPerSecond)} | ${row.ratio.toFixed(2)}`;
    return `| ${row.work} | ${whole(row.perSecond)} | ${times} | ${cost} | ${yardstick} |`;
  });
  return [
    '| work | ops/s | p50 ms | p99 ms | server CPU % | server MB | yardstick | ops/s | ratio |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

export function heartbeatTableOf({ perSecond, perCoreSecond, rowsWritten }: HeartbeatResult): string {
  return [
    '| heartbeats, as many as the server reads | a second | a second of one core | rows written meanwhile |',
    '| --- | --- | --- | --- |',
    `| 64 connections | ${whole(perSecond)} | ${whole(perCoreSecond)} | ${whole(rowsWritten)} |`,
  ].join('\n');
}

/** The first result is that of no sessions at all: what the others need beside it is theirs. */
export function idleTableOf(results: readonly IdleResult[]): string {
  const emptyBytes = results[0]?.memoryBytes ?? 0;
  const lines = results.map(({ sessions, memoryBytes, cpuPercent, rowsPerMinute }) => {
    const each = sessions === 0 ? '–' : ((memoryBytes - emptyBytes) / sessions / 1024).toFixed(1);
    const cost = `${whole(memoryBytes / 2 ** 20)} | ${each} | ${cpuPercent.toFixed(1)} | ${whole(rowsPerMinute)}`;
    return `| ${whole(sessions)} | ${cost} |`;
  });
  return [
    '| idle sessions, a beat every 10 s | server MB | of it kB a session | server CPU % | rows written a minute |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}
