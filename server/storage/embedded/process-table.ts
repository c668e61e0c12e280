import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { codeOf } from './embedded-postgres-error.js';
import { runCommand, type RunAs } from './run-command.js';

/** Where a process number means something: the same number elsewhere is another process. */
export interface ProcessSpace {
  readonly host: string;
  /** Changes with every boot; empty where the system does not tell. */
  readonly bootId: string;
  /** The container, so to speak; empty where the system has none. */
  readonly pidNamespace: string;
}

const AS_OURSELVES: RunAs = { description: 'this user', starter: [] };
const UNKNOWN_START = '';

/** The place this process runs in. */
export async function currentProcessSpace(): Promise<ProcessSpace> {
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  const pidNamespace = await readlink('/proc/self/ns/pid').catch(() => '');
  return { host: hostname(), bootId: bootId.trim(), pidNamespace };
}

/**
 * When a process started, as an opaque text that differs for the next process of the same number; empty when the system
 * hides it; undefined when there is no such process, or only its zombie.
 */
export async function processStart(pid: number): Promise<string | undefined> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (status === undefined) return processStartByPs(pid);
  // The name in parentheses may hold anything; after it come the state (field 3) and, as field 22, the start time.
  const fields = status.slice(status.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : (fields[19] ?? UNKNOWN_START);
}

async function processStartByPs(pid: number): Promise<string | undefined> {
  if (!exists(pid)) return undefined;
  if (process.platform === 'linux') return UNKNOWN_START;
  const { code, output } = await runCommand(AS_OURSELVES, ['ps', '-o', 'state=,lstart=', '-p', String(pid)]);
  if (code !== 0) return exists(pid) ? UNKNOWN_START : undefined;
  const [state = '', ...start] = output.trim().split(/\s+/);
  return state.startsWith('Z') ? undefined : start.join(' ');
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

/** True when the process is a PostgreSQL server on that data directory, and not a stranger with a reused number. */
export async function isPostmasterOf(pid: number, cluster: string): Promise<boolean> {
  if ((await processStart(pid)) === undefined) return false;
  const command = await commandOf(pid);
  const program = basename(command[0] ?? '');
  if (program !== 'postgres' && program !== 'postmaster') return false;
  return command.includes(cluster) || standsIn(pid, cluster);
}

/** The command line of a process, as far as the system shows it. */
export async function commandOf(pid: number): Promise<string[]> {
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined);
  if (line !== undefined) return line.split('\0').filter((word) => word !== '');
  if (process.platform === 'linux') return [];
  const { output } = await runCommand(AS_OURSELVES, ['ps', '-ww', '-o', 'command=', '-p', String(pid)]);
  return output.trim().split(/\s+/);
}

/**
 * The processes of a PostgreSQL whose postmaster was killed, while they have not noticed. Linux only: elsewhere the
 * answer is empty, and PostgreSQL's own check of its shared memory stands alone.
 */
export async function strayServerProcesses(cluster: string): Promise<number[]> {
  const entries = await readdir('/proc').catch(() => []);
  const found: number[] = [];
  for (const entry of entries) {
    if (!/^\d+$/.test(entry)) continue;
    const pid = Number(entry);
    const [title = ''] = await commandOf(pid);
    if (/^(\S*\/)?postgres(:|$)/.test(title) && (await standsIn(pid, cluster))) found.push(pid);
  }
  return found;
}

/** PostgreSQL's processes stand in their data directory, whatever it is called by now. */
async function standsIn(pid: number, folder: string): Promise<boolean> {
  try {
    const [own, wanted] = await Promise.all([stat(`/proc/${pid}/cwd`), stat(folder)]);
    return own.dev === wanted.dev && own.ino === wanted.ino;
  } catch {
    return false;
  }
}
