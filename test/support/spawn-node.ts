/** Starts Node with room for many connections, each of which is an open file. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** As many as we ask for where that is allowed, else as many as the machine gives. */
const MANY_FILES = 'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$0" "$@"';

/** Starts Node with these arguments; `wrapper` is a program that starts it in turn, such as `ip netns exec name`. */
export function spawnNode(
  args: readonly string[],
  options: SpawnOptions,
  wrapper: readonly string[] = [],
): ChildProcess {
  const [program = '', ...rest] = [...wrapper, '/bin/sh', '-c', MANY_FILES, process.execPath, ...args];
  return spawn(program, rest, options);
}

/** How many files, connections among them, a process may have open. */
export function openFilesLimit(pid: number): number {
  const limits = readFileSync(`/proc/${pid}/limits`, 'utf8');
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Infinity);
}
