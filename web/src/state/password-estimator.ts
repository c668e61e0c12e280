/** The estimator with its lists of common passwords: larger than the rest of the page, so that it is loaded when it is needed. */
import { ZxcvbnFactory } from '@zxcvbn-ts/core';
import { adjacencyGraphs, dictionary } from '@zxcvbn-ts/language-common';
import { FIRST_GUESSES } from './first-guesses.js';
import { KEYBOARD_WALKS } from './keyboard-walks.js';

/** What follows is not judged, and of the ways to read digits and marks as letters only a few are: the time grows with both. */
const MAX_LENGTH = 32;
const MAX_READINGS = 8;

const options = {
  dictionary: { ...dictionary, 'first-guesses': FIRST_GUESSES },
  graphs: adjacencyGraphs,
  maxLength: MAX_LENGTH,
  l33tMaxSubstitutions: MAX_READINGS,
};

export const estimator = new ZxcvbnFactory(options, KEYBOARD_WALKS);
