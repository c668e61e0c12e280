import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { asStorageError, codeOf, isUnavailable } from '../../server/storage/postgres-errors.js';

function sqlError(code: string): Error {
  return Object.assign(new pg.DatabaseError('what happened', 1, 'error'), { code });
}
function nodeError(code: string): Error {
  return Object.assign(new Error(`connect ${code}`), { code });
}

describe('an error of the database', () => {
  it.each([
    ['08006', 'connection failure'],
    ['08P01', 'protocol violation'],
    ['25006', 'read-only after a failover'],
    ['40001', 'serialization failure'],
    ['40P01', 'deadlock'],
    ['53100', 'disk full'],
    ['53300', 'too many connections'],
    ['55P03', 'lock timeout'],
    ['57014', 'statement timeout'],
    ['57P01', 'shutdown by an administrator'],
    ['57P02', 'crash shutdown'],
    ['57P03', 'still starting'],
    ['57P05', 'idle session timeout'],
    ['58030', 'I/O error'],
  ])('%s (%s) means that it is away for now', (code) => {
    expect(asStorageError(sqlError(code)).code).toBe('STORAGE_UNAVAILABLE');
  });

  it.each([
    ['22021', 'no UTF-8'],
    ['22P02', 'malformed input'],
    ['23505', 'duplicate key'],
    ['28P01', 'wrong password'],
    ['3D000', 'no such database'],
    ['42501', 'no permission'],
    ['42P01', 'no such table'],
    ['54000', 'program limit'],
    ['XX000', 'internal error'],
  ])('%s (%s) means that it said no', (code) => {
    expect(asStorageError(sqlError(code)).code).toBe('STORAGE_REFUSED');
  });
});

describe('an error of the network', () => {
  it.each(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENOENT'])(
    '%s means that the database is away for now',
    (code) => {
      expect(asStorageError(nodeError(code)).code).toBe('STORAGE_UNAVAILABLE');
    },
  );

  it('of every address of a host counts like one', () => {
    expect(isUnavailable(new AggregateError([nodeError('ECONNREFUSED'), nodeError('EHOSTUNREACH')]))).toBe(true);
    expect(isUnavailable(new AggregateError([nodeError('ECONNREFUSED'), new TypeError('a defect')]))).toBe(false);
    expect(isUnavailable(new AggregateError([]))).toBe(false);
  });
});

describe('an error of the driver', () => {
  it.each([
    'Connection terminated unexpectedly',
    'Connection terminated due to connection timeout',
    'timeout exceeded when trying to connect',
    'timeout expired',
    'Query read timeout',
    'Cannot use a pool after calling end on the pool',
    'Client has encountered a connection error and is not queryable',
    'Client was closed and is not queryable',
  ])('"%s" means that the database is away for now', (message) => {
    expect(asStorageError(new Error(message)).code).toBe('STORAGE_UNAVAILABLE');
  });
});

describe('any other error', () => {
  it('is a defect of ours, with its cause kept', () => {
    const defect = new TypeError('x is not a function');
    expect(asStorageError(defect)).toMatchObject({ code: 'INTERNAL', cause: defect });
  });

  it('of the catalogue passes as it is', () => {
    const known = new TaskDashError('RESUME_TOKEN_INVALID');
    expect(asStorageError(known)).toBe(known);
  });

  it('wrapped by TypeORM keeps its code', () => {
    const wrapped = Object.assign(new Error('QueryFailedError'), { driverError: sqlError('57P01') });
    expect(codeOf(wrapped)).toBe('57P01');
    expect(asStorageError(wrapped)).toMatchObject({ code: 'STORAGE_UNAVAILABLE', cause: wrapped });
  });
});
