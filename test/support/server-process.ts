/** The built server in a process of its own, for tests that kill it. */
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { spawnNode } from './spawn-node.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const START_TIMEOUT_MS = 60_000;

/** What the ready line tells. */
export interface ReadyLine {
  readonly http: string;
  readonly grpc: string;
  readonly tcp: string;
  readonly node: string;
}

export class ServerProcess {
  private constructor(
    private readonly child: ChildProcess,
    readonly ready: ReadyLine,
    /** Everything on standard error and output so far. */
    readonly output: readonly string[],
  ) {}

  /**
   * Starts `taskdash serve` on free ports with these variables, by a wrapper if there is one; resolves with the ready
   * line. It ends with this process.
   */
  static async start(env: Readonly<Record<string, string>>, wrapper: readonly string[] = []): Promise<ServerProcess> {
    const options: SpawnOptions = {
      cwd: root,
      env: { ...cleanEnvironment(), ...FREE_PORTS, TASKDASH_LOG_FORMAT: 'json', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    };
    const child = spawnNode(['dist/server/main.js', 'serve'], options, wrapper);
    const endsWithUs = () => child.kill('SIGKILL');
    process.once('exit', endsWithUs);
    child.once('exit', () => process.off('exit', endsWithUs));
    const output: string[] = [];
    if (child.stderr) createInterface({ input: child.stderr }).on('line', (line) => output.push(line));
    return new ServerProcess(child, await readyLine(child, output), output);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Ends it gracefully and returns the exit code. */
  stop(): Promise<number | null> {
    return this.#end('SIGTERM');
  }

  /** Ends it without a chance to say goodbye. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Resolves with the exit code when it has ended, by itself or not. */
  exited(): Promise<number | null> {
    return new Promise((resolve) => {
      if (this.child.exitCode !== null) return resolve(this.child.exitCode);
      this.child.once('exit', (code) => resolve(code));
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  #end(signal: NodeJS.Signals): Promise<number | null> {
    return new Promise((resolve) => {
      if (this.child.exitCode !== null || this.child.signalCode !== null) return resolve(this.child.exitCode);
      this.child.once('exit', (code) => resolve(code));
      this.child.kill(signal);
    });
  }
}

const FREE_PORTS = { TASKDASH_HTTP_PORT: '0', TASKDASH_GRPC_PORT: '0', TASKDASH_TCP_PORT: '0' };

/** This process's environment without settings of the server. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TASKDASH_')));
}

function readyLine(child: ChildProcess, output: string[]): Promise<ReadyLine> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`${why}\n${output.join('\n')}`));
    const late = setTimeout(() => fail('the server was not ready in time'), START_TIMEOUT_MS);
    child.once('exit', (code, signal) => fail(`the server ended with ${code ?? signal}`));
    if (!child.stdout) return fail('the server has no output');
    createInterface({ input: child.stdout }).on('line', (line) => {
      output.push(line);
      const entry = JSON.parse(line) as ReadyLine & { msg?: string };
      if (entry.msg !== 'ready') return;
      clearTimeout(late);
      resolve(entry);
    });
  });
}

/** The process id of the PostgreSQL in a data folder. */
export function postmasterPid(dataDir: string): number {
  return Number(readFileSync(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').split('\n')[0]);
}
