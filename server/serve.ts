/** `taskdash serve`: from the settings to the ready line, until a signal, a loss or a defect ends it. */
import { startApp, type App } from './app.js';
import { forgoOutput } from './cli/print.js';
import { tellingOfNewDatabase } from './cli/with-storage.js';
import { unknownVariables, type Config } from './config.js';
import { nextDefect } from './defects.js';
import { systemClock } from './domain/clock.js';
import type { Log } from './domain/ports.js';
import { createLog } from './logging.js';
import { QuietLog } from './quiet-log.js';
import { nextSignal } from './signals.js';
import { StopDeadline } from './stop.js';

/** Why a server ends, and the exit code that says so. */
interface Ending {
  readonly reason: string;
  readonly code: 0 | 1;
}

/** How much later than its deadline a stop may come to its end, and what the embedded database may take for its own after that. */
const SLACK_MS = 1_000;
const EMBEDDED_END_MS = 30_000;

/** Runs the server until SIGTERM or SIGINT (exit code 0), or until its database is lost or a defect shows (1). */
export async function serve(config: Config, env: NodeJS.ProcessEnv): Promise<number> {
  forgoOutput();
  const log = new QuietLog(createLog(config), systemClock);
  for (const variable of unknownVariables(env))
    log.warn({ variable }, 'there is no such setting; see docs/configuration.md');
  const ended = Promise.race([nextSignal().then((reason) => ({ reason, code: 0 }) as const), defect(log)]);
  const starting = tellingOfNewDatabase(config, () => startApp(config, log));
  const first = await Promise.race([starting.then(() => undefined), ended]);
  if (first) return await stopApp(starting, first, config, log);
  const app = await starting;
  announce(app, config);
  const lost = app.lost.then((reason) => ({ reason, code: 1 }) as const);
  return await stopApp(starting, await Promise.race([ended, lost]), config, log);
}

/** A defect ends the server in order, since what it left behind is not known. */
async function defect(log: Log): Promise<Ending> {
  const words = 'a defect of TaskDash: please report it with this entry';
  const thrown = await nextDefect((further) => log.error({ err: further }, words));
  log.error({ err: thrown }, words);
  return { reason: 'a defect', code: 1 };
}

/** Stops in order, by a deadline. A start that is still under way then, and what else does not heed it, is left behind. */
async function stopApp(starting: Promise<App>, ending: Ending, config: Config, log: Log): Promise<number> {
  const { reason, code } = ending;
  const deadline = new StopDeadline(systemClock, config.stopTimeout);
  log[code === 0 ? 'info' : 'error']({ reason }, 'stopping');
  const lateMs = deadline.leftMs + SLACK_MS + (config.databaseUrl === undefined ? EMBEDDED_END_MS : 0);
  const late = setTimeout(() => {
    log.error({ afterMs: lateMs }, 'the stop did not come to an end; the process ends all the same');
    process.exit(1);
  }, lateMs);
  try {
    await (await starting).stop(deadline);
    log.info({}, 'stopped');
    return code;
  } finally {
    clearTimeout(late);
  }
}

/** The ready line, whatever the log level; and, on standard error so that no log keeps it, a password that nobody else knows. */
function announce(app: App, config: Config): void {
  if (app.firstPassword !== undefined) {
    process.stderr.write(
      `First administrator: user "${config.adminUsername}", password "${app.firstPassword}" (shown only now; change it after logging in).\n`,
    );
  }
  const pretty = (config.logFormat ?? (process.stdout.isTTY ? 'pretty' : 'json')) === 'pretty';
  const { http, grpc, tcp } = app.addresses;
  process.stdout.write(
    pretty
      ? `TaskDash ready: page ${http}  gRPC ${grpc}  TCP ${tcp}\n`
      : `${JSON.stringify({ level: 30, time: Date.now(), msg: 'ready', http, grpc, tcp, node: app.nodeName })}\n`,
  );
}
