/*
 * The cluster: PostgreSQL's data directory with one database and one user, both called `taskdash`. It is made in a folder
 * beside, and gets its name when everything in it is whole and on the disk; a kill before that leaves a folder that the next
 * start throws away. The user owns the database and may make others, but is no superuser: whoever gets into a query does not
 * get at the machine's files. The superuser has no password and no line in pg_hba.conf, so nobody logs in as it.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { chown, mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Binaries } from './binaries.js';
import { renameDurably, statIfThere, writeDurably, type DataFolder, type LaunchLog } from './data-folder.js';
import { codeOf, EmbeddedPostgresError, reasonOf } from './embedded-postgres-error.js';
import { startGuarded, type Guardian } from './guardian.js';
import { staleNumberEnvironment } from './leftover.js';
import { runCommand, type RunAs } from './run-command.js';
import type { ServerLog } from './server-log.js';

/** Everything that PostgreSQL's programs are run with. */
export interface Launch {
  readonly folder: DataFolder;
  readonly binaries: Binaries;
  readonly runAs: RunAs;
  readonly serverLog: ServerLog;
  readonly log: LaunchLog;
}

/** The one user, and the one database. */
export const DATABASE_NAME = 'taskdash';

const INITDB_PATIENCE_MS = 120_000;
const SINGLE_USER_PATIENCE_MS = 120_000;
const ACCESS_RULES = `# TaskDash's user from this machine by password; nobody else, and nobody as superuser.
host all ${DATABASE_NAME} 127.0.0.1/32 scram-sha-256
`;

/**
 * The major version that wrote the cluster; undefined when there is no cluster yet.
 * @throws EmbeddedPostgresError when something else is in its place.
 */
export async function majorOfCluster(folder: DataFolder): Promise<number | undefined> {
  if (!(await statIfThere(folder.cluster))) return undefined;
  const version = await readFile(join(folder.cluster, 'PG_VERSION'), 'utf8').catch((error: unknown) => {
    throw new EmbeddedPostgresError(
      `${folder.cluster} is no PostgreSQL data directory (${reasonOf(error)}). ` +
        'Move it away, or set TASKDASH_DATA_DIR to another folder.',
      { cause: error },
    );
  });
  return Number.parseInt(version, 10);
}

/** Makes the cluster if there is none, and returns the password of its user. */
export async function ensureCluster(launch: Launch): Promise<string> {
  const { folder } = launch;
  const isNew = !(await statIfThere(folder.cluster));
  const known = await readPassword(folder);
  const password = known ?? randomBytes(24).toString('base64url');
  if (isNew) {
    if (known === undefined) await writeDurably(folder, folder.password, password);
    await createCluster(launch, password);
  } else if (known === undefined) {
    launch.log('warn', 'The database password file is gone; setting a new password', { file: folder.password });
    await runSql(launch, folder.cluster, [`ALTER ROLE ${DATABASE_NAME} PASSWORD '${password}'`]);
    await writeDurably(folder, folder.password, password);
  }
  return password;
}

/** The password, or undefined when it has not been written. */
export async function readPassword(folder: DataFolder): Promise<string | undefined> {
  try {
    return (await readFile(folder.password, 'utf8')).trim() || undefined;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new EmbeddedPostgresError(
      `The database password in ${folder.password} cannot be read: ${reasonOf(error)}. Run this as the user that the file belongs to.`,
      { cause: error },
    );
  }
}

/** The environment of PostgreSQL's programs: nothing of ours that could redirect them. */
export function programEnvironment(binaries: Binaries): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC', ...binaries.env };
}

async function createCluster(launch: Launch, password: string): Promise<void> {
  const { folder, runAs, log } = launch;
  const startedAt = performance.now();
  await removeUnfinished(folder, log);
  const staging = `${folder.cluster}.new-${randomUUID()}`;
  try {
    await mkdir(staging, { mode: 0o700 });
    if (runAs.account) await chown(staging, runAs.account.uid, runAs.account.gid);
    await initialise(launch, staging);
    await runSql(launch, staging, [
      `CREATE ROLE ${DATABASE_NAME} LOGIN CREATEDB PASSWORD '${password}'`,
      `GRANT pg_monitor TO ${DATABASE_NAME}`,
      `CREATE DATABASE ${DATABASE_NAME} OWNER ${DATABASE_NAME}`,
    ]);
    await writeAccessRules(staging);
    await renameDurably(staging, folder.cluster);
  } catch (error) {
    // The next start tries again to throw it away; what went wrong before that is what has to be told.
    await rm(staging, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch((reason: unknown) => {
      log('warn', 'An unfinished database stays', { folder: staging, reason: reasonOf(reason) });
    });
    throw error;
  }
  log('info', 'Made a new database', { folder: folder.cluster, tookMs: Math.round(performance.now() - startedAt) });
}

async function initialise(launch: Launch, staging: string): Promise<void> {
  const { binaries, runAs, serverLog } = launch;
  const from = await serverLog.sizeBytes();
  const guardian = await startGuarded(
    runAs,
    [binaries.initdb, '-D', staging, '--username=postgres', '--auth=reject', ...initdbOptions(binaries.major)],
    { env: programEnvironment(binaries), logFd: serverLog.fd },
  );
  const code = await endWithin(guardian, INITDB_PATIENCE_MS);
  if (code === 0) return;
  const lines = (await serverLog.tail(from)).join('\n');
  throw new EmbeddedPostgresError(
    `PostgreSQL's initdb could not make a database in ${staging} as ${runAs.description}:\n${lines}\n${adviceFor(lines)}`,
  );
}

function adviceFor(lines: string): string {
  return lines.includes('could not look up effective user ID')
    ? 'It wants a user with a name: run TaskDash as one that /etc/passwd knows, or set TASKDASH_DATABASE_URL.'
    : 'See that the disk has room and the folder may be written, and start again.';
}

function initdbOptions(major: number): string[] {
  const locale = major >= 17 ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8'] : [];
  return ['--encoding=UTF8', '--locale=C', ...locale, '--data-checksums', '--no-instructions'];
}

async function endWithin(guardian: Guardian, patienceMs: number): Promise<number | null> {
  const kill = setTimeout(() => guardian.signal('KILL'), patienceMs);
  const { code } = await guardian.exited;
  clearTimeout(kill);
  return code;
}

/** Runs statements in a PostgreSQL without network that ends after them, or at once when this process ends. */
async function runSql(launch: Launch, cluster: string, statements: readonly string[]): Promise<void> {
  const { binaries, runAs, folder } = launch;
  const stale = cluster === folder.cluster ? await staleNumberEnvironment(folder) : {};
  const { code, output } = await runCommand(
    runAs,
    [binaries.postgres, '--single', '-j', '-D', cluster, '-c', 'exit_on_error=on', 'postgres'],
    {
      env: { ...programEnvironment(binaries), ...stale },
      // With -j a statement ends at a semicolon and an empty line.
      input: statements.map((statement) => `${statement};\n\n`).join(''),
      timeoutMs: SINGLE_USER_PATIENCE_MS,
    },
  );
  if (code === 0) return;
  const harmless = output.slice(-2_000).replaceAll(/PASSWORD '[^']*'/g, "PASSWORD '…'");
  throw new EmbeddedPostgresError(`PostgreSQL could not set up the database in ${cluster}:\n${harmless}`);
}

/** initdb has made the file, for the user that must read it. */
async function writeAccessRules(cluster: string): Promise<void> {
  const file = await open(join(cluster, 'pg_hba.conf'), 'w');
  try {
    await file.writeFile(ACCESS_RULES);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function removeUnfinished(folder: DataFolder, log: LaunchLog): Promise<void> {
  const names = (await readdir(folder.root)).filter((name) => name.startsWith('postgres.new-'));
  for (const name of names) {
    log('info', 'Throwing away a database that an earlier start did not finish', { folder: name });
    await rm(join(folder.root, name), { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}
