/** What every command on the database needs: the database, storage on it, and letting go of both at the end. */
import { access, constants } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { defaultNodeName, type Config } from '../config.js';
import { borrowDatabase, openDatabase } from '../database.js';
import { explainDatabase, placeOfDatabase } from '../database-url.js';
import type { Log } from '../domain/ports.js';
import { createLog } from '../logging.js';
import { dataFolderAt, statIfThere } from '../storage/embedded/data-folder.js';
import { viewDatabase, type DatabaseView } from '../storage/database-view.js';
import type { Storage } from '../storage/storage.js';
import { printAside, sentenceOf } from './print.js';

type Work = (storage: Storage) => Promise<number>;

/** Runs `work` on the database of the settings. Throws where there is none: what only looks must not make one. */
export async function withStorage(config: Config, work: Work): Promise<number> {
  await requireDatabase(config);
  return runOn(config, work);
}

/** The same for what changes something: it says in which database. */
export function withStorageToChange(config: Config, work: Work): Promise<number> {
  return withStorage(config, naming(config, work));
}

/** The same on a database that is made where there is none. */
export function withStorageMade(config: Config, work: Work): Promise<number> {
  return tellingOfNewDatabase(config, () => runOn(config, naming(config, work)));
}

/** Which database is written to is decided by the folder and the environment, where one may be forgotten. */
function naming(config: Config, work: Work): Work {
  return (storage) => {
    printAside(`Database: ${databaseWords(config)}`);
    return work(storage);
  };
}

/** "taskdash at db.example:5432" or "the embedded one in /srv/taskdash/.taskdash" */
export function databaseWords({ databaseUrl, dataDir }: Config): string {
  return databaseUrl === undefined ? `the embedded one in ${resolve(dataDir)}` : placeOfDatabase(databaseUrl);
}

/** Shows `look` the database of the settings as it is. */
export async function withView<T>(config: Config, look: (view: DatabaseView) => Promise<T>): Promise<T> {
  const log = quietLog(config);
  const database = await borrowDatabase(config, log);
  try {
    return await viewDatabase({ url: database.url, log }, look);
  } catch (thrown) {
    throw explainDatabase(config, thrown);
  } finally {
    await database.release();
  }
}

/** Where a start would make the embedded database; undefined where there is one. Throws where none can be made. */
export async function placeOfNewDatabase(config: Config): Promise<string | undefined> {
  const folder = await folderWithoutDatabase(config);
  if (folder === undefined) return undefined;
  let above = folder;
  for (; !(await statIfThere(above));) above = dirname(above);
  try {
    if (!(await statIfThere(above))?.isDirectory()) throw new Error(`${above} is no folder`);
    await access(above, constants.W_OK);
  } catch (error) {
    throw new Error(`No database can be made in ${folder}: ${sentenceOf(error)}. Mend TASKDASH_DATA_DIR.`, {
      cause: error,
    });
  }
  return folder;
}

/** Throws where the embedded database of the settings has never been made. */
export async function requireDatabase(config: Config): Promise<void> {
  const folder = await folderWithoutDatabase(config);
  if (folder === undefined) return;
  const isFile = (await statIfThere(folder))?.isDirectory() === false;
  throw new Error(
    `There is no database in ${folder}${isFile ? ', which is no folder' : ''}. Run this in the folder of the server, or name the database in ` +
      'TASKDASH_DATA_DIR or TASKDASH_DATABASE_URL; "taskdash serve" makes a new one.',
  );
}

/** Does what may make the embedded database, and says so if it did: it may not be the one that was meant. */
export async function tellingOfNewDatabase<T>(config: Config, work: () => Promise<T>): Promise<T> {
  const folder = await folderWithoutDatabase(config);
  try {
    return await work();
  } finally {
    if (folder !== undefined && (await folderWithoutDatabase(config)) === undefined)
      printAside(
        `Made a new database in ${folder}. If you meant another one, name it in ` +
          'TASKDASH_DATA_DIR or TASKDASH_DATABASE_URL.',
      );
  }
}

/** The data folder of the settings, where it has no database yet. */
async function folderWithoutDatabase({ databaseUrl, dataDir }: Config): Promise<string | undefined> {
  if (databaseUrl !== undefined) return undefined;
  const { root, cluster } = dataFolderAt(resolve(dataDir));
  try {
    return (await statIfThere(cluster)) ? undefined : root;
  } catch (error) {
    // A folder above it is closed, or it has no name that can be.
    throw new Error(`The data folder ${root} cannot be looked into: ${sentenceOf(error)}. Mend TASKDASH_DATA_DIR.`, {
      cause: error,
    });
  }
}

/** Logs only warnings, so that the output stays the command's own. */
function quietLog({ logLevel, logFormat }: Config): Log {
  return createLog({ logLevel: logLevel === 'debug' ? 'debug' : 'warn', logFormat });
}

async function runOn(config: Config, work: Work): Promise<number> {
  const log = quietLog(config);
  const database = await borrowDatabase(config, log);
  try {
    const nodeId = `cli-${defaultNodeName()}`;
    const storage = await openDatabase(config, database, { nodeId, poolSize: 2, log });
    try {
      return await work(storage);
    } finally {
      await storage.close();
    }
  } finally {
    await database.release();
  }
}
