/**
 * What statements and the driver rely on, whatever the defaults of the database or the role are: set on every connection, when
 * it begins. pg adds client_encoding.
 *
 * Left to operators is what changes neither results nor errors (planner, memory, notices), and what is theirs to decide: how
 * durable a commit is (synchronous_commit), where and how tables are stored (default_tablespace, default_table_access_method,
 * default_toast_compression), who acts (role), that nothing may be written for now (default_transaction_read_only), and that rows
 * which a policy hides are an error (row_security).
 */
import type { ClientConfig } from 'pg';

const SESSION: Readonly<Record<string, string>> = {
  array_nulls: 'on',
  bytea_output: 'hex',
  DateStyle: 'ISO,MDY',
  default_transaction_isolation: 'read committed',
  exit_on_error: 'off',
  extra_float_digits: '1',
  IntervalStyle: 'postgres',
  lock_timeout: '0',
  standard_conforming_strings: 'on',
  TimeZone: 'UTC',
  transform_null_equals: 'off',
};

/** The same of settings that not every PostgreSQL has, and that none may be told that does not. */
export const YOUNG_SESSION: Readonly<Record<string, string>> = {
  idle_session_timeout: '0', // since 14
  transaction_timeout: '0', // since 17
};

/** The client gives up a little after the server does, for servers that do not answer at all. */
const PATIENCE = 1.25;
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000;

/** Where a connection leads to, and what it is set to beside the above. */
export interface SessionSettings {
  /** postgres://user:password@host:port/database */
  readonly url: string;
  /** What settle.ts has found out. */
  readonly options?: string;
}

/** How every connection is made; each statement may take so long. */
export function sessionConfig(
  { url, options }: SessionSettings,
  statementTimeoutMs: number,
): ClientConfig & { connectionString: string } {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const ofUrl = parsed?.searchParams.get('options');
  // For pg those of the URL would take the place of ours. Where both say something, ours stand: the last one counts.
  if (ofUrl) parsed?.searchParams.delete('options');
  return {
    connectionString: (ofUrl && parsed?.href) || url,
    options: [ofUrl, optionsOf(SESSION), options].filter(Boolean).join(' '),
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs * PATIENCE,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    keepAlive: true,
  };
}

/** Settings in the form that begins a connection. */
export function optionsOf(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/g, '\\$&')}`)
    .join(' ');
}
