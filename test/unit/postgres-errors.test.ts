import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { asStorageError, asUnavailable, codeOf, connectionAfter } from '../../server/storage/postgres-errors.js';

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
    ['0A000', 'a prepared plan that a migration has made void'],
    ['25006', 'read-only after a failover'],
    ['26000', 'no such prepared statement'],
    ['28P01', 'wrong password'],
    ['3D000', 'no such database'],
    ['3F000', 'no such schema'],
    ['40001', 'serialization failure'],
    ['40P01', 'deadlock'],
    ['42501', 'no permission'],
    ['42703', 'no such column'],
    ['42P01', 'no such table'],
    ['53100', 'disk full'],
    ['53300', 'too many connections'],
    ['55000', 'takes no connections'],
    ['55P03', 'lock timeout'],
    ['57014', 'statement timeout'],
    ['57P01', 'shutdown by an administrator'],
    ['57P02', 'crash shutdown'],
    ['57P03', 'still starting'],
    ['57P05', 'idle session timeout'],
    ['58030', 'I/O error'],
    ['XX000', 'internal error'],
    ['XX001', 'data corrupted'],
  ])('%s (%s) means that it is not available for now', (code) => {
    expect(asStorageError(sqlError(code)).code).toBe('STORAGE_UNAVAILABLE');
  });

  it.each([
    ['22021', 'no UTF-8'],
    ['22P02', 'malformed input'],
    ['23505', 'duplicate key'],
    ['54000', 'a text too long for an index'],
    ['P0001', 'an exception that a trigger raises'],
  ])('%s (%s) means that it refuses the record', (code) => {
    expect(asStorageError(sqlError(code)).code).toBe('STORAGE_REFUSED');
  });

  it.each(['28P01', '3D000', '22023', '42501', 'XX000'])(
    '%s refuses nothing but the connection where no statement was sent',
    (code) => {
      const cause = sqlError(code);
      expect(asUnavailable(cause)).toMatchObject({ code: 'STORAGE_UNAVAILABLE', cause, nothingSent: true });
    },
  );

  it.each(['40001', '57P01', '57014'])('%s does not tell that nothing was sent', (code) => {
    expect(asStorageError(sqlError(code)).nothingSent).toBe(false);
  });
});

describe('a connection', () => {
  it.each(['ERROR', 'FEHLER', '错误'])(
    'is kept after a record was refused, on a server that calls that %s',
    (severity) => {
      for (const code of ['22P02', '23505', '40P01', '57014'])
        expect(connectionAfter(Object.assign(sqlError(code), { severity }))).toBe('kept');
    },
  );

  it.each(['FATAL', 'SCHWERWIEGEND', '致命错误'])(
    'is lost with its session, on a server that calls that %s',
    (severity) => {
      for (const code of ['08006', '25006', '25P03', '25P04', '28000', '53300', '57P01', '57P02', '57P05'])
        expect(connectionAfter(Object.assign(sqlError(code), { severity }))).toBe('lost');
    },
  );

  it('is in doubt where its own state may be the cause', () => {
    for (const code of ['0A000', '26000', '42501', '42P01', '53200', '58030', 'XX000'])
      expect(connectionAfter(sqlError(code))).toBe('doubtful');
  });

  it('is lost where the network or the driver says so', () => {
    expect(connectionAfter(nodeError('ECONNRESET'))).toBe('lost');
    expect(connectionAfter(new Error('Query read timeout'))).toBe('lost');
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
    const codeOfAll = (...errors: Error[]) => asStorageError(new AggregateError(errors)).code;
    expect(codeOfAll(nodeError('ECONNREFUSED'), nodeError('EHOSTUNREACH'))).toBe('STORAGE_UNAVAILABLE');
    expect(codeOfAll(nodeError('ECONNREFUSED'), new TypeError('a defect'))).toBe('INTERNAL');
    expect(codeOfAll()).toBe('INTERNAL');
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
