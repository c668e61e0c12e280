/**
 * One PostgreSQL for a whole run of the tests, in a temporary folder, with one migrated database that every test file
 * clones. TASKDASH_TEST_DATABASE_URL names another server (an administrator's URL) to run the tests on instead.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { migrate } from '../../server/storage/migrate.js';
import { startTestPostgres, type TestPostgres } from './test-postgres.js';
import { silentLog } from './silent-log.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The administrator's URL of the test server; createTestDatabase uses it. */
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
    await runAsAdministrator(server.url, `DROP DATABASE IF EXISTS ${template} WITH (FORCE)`);
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  };
}

async function start(folder: string): Promise<TestPostgres> {
  const url = process.env.TASKDASH_TEST_DATABASE_URL;
  if (url) return { url, stop: async () => {} };
  return startTestPostgres(join(folder, 'data'));
}

async function createTemplate(url: string, template: string): Promise<void> {
  await runAsAdministrator(url, `CREATE DATABASE ${template} TEMPLATE template0 ENCODING 'UTF8'`);
  const templateUrl = new URL(url);
  templateUrl.pathname = `/${template}`;
  await migrate({ url: templateUrl.href, applicationName: 'taskdash tests', log: silentLog });
}

async function runAsAdministrator(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(statement).finally(() => client.end());
}
