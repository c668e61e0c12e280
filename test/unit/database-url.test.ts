import { describe, expect, it } from 'vitest';
import { readConfig } from '../../server/config.js';
import { explainDatabase, isDatabaseUrl } from '../../server/database-url.js';
import { TaskDashError } from '../../server/domain/errors.js';

const URL_OF_ALL = 'postgres://ssx:p%40ss%2Fw%23rd@db.example:5433/tasks?sslmode=require';

/** What is said when the driver fails with this. */
function saidOf(cause: unknown, databaseUrl = URL_OF_ALL): string {
  const thrown = new TaskDashError('STORAGE_UNAVAILABLE', { cause });
  return (explainDatabase({ databaseUrl }, thrown) as Error).message;
}

const failed = (code: string, message = 'as the driver says', more: object = {}) =>
  Object.assign(new Error(message), { code }, more);

describe('the URL of a database', () => {
  it.each([
    'postgres://host/db',
    'postgresql://user:pass@host:5433/db?sslmode=require',
    'postgres://user:p%40ss%2Fw%23rd%25@[2001:db8::1]:5432/db',
    'postgres://user:p@ss@host/db',
    'postgres:///db?host=/var/run/postgresql',
    'postgres://user@/db?host=/var/run/postgresql',
    'postgres://%2Fvar%2Frun%2Fpostgresql/db',
    'postgres://host/db?options=-c%20search_path%3Da',
  ])('may be %s', (text) => {
    expect(isDatabaseUrl(text)).toBe(true);
  });

  it.each([
    'p@ss/w#rd',
    'secret/rest',
    '12/rest',
    'secret?rest',
    '12?rest',
    'secret#rest',
    '12#rest',
    '1@2#3',
    'secret%rest',
    'secret%ff',
  ])('may not have the password %s as it is, and the refusal has nothing of it', (password) => {
    const text = `postgres://user:${password}@host/db`;
    expect(isDatabaseUrl(text)).toBe(false);
    expect(isDatabaseUrl(`postgres://user:${encodeURIComponent('p@ss/w#rd')}@host/db`)).toBe(true);
    const read = () => readConfig({ TASKDASH_DATABASE_URL: text });
    expect(read).toThrow(/^TASKDASH_DATABASE_URL: the value given is not allowed; .* @ as %40, .* % as %25\.$/);
    expect(read).not.toThrow(/secret|rest|w#rd/);
  });
});

describe('a database that cannot be had', () => {
  it.each([
    [failed('ENOTFOUND', 'getaddrinfo ENOTFOUND db.example'), 'there is no host of the name "db.example"'],
    [failed('EAI_AGAIN'), 'the name of the host "db.example" cannot be looked up'],
    [failed('ECONNREFUSED'), 'nothing listens at db.example:5433. Start PostgreSQL there'],
    [failed('ETIMEDOUT'), 'nothing answers at db.example:5433'],
    [new Error('timeout expired'), 'nothing answers at db.example:5433'],
    [new Error('Connection terminated due to connection timeout'), 'nothing answers at db.example:5433'],
    [new Error('Connection terminated unexpectedly'), 'what listens at db.example:5433 ends the connection'],
    [failed('28P01'), 'PostgreSQL does not take the password of the user "ssx"'],
    [failed('28000', 'no pg_hba.conf entry'), 'PostgreSQL does not let the user "ssx" in: no pg_hba.conf entry.'],
    [failed('3D000'), 'there is no database "tasks" at db.example:5433. Make it'],
    [
      failed('42501', 'permission denied for schema public'),
      'permission denied for schema public. Make them the owner',
    ],
    [failed('53300'), 'no connection left'],
    [failed('57P03'), 'is starting or stopping'],
    [new Error('The server does not support SSL connections'), 'has no TLS. Mend sslmode'],
    [failed('DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate'), 'TLS fails: self-signed certificate. Name'],
    [failed('ERR_TLS_CERT_ALTNAME_INVALID', 'not in the names'), 'TLS fails: not in the names. Name'],
    [failed('ENOENT', 'no such file', { path: '/ca.pem' }), 'there is no /ca.pem. Mend the path.'],
    [new Error('SASL: client password must be a string'), 'PostgreSQL wants a password of the user "ssx"'],
    [{ driverError: failed('3D000') }, 'there is no database "tasks"'],
    [failed('XX000', 'something strange.'), 'the database at db.example:5433 cannot be used: something strange.'],
  ])('is told of in the words of the setting: %s', (cause, words) => {
    const said = saidOf(cause);
    expect(said).toMatch(/^TASKDASH_DATABASE_URL: .*[^.]\.$/);
    expect(said).toContain(words);
    expect(said).not.toMatch(/p@ss|w#rd|p%40ss/);
  });

  it('is named by its socket', () => {
    const said = saidOf(failed('ENOENT', 'connect ENOENT'), 'postgres://user@/db?host=/run/pg');
    expect(said).toContain('there is no socket of PostgreSQL in /run/pg');
  });

  it('says nothing of the setting where it is not set, or something else is wrong', () => {
    const unavailable = new TaskDashError('STORAGE_UNAVAILABLE', { cause: failed('ECONNREFUSED') });
    expect(explainDatabase({ databaseUrl: undefined }, unavailable)).toBe(unavailable);
    const defect = new TaskDashError('INTERNAL');
    expect(explainDatabase({ databaseUrl: URL_OF_ALL }, defect)).toBe(defect);
  });
});
