/** Why a request is refused before it is decoded, in words that are the same on both doors. */
import type { ConnectError } from '@connectrpc/connect';
import { TaskDashError } from '../../domain/errors.js';
import { describeError } from './errors.js';
import { MAX_ELEMENTS, MAX_NESTING, MAX_TEXT_BYTES } from './limits.js';

/** The sentences, by what is wrong. */
export const FLAWS = {
  elements: `The request has more than ${MAX_ELEMENTS} fields and elements; send it in several parts.`,
  nesting: `The request is nested more than ${MAX_NESTING} deep, which no message of this method is.`,
  text: `The request has a text or number longer than ${MAX_TEXT_BYTES} bytes, which no field takes; shorten it.`,
  shortText:
    'The request has a number, a time or a list of fields in a text that is longer than any of them; compare it with the contract.',
  encoding: 'The request is not UTF-8: encode its texts as UTF-8 and send it again.',
  base64: 'The message in the address is not base64, as it says; encode it again.',
  flags:
    'A message of the stream has flags that no message has, or is packed and no header says how; name the encoding in the headers.',
  half: 'The request ends in the middle of a message: fewer bytes have come than its length tells.',
  malformed: 'The request is not a message of this method; compare it with the contract.',
} as const;

/** What can be wrong. */
export type Flaw = (typeof FLAWS)[keyof typeof FLAWS];

/** The flaw as the caller gets it: INVALID_ARGUMENT. */
export function refusalOf(flaw: Flaw): ConnectError {
  return describeError(new TaskDashError('REQUEST_INVALID', { message: flaw }));
}
