/** `user add`, `user set-password`, `token create`. */
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import ms from 'ms';
import { missingAdministrator } from '../administrators.js';
import { ConfigError, type Config } from '../config.js';
import type { Role, TokenScope } from '../domain/access.js';
import type { UserRecord } from '../domain/ports.js';
import { strengthWords } from '../domain/account-rules.js';
import { systemClock } from '../domain/clock.js';
import { Users } from '../domain/users.js';
import { Argon2Hasher } from '../identity/argon2-hasher.js';
import { ZxcvbnJudge } from '../identity/zxcvbn-judge.js';
import type { Storage } from '../storage/storage.js';
import { print, printAside, printPrompt } from './print.js';
import { withStorageMade, withStorageToChange } from './with-storage.js';

const ROLES: readonly string[] = ['member', 'viewer', 'manager'] satisfies Role[];
/** What is to last longer need not end at all. */
const MAX_LIFE = '100y';
/** Longer lines are no password. */
const MAX_PASSWORD_BYTES = 64 * 1024;
const SCOPES: readonly string[] = ['register', 'read'] satisfies TokenScope[];

function usersOf(storage: Storage): Users {
  return new Users(storage.identity, new Argon2Hasher(), new ZxcvbnJudge(), systemClock);
}

/** Adds a user, or replaces one, but for a name that is not given. */
export async function addUser(
  config: Config,
  options: { name?: string; group?: string[]; administrator?: boolean; generate?: boolean },
  [id = '']: string[],
): Promise<number> {
  const memberships = parseMemberships(options.group ?? []);
  const { password, tell } = await passwordFor(options);
  return withStorageMade(config, async (storage) => {
    const before = await storage.identity.findUser(id);
    const displayName = options.name ?? before?.displayName ?? id;
    const user = { id, displayName, administrator: options.administrator ?? false, memberships };
    await usersOf(storage).add({ ...user, password });
    tell();
    print(before ? changeWords(before, user) : `User ${JSON.stringify(id)} can log in now.`);
    const missing = await missingAdministrator(storage.identity);
    if (missing !== undefined) printAside(missing);
    return 0;
  });
}

/** 'User "ssx" was there already and is changed: a new password; groups mx:member → mx:viewer. Their sessions are ended.' */
function changeWords(
  before: UserRecord,
  now: Omit<UserRecord, 'passwordHash' | 'mustChangePassword' | 'disabled'>,
): string {
  const changes = [
    'a new password',
    ...change('name', JSON.stringify(before.displayName), JSON.stringify(now.displayName)),
    ...change('administrator', yesOrNo(before.administrator), yesOrNo(now.administrator)),
    ...change('groups', groupWords(before), groupWords(now)),
    ...change('disabled', yesOrNo(before.disabled), 'no'),
  ];
  return `User ${JSON.stringify(now.id)} was there already and is changed: ${changes.join('; ')}. Their sessions are ended.`;
}

function change(what: string, before: string, now: string): string[] {
  return before === now ? [] : [`${what} ${before} → ${now}`];
}

function yesOrNo(is: boolean): string {
  return is ? 'yes' : 'no';
}

/** "a:viewer, mx:member" */
function groupWords({ memberships }: Pick<UserRecord, 'memberships'>): string {
  const words = [...memberships].map(([groupId, role]) => `${groupId}:${role}`).sort();
  return words.join(', ') || 'none';
}

/** Sets a password. */
export async function setPassword(
  config: Config,
  options: { generate?: boolean },
  [id = '']: string[],
): Promise<number> {
  const { password, tell } = await passwordFor(options);
  return withStorageToChange(config, async (storage) => {
    const strength = await usersOf(storage).setPassword(id, password);
    tell();
    print(
      `The password of ${JSON.stringify(id)} is set; their sessions are ended. Its strength: ${strengthWords(strength)}.`,
    );
    return 0;
  });
}

/** Makes a service token. */
export async function createToken(
  config: Config,
  options: { group: string; scope?: string[]; expires?: string },
  [name = '']: string[],
): Promise<number> {
  const scopes = (options.scope ?? SCOPES).map(parseScope);
  const lifeMs = options.expires === undefined ? undefined : parseLife(options.expires);
  return withStorageMade(config, async (storage) => {
    const expiresAt = lifeMs === undefined ? null : new Date(systemClock.now().getTime() + lifeMs);
    const { secret } = await usersOf(storage).createToken({ name, groupId: options.group, scopes, expiresAt });
    print(secret);
    printAside(
      `This secret of the token ${JSON.stringify(name)} is shown only now. Send it as "authorization: Bearer …".`,
    );
    return 0;
  });
}

/** What is said twice alike counts once. */
function parseMemberships(texts: readonly string[]): Map<string, Role> {
  const memberships = new Map<string, Role>();
  for (const [groupId, role] of texts.map(parseMembership)) {
    const other = memberships.get(groupId) ?? role;
    if (other !== role) throw contradiction(`${groupId}:${other}`, `${groupId}:${role}`);
    memberships.set(groupId, role);
  }
  return memberships;
}

function contradiction(one: string, other: string): ConfigError {
  const both = [one, other].map((text) => JSON.stringify(text)).join(' and ');
  return new ConfigError(`--group: ${both} contradict each other; a user has one role in a group.`);
}

function parseMembership(text: string): [string, Role] {
  const colon = text.lastIndexOf(':');
  const role = text.slice(colon + 1);
  if (colon > 0 && ROLES.includes(role)) return [text.slice(0, colon), role as Role];
  throw new ConfigError(
    `--group: ${JSON.stringify(text)} is not allowed; it must be group:role with the role ${ROLES.join(', ')}.`,
  );
}

function parseScope(text: string): TokenScope {
  if (SCOPES.includes(text)) return text as TokenScope;
  throw new ConfigError(`--scope: ${JSON.stringify(text)} is not allowed; it must be ${SCOPES.join(' or ')}.`);
}

function parseLife(text: string): number {
  const lifeMs = /^\d{1,15}(s|m|h|d|w|y)$/.test(text) ? ms(text as ms.StringValue) : NaN;
  if (lifeMs > 0 && lifeMs <= ms(MAX_LIFE)) return lifeMs;
  throw new ConfigError(
    `--expires: ${JSON.stringify(text)} is not allowed; it must be a duration from 1s to ${MAX_LIFE}, such as 12h, 90d or 1y. ` +
      'Without it the token never ends.',
  );
}

/** The password that is wanted, and how it is told once it is one: only a password that was made up is. */
async function passwordFor(options: { generate?: boolean }): Promise<{ password: string; tell: () => void }> {
  if (!options.generate) return { password: await readPassword(), tell: () => {} };
  const password = randomBytes(15).toString('base64url');
  return { password, tell: () => printAside(`Password: ${password} (shown only now)`) };
}

/** From the terminal without showing it, or the first line of what is piped in. */
async function readPassword(): Promise<string> {
  const line = process.stdin.isTTY ? await typedLine() : await pipedLine();
  if (line !== undefined) return line;
  throw new ConfigError('The password is missing: type it, pipe it in as one line, or use --generate.');
}

async function typedLine(): Promise<string | undefined> {
  printPrompt('Password: ');
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: silent, terminal: true });
  try {
    for await (const line of lines) return line;
    return undefined;
  } finally {
    lines.close();
    printAside('');
  }
}

/** Decoded strictly: a stream would put U+FFFD for what is no UTF-8, and nobody could log in with what they meant. */
async function pipedLine(): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (/[\r\n]/.test(chunk.toString('latin1')) || size > MAX_PASSWORD_BYTES) break;
  }
  if (size === 0) return undefined;
  const [line = ''] = Buffer.concat(chunks)
    .toString('latin1')
    .split(/[\r\n]/, 1);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(line, 'latin1'));
  } catch {
    throw new ConfigError('The password is not valid UTF-8: pipe it in in that encoding, or type it.');
  }
}
