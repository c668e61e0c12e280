/** `taskdash serve`: from the settings to the ready line, until a signal or a loss ends it. */
import { startApp, type App } from './app.js';
import { unknownVariables, type Config } from './config.js';
import { createLog } from './logging.js';
import { nextSignal } from './signals.js';

/** Runs the server until SIGTERM or SIGINT (exit code 0) or until its database is lost (1). */
export async function serve(config: Config, env: NodeJS.ProcessEnv): Promise<number> {
  const log = createLog(config);
  for (const variable of unknownVariables(env))
    log.warn({ variable }, 'there is no such setting; see docs/configuration.md');
  const ended = nextSignal();
  const starting = startApp(config, log);
  const first = await Promise.race([starting, ended]);
  const app = await starting;
  if (typeof first === 'string') return stopApp(app, first, 0, log);
  announce(app, config);
  const reason = await Promise.race([ended, app.lost.then((why) => ({ why }))]);
  return typeof reason === 'string' ? stopApp(app, reason, 0, log) : stopApp(app, reason.why, 1, log);
}

async function stopApp(app: App, reason: string, code: number, log: ReturnType<typeof createLog>): Promise<number> {
  if (code === 0) log.info({ reason }, 'stopping');
  else log.error({ reason }, 'stopping');
  await app.stop();
  log.info({}, 'stopped');
  return code;
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
