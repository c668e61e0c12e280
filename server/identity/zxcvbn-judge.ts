/**
 * How hard passwords are to guess, as zxcvbn estimates it, with its list of common passwords. A password that falls within a
 * million guesses is too weak. So is one of which, without the user name and the name of TaskDash, too little is left:
 * whoever guesses at an account tries these first.
 *
 * The page judges in the same way (web/src/state/password-strength.ts); a test holds the two together.
 */
import type { Match, ZxcvbnFactory } from '@zxcvbn-ts/core';
import type { PasswordJudge, PasswordStrength, Weakness } from '../domain/ports.js';

const PRODUCT = 'taskdash';
/** Shorter names are in too many words. */
const MIN_NAME_LENGTH = 3;
/** What follows is not judged: the time grows with the square. */
const MAX_LENGTH = 64;
const MIN_SCORE = 2;

export class ZxcvbnJudge implements PasswordJudge {
  /** The list takes a tenth of a second and some megabytes: it is loaded when a password is set for the first time. */
  #loading: Promise<ZxcvbnFactory> | undefined;

  async judge(password: string, userId: string): Promise<PasswordStrength> {
    const estimator = await (this.#loading ??= load());
    const names = [PRODUCT, userId];
    const whole = estimator.check(password, names);
    if (whole.score < MIN_SCORE) return { score: whole.score, weakness: weaknessOf(whole.sequence) };
    const rest = withoutNames(password, names);
    if (rest === password) return { score: whole.score, weakness: undefined };
    const { score } = estimator.check(rest, names);
    return score < MIN_SCORE ? { score, weakness: 'name' } : { score: whole.score, weakness: undefined };
  }
}

async function load(): Promise<ZxcvbnFactory> {
  const [{ ZxcvbnFactory }, { adjacencyGraphs, dictionary }] = await Promise.all([
    import('@zxcvbn-ts/core'),
    import('@zxcvbn-ts/language-common'),
  ]);
  return new ZxcvbnFactory({ dictionary, graphs: adjacencyGraphs, maxLength: MAX_LENGTH });
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
