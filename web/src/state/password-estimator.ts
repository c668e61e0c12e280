/** The estimator with its list of common passwords: larger than the rest of the page, so that it is loaded when it is needed. */
import { ZxcvbnFactory } from '@zxcvbn-ts/core';
import { adjacencyGraphs, dictionary } from '@zxcvbn-ts/language-common';

/** What follows is not judged: the time grows with the square. */
const MAX_LENGTH = 64;

export const estimator = new ZxcvbnFactory({ dictionary, graphs: adjacencyGraphs, maxLength: MAX_LENGTH });
