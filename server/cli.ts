/**
 * The command line. `serve` runs a server; everything else works on its database directly, whether a server runs or not:
 * who holds the database's password is an operator.
 */
import { createRequire } from 'node:module';
import { Command, CommanderError, Option } from 'commander';
import { ConfigError, flagOf, readConfig, SETTING_NAMES, SETTINGS, type Config, type FlagValues } from './config.js';
import { addUser, createToken, setPassword } from './cli/identity-commands.js';
import { doctor, migrate } from './cli/database-commands.js';
import { listSessions } from './cli/session-commands.js';
import { listTasks } from './cli/task-commands.js';
import { watchTasks } from './cli/task-watch.js';
import { onOutputLost, requireOutput, sentenceOf } from './cli/print.js';
import { serve } from './serve.js';

const { version } = createRequire(import.meta.url)('taskdash/package.json') as { version: string };

/** Runs one command and returns the exit code: 0 done, 1 failed, 2 asked for wrongly. */
export async function run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  let code = 0;
  onOutputLost();
  const program = buildProgram(env, (result) => (code = result));
  try {
    requireReadable(args);
    await program.parseAsync(args, { from: 'user' }).finally(requireOutput);
    return code;
  } catch (thrown) {
    return explain(thrown);
  }
}

/** Throws ConfigError for an argument that was no UTF-8; Node has put U+FFFD in it. */
function requireReadable(args: readonly string[]): void {
  const unread = args.find((arg) => arg.includes('\ufffd'));
  if (unread === undefined) return;
  throw new ConfigError(
    `The argument ${JSON.stringify(unread)} is not valid UTF-8 where it shows \ufffd; type it in a terminal that uses UTF-8.`,
  );
}

/** Says in one line what went wrong; a stack trace only where it is our own fault. */
function explain(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
  if (thrown instanceof ConfigError) return fail(thrown.message, 2);
  return fail(sentenceOf(thrown), 1);
}

function fail(message: string, code: number): number {
  process.stderr.write(`taskdash: ${message}\n`);
  return code;
}

interface DescribedSetting {
  readonly meaning: string;
  readonly fallback: string | null;
  readonly fallbackWords?: string;
  readonly schema: { safeParse(text: string): { error?: { issues: readonly { code: string; message: string }[] } } };
}

/** "How log lines look. (pretty or json; default: pretty on a terminal, else json)" */
function helpOf({ meaning, fallback, fallbackWords, schema }: DescribedSetting): string {
  // One that is a choice names what there is to choose when it refuses a text.
  const refusal = schema.safeParse('').error?.issues[0];
  const choices = refusal?.code === 'invalid_value' ? `${refusal.message}; ` : '';
  return `${meaning} (${choices}default: ${fallback ?? fallbackWords})`;
}

/** Of an option that may be repeated, what was said before and now. */
function add(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

function buildProgram(env: NodeJS.ProcessEnv, done: (code: number) => void): Command {
  const program = new Command('taskdash')
    .description('A registry that services report their tasks to, and the page where people see which are alive.')
    .version(version, '-V, --version', 'print the version')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error:/, 'taskdash:')) })
    .exitOverride();
  withSettings(program.command('serve').description('run the server'), (config) => serve(config, env));
  withSettings(program.command('migrate').description('bring the database to the schema of this version'), migrate);
  withSettings(
    program.command('doctor').description('check settings, database and ports, and say what is wrong'),
    doctor,
  );
  addUserCommands(program.command('user').description('people who may log in'));
  addTokenCommands(program.command('token').description('tokens of services'));
  addTaskCommands(program.command('tasks').description('look at the tasks'));
  addSessionCommands(program.command('sessions').description('look at the live connections of services'));
  return program;

  /** Gives a command a flag for every setting, and its action the finished configuration. */
  function withSettings<O extends object>(
    command: Command,
    action: (config: Config, options: O, args: string[]) => Promise<number>,
  ): Command {
    for (const name of SETTING_NAMES) {
      const option = new Option(`--${flagOf(name)} <value>`, helpOf(SETTINGS[name]));
      command.addOption(option.hideHelp(command.name() !== 'serve'));
    }
    return command.action(async (...all: unknown[]) => {
      const options = command.opts<O & FlagValues>();
      done(
        await action(
          readConfig(env, options),
          options,
          all.filter((value) => typeof value === 'string'),
        ),
      );
    });
  }

  function addUserCommands(user: Command): void {
    withSettings(
      user
        .command('add <id>')
        .description('add a user, or replace what an existing one may do; asks for the password unless it is piped in')
        .option('--name <name>', 'the name that people read; the id, or what it was, by default')
        .option('--group <group:role>', 'a group and the role in it: member, viewer or manager; may be repeated', add)
        .option('--administrator', 'sees and does everything')
        .option('--generate', 'make up a password and print it'),
      addUser,
    );
    withSettings(
      user
        .command('set-password <id>')
        .description('set a new password; asks for it unless it is piped in')
        .option('--generate', 'make up a password and print it'),
      setPassword,
    );
  }

  function addTokenCommands(token: Command): void {
    withSettings(
      token
        .command('create <name>')
        .description('make a service token and print its secret, once')
        .requiredOption('--group <group>', 'the group that it is bound to')
        .option('--scope <scope>', 'register or read; may be repeated; both by default', add)
        .option('--expires <duration>', 'when it ends, such as 90d; never by default'),
      createToken,
    );
  }

  function addSessionCommands(sessions: Command): void {
    withSettings(
      sessions
        .command('list')
        .description('print the sessions of all servers, by id')
        .option('--limit <number>', 'how many at most', '50')
        .option('--json', 'one JSON object a line'),
      listSessions,
    );
  }

  function addTaskCommands(tasks: Command): void {
    withSettings(
      tasks
        .command('list')
        .description('print the tasks')
        .option('--status <status>', 'only this status; may be repeated', add)
        .option('--group <group>', 'only this group; may be repeated', add)
        .option('--user <user>', 'only this user; may be repeated', add)
        .option('--text <words>', 'only tasks in which these words occur')
        .option('--limit <number>', 'how many at most', '50')
        .option('--json', 'one JSON object a line'),
      listTasks,
    );
    withSettings(
      tasks
        .command('watch')
        .description('print every change until interrupted')
        .option('--json', 'one JSON object a line'),
      watchTasks,
    );
  }
}
