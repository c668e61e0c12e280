import { spawn, type SpawnOptions } from 'node:child_process';
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

/** The command line and the options that start a program as the given user. */
export function spawnArguments(
  runAs: RunAs,
  command: readonly [string, ...string[]],
): { file: string; args: string[]; options: SpawnOptions } {
  const [file, ...args] = runAs.starter.length > 0 ? [...runAs.starter, ...command] : command;
  const identity = runAs.account && runAs.starter.length === 0 ? runAs.account : {};
  // The folder this process stands in may be closed to that user, so the program starts at the root.
  return { file: file ?? command[0], args, options: { cwd: '/', ...identity } };
}

/**
 * Runs a short program to its end. Never rejects: a program that cannot be started, or that is killed because it
 * overstays `timeoutMs`, ends with the code null.
 */
export function runCommand(
  runAs: RunAs,
  command: readonly [string, ...string[]],
  options: { readonly env?: NodeJS.ProcessEnv; readonly input?: string; readonly timeoutMs?: number } = {},
): Promise<CommandResult> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  return new Promise((resolve) => {
    const start = spawnArguments(runAs, command);
    const child = spawn(start.file, start.args, {
      ...start.options,
      env: options.env ?? { PATH: process.env['PATH'], LC_ALL: 'C' },
      stdio: 'pipe',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let output = '';
    const collect = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-MAX_OUTPUT_CHARS);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    // A program that ends before it has read everything closes the pipe: its exit code says what there is to say.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
    child.on('error', (error) => resolve({ code: null, output: reasonOf(error) }));
    child.on('close', (code, signal) =>
      resolve({ code, output: signal ? `${output}\n(ended by ${signal} within ${timeoutMs} ms)` : output }),
    );
  });
}
