import { access, chown, constants, mkdir, open, realpath, rename, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { codeOf, EmbeddedPostgresError, reasonOf } from './embedded-postgres-error.js';

/** The embedded database's folder: absolute paths without symbolic links. */
export interface DataFolder {
  readonly root: string;
  /** PostgreSQL's own data directory; there is none until the first start has finished making it. */
  readonly cluster: string;
  /** Holds the record of the process that owns the folder. */
  readonly lock: string;
  /** The database password, mode 0600. */
  readonly password: string;
  /** What PostgreSQL says. */
  readonly log: string;
}

/** Tells the log levels that the launcher reports at. */
export type LaunchLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  details?: Record<string, unknown>,
) => void;

/** Names the parts of a data folder. */
export function dataFolderAt(root: string): DataFolder {
  return {
    root,
    cluster: join(root, 'postgres'),
    lock: join(root, 'lock'),
    password: join(root, 'postgres.password'),
    log: join(root, 'postgres.log'),
  };
}

/** True in a process of the superuser, as whom PostgreSQL refuses to run. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * Makes the folder if there is none and proves that it can be written.
 * @throws EmbeddedPostgresError that says whose folder it is, when it cannot be used.
 */
export async function openDataFolder(path: string): Promise<DataFolder> {
  try {
    // As root the server runs as somebody else, who must at least pass through the folder; what lies in it is closed.
    await makeFolder(resolve(path), isRoot() ? 0o711 : 0o700);
    const folder = dataFolderAt(await realpath(path));
    await makeFolder(folder.lock, 0o755);
    await giveToFolderOwner(folder, folder.lock);
    await access(folder.root, constants.W_OK | constants.X_OK);
    await access(folder.lock, constants.W_OK | constants.X_OK);
    return folder;
  } catch (error) {
    throw new EmbeddedPostgresError(
      `The data folder ${path} cannot be used by user ${process.getuid?.() ?? 'of this process'}` +
        `${await ownerWords(path)}: ${reasonOf(error)}. ` +
        'Give the folder to that user, or set TASKDASH_DATA_DIR to a folder that can be written.',
      { cause: error },
    );
  }
}

/** Not mkdir's own recursion, which never ends where a file system (/proc) takes no folders at all. */
async function makeFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (codeOf(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (codeOf(error) !== 'ENOENT' || (await statIfThere(dirname(path)))) throw error;
    await makeFolder(dirname(path), 0o755);
    await makeFolder(path, mode);
  }
}

async function ownerWords(path: string): Promise<string> {
  try {
    const status = await stat(path);
    return status.isDirectory() ? ` (it belongs to user ${status.uid})` : ' (it is no folder)';
  } catch {
    return '';
  }
}

/** As root, leaves what was made in the folder to the folder's owner, who may start the server without root next time. */
export async function giveToFolderOwner(folder: DataFolder, path: string): Promise<void> {
  if (!isRoot()) return;
  const { uid, gid } = await stat(folder.root);
  if (uid !== 0) await chown(path, uid, gid);
}

/** Opens a file of the folder that only its owner may read. */
export async function createFile(folder: DataFolder, path: string, flags: 'w' | 'a'): Promise<FileHandle> {
  const file = await open(path, flags, 0o600);
  await giveToFolderOwner(folder, path);
  return file;
}

/** Writes a whole file or none: the content is on the disk before it gets its name. */
export async function writeDurably(folder: DataFolder, path: string, content: string): Promise<void> {
  const file = await createFile(folder, `${path}.new`, 'w');
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await renameDurably(`${path}.new`, path);
}

/** Renames, and returns when the new name would outlive a power cut. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  const parent = await open(dirname(to), 'r');
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
}

/** What the path holds, or undefined when nothing is there: a file has nothing in it. */
export async function statIfThere(path: string): Promise<Awaited<ReturnType<typeof stat>> | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error))) return undefined;
    throw error;
  }
}
