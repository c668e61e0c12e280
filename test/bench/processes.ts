/** The processes of a benchmark: started, measured by what the kernel counts for them, and ended. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { spawnNode } from '../support/spawn-node.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const START_TIMEOUT_MS = 60_000;
const TICKS_PER_SECOND = 100;

/** A server of ours in a process of its own. */
export interface BenchServer {
  readonly http: string;
  readonly grpc: string;
  readonly tcp: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Starts the built server, as `npm start` does, with these variables on free ports. */
export async function startServer(env: Readonly<Record<string, string>>): Promise<BenchServer> {
  const child = spawnNode(['dist/server/main.js', 'serve'], {
    cwd: root,
    env: {
      ...process.env,
      TASKDASH_HTTP_PORT: '0',
      TASKDASH_GRPC_PORT: '0',
      TASKDASH_TCP_PORT: '0',
      TASKDASH_LOG_FORMAT: 'json',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // A benchmark that fails leaves no server behind.
  const endsWithUs = () => child.kill('SIGKILL');
  process.once('exit', endsWithUs);
  child.once('exit', () => process.off('exit', endsWithUs));
  const ready = await readyLine(child);
  return { ...ready, pid: child.pid ?? 0, stop: () => end(child) };
}

function readyLine(child: ChildProcess): Promise<{ http: string; grpc: string; tcp: string }> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('the server was not ready in time')), START_TIMEOUT_MS);
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    if (!child.stdout) return reject(new Error('the server has no output'));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry = JSON.parse(line) as { msg?: string; http: string; grpc: string; tcp: string };
      if (entry.msg !== 'ready') return;
      clearTimeout(late);
      resolve(entry);
    });
  });
}

function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
}

/** Runs a script of this folder with one JSON argument and returns its last line of JSON. */
export function runScript<T>(script: string, argument: unknown): Promise<T> {
  return lastLine(
    spawn(process.execPath, ['--import', 'tsx', `test/bench/${script}`, JSON.stringify(argument)], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
    (output) => JSON.parse(output.trim().split('\n').at(-1) ?? '') as T,
  );
}

/** Brings the schema up to date. */
export async function migrate(databaseUrl: string): Promise<void> {
  await taskdash(databaseUrl, ['migrate']);
}

/** Makes a service token for a group with the command line, and returns its secret. */
export function createToken(databaseUrl: string, group: string): Promise<string> {
  return taskdash(databaseUrl, ['token', 'create', 'bench', '--group', group]);
}

/** Runs the command line and returns what it prints. */
function taskdash(databaseUrl: string, args: readonly string[]): Promise<string> {
  const env = { ...process.env, TASKDASH_DATABASE_URL: databaseUrl };
  const options = { cwd: root, env, stdio: ['ignore', 'pipe', 'ignore'] as const };
  const child = spawn(process.execPath, ['dist/server/main.js', ...args], { ...options, stdio: [...options.stdio] });
  return lastLine(child, (output) => output.trim());
}

/** Runs a program and returns what `read` makes of its output. Rejects when it fails. */
export function lastLine<T>(child: ChildProcess, read: (output: string) => T): Promise<T> {
  return new Promise((resolve, reject) => {
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0
        ? resolve(read(output))
        : reject(new Error(`${child.spawnfile} ended with ${code}: ${output.slice(-500)}`)),
    );
  });
}

/** CPU seconds that a process has used, by the kernel's count. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** The most memory that a process has held so far, in bytes. */
export function peakMemoryBytes(pid: number): number {
  return statusBytes(pid, 'VmHWM');
}

/** The memory that a process holds now, in bytes. */
export function memoryBytes(pid: number): number {
  return statusBytes(pid, 'VmRSS');
}

function statusBytes(pid: number, field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
}
