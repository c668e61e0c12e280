/**
 * One PostgreSQL for a whole run of the tests, the embedded one in a temporary folder, with one migrated database that
 * every test file clones. TASKDASH_TEST_DATABASE_URL names another server to run the tests on instead: the URL of a user
 * who may make databases.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../server/storage/embedded/embedded-postgres.js';
import { migrate } from '../../server/storage/migrate.js';
import { silentLog } from './silent-log.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The URL of a user who may make databases; createTestDatabase uses it. */
    postgresUrl: string;
    /** The name of the migrated database to clone. */
    postgresTemplate: string;
  }
}

/** Starts the server and makes the template; vitest calls what is returned at the end. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'taskdash-test-'));
  const server = await start(folder);
  const template = `taskdash_template_${process.pid}`;
  await createTemplate(server.url, template);
  project.provide('postgresUrl', server.url);
  project.provide('postgresTemplate', template);
  return async () => {
    await runOnServer(server.url, `DROP DATABASE IF EXISTS ${template} WITH (FORCE)`);
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  };
}

/**
 * Tests need no durability but for those that start a server of their own. Whoever waits in a circle is found before the patience of
 * any statement with a lock is over, which would end the circle without anybody's notice.
 */
const SETTINGS = { fsync: 'off', full_page_writes: 'off', synchronous_commit: 'off', deadlock_timeout: '20ms' };

async function start(folder: string): Promise<{ url: string; stop: () => Promise<void> }> {
  const url = process.env['TASKDASH_TEST_DATABASE_URL'];
  if (url) return { url, stop: () => Promise.resolve() };
  const server = await startEmbeddedPostgres({
    dataDir: join(folder, 'data'),
    log: () => {},
    maxConnections: 200,
    settings: SETTINGS,
  });
  return { url: server.connectionString, stop: () => server.stop() };
}

async function createTemplate(url: string, template: string): Promise<void> {
  await runOnServer(url, `CREATE DATABASE ${template} TEMPLATE template0 ENCODING 'UTF8'`);
  const templateUrl = new URL(url);
  templateUrl.pathname = `/${template}`;
  await migrate({ url: templateUrl.href, applicationName: 'taskdash tests', log: silentLog });
}

async function runOnServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(statement).finally(() => client.end());
}
