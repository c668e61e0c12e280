/** What names and passwords of people, groups and tokens may look like. */
import { TaskDashError } from './errors.js';
import type { PasswordJudge, PasswordStrength, Weakness } from './ports.js';

/** In UTF-16 code units, as the page counts them too. */
export const MIN_PASSWORD_LENGTH = 8;
export const MAX_PASSWORD_LENGTH = 1024;
const MAX_NAME_LENGTH = 256;

/** Whether a text can be the name of anything. */
export function isName(text: string): boolean {
  return text !== '' && text.length <= MAX_NAME_LENGTH && !/\p{Cc}/u.test(text) && text.isWellFormed();
}

/** Throws REQUEST_INVALID for a text that can be no name. */
export function checkName(field: string, text: string): void {
  if (!isName(text)) throw invalid(field, `must have 1 to ${MAX_NAME_LENGTH} characters and no control characters`);
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
