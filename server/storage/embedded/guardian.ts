/*
 * The parent of every long-lived PostgreSQL program: a shell script, because a shell is there, reachable and small wherever
 * PostgreSQL runs, and needs neither a file of ours nor Node.js. The TaskDash server holds one end of a pipe, the guardian
 * the other. The server sends it the signals to pass on, a line each; when the pipe closes, the server is gone, however it
 * ended, and the guardian stops PostgreSQL: fast, after twenty seconds immediately, after five more by force.
 *
 * The first shell waits for PostgreSQL and ends with its exit code. The second one reads the pipe, and outlives the first
 * should that be killed. Both have a session of their own, so that Ctrl-C in a terminal reaches the server alone, and both
 * pass over the SIGTERM that a service manager sends to everybody: the server decides when its database stops.
 *
 * A shell starts its background jobs deaf to SIGINT and SIGQUIT, and PostgreSQL listens only when it has come to setting
 * that up, so a signal in the first moments may be lost: whoever means it repeats it.
 */
import type { ChildProcess } from 'node:child_process';
import { EmbeddedPostgresError, reasonOf } from './embedded-postgres-error.js';
import { spawnAs, type RunAs } from './run-command.js';

const SCRIPT = `
trap : HUP INT TERM
exec 3<&0 0</dev/null
"$@" 3<&- 1>&2 &
child=$!
(
  trap '' HUP INT TERM
  exec 2>/dev/null
  insist() {
    tenths=0
    while [ "$tenths" -lt "$2" ]; do
      [ $((tenths % 10)) -ne 0 ] || kill -s "$1" "$child" || exit
      sleep 0.1 || sleep 1
      kill -0 "$child" || exit
      tenths=$((tenths + 1))
    done
  }
  while read -r signal; do kill -s "$signal" "$child"; done
  insist INT 200
  insist QUIT 50
  kill -s KILL "$child"
) <&3 1>&- &
watcher=$!
exec 3<&-
while :; do
  wait "$child"
  code=$?
  kill -0 "$child" 2>/dev/null || break
done
kill -s KILL "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
exit "$code"
`;

/** How a guarded program ended. */
export interface GuardedExit {
  /** Its exit code, 128 + the signal's number when a signal ended it; null when the guardian itself was killed. */
  readonly code: number | null;
}

/** A program under a guardian. */
export interface Guardian {
  /** Settles when the guardian has ended, and with it, unless the guardian itself was killed, the program. */
  readonly exited: Promise<GuardedExit>;
  /** True once `exited` has settled. */
  readonly hasExited: () => boolean;
  /** Sends the program a signal; harmless when it has ended. */
  signal(name: 'INT' | 'QUIT' | 'KILL'): void;
}

/**
 * Starts a program under a guardian. It does not keep this process alive.
 * @throws EmbeddedPostgresError when the guardian cannot be started as that user.
 */
export async function startGuarded(
  runAs: RunAs,
  command: readonly [string, ...string[]],
  options: { readonly env: NodeJS.ProcessEnv; readonly logFd: number },
): Promise<Guardian> {
  const child = await spawnGuardian(runAs, ['/bin/sh', '-c', SCRIPT, 'taskdash-guardian', ...command], options);
  const exited = new Promise<GuardedExit>((resolve) => child.once('exit', (code) => resolve({ code })));
  // Writing to a guardian that has just ended is no failure: its exit tells.
  child.stdin?.on('error', () => {});
  child.unref();
  let over = false;
  void exited.then(() => {
    over = true;
    child.stdin?.destroy();
  });
  return { exited, hasExited: () => over, signal: (name) => void child.stdin?.write(`${name}\n`) };
}

async function spawnGuardian(
  runAs: RunAs,
  command: readonly [string, ...string[]],
  { env, logFd }: { readonly env: NodeJS.ProcessEnv; readonly logFd: number },
): Promise<ChildProcess> {
  try {
    return await spawnAs(runAs, command, { env, detached: true, stdio: ['pipe', 'ignore', logFd] });
  } catch (error) {
    throw new EmbeddedPostgresError(
      `PostgreSQL cannot be started as ${runAs.description}: ${reasonOf(error)}. ` +
        'Start TaskDash as an ordinary user, or name a PostgreSQL of your own in TASKDASH_DATABASE_URL.',
      { cause: error },
    );
  }
}
