/** What the command line says of a TASKDASH_DATABASE_URL that is wrong, on a real PostgreSQL. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function taskdash(url: string, ...args: string[]): Promise<Outcome> {
  const env = { ...process.env, TASKDASH_DATABASE_URL: url };
  return promisify(execFile)(process.execPath, ['dist/server/main.js', ...args], { env }).then(
    (output) => ({ code: 0, ...output }),
    ({ code, stdout, stderr }: Outcome) => ({ code, stdout, stderr }),
  );
}

/** The URL of the database with something else in it. */
function urlWith(change: (url: URL) => void): string {
  const url = new URL(database.url);
  change(url);
  return url.href;
}

const PORTS = ['--http-port', '0', '--grpc-port', '0', '--tcp-port', '0'];
const COMMANDS = [['migrate'], ['tasks', 'list'], ['tasks', 'watch'], ['serve', ...PORTS]];
const PIECES = /hunter2|\bss\b|w#rd/;

const WRONG: readonly (readonly [what: string, url: () => string, words: RegExp])[] = [
  ['nobody listens', () => urlWith((url) => (url.port = '1')), /nothing listens at 127\.0\.0\.1:1\. Start/],
  [
    'the host has no such name',
    () => urlWith((url) => (url.hostname = 'no.such.host.invalid')),
    /host .*"no\.such\.host\.invalid"/,
  ],
  ['the password is wrong', () => urlWith((url) => (url.password = 'hunter2')), /take the password of the user "/],
  ['there is no password', () => urlWith((url) => (url.password = '')), /wants a password of the user "/],
  ['the database is missing', () => urlWith((url) => (url.pathname = '/missing')), /no database "missing" at 127/],
  ['there is no TLS', () => urlWith((url) => (url.search = '?sslmode=verify-full')), /has no TLS\. Mend sslmode/],
  ['a file of TLS is missing', () => urlWith((url) => (url.search = '?sslrootcert=/no/ca')), /there is no \/no\/ca\./],
];

it.each(WRONG)('says in one line what is wrong: %s', async (_what, url, words) => {
  for (const outcome of await Promise.all(COMMANDS.map((command) => taskdash(url(), ...command)))) {
    expect(outcome).toMatchObject({ code: 1, stdout: '' });
    expect(outcome.stderr).toMatch(/^taskdash: TASKDASH_DATABASE_URL: .*\.\n$/);
    expect(outcome.stderr).toMatch(words);
    expect(outcome.stderr).not.toMatch(PIECES);
  }
  const { code, stdout } = await taskdash(url(), 'doctor', ...PORTS);
  expect([code, stdout]).toEqual([1, expect.stringMatching(/^wrong database: TASKDASH_DATABASE_URL: /m)]);
  expect(stdout).toMatch(words);
});

it('refuses a password that cuts the URL in pieces, and shows none of them', async () => {
  for (const command of [...COMMANDS, ['doctor', ...PORTS]]) {
    const outcome = await taskdash('postgres://u:p@ss/w#rd@127.0.0.1/x', ...command);
    expect(outcome).toMatchObject({ code: 2, stdout: '' });
    expect(outcome.stderr).toMatch(
      /^taskdash: TASKDASH_DATABASE_URL: the value given is not allowed; .* @ as %40, .*\n$/,
    );
    expect(outcome.stderr).not.toMatch(PIECES);
  }
});
