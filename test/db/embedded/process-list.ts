import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** A line of the process list. */
export interface ListedProcess {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
  readonly uid: number;
  readonly command: string;
}

/** Everything that runs, zombies left out; by /proc where there is one (ps is not everywhere), else by ps. */
export function listProcesses(): ListedProcess[] {
  return process.platform === 'linux' ? listByProc() : listByPs();
}

function listByProc(): ListedProcess[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => readProc(Number(pid)) ?? []);
}

/** Undefined when there is no such process, or no more. */
function readProc(pid: number): ListedProcess | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, parent, , session] = status.slice(status.lastIndexOf(')') + 2).split(' ');
    if (state === 'Z') return undefined;
    const uid = Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    return { pid, parent: Number(parent), session: Number(session), uid, command };
  } catch {
    return undefined;
  }
}

function listByPs(): ListedProcess[] {
  const lines = execFileSync('ps', ['-axww', '-o', 'pid=,ppid=,pgid=,uid=,stat=,command='], { encoding: 'utf8' });
  return lines.split('\n').flatMap((line) => {
    const [pid, parent, session, uid, state, ...command] = line.trim().split(/\s+/);
    if (!pid || state?.startsWith('Z')) return [];
    const numbers = { pid: Number(pid), parent: Number(parent), session: Number(session), uid: Number(uid) };
    return [{ ...numbers, command: command.join(' ') }];
  });
}

/** The one process of that number; fails the test when there is none. */
export function processOf(pid: number): ListedProcess {
  const found = listProcesses().find((candidate) => candidate.pid === pid);
  if (!found) throw new Error(`process ${pid} is not there`);
  return found;
}

/** The two shells that guard a postmaster: its parent, and that one's other child. */
export function guardianPidsOf(postmaster: number): number[] {
  const { parent } = processOf(postmaster);
  const siblings = listProcesses().filter((other) => other.parent === parent && other.pid !== postmaster);
  return [parent, ...siblings.map((sibling) => sibling.pid)];
}

/** Whether a process runs: a zombie does not. */
export function isRunning(pid: number): boolean {
  if (process.platform === 'linux') return readProc(pid) !== undefined;
  return listProcesses().some((candidate) => candidate.pid === pid);
}

/** Waits until something holds, and fails with the given words when it does not in time. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, patienceMs = 20_000): Promise<void> {
  for (const endAt = performance.now() + patienceMs; !(await holds());) {
    if (performance.now() > endAt) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
