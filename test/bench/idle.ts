/** What idle sessions cost: memory and CPU of the server, and rows written, which must not depend on their number. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { spawnNode } from '../support/spawn-node.js';
import { cpuSeconds, memoryBytes, startServer } from './processes.js';
import { writtenRows } from './written-rows.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What was measured of some idle sessions. */
export interface IdleResult {
  readonly sessions: number;
  readonly bytesPerSession: number;
  readonly cpuPercent: number;
  readonly rowsPerMinute: number;
}

/** Starts a server of its own, lets so many sessions beat for a while, and looks. */
export async function measureIdle(url: string, sessions: number, seconds: number): Promise<IdleResult> {
  const server = await startServer({ TASKDASH_DATABASE_URL: url, TASKDASH_LOG_LEVEL: 'warn' });
  const database = new pg.Client({ connectionString: url });
  await database.connect();
  try {
    await pause(3);
    const emptyBytes = memoryBytes(server.pid);
    const load = JSON.stringify({ address: server.tcp, sessions });
    const clients = spawnNode(['--import', 'tsx', 'test/bench/idle-sessions.ts', load], {
      cwd: root,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (!clients.stdin || !clients.stdout) throw new Error('the clients have no input or output');
    await once(createInterface({ input: clients.stdout }), 'line');
    // One round of beats, and time for statistics of the opening to be reported.
    await pause(15);
    const [rowsBefore, cpuBefore] = [await writtenRows(database), cpuSeconds(server.pid)];
    await pause(seconds);
    const [rows, cpu] = [(await writtenRows(database)) - rowsBefore, cpuSeconds(server.pid) - cpuBefore];
    const bytes = memoryBytes(server.pid) - emptyBytes;
    clients.stdin.end();
    await once(clients, 'exit');
    return {
      sessions,
      bytesPerSession: bytes / sessions,
      cpuPercent: (cpu / seconds) * 100,
      rowsPerMinute: (rows / seconds) * 60,
    };
  } finally {
    await database.end();
    await server.stop();
  }
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
