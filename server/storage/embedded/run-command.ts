import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { reasonOf } from './embedded-postgres-error.js';

/** As whom PostgreSQL's programs run: see run-as.ts. */
export interface RunAs {
  /** For people. */
  readonly description: string;
  /** The user that must own the cluster; undefined when it is the one of this process. */
  readonly account?: { readonly uid: number; readonly gid: number };
  /** A program, with its arguments, that starts the real one with the right user and capabilities; else none. */
  readonly starter: readonly string[];
}

/** The end of a program. `code` is null when a signal ended it or it never started. */
export interface CommandResult {
  readonly code: number | null;
  /** What it wrote to both outputs, or why it could not be started; at most 64 kB. */
  readonly output: string;
}

const MAX_OUTPUT_CHARS = 65_536;

/**
 * Starts a program as the given user, and returns when it runs.
 * @throws the system's error when it cannot be started.
 */
export async function spawnAs(
  runAs: RunAs,
  command: readonly [string, ...string[]],
  options: Pick<SpawnOptions, 'env' | 'stdio' | 'detached'>,
): Promise<ChildProcess> {
  const [file, ...args] = runAs.starter.length > 0 ? [...runAs.starter, ...command] : command;
  const identity = runAs.account && runAs.starter.length === 0 ? runAs.account : {};
  // The folder this process stands in may be closed to that user, so the program starts at the root.
  const child = spawn(file ?? command[0], args, { ...options, cwd: '/', ...identity });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  // A signal that could not be sent: how it ends tells the rest.
  child.on('error', () => {});
  return child;
}

/**
 * Runs a short program to its end. Never rejects: a program that cannot be started, or that is killed because it
 * overstays `timeoutMs`, ends with the code null.
 */
export async function runCommand(
  runAs: RunAs,
  command: readonly [string, ...string[]],
  options: { readonly env?: NodeJS.ProcessEnv; readonly input?: string; readonly timeoutMs?: number } = {},
): Promise<CommandResult> {
  const env = options.env ?? { PATH: process.env['PATH'], LC_ALL: 'C' };
  try {
    // spawn throws some errors (EPERM) and emits others (ENOENT).
    const child = await spawnAs(runAs, command, { env, stdio: 'pipe' });
    return await endOf(child, options.input ?? '', options.timeoutMs ?? 10_000);
  } catch (error) {
    return { code: null, output: reasonOf(error) };
  }
}

function endOf(child: ChildProcess, input: string, timeoutMs: number): Promise<CommandResult> {
  let output = '';
  const collect = (chunk: Buffer): void => {
    output = (output + chunk.toString('utf8')).slice(-MAX_OUTPUT_CHARS);
  };
  child.stdout?.on('data', collect);
  child.stderr?.on('data', collect);
  // A program that ends before it has read everything closes the pipe: its exit code says what there is to say.
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  const deadline = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  return new Promise((resolve) =>
    child.once('close', (code, signal) => {
      clearTimeout(deadline);
      resolve({ code, output: signal ? `${output}\n(ended by ${signal}; it had ${timeoutMs} ms)` : output });
    }),
  );
}
