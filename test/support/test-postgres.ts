/** Starts a throw-away PostgreSQL from the binaries that are installed: fast, and without any durability. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';

/** A running server. */
export interface TestPostgres {
  /** The administrator's URL. */
  readonly url: string;
  stop(): Promise<void>;
}

/** Initialises `dataFolder` and starts a server on a free port of the loopback interface. */
export async function startTestPostgres(dataFolder: string): Promise<TestPostgres> {
  const bin = findBinaries();
  const account = unprivilegedAccount();
  mkdirSync(dataFolder, { recursive: true });
  if (account) {
    chmodSync(dirname(dataFolder), 0o755);
    chownSync(dataFolder, account.uid, account.gid);
  }
  await promisify(execFile)(
    join(bin, 'initdb'),
    ['-D', dataFolder, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync', '--locale=C'],
    { ...account, cwd: dataFolder },
  );
  const port = await freePort();
  const settings = ['fsync=off', 'full_page_writes=off', 'max_connections=200', 'unix_socket_directories='];
  const server = spawn(
    join(bin, 'postgres'),
    ['-D', dataFolder, '-p', String(port), '-h', '127.0.0.1', ...settings.flatMap((setting) => ['-c', setting])],
    { ...account, cwd: dataFolder, stdio: 'ignore' },
  );
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  await untilReady(url, server);
  return { url, stop: () => stopServer(server) };
}

/** The newest installed PostgreSQL of Debian's layout. */
function findBinaries(): string {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((version) => join(root, version, 'bin')).find((bin) => existsSync(join(bin, 'postgres')));
  if (!found) throw new Error(`no PostgreSQL under ${root}; set TASKDASH_TEST_DATABASE_URL to an administrator's URL`);
  return found;
}

/** PostgreSQL refuses to run as root. */
function unprivilegedAccount(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entry = /^(?:postgres|nobody):[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8'));
  if (!entry) throw new Error('running as root, and there is no user postgres or nobody to start PostgreSQL as');
  return { uid: Number(entry[1]), gid: Number(entry[2]) };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

async function untilReady(url: string, server: ChildProcess): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      if (server.exitCode !== null || attempt === 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function stopServer(server: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    server.once('exit', () => resolve());
    server.kill('SIGINT');
  });
}
