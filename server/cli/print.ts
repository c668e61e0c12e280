/** What commands print. */
import { ConfigError } from '../config.js';
import { TaskDashError } from '../domain/errors.js';

const MAX_LIMIT = 10_000;
const MAX_CELL = 40;

/** One line on standard output. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** What went wrong, for somebody who may know the cause: an operator, not a caller of one of the doors. */
export function sentenceOf(thrown: unknown): string {
  if (!(thrown instanceof TaskDashError)) return messageOf(thrown);
  const { message, hint, cause, violations } = thrown;
  if (cause !== undefined) return `${message} The cause: ${messageOf(cause)}`;
  // The hint for records that break rules speaks of what came over the network.
  return violations.length > 0 ? message : `${message} ${hint}`;
}

/** The message of an error; of one that stands for several, as of a host with several addresses, all of theirs. */
function messageOf(thrown: unknown): string {
  if (thrown instanceof AggregateError && thrown.message === '') return thrown.errors.map(messageOf).join('; ');
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** A table with a headline, its columns as wide as what is in them. */
export function printTable<Row extends object>(columns: readonly (keyof Row & string)[], rows: readonly Row[]): void {
  const cells = [
    columns.map((column) => column.toUpperCase()),
    ...rows.map((row) => columns.map((column) => printable(String(row[column])))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]?.length ?? 0)));
  for (const row of cells)
    print(
      row
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    );
}

/** Texts come from anywhere: control characters must not reach the terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '·').slice(0, MAX_CELL);
}

/** The value of `--limit`. Throws ConfigError. */
export function parseLimit(text: string): number {
  const limit = Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new ConfigError(
    `--limit: ${JSON.stringify(text)} is not allowed; it must be a whole number from 1 to ${MAX_LIMIT}.`,
  );
}
