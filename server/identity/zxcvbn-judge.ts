/**
 * How hard passwords are to guess, as zxcvbn estimates it, with its list of common passwords and our own (first-guesses.ts).
 * A password that falls within a million guesses is too weak. So is one of which, without the user name and the name of
 * TaskDash, too little is left: whoever guesses at an account tries these first. And so is a common one with a mark or two in
 * it, which zxcvbn takes for several words.
 *
 * The page judges in the same way (web/src/state/password-strength.ts); a test holds the two together.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Match, ZxcvbnFactory, ZxcvbnResult } from '@zxcvbn-ts/core';
import type { PasswordJudge, PasswordStrength, Weakness } from '../domain/ports.js';

const PRODUCT = 'taskdash';
/** Shorter names are in too many words. */
const MIN_NAME_LENGTH = 3;
/** Of more marks than these nobody tries all places. */
const MAX_MARKS = 3;
/**
 * What follows is not judged, and of the ways to read digits and marks as letters only a few are: the time grows with both,
 * the server does nothing else meanwhile, and what is hard to guess so far is hard to guess.
 */
const MAX_LENGTH = 32;
const MAX_READINGS = 8;
const MIN_SCORE = 2;
/** What a mark makes no better. */
const WORDY: ReadonlySet<Weakness> = new Set(['common', 'name']);

export class ZxcvbnJudge implements PasswordJudge {
  /** The lists take a tenth of a second and some megabytes: they are loaded when a password is set for the first time. */
  #loading: Promise<ZxcvbnFactory> | undefined;

  async judge(password: string, userId: string): Promise<PasswordStrength> {
    const names = [PRODUCT, userId];
    const { score, sequence } = await this.#estimate(password, names);
    if (score < MIN_SCORE) return { score, weakness: weaknessOf(sequence) };
    for (const plain of withoutMarks(password)) {
      const ofPlain = await this.#estimate(plain, names);
      const weakness = weaknessOf(ofPlain.sequence);
      if (ofPlain.score < MIN_SCORE && WORDY.has(weakness)) return { score: ofPlain.score, weakness };
    }
    const rest = withoutNames(password, names);
    if (rest === password) return { score, weakness: undefined };
    const ofRest = await this.#estimate(rest, names);
    return ofRest.score < MIN_SCORE ? { score: ofRest.score, weakness: 'name' } : { score, weakness: undefined };
  }

  /** Each in a turn of the loop of its own. */
  async #estimate(password: string, names: string[]): Promise<ZxcvbnResult> {
    const estimator = await (this.#loading ??= load());
    await nextTurn();
    return estimator.check(password, names);
  }
}

async function load(): Promise<ZxcvbnFactory> {
  const [{ ZxcvbnFactory }, { adjacencyGraphs, dictionary }, { FIRST_GUESSES }] = await Promise.all([
    import('@zxcvbn-ts/core'),
    import('@zxcvbn-ts/language-common'),
    import('./first-guesses.js'),
  ]);
  return new ZxcvbnFactory({
    dictionary: { ...dictionary, 'first-guesses': FIRST_GUESSES },
    graphs: adjacencyGraphs,
    maxLength: MAX_LENGTH,
    l33tMaxSubstitutions: MAX_READINGS,
  });
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
