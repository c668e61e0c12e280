/** What names and passwords of people, groups and tokens may look like. */
import { TaskDashError } from './errors.js';
import type { PasswordJudge, PasswordStrength, Weakness } from './ports.js';

/** In UTF-16 code units, as the page counts them too. */
export const MIN_PASSWORD_LENGTH = 8;
export const MAX_PASSWORD_LENGTH = 1024;
const MAX_NAME_LENGTH = 256;

/**
 * What is not seen, or turns around what is: by it two names that differ look alike. Unicode's list of what may be ignored has
 * no blank pattern of Braille.
 */
const UNSEEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{DI}\ufff9-\ufffb\u2800]/u;
/** What stands where bytes were no UTF-8. */
const UNREAD = '\ufffd';

/** Whether a text may be a name that somebody has. */
export function isName(text: string): boolean {
  return text !== '' && text.length <= MAX_NAME_LENGTH && !/\p{Cc}/u.test(text) && text.isWellFormed();
}

/** Throws REQUEST_INVALID for a text that nobody can have as a name. */
export function checkName(field: string, text: string): void {
  if (!isName(text)) throw invalid(field, `must have 1 to ${MAX_NAME_LENGTH} characters and no control characters`);
}

/** Throws REQUEST_INVALID for a text that is not to become a name. Names from before this rule stay as they are. */
export function checkNewName(field: string, text: string): void {
  const unseen = UNSEEN.exec(text)?.[0];
  if (unseen !== undefined)
    throw invalid(
      field,
      `must have no characters that are not seen or turn texts around; this one has ${codeOf(unseen)}`,
    );
  if (text.includes(UNREAD)) throw invalid(field, UNREAD_WORDS);
  if (text !== text.trim()) throw invalid(field, 'must not begin or end with a blank');
  checkName(field, text);
}

const UNREAD_WORDS = 'must be valid UTF-8; this one has U+FFFD, which stands for bytes that are not';

/** "U+202E" */
function codeOf(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
}

const WHY_TOO_WEAK: Readonly<Record<Weakness, string>> = {
  common: 'must not be, or be built on, one of the passwords that are tried first',
  name: 'must not be little more than the user name or the name of TaskDash',
  pattern: 'must not be a repetition, a sequence, a date or a row of keys',
  simple: 'must not be so simple that it is soon guessed',
};

const ADVICE = '; a few words that have nothing to do with each other are hard to guess and easy to keep in mind';

/** How strong a password is. Throws REQUEST_INVALID for one that must not be, with the reason. */
export async function checkPassword(judge: PasswordJudge, password: string, userId: string): Promise<PasswordStrength> {
  if (password.length < MIN_PASSWORD_LENGTH || password.length > MAX_PASSWORD_LENGTH)
    throw invalid('new_password', `must have ${MIN_PASSWORD_LENGTH} to ${MAX_PASSWORD_LENGTH} characters`);
  if (password.includes(UNREAD)) throw invalid('new_password', UNREAD_WORDS);
  if (password === userId) throw invalid('new_password', 'must not be the user name');
  const strength = await judge.judge(password, userId);
  if (strength.weakness) throw invalid('new_password', WHY_TOO_WEAK[strength.weakness] + ADVICE);
  return strength;
}

const STRENGTHS = ['very weak', 'weak', 'fair', 'good', 'strong'] as const;

/** "good (3 of 4)" */
export function strengthWords({ score }: PasswordStrength): string {
  return `${STRENGTHS[score]} (${score} of 4)`;
}

/** The error for one field that breaks a rule. */
export function invalid(field: string, description: string): TaskDashError {
  return new TaskDashError('REQUEST_INVALID', {
    message: `The ${field.replace('_', ' ')} ${description}.`,
    violations: [{ field, description }],
  });
}
