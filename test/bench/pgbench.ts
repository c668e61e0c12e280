/** pgbench, the yardstick: single-row upserts into a table just like ours, and single-row reads of it. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastLine } from './processes.js';

const UPSERT = `\\set n random(1, 2000000000)
INSERT INTO bench_task AS t (id, name, url, user_id, group_id, description, status, start_time, stop_time, started_at, addr,
  cause, status_changed_at, status_before, created_at, updated_at, revision, epoch)
VALUES ('pgbench-' || :n, 'nightly-export', 'http://localhost:8080/v1/task', 'wsg', 'mx', 'add data', 'running',
  '2020-07-01 12:00:00', '', '2020-07-01 12:00:00+00', '127.0.0.1', 'client', now(), '', now(), now(), 1, 1)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, url = excluded.url, user_id = excluded.user_id,
  group_id = excluded.group_id, description = excluded.description, status = excluded.status,
  start_time = excluded.start_time, stop_time = excluded.stop_time, started_at = excluded.started_at, addr = excluded.addr,
  updated_at = now(), revision = t.revision + 1, epoch = t.epoch + 1;
`;
const SELECT = `\\set n random(1, 100000)
SELECT * FROM bench_read WHERE id = 'read-' || :n;
`;

/** The pgbench of this machine. Throws with the command to run where there is none. */
export function findPgbench(): string {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const candidates = [...versions.map((version) => join(debian, version, 'bin/pgbench')), 'pgbench'];
  const found = candidates.find((candidate) => spawnSync(candidate, ['--version']).status === 0);
  if (found) return found;
  throw new Error(
    'pgbench is needed for comparison and is not installed: run `apt-get install postgresql-contrib`, or install PostgreSQL.',
  );
}

/** What pgbench measured. */
export interface PgbenchResult {
  readonly perSecond: number;
  readonly averageMs: number;
}

/** Runs one of the two workloads with prepared statements. */
export async function runPgbench(
  program: string,
  url: string,
  work: 'upsert' | 'select',
  clients: number,
  seconds: number,
): Promise<PgbenchResult> {
  const folder = mkdtempSync(join(tmpdir(), 'taskdash-bench-'));
  try {
    const script = join(folder, 'script.sql');
    writeFileSync(script, work === 'upsert' ? UPSERT : SELECT);
    const options = [
      '-n',
      '-M',
      'prepared',
      '-f',
      script,
      '-c',
      String(clients),
      '-j',
      '2',
      '-T',
      String(seconds),
      url,
    ];
    return await lastLine(spawn(program, options, { stdio: ['ignore', 'pipe', 'ignore'] }), (output) => ({
      perSecond: Number(/tps = ([\d.]+)/.exec(output)?.[1]),
      averageMs: Number(/latency average = ([\d.]+)/.exec(output)?.[1]),
    }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
