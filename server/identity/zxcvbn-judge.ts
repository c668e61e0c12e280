/**
 * How hard passwords are to guess, as zxcvbn estimates it, with its list of common passwords and our own (first-guesses.ts).
 * A password that falls within a million guesses is too weak, and so is a word that with all that is around it is worth less
 * than ten million. So is one of which, without the user name and the name of TaskDash, too little is left: whoever guesses at
 * an account tries these first. So are a common one with a mark or two in it, which zxcvbn takes for several words, and an
 * address. Letters in other forms, such as wide ones, count as the letters that they are.
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
/** In guesses: what a word must be worth with all that is around it. */
const MIN_WORTH = 1e7;
const IPV4_ADDRESS = /^\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d*)?$/;

export class ZxcvbnJudge implements PasswordJudge {
  /** The lists take a tenth of a second and some megabytes: they are loaded when a password is set for the first time. */
  #loading: Promise<ZxcvbnFactory> | undefined;

  async judge(password: string, userId: string): Promise<PasswordStrength> {
    const names = [PRODUCT, userId.normalize('NFKC')];
    const typed = password.normalize('NFKC');
    if (IPV4_ADDRESS.test(typed)) return { score: 0, weakness: 'pattern' };
    const { score, weakness } = await this.#estimate(typed, names);
    if (score < MIN_SCORE) return { score, weakness };
    for (const plain of withoutMarks(typed)) {
      const ofPlain = await this.#estimate(plain, names);
      if (ofPlain.score < MIN_SCORE && isNoBetter(plain, ofPlain.weakness)) return ofPlain;
    }
    const rest = withoutNames(typed, names);
    if (rest === typed) return { score, weakness: undefined };
    const ofRest = await this.#estimate(rest, names);
    return ofRest.score < MIN_SCORE ? { score: ofRest.score, weakness: 'name' } : { score, weakness: undefined };
  }

  /** Each in a turn of the loop of its own. */
  async #estimate(password: string, names: string[]) {
    const estimator = await (this.#loading ??= load());
    await nextTurn();
    return judged(estimator.check(password, names));
  }
}

async function load(): Promise<ZxcvbnFactory> {
  const [{ ZxcvbnFactory }, { adjacencyGraphs, dictionary }, { FIRST_GUESSES }, { KEYBOARD_WALKS }] = await Promise.all(
    [
      import('@zxcvbn-ts/core'),
      import('@zxcvbn-ts/language-common'),
      import('./first-guesses.js'),
      import('./keyboard-walks.js'),
    ],
  );
  const options = {
    dictionary: { ...dictionary, 'first-guesses': FIRST_GUESSES },
    graphs: adjacencyGraphs,
    maxLength: MAX_LENGTH,
    l33tMaxSubstitutions: MAX_READINGS,
  };
  return new ZxcvbnFactory(options, KEYBOARD_WALKS);
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
