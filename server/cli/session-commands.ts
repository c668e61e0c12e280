/** `sessions list`. */
import type { Config } from '../config.js';
import { parseLimit, printJson, printTable } from './print.js';
import { withStorage } from './with-storage.js';

/** Prints sessions as they are written down; what only the memory of their server knows is in the page. */
export function listSessions(config: Config, options: { limit: string; json?: boolean }): Promise<number> {
  const limit = parseLimit(options.limit);
  return withStorage(config, async (storage) => {
    const sessions = await storage.sessions.list('everything', undefined, limit);
    if (options.json) for (const session of sessions) printJson(session);
    else printTable(['id', 'door', 'address', 'owner', 'nodeName', 'state', 'tasks'], sessions);
    return 0;
  });
}
