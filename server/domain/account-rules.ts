/** What names and passwords of people, groups and tokens may look like. */
import { TaskDashError } from './errors.js';

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

/** Throws REQUEST_INVALID for a password that must not be. */
export function checkPassword(password: string, userId: string): void {
  if (password.length < MIN_PASSWORD_LENGTH || password.length > MAX_PASSWORD_LENGTH)
    throw invalid('new_password', `must have ${MIN_PASSWORD_LENGTH} to ${MAX_PASSWORD_LENGTH} characters`);
  if (password === userId) throw invalid('new_password', 'must not be the user name');
}

/** The error for one field that breaks a rule. */
export function invalid(field: string, description: string): TaskDashError {
  return new TaskDashError('REQUEST_INVALID', {
    message: `The ${field.replace('_', ' ')} ${description}.`,
    violations: [{ field, description }],
  });
}
