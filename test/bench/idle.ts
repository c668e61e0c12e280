/** What idle sessions cost: memory and CPU of the server, and rows written, which must not depend on their number. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { openFilesLimit, spawnNode } from '../support/spawn-node.js';
import { cpuSeconds, memoryBytes, startServer } from './processes.js';
import { emptyTables, writtenRows } from './database.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What was measured of some idle sessions. */
export interface IdleResult {
  readonly sessions: number;
  readonly memoryBytes: number;
  readonly cpuPercent: number;
  readonly rowsPerMinute: number;
}

/** Files that server and clients open beside the connections. */
const OWN_FILES = 200;

/** Starts a server of its own, lets so many sessions, or as many as may be open, beat for a while, and looks. */
export async function measureIdle(url: string, wanted: number, seconds: number): Promise<IdleResult> {
  await emptyTables(url);
  const server = await startServer({ TASKDASH_DATABASE_URL: url, TASKDASH_LOG_LEVEL: 'warn' });
  const sessions = Math.min(wanted, openFilesLimit(server.pid) - OWN_FILES);
  const database = new pg.Client({ connectionString: url });
  await database.connect();
  try {
    const load = JSON.stringify({ address: server.tcp, sessions });
    const clients = spawnNode(['--import', 'tsx', 'test/bench/idle-sessions.ts', load], {
      cwd: root,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (!clients.stdin || !clients.stdout) throw new Error('the clients have no input or output');
    await Promise.race([once(createInterface({ input: clients.stdout }), 'line'), failed(clients)]);
    // One round of beats, and time for statistics of the opening to be reported.
    await pause(15);
    const [rowsBefore, cpuBefore] = [await writtenRows(database), cpuSeconds(server.pid)];
    await pause(seconds);
    const [rows, cpu] = [(await writtenRows(database)) - rowsBefore, cpuSeconds(server.pid) - cpuBefore];
    const bytes = memoryBytes(server.pid);
    clients.stdin.end();
    await once(clients, 'exit');
    return {
      sessions,
      memoryBytes: bytes,
      cpuPercent: (cpu / seconds) * 100,
      rowsPerMinute: (rows / seconds) * 60,
    };
  } finally {
    await database.end();
    await server.stop();
  }
}

/** Rejects when a process ends with a failure. */
async function failed(child: ChildProcess): Promise<never> {
  const [code] = (await once(child, 'exit')) as [number | null];
  throw new Error(`the clients ended with ${code}`);
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
