/**
 * Walks over the keyboard, for zxcvbn: `1qaz@WSX`, `zaq12wsx`, `q1w2e3`. Its own matcher counts every turn on the way as something
 * to be guessed; but people walk in straight lines or in zigzag, go over to the next column and hold down shift on the way, and
 * all that is tried early. Several walks after one another are one match here, worth a few thousand guesses at most.
 *
 * server/identity and web/src/state have this file alike, since neither may import the other; a test compares them.
 */
import { MatcherBaseClass, type Matcher, type MatchExtended, type MatchOptions } from '@zxcvbn-ts/core';

/** Walks on others are in many words. */
const KEYBOARDS = ['qwerty', 'qwertz', 'azerty', 'keypad'];
/** Shorter ones happen by chance. */
const MIN_STRAIGHT = 3;
const MIN_ZIGZAG = 4;
/** In guesses: the first walk, each that follows, and all together at most. */
const FIRST = 100;
const FURTHER = 10;
const MOST = 10_000;

/** Of each key, those beside it by direction: "qQ" or null. */
type Keyboard = Readonly<Record<string, readonly (string | null)[] | undefined>>;

class WalkMatching extends MatcherBaseClass {
  match({ password }: MatchOptions): MatchExtended[] {
    return KEYBOARDS.flatMap((name) => {
      const keyboard = (this.options.graphs as Readonly<Record<string, Keyboard>>)[name] ?? {};
      return Array.from(password).flatMap((_, from) => walksFrom(keyboard, password, from));
    });
  }
}

/** The walk that begins at a place, alone and with those after it, a mark between them or not. */
function walksFrom(keyboard: Keyboard, password: string, from: number): MatchExtended[] {
  const found: MatchExtended[] = [];
  let guesses = FIRST;
  let [begin, end] = [from, endOfWalk(keyboard, password, from)];
  while (end > begin) {
    guesses *= variationsOf(password.slice(begin, end));
    const [i, j, token] = [from, end - 1, password.slice(from, end)];
    found.push({ pattern: 'keyboardWalks', i, j, token, tries: Math.min(guesses, MOST) });
    guesses *= FURTHER;
    [begin, end] = nextWalk(keyboard, password, end);
  }
  return found;
}

function nextWalk(keyboard: Keyboard, password: string, at: number): [number, number] {
  const end = endOfWalk(keyboard, password, at);
  if (end > at || !/[^\p{L}\p{N}]/u.test(password.charAt(at))) return [at, end];
  return [at + 1, endOfWalk(keyboard, password, at + 1)];
}

/** Where the walk that begins at a place is over; that place where none does. Each step goes as the last but one went. */
function endOfWalk(keyboard: Keyboard, password: string, from: number): number {
  const steps: number[] = [];
  for (let at = from; ; at++) {
    const step = directionOf(keyboard, password.charAt(at), password.charAt(at + 1));
    if (step < 0 || (steps.length >= 2 && step !== steps.at(-2))) break;
    steps.push(step);
  }
  const least = steps[0] === steps[1] ? MIN_STRAIGHT : MIN_ZIGZAG;
  return steps.length + 1 >= least ? from + steps.length + 1 : from;
}

function directionOf(keyboard: Keyboard, key: string, next: string): number {
  return next === '' ? -1 : (keyboard[key]?.findIndex((beside) => beside?.includes(next)) ?? -1);
}

/** How many ways with shift are tried before this one: none, all the way, here and there. */
function variationsOf(walk: string): number {
  const shifted = walk.replace(/[^~!@#$%^&*()_+{}|:"<>?A-Z]/g, '').length;
  if (shifted === 0) return 1;
  return shifted === walk.length ? 2 : 4;
}

export const KEYBOARD_WALKS: Record<string, Matcher> = {
  keyboardWalks: {
    Matching: WalkMatching,
    scoring: (match) => (match as unknown as { readonly tries: number }).tries,
    feedback: () => ({ warning: null, suggestions: [] }),
  },
};
