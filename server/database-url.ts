/**
 * TASKDASH_DATABASE_URL: what it may be, and what is wrong with it, in words for whoever set it: what, and what to do.
 *
 * Nothing of a password is ever told. One with characters that mean something in a URL cuts the URL into pieces, of which some
 * stand where the host or the database is looked for, and those are named when they are not found. So a URL that may have been
 * cut is refused before anything in it is looked for.
 */
import { TaskDashError } from './domain/errors.js';

/** What the setting has to be. */
export const DATABASE_URL_RULE =
  'a URL such as postgres://user:password@host:5432/database, in which characters of the user or the password that mean ' +
  'something in a URL are percent-encoded: @ as %40, : as %3A, / as %2F, # as %23, ? as %3F, % as %25';

/** The database that the setting names cannot be had. */
export class DatabaseUrlError extends Error {
  override readonly name = 'DatabaseUrlError';
}

/** Whether a text is such a URL, and has nothing where only a piece of a user or a password would be. */
export function isDatabaseUrl(text: string): boolean {
  const url = parse(text);
  return url !== undefined && !`${url.pathname}${url.search}`.includes('@') && !text.includes('#') && isDecodable(text);
}

/** What says that the database of the setting cannot be had, in the setting's words; anything else as it is. */
export function explainDatabase({ databaseUrl }: { databaseUrl: string | undefined }, thrown: unknown): unknown {
  if (databaseUrl === undefined || !(thrown instanceof TaskDashError) || thrown.code !== 'STORAGE_UNAVAILABLE')
    return thrown;
  const problem = wordsFor(detailsOf(thrown.cause), partsOf(databaseUrl));
  return new DatabaseUrlError(`TASKDASH_DATABASE_URL: ${problem}`, { cause: thrown });
}

/** '"taskdash" at db.example:5432': what may be told of where the database is. */
export function placeOfDatabase(databaseUrl: string): string {
  const { database, place } = partsOf(databaseUrl);
  return `${database} at ${place}`;
}

/** Without a host, as for a socket, the driver takes it in two forms. */
function parse(text: string): URL | undefined {
  const form = [text, text.replace('@/', '@localhost/')].find((candidate) => URL.canParse(candidate));
  return form === undefined ? undefined : new URL(form);
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    // A per cent sign that encodes nothing.
    return false;
  }
}

/** What may be told of a URL. */
interface Parts {
  readonly host: string;
  readonly place: string;
  readonly user: string;
  readonly database: string;
}

function partsOf(databaseUrl: string): Parts {
  const { hostname, port, username, pathname, searchParams } = parse(databaseUrl) ?? new URL('postgres://');
  const host = searchParams.get('host') ?? (decodeURIComponent(hostname) || 'localhost');
  const user = searchParams.get('user') ?? decodeURIComponent(username);
  return {
    host: JSON.stringify(host),
    place: host.startsWith('/') ? host : `${host}:${searchParams.get('port') ?? (port || '5432')}`,
    user: user === '' ? 'the user' : `the user ${JSON.stringify(user)}`,
    database: JSON.stringify(decodeURIComponent(pathname.slice(1)) || user),
  };
}

/** What a driver, a socket or PostgreSQL says. */
interface Details {
  readonly code: string;
  readonly message: string;
  /** The file that is not there. */
  readonly path: string | undefined;
}

function detailsOf(cause: unknown): Details {
  const { code, message, path, driverError } = (cause ?? {}) as Partial<Details> & { driverError?: unknown };
  if (code === undefined && driverError !== undefined) return detailsOf(driverError);
  return { code: code ?? '', message: (message ?? '').replace(/\.$/, ''), path };
}

type Words = (parts: Parts, details: Details) => string;

const silent: Words = ({ place }) =>
  `nothing answers at ${place}. Mend host and port, or see what is between: a firewall, a network that is down.`;
const cut: Words = ({ place }) =>
  `what listens at ${place} ends the connection before it has begun. Mend host and port, if that is no PostgreSQL; its log says why otherwise.`;
const untrusted: Words = (_parts, { message }) =>
  `TLS fails: ${message}. Name the authority of the certificate by sslrootcert=FILE in the URL, or mend sslmode.`;

/** By SQLSTATEs, and by Node's codes. */
const BY_CODE: Readonly<Record<string, Words>> = {
  ENOTFOUND: ({ host }) => `there is no host of the name ${host}. Mend the host.`,
  EAI_AGAIN: ({ host }) => `the name of the host ${host} cannot be looked up. Mend the host, or try again.`,
  ECONNREFUSED: ({ place }) => `nothing listens at ${place}. Start PostgreSQL there, or mend host and port.`,
  ENOENT: ({ place }, { path }) => `there is no ${path ?? `socket of PostgreSQL in ${place}`}. Mend the path.`,
  ETIMEDOUT: silent,
  EHOSTUNREACH: silent,
  EHOSTDOWN: silent,
  ENETUNREACH: silent,
  ECONNRESET: cut,
  EPIPE: cut,
  '28P01': ({ user }) =>
    `PostgreSQL does not take the password of ${user}. Mend user and password; what means something in a URL is percent-encoded.`,
  '28000': ({ user }, { message }) => `PostgreSQL does not let ${user} in: ${message}. Mend the user, or pg_hba.conf.`,
  '3D000': ({ database, place }) =>
    `there is no database ${database} at ${place}. Make it (CREATE DATABASE …), or mend its name.`,
  '42501': ({ user, database }, { message }) =>
    `${user} may not do what TaskDash needs: ${message}. Make them the owner of the database ${database}.`,
  '53300': ({ place }) =>
    `PostgreSQL at ${place} has no connection left. Give it more (max_connections), or set TASKDASH_DATABASE_POOL_SIZE lower.`,
  '57P03': ({ place }) => `PostgreSQL at ${place} is starting or stopping. Try again in a moment.`,
};

/** By the sentences of the driver, which gives these errors no code, and of TLS, which has many codes. */
const BY_SENTENCE: readonly (readonly [RegExp, Words])[] = [
  [
    /does not support SSL/i,
    ({ place }) => `PostgreSQL at ${place} has no TLS. Mend sslmode in the URL, or have it use TLS.`,
  ],
  [/certificate|_CERT|_SIGNATURE|ERR_TLS|ERR_SSL|EPROTO|\bTLS\b/i, untrusted],
  [/password must be/i, ({ user }) => `PostgreSQL wants a password of ${user}, and there is none. Add it to the URL.`],
  [/timeout/i, silent],
  [/Connection terminated/i, cut],
];

function wordsFor(details: Details, parts: Parts): string {
  const { code, message } = details;
  const words = BY_CODE[code] ?? BY_SENTENCE.find(([sentence]) => sentence.test(`${code} ${message}`))?.[1];
  return words?.(parts, details) ?? `the database at ${parts.place} cannot be used: ${message || code}.`;
}
