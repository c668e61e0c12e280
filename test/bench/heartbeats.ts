/** What heartbeats cost: how many a server takes in a second of one core, and the rows they write. */
import pg from 'pg';
import { cpuSeconds, runScript, startServer, type BenchServer } from './processes.js';
import type { HeartbeatLoad } from './load-heartbeats.js';
import { emptyTables, writtenRows } from './database.js';

/** What was measured of a flood of heartbeats. */
export interface HeartbeatResult {
  readonly perSecond: number;
  readonly perCoreSecond: number;
  /** Rows that were written meanwhile, by whatever; the node's lease is among them. */
  readonly rowsWritten: number;
}

/** Starts a server of its own and lets it read as many heartbeats as it can. */
export async function measureHeartbeats(databaseUrl: string, durationMs: number): Promise<HeartbeatResult> {
  await emptyTables(databaseUrl);
  const server = await startServer({ TASKDASH_DATABASE_URL: databaseUrl, TASKDASH_LOG_LEVEL: 'warn' });
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  try {
    const before = { beats: await beatsOf(server), rows: await writtenRows(database), cpu: cpuSeconds(server.pid) };
    const load: HeartbeatLoad = { address: server.tcp, connections: 64, durationMs };
    const { elapsedMs } = await runScript<{ elapsedMs: number }>('load-heartbeats.ts', load);
    const beats = (await beatsOf(server)) - before.beats;
    return {
      perSecond: (beats / elapsedMs) * 1000,
      perCoreSecond: beats / (cpuSeconds(server.pid) - before.cpu),
      rowsWritten: (await writtenRows(database)) - before.rows,
    };
  } finally {
    await database.end();
    await server.stop();
  }
}

async function beatsOf(server: BenchServer): Promise<number> {
  const text = await (await fetch(`${server.http}/metrics`)).text();
  return Number(/^taskdash_tcp_frames_total\{kind="heartbeat"\} (\d+)/m.exec(text)?.[1] ?? 0);
}
