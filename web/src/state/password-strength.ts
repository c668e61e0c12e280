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
const MIN_SCORE = 2;

/** Judges a password; undefined when the list of common ones could not be loaded. */
export async function judgePassword(password: string, userId: string): Promise<PasswordStrength | undefined> {
  const loaded = await import('./password-estimator.js').catch(() => undefined);
  if (!loaded) return undefined;
  const { estimator } = loaded;
  const names = [PRODUCT, userId];
  const whole = estimator.check(password, names);
  if (whole.score < MIN_SCORE) return { score: whole.score, weakness: weaknessOf(whole.sequence) };
  const rest = withoutNames(password, names);
  if (rest === password) return { score: whole.score, weakness: undefined };
  const { score } = estimator.check(rest, names);
  return score < MIN_SCORE ? { score, weakness: 'name' } : { score: whole.score, weakness: undefined };
}

function weaknessOf(sequence: readonly Match[]): Weakness {
  const dictionaries = sequence.map((match) => ('dictionaryName' in match ? String(match['dictionaryName']) : ''));
  if (dictionaries.includes('userInputs')) return 'name';
  if (dictionaries.includes('passwords-common')) return 'common';
  return sequence.some(({ pattern }) => pattern !== 'bruteforce' && pattern !== 'dictionary') ? 'pattern' : 'simple';
}

function withoutNames(password: string, names: readonly string[]): string {
  let rest = password.toLowerCase();
  for (const name of names) if (name.length >= MIN_NAME_LENGTH) rest = rest.replaceAll(name.toLowerCase(), '');
  return rest.length === password.length ? password : rest;
}
