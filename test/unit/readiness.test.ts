/** What everybody may know of why a server is not ready. */
import { describe, expect, it } from 'vitest';
import pg from 'pg';
import { TaskDashError } from '../../server/domain/errors.js';
import { causeInWords } from '../../server/storage/causes.js';
import { asStorageError, asUnavailable } from '../../server/storage/postgres-errors.js';
import { Readiness } from '../../server/transports/readiness.js';
import { ManualClock } from '../support/manual-clock.js';

const SECRETS = ['db.internal', '10.1.2.3', '5432', 'taskdash_owner', 'hunter2', 'SELECT', 'registry'];
const TOLD = `connect to db.internal (10.1.2.3:5432) as taskdash_owner with hunter2 in registry failed: SELECT 1`;
const sqlError = (code: string) => Object.assign(new pg.DatabaseError(TOLD, 1, 'error'), { code });
const nodeError = (code: string) => Object.assign(new Error(TOLD), { code });

describe('the cause in words', () => {
  it.each([
    ['the database refuses the login of this server', sqlError('28P01')],
    ['there is no database of the name that this server is to use', sqlError('3D000')],
    ['the database takes no writes: it is a standby, or set to read-only', sqlError('25006')],
    ['the database has no tables; run "taskdash migrate"', sqlError('42P01')],
    ['the database has not the tables that this server needs, or keeps it from them', sqlError('42501')],
    ['the disk of the database is full', sqlError('53100')],
    ['the database has as many connections as it may have, and takes no more', sqlError('53300')],
    ['the database is starting or stopping, and takes no connections yet', sqlError('57P03')],
    ['the database is being stopped, or has been', sqlError('57P01')],
    ['the database did not answer in time', sqlError('57014')],
    ['the connection to the database broke', sqlError('08006')],
    ['the database has trouble of its own, which its log tells', sqlError('XX001')],
    ['nothing takes connections where the database should be', nodeError('ECONNREFUSED')],
    ['nothing takes connections where the database should be', new AggregateError([nodeError('ECONNREFUSED')])],
    ['the host of the database cannot be looked up by its name', nodeError('ENOTFOUND')],
    ['the database cannot be reached', nodeError('EHOSTUNREACH')],
    ['this process may not open more files', nodeError('EMFILE')],
    ['the database did not answer in time', new Error('timeout exceeded when trying to connect')],
    ['the database did not answer in time', new Error('Query read timeout')],
    ['the connection to the database broke', new Error('Connection terminated unexpectedly')],
    ['the database cannot be used; the log of the server says why', new TypeError(TOLD)],
  ])('%s', (words, error) => {
    expect([error, asUnavailable(error), asStorageError(error)].map(causeInWords)).toEqual([words, words, words]);
    for (const secret of SECRETS) expect(words).not.toContain(secret);
  });
});

describe('a server is not ready', () => {
  const clock = new ManualClock();

  it('for a cause that is known', async () => {
    const message = 'the disk of the database is full';
    const check = () => Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE', { message }));
    expect(await new Readiness({ check }, clock).problem()).toBe(message);
  });

  it('for one that nobody has put into words, and then says nothing of it', async () => {
    const problem = await new Readiness({ check: () => Promise.reject(new Error(TOLD)) }, clock).problem();
    expect(problem).toBe('something is wrong with the database; the log of the server says what');
  });

  it('when it stops, whatever the database does', async () => {
    let asked = 0;
    const readiness = new Readiness({ check: () => Promise.resolve(void asked++) }, clock);
    expect(await readiness.problem()).toBeUndefined();
    readiness.stop();
    expect([await readiness.problem(), asked]).toEqual(['the server is stopping', 1]);
  });
});
