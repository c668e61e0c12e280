/** What every command on the database needs: the database, storage on it, and letting go of both at the end. */
import { defaultNodeName, type Config } from '../config.js';
import { borrowDatabase } from '../database.js';
import { createLog } from '../logging.js';
import { openStorage, type Storage } from '../storage/storage.js';

/** Runs `work` on the database of the settings; logs only warnings, so that the output stays the command's own. */
export async function withStorage(config: Config, work: (storage: Storage) => Promise<number>): Promise<number> {
  const log = createLog({ logLevel: config.logLevel === 'debug' ? 'debug' : 'warn', logFormat: config.logFormat });
  const database = await borrowDatabase(config, log);
  try {
    const nodeId = `cli-${defaultNodeName()}`;
    const storage = await openStorage({ url: database.url, nodeId, poolSize: 2, log });
    try {
      return await work(storage);
    } finally {
      await storage.close();
    }
  } finally {
    await database.release();
  }
}
