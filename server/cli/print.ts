/**
 * What commands print, and the only place that writes to the terminal. Stored texts come from anywhere, and a terminal obeys
 * what it is sent: every character that is none to read is shown by a form of its own.
 */
import { eastAsianWidth } from 'get-east-asian-width';
import { ConfigError } from '../config.js';
import { TaskDashError } from '../domain/errors.js';

const MAX_LIMIT = 10_000;
/** In columns of a terminal. */
const MAX_CELL = 40;

/** Controls, halves of characters, ends of lines, and what Unicode says may be ignored, save the choice of a character's form. */
const FORMLESS = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\ufff9-\ufffb]|(?!\p{VS})\p{DI}/gu;

/** What failed when standard output could not be written; the first one counts. */
let lost: NodeJS.ErrnoException | undefined;
let isForgone = false;

/** Has output that cannot be written end no process by itself; calls back then. What standard error does not take, nobody misses. */
export function onOutputLost(then: () => void = () => {}): void {
  process.stderr.on('error', () => {});
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    lost ??= error;
    then();
  });
}

/** For a server, which goes on without whoever read its output. */
export function forgoOutput(): void {
  isForgone = true;
}

/** Throws what kept the output from being written; a reader that leaves, as `head` does, is no failure. */
export async function requireOutput(): Promise<void> {
  // Streams tell of failures later than of the write.
  await new Promise((resolve) => process.stdout.write('', resolve));
  if (lost === undefined || lost.code === 'EPIPE' || isForgone) return;
  throw new Error(
    `The output could not be written: ${lost.message}. What the command was to do may be done; see to that before it is run again.`,
    { cause: lost },
  );
}

/** One line on standard output. */
export function print(line: string): void {
  process.stdout.write(`${printable(line)}\n`);
}

/** One JSON document on a line of standard output, for programs; of the same meaning, and harmless for terminals. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value).replace(FORMLESS, escapeUnits)}\n`);
}

/** One line for people beside the output, on standard error. */
export function printAside(line: string): void {
  process.stderr.write(`${printable(line)}\n`);
}

/** Asks for something on standard error; what is typed follows on the same line. */
export function printPrompt(words: string): void {
  process.stderr.write(printable(words));
}

/**
 * What went wrong, for somebody who may know the cause: an operator, not a caller of one of the doors. It may quote what is
 * stored.
 */
export function sentenceOf(thrown: unknown): string {
  return printable(rawSentenceOf(thrown));
}

function rawSentenceOf(thrown: unknown): string {
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
    ...rows.map((row) => columns.map((column) => cut(printable(String(row[column]))))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => widthOf(row[index] ?? ''))));
  for (const row of cells)
    print(
      row
        .map((cell, index) => cell + ' '.repeat((widths[index] ?? 0) - widthOf(cell)))
        .join('  ')
        .trimEnd(),
    );
}

const CHARACTERS = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** How many columns of a terminal a text takes. */
function widthOf(text: string): number {
  return charactersOf(text).reduce((width, character) => width + widthOfCharacter(character), 0);
}

function charactersOf(text: string): string[] {
  return Array.from(CHARACTERS.segment(text), ({ segment }) => segment);
}

/** Of what people take for one character: combining marks take no room, and emoji take two columns. */
function widthOfCharacter(character: string): number {
  if (/^\p{M}*$/u.test(character)) return 0;
  if (/\p{Emoji_Presentation}|\p{Emoji}\ufe0f/u.test(character)) return 2;
  return eastAsianWidth(character.codePointAt(0) ?? 0);
}

function cut(text: string): string {
  let width = 0;
  return charactersOf(text)
    .filter((character) => (width += widthOfCharacter(character)) <= MAX_CELL)
    .join('');
}

/** "a␛[31m", "a\u202eb" */
function printable(text: string): string {
  return text.replace(FORMLESS, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? '\u2421' : escapeUnits(character);
  });
}

function escapeUnits(character: string): string {
  return character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The value of `--limit`. Throws ConfigError. */
export function parseLimit(text: string): number {
  const limit = Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new ConfigError(
    `--limit: ${JSON.stringify(text)} is not allowed; it must be a whole number from 1 to ${MAX_LIMIT}.`,
  );
}
