/*
 * As whom PostgreSQL runs. It refuses root. An ordinary user's server runs as that user. For root it is, in this order,
 *
 *   1. the owner of the cluster, else of the data folder, when that is somebody else with a name,
 *   2. the account `postgres`, 3. the account `nobody`,
 *
 * to whom the cluster is then given. That account must be able to pass through the folders above the cluster. When only
 * the data folder itself is closed, it gets the right to be passed through (what lies in it stays closed). When a folder
 * above it is (a project under /root), the server gets one capability, CAP_DAC_READ_SEARCH, and no way to any other.
 */
import { chmod, chown, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isRoot, statIfThere, type DataFolder, type LaunchLog } from './data-folder.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';
import { runCommand, type RunAs } from './run-command.js';

interface Account {
  readonly uid: number;
  readonly gid: number;
}

const OURSELVES: RunAs = { description: 'the user of this process', starter: [] };
const PASS_THROUGH_BIT = 0o001;

/**
 * Chooses the user, and for root makes sure that the cluster, if there is one, belongs to that user.
 * @throws EmbeddedPostgresError when there is no way: root may not become anybody else, or nobody else can get there.
 */
export async function chooseRunAs(folder: DataFolder, log: LaunchLog): Promise<RunAs> {
  if (!isRoot()) return OURSELVES;
  const account = await chooseAccount(folder);
  const runAs = await withPassage(folder, account, log);
  await giveCluster(folder, account, log);
  log('debug', 'PostgreSQL runs as another user than root', { as: runAs.description });
  return runAs;
}

/**
 * An ordinary user cannot use a cluster of somebody else.
 * @throws EmbeddedPostgresError that says whose it is.
 */
export async function refuseForeignCluster(folder: DataFolder): Promise<void> {
  const cluster = await statIfThere(folder.cluster);
  const uid = process.getuid?.();
  if (!cluster || uid === undefined || uid === 0 || cluster.uid === uid) return;
  throw new EmbeddedPostgresError(
    `The database in ${folder.cluster} belongs to user ${String(cluster.uid)}, and TaskDash runs as user ${uid}. ` +
      `Start it as that user or as root, give the database away ("chown -R ${uid} ${folder.root}" as root), ` +
      'or set TASKDASH_DATA_DIR to another folder.',
  );
}

async function chooseAccount(folder: DataFolder): Promise<Account> {
  const owners = [await statIfThere(folder.cluster), await stat(folder.root)];
  for (const owner of owners) {
    if (!owner || owner.uid === 0) continue;
    const account = { uid: Number(owner.uid), gid: Number(owner.gid) };
    if (await hasName(account)) return account;
  }
  for (const name of ['postgres', 'nobody']) {
    const account = await accountNamed(name);
    if (account) return account;
  }
  throw new EmbeddedPostgresError(
    'PostgreSQL does not run as root, and this machine has neither an account "postgres" nor "nobody" to run it as. ' +
      'Start TaskDash as an ordinary user, or name a PostgreSQL of your own in TASKDASH_DATABASE_URL.',
  );
}

async function accountNamed(name: string): Promise<Account | undefined> {
  const [user, group] = await Promise.all([
    runCommand(OURSELVES, ['id', '-u', name]),
    runCommand(OURSELVES, ['id', '-g', name]),
  ]);
  return user.code === 0 && group.code === 0 ? { uid: Number(user.output), gid: Number(group.output) } : undefined;
}

/** PostgreSQL's initdb wants an account with a name; a number alone, as containers use them, is not enough. */
async function hasName(account: Account): Promise<boolean> {
  const { code } = await runCommand({ description: '', account, starter: [] }, ['id', '-un']);
  return code === 0;
}

async function withPassage(folder: DataFolder, account: Account, log: LaunchLog): Promise<RunAs> {
  const plain: RunAs = { description: `user ${account.uid}`, account, starter: [] };
  const change = await runCommand(plain, ['/bin/sh', '-c', ':']);
  if (change.code !== 0) throw cannotBecome(account, change.output);
  if ((await canEnter(plain, folder.root)) || (await openedFor(plain, folder, log))) return plain;
  const capable: RunAs = {
    description: `user ${account.uid} with CAP_DAC_READ_SEARCH`,
    account,
    starter: ['setpriv', ...capabilityArguments(account)],
  };
  if (await canEnter(capable, folder.root)) return capable;
  throw new EmbeddedPostgresError(
    `PostgreSQL does not run as root, and user ${account.uid}, as whom it would run, cannot reach the data folder ` +
      `${folder.root} (a folder above it is closed, and "setpriv" is missing or may not give CAP_DAC_READ_SEARCH). ` +
      'Set TASKDASH_DATA_DIR to a folder that can be reached, such as /var/lib/taskdash.',
  );
}

function capabilityArguments(account: Account): string[] {
  const only = '-all,+dac_read_search';
  const identity = [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--clear-groups', '--no-new-privs'];
  // PostgreSQL asks access(2) about its own programs, and Linux answers that without capabilities unless this bit is set.
  const answers = '--securebits=+no_setuid_fixup';
  return [...identity, answers, `--inh-caps=${only}`, `--ambient-caps=${only}`, `--bounding-set=${only}`, '--'];
}

async function canEnter(runAs: RunAs, path: string): Promise<boolean> {
  const { code } = await runCommand(runAs, ['/bin/sh', '-c', 'cd "$1"', 'sh', path]);
  return code === 0;
}

/** Lets others pass through the data folder when that is all that is missing. */
async function openedFor(runAs: RunAs, folder: DataFolder, log: LaunchLog): Promise<boolean> {
  const { uid, mode } = await stat(folder.root);
  if (uid !== 0 || (mode & PASS_THROUGH_BIT) !== 0) return false;
  await chmod(folder.root, (mode & 0o7777) | PASS_THROUGH_BIT);
  if (await canEnter(runAs, folder.root)) {
    log('info', 'Opened the data folder for PostgreSQL to pass through', { folder: folder.root });
    return true;
  }
  await chmod(folder.root, mode & 0o7777);
  return false;
}

/** A cluster that root restored from a copy, or whose owner has no name any more. */
async function giveCluster(folder: DataFolder, account: Account, log: LaunchLog): Promise<void> {
  const cluster = await statIfThere(folder.cluster);
  if (!cluster || Number(cluster.uid) === account.uid) return;
  log('info', 'Giving the database to the user that PostgreSQL runs as', { uid: account.uid });
  const entries = await readdir(folder.cluster, { recursive: true });
  for (const entry of entries) await chown(join(folder.cluster, entry), account.uid, account.gid);
  await chown(folder.cluster, account.uid, account.gid);
}

function cannotBecome(account: Account, reason: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `PostgreSQL does not run as root, and this process may not start it as user ${account.uid}: ${reason.trim()}. ` +
      'Start TaskDash as an ordinary user, give the container CAP_SETUID, CAP_SETGID and CAP_CHOWN, ' +
      'or name a PostgreSQL of your own in TASKDASH_DATABASE_URL.',
  );
}
