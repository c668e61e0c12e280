/**
 * The catalogue of everything that can go wrong in front of a caller. Each door translates an entry into its own form:
 * gRPC and Connect use `kind` as the status code and `code` as the ErrorInfo reason; the legacy door answers `errid`.
 *
 * Codes are documented in docs/errors.md (a test holds the two together). A retired code is never used again.
 */

/** The names of the gRPC status codes in use. */
export type ErrorKind =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNAVAILABLE'
  | 'DEADLINE_EXCEEDED'
  | 'CANCELLED'
  | 'UNIMPLEMENTED'
  | 'INTERNAL';

/** The error numbers of the legacy door; 0 is success. */
export type Errid = 1000 | 1001 | 1002 | 1003;

/** The texts of the legacy door, to the byte. */
export const ERRID_MESSAGES: Readonly<Record<0 | Errid, string>> = {
  0: '正确',
  1000: '请求格式不正确',
  1001: '数据库存储失败',
  1002: '不存在该任务id',
  1003: '未授权',
};

interface CatalogueEntry {
  readonly kind: ErrorKind;
  readonly errid: Errid;
  /** What happened, for people; used when the thrower has nothing more exact to say. */
  readonly message: string;
  /** What to do about it. */
  readonly hint: string;
}

/** Every error code. */
export const ERROR_CATALOGUE = {
  TASK_INVALID: {
    kind: 'INVALID_ARGUMENT',
    errid: 1000,
    message: 'The task is not valid.',
    hint: 'Mend the fields that the violations name and send it again.',
  },
  REQUEST_INVALID: {
    kind: 'INVALID_ARGUMENT',
    errid: 1000,
    message: 'The request is not valid.',
    hint: 'Mend the fields that the violations name and send it again.',
  },
  PAGE_TOKEN_INVALID: {
    kind: 'INVALID_ARGUMENT',
    errid: 1000,
    message: 'The page token is not one that this server gave for this request.',
    hint: 'List again from the first page, with the same filter and order on every page.',
  },
  RESUME_TOKEN_INVALID: {
    kind: 'INVALID_ARGUMENT',
    errid: 1000,
    message: 'The resume token is not one that this service gave.',
    hint: 'List again, then watch without a token.',
  },
  RESUME_TOKEN_EXPIRED: {
    kind: 'OUT_OF_RANGE',
    errid: 1000,
    message: 'The resume token is too old: the changes since then are too many or no longer kept.',
    hint: 'List again, then watch without a token.',
  },
  ACCESS_CHANGED: {
    kind: 'ABORTED',
    errid: 1003,
    message: 'What the caller may see has changed.',
    hint: 'List again, then watch without a token.',
  },
  TASK_NOT_FOUND: {
    kind: 'NOT_FOUND',
    errid: 1002,
    message: 'There is no such task.',
    hint: 'Check the id; register the task before updating it.',
  },
  LEASE_NOT_FOUND: {
    kind: 'NOT_FOUND',
    errid: 1002,
    message: 'There is no such lease.',
    hint: 'Grant a new lease and register the tasks under it again; a lease ends when it is silent for its whole TTL.',
  },
  TASK_ID_TAKEN: {
    kind: 'ALREADY_EXISTS',
    errid: 1003,
    message: 'The id belongs to a task that the caller may not change.',
    hint: 'Choose another id; ids are unique among all groups.',
  },
  TASK_CHANGED: {
    kind: 'ABORTED',
    errid: 1001,
    message: 'Somebody else changed the task since the etag was read.',
    hint: 'Get the task again, apply the change to it, and send it with the new etag.',
  },
  PERMISSION_DENIED: {
    kind: 'PERMISSION_DENIED',
    errid: 1003,
    message: 'The caller may not do this.',
    hint: 'Ask an administrator for the role or the token scope that it needs.',
  },
  NOT_LOGGED_IN: {
    kind: 'UNAUTHENTICATED',
    errid: 1003,
    message: 'This needs a login or a service token.',
    hint: 'Log in, or send "authorization: Bearer <token>"; `npx taskdash token create NAME --group GROUP` makes a service token.',
  },
  NOT_PROTECTING: {
    kind: 'FAILED_PRECONDITION',
    errid: 1000,
    message: 'The server protects nothing now.',
    hint: 'ListProtections says which servers do.',
  },
  LOGIN_FAILED: {
    kind: 'UNAUTHENTICATED',
    errid: 1003,
    message: 'The user name or the password is wrong.',
    hint: 'Check both; an administrator can set a new password with `npx taskdash user set-password`.',
  },
  LOGIN_THROTTLED: {
    kind: 'RESOURCE_EXHAUSTED',
    errid: 1003,
    message: 'There were too many failed logins.',
    hint: 'Wait as long as the answer says, then try again.',
  },
  PASSWORD_CHANGE_REQUIRED: {
    kind: 'PERMISSION_DENIED',
    errid: 1003,
    message: 'The password has to be changed before anything else.',
    hint: 'Change it in the page, or by AuthService.ChangePassword; what the user may do is theirs again at once.',
  },
  CROSS_SITE_REFUSED: {
    kind: 'PERMISSION_DENIED',
    errid: 1003,
    message: 'The request came from another web site.',
    hint: 'Open TaskDash itself; other sites use a token instead of the cookie.',
  },
  OVERLOADED: {
    kind: 'RESOURCE_EXHAUSTED',
    errid: 1001,
    message: 'The server has more unfinished requests than it accepts.',
    hint: 'Try again a little later, or send less at once.',
  },
  MESSAGE_TOO_LARGE: {
    kind: 'RESOURCE_EXHAUSTED',
    errid: 1000,
    message: 'The message is larger than the server takes or sends.',
    hint: 'Send less at once, or ask for smaller pages; operators set the limit with TASKDASH_RPC_MAX_MESSAGE_BYTES.',
  },
  NOT_SUPPORTED: {
    kind: 'UNIMPLEMENTED',
    errid: 1000,
    message: 'The server has no such method, or does not know the form of the request.',
    hint: 'Compare the call with the contract: its path, its type of content, and how it is packed (gzip, or not at all).',
  },
  SERVICE_NOT_FOUND: {
    kind: 'NOT_FOUND',
    errid: 1000,
    message: 'There is no such service.',
    hint: 'Ask for a service of the contract, or with an empty name for the whole server.',
  },
  DEADLINE_EXCEEDED: {
    kind: 'DEADLINE_EXCEEDED',
    errid: 1001,
    message: 'The call took longer than its caller wanted to wait.',
    hint: 'Allow more time. Whether a write was done is not known: get the task and look.',
  },
  CANCELLED: {
    kind: 'CANCELLED',
    errid: 1001,
    message: 'The caller went away.',
    hint: 'Call again if that was not meant.',
  },
  STORAGE_UNAVAILABLE: {
    kind: 'UNAVAILABLE',
    errid: 1001,
    message: 'The database did not answer in time.',
    hint: 'Try again; operators find the cause in the log and at /readyz.',
  },
  STORAGE_LOCKED: {
    kind: 'UNAVAILABLE',
    errid: 1001,
    message: 'Another transaction keeps the task locked in the database; nothing was written.',
    hint: 'Try again later; operators find in the log who holds it.',
  },
  STORAGE_REFUSED: {
    kind: 'INTERNAL',
    errid: 1001,
    message: 'The database refused the record.',
    hint: 'Operators find the cause in the log under the request.',
  },
  TASK_UNSENDABLE: {
    kind: 'INTERNAL',
    errid: 1001,
    message: 'The stored record has a value that cannot be sent.',
    hint: 'Operators mend the value in the database; the log names the record and the value.',
  },
  STOPPING: {
    kind: 'UNAVAILABLE',
    errid: 1001,
    message: 'The server is stopping.',
    hint: 'Connect again; another server or the restarted one will answer.',
  },
  INTERNAL: {
    kind: 'INTERNAL',
    errid: 1001,
    message: 'Something went wrong on the server.',
    hint: 'Operators find the cause in the log.',
  },
} as const satisfies Record<string, CatalogueEntry>;

/** The codes of the catalogue. */
export type ErrorCode = keyof typeof ERROR_CATALOGUE;

/** One field that breaks a rule: the path of the field as the contract names it, and the rule in words. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** What a thrower may add to a catalogue entry. */
export interface ErrorOptions {
  /** Replaces the catalogue's sentence by one that names the value. */
  message?: string;
  violations?: readonly FieldViolation[];
  /** When trying again makes sense, in milliseconds. */
  retryAfterMs?: number;
  /** The technical cause: for the log, never for the caller. */
  cause?: unknown;
  /** Certain: nothing was sent to the database, so that nothing can come of it later. */
  nothingSent?: boolean;
}

/** The one error class that callers ever see. */
export class TaskDashError extends Error {
  readonly code: ErrorCode;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;
  readonly nothingSent: boolean;

  constructor(code: ErrorCode, options: ErrorOptions = {}) {
    super(
      options.message ?? ERROR_CATALOGUE[code].message,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = 'TaskDashError';
    this.code = code;
    this.violations = options.violations ?? [];
    this.retryAfterMs = options.retryAfterMs;
    this.nothingSent = options.nothingSent ?? false;
  }

  get kind(): ErrorKind {
    return ERROR_CATALOGUE[this.code].kind;
  }

  get errid(): Errid {
    return ERROR_CATALOGUE[this.code].errid;
  }

  get hint(): string {
    return ERROR_CATALOGUE[this.code].hint;
  }

  /** Any thrown value as a catalogue error: strangers become INTERNAL and keep their cause for the log. */
  static from(thrown: unknown): TaskDashError {
    return thrown instanceof TaskDashError ? thrown : new TaskDashError('INTERNAL', { cause: thrown });
  }
}

/** There is no lease of this id for whoever asks. */
export function leaseNotFound(id: string): TaskDashError {
  return new TaskDashError('LEASE_NOT_FOUND', { message: `There is no lease with the id ${quoted(id)}.` });
}

const MAX_QUOTED = 100;

/** A caller's text as errors tell it: in quotes, and of a long one the beginning, so that the rest of the sentence is read. */
export function quoted(text: string): string {
  if (text.length <= MAX_QUOTED) return JSON.stringify(text);
  // Half a surrogate pair at the cut would be told as an escape.
  return JSON.stringify(`${text.slice(0, MAX_QUOTED).replace(/[\uD800-\uDBFF]$/, '')}…`);
}
