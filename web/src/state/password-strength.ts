/**
 * How hard a password is to guess, told while it is typed. The server judges in the same way and has the last word
 * (server/identity/zxcvbn-judge.ts); a test holds the two together.
 */
import type { Match } from '@zxcvbn-ts/core';

/** From 0, guessed at once, to 4, in practice not guessed. */
export type PasswordScore = 0 | 1 | 2 | 3 | 4;

/** What makes a password too weak. */
export type Weakness = 'common' | 'name' | 'pattern' | 'simple';

/** With a weakness it is not good enough. */
export interface PasswordStrength {
  readonly score: PasswordScore;
  readonly weakness: Weakness | undefined;
}

const PRODUCT = 'taskdash';
/** Shorter names are in too many words. */
const MIN_NAME_LENGTH = 3;
/** Of more marks than these nobody tries all places. */
const MAX_MARKS = 3;
const MIN_SCORE = 2;
/** What a mark makes no better. */
const WORDY: ReadonlySet<Weakness> = new Set(['common', 'name']);

/** Judges a password; undefined when the lists of common ones could not be loaded. */
export async function judgePassword(password: string, userId: string): Promise<PasswordStrength | undefined> {
  const loaded = await import('./password-estimator.js').catch(() => undefined);
  if (!loaded) return undefined;
  const { estimator } = loaded;
  const names = [PRODUCT, userId];
  const { score, sequence } = estimator.check(password, names);
  if (score < MIN_SCORE) return { score, weakness: weaknessOf(sequence) };
  for (const plain of withoutMarks(password)) {
    const ofPlain = estimator.check(plain, names);
    const weakness = weaknessOf(ofPlain.sequence);
    if (ofPlain.score < MIN_SCORE && WORDY.has(weakness)) return { score: ofPlain.score, weakness };
  }
  const rest = withoutNames(password, names);
  if (rest === password) return { score, weakness: undefined };
  const ofRest = estimator.check(rest, names);
  return ofRest.score < MIN_SCORE ? { score: ofRest.score, weakness: 'name' } : { score, weakness: undefined };
}

function weaknessOf(sequence: readonly Match[]): Weakness {
  const dictionaries = sequence.map((match) => ('dictionaryName' in match ? String(match['dictionaryName']) : ''));
  if (dictionaries.includes('userInputs')) return 'name';
  if (dictionaries.includes('passwords-common') || dictionaries.includes('first-guesses')) return 'common';
  return sequence.some(({ pattern }) => pattern !== 'bruteforce' && pattern !== 'dictionary') ? 'pattern' : 'simple';
}

/** What is left without the marks at its ends, and without any; nothing where there are none, or more than are tried. */
function withoutMarks(password: string): string[] {
  const letters = password.replace(/[^\p{L}\p{N}]/gu, '');
  const marks = password.length - letters.length;
  if (letters === '' || marks === 0 || marks > MAX_MARKS) return [];
  return [password.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, ''), letters];
}

function withoutNames(password: string, names: readonly string[]): string {
  let rest = password.toLowerCase();
  for (const name of names) if (name.length >= MIN_NAME_LENGTH) rest = rest.replaceAll(name.toLowerCase(), '');
  return rest.length === password.length ? password : rest;
}
