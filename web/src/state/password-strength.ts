/**
 * How hard a password is to guess, told while it is typed. The server judges in the same way and has the last word
 * (server/identity/zxcvbn-judge.ts); a test holds the two together.
 */
import type { Match, ZxcvbnResult } from '@zxcvbn-ts/core';

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
/** In guesses: what a word must be worth with all that is around it. */
const MIN_WORTH = 1e7;
const IPV4_ADDRESS = /^\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d*)?$/;

/** Judges a password; undefined when the lists of common ones could not be loaded. */
export async function judgePassword(password: string, userId: string): Promise<PasswordStrength | undefined> {
  const loaded = await import('./password-estimator.js').catch(() => undefined);
  if (!loaded) return undefined;
  const { estimator } = loaded;
  const names = [PRODUCT, userId.normalize('NFKC')];
  const typed = password.normalize('NFKC');
  if (IPV4_ADDRESS.test(typed)) return { score: 0, weakness: 'pattern' };
  const estimate = (part: string) => judged(estimator.check(part, names));
  const { score, weakness } = estimate(typed);
  if (score < MIN_SCORE) return { score, weakness };
  for (const plain of withoutMarks(typed)) {
    const ofPlain = estimate(plain);
    if (ofPlain.score < MIN_SCORE && isNoBetter(plain, ofPlain.weakness)) return ofPlain;
  }
  const rest = withoutNames(typed, names);
  if (rest === typed) return { score, weakness: undefined };
  const ofRest = estimate(rest);
  return ofRest.score < MIN_SCORE ? { score: ofRest.score, weakness: 'name' } : { score, weakness: undefined };
}

/**
 * An estimate adds what it costs to find out how many pieces there are, of which kinds and in which order. Of one word at most
 * with what people put around a word (a date, digits, a row of keys, the word again) that is tried anyway: there the pieces are
 * worth no more than each by itself. Several words are a phrase.
 */
function judged({ score, sequence }: ZxcvbnResult): PasswordStrength & { readonly weakness: Weakness } {
  const weakness = weaknessOf(sequence);
  const words = new Set(sequence.filter(isWord).map(({ token }) => token.toLowerCase()));
  const worth = sequence.reduce((product, { guesses }) => product * guesses, 1);
  const isTriedAnyway = score >= MIN_SCORE && words.size <= 1 && worth < MIN_WORTH;
  return { score: isTriedAnyway ? 1 : score, weakness };
}

/** Whether marks leave a weak password as it is: words, names and numbers. */
function isNoBetter(plain: string, weakness: Weakness): boolean {
  return weakness === 'common' || weakness === 'name' || (weakness === 'pattern' && /^\d+$/.test(plain));
}

/** Letters in no list may be words, too. */
function isWord({ pattern, token }: Match): boolean {
  return (pattern === 'dictionary' || pattern === 'bruteforce') && /\p{L}/u.test(token);
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
