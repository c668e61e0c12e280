/** Failures in words for people: what happened and what to do. */
import type { Failure } from '../api/failure.js';
import { formatDuration } from './format.js';
import { i18n, t } from './i18n.svelte.js';
import { visible } from './visible-text.js';

/** What a failed call means, in the language of the page. */
export function failureWords(failure: Failure): string {
  if (failure.isUnreachable) return t('failure.unreachable');
  if (failure.isTimeout) return t('failure.timeout');
  switch (failure.reason) {
    case 'LOGIN_FAILED':
    case 'NOT_LOGGED_IN':
    case 'PERMISSION_DENIED':
    case 'PASSWORD_CHANGE_REQUIRED':
    case 'CROSS_SITE_REFUSED':
    case 'TASK_NOT_FOUND':
    case 'NOT_PROTECTING':
    case 'OVERLOADED':
    case 'STORAGE_UNAVAILABLE':
    case 'STORAGE_LOCKED':
    case 'STOPPING':
      return t(`failure.${failure.reason}`);
    case 'LOGIN_THROTTLED':
      return t('failure.LOGIN_THROTTLED', { wait: formatDuration(failure.retryAfterMs, i18n.locale) });
    case 'REQUEST_INVALID':
      return t('failure.REQUEST_INVALID', { detail: visible(failure.detail) });
    default:
      return t('failure.other', { detail: visible(failure.detail) });
  }
}
