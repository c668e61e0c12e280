/*
 * A PostgreSQL that outlived its TaskDash server. Its guardian normally stops it (see guardian.ts); when the guardian was
 * killed as well, or is still at it, the next start finishes the work: a fast shutdown, then an immediate one, then the end
 * without asking. What is left of `postmaster.pid` is PostgreSQL's to clear away: with the file it also checks that nobody
 * uses the old shared memory any more, which a launcher that deletes the file would take from it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { DataFolder, LaunchLog } from './data-folder.js';
import { codeOf, EmbeddedPostgresError, reasonOf } from './embedded-postgres-error.js';
import { readPostmasterFile } from './postmaster-file.js';
import { isPostmasterOf, strayServerProcesses } from './process-table.js';

const STEPS: readonly (readonly [NodeJS.Signals, number])[] = [
  ['SIGINT', 20_000],
  ['SIGQUIT', 5_000],
  ['SIGKILL', 5_000],
];
const STRAYS_LEAVE_MS = 2_000;
const STRAYS_END_MS = 5_000;
const LOOK_EVERY_MS = 10;

/**
 * Ends whatever PostgreSQL runs on the cluster. Only for the process that holds the folder's lock.
 * @throws EmbeddedPostgresError that names the process that cannot be ended.
 */
export async function endLeftover(folder: DataFolder, log: LaunchLog): Promise<void> {
  const file = await readPostmasterFile(folder);
  if (!file) return;
  if (await isPostmasterOf(file.pid, folder.cluster)) {
    log('warn', 'A PostgreSQL of an earlier server still runs on the data folder; stopping it', { pid: file.pid });
    await endPostmaster(file.pid, folder);
  }
  await endStrays(folder, log);
}

/**
 * The environment in which PostgreSQL takes the number in a left `postmaster.pid` for stale although some other process
 * has it by now: it passes over the number of its grandparent, and believes what this variable says of that.
 */
export async function staleNumberEnvironment(folder: DataFolder): Promise<NodeJS.ProcessEnv> {
  const file = await readPostmasterFile(folder);
  return file ? { PG_GRANDPARENT_PID: String(file.pid) } : {};
}

async function endPostmaster(pid: number, folder: DataFolder): Promise<void> {
  for (const [signal, patienceMs] of STEPS) {
    send(pid, signal, folder);
    if (await becomes(patienceMs, async () => !(await isPostmasterOf(pid, folder.cluster)))) return;
  }
  throw new EmbeddedPostgresError(
    `PostgreSQL process ${pid} of an earlier server on ${folder.root} does not end, not even by SIGKILL. ` +
      'It may wait for a disk that does not answer; look at that, end the process and start again.',
  );
}

async function endStrays(folder: DataFolder, log: LaunchLog): Promise<void> {
  const gone = async (): Promise<boolean> => (await strayServerProcesses(folder.cluster)).length === 0;
  if (await becomes(STRAYS_LEAVE_MS, gone)) return;
  for (const pid of await strayServerProcesses(folder.cluster)) {
    log('warn', 'Ending a PostgreSQL session that has outlived its server', { pid });
    send(pid, 'SIGKILL', folder);
  }
  await becomes(STRAYS_END_MS, gone);
}

function send(pid: number, signal: NodeJS.Signals, folder: DataFolder): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (codeOf(error) === 'ESRCH') return;
    throw new EmbeddedPostgresError(
      `A PostgreSQL of an earlier server (process ${pid}) still runs on ${folder.root}, and this process may not end it: ` +
        `${reasonOf(error)}. End it as the user that it belongs to, then start again.`,
      { cause: error },
    );
  }
}

/** Waits until something holds; false when it did not in time. */
async function becomes(patienceMs: number, holds: () => Promise<boolean>): Promise<boolean> {
  for (const endAt = performance.now() + patienceMs; ; await delay(LOOK_EVERY_MS)) {
    if (await holds()) return true;
    if (performance.now() > endAt) return false;
  }
}
