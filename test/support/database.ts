/** A database of its own for a test file, cloned from the migrated template. */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';

/** A cloned database. */
export interface TestDatabase {
  /** postgres:// URL of its owner. */
  readonly url: string;
  readonly name: string;
  /** Drops the database; connections that are still open are cut. */
  drop(): Promise<void>;
}

/** Clones the template; call `drop` in `afterAll`. `empty`: a database without any table instead. */
export async function createTestDatabase(content: 'migrated' | 'empty' = 'migrated'): Promise<TestDatabase> {
  const name = `taskdash_test_${randomBytes(6).toString('hex')}`;
  const template = content === 'empty' ? 'template0' : inject('postgresTemplate');
  await onServer(`CREATE DATABASE ${name} TEMPLATE ${template} ENCODING 'UTF8'`);
  const url = new URL(inject('postgresUrl'));
  url.pathname = `/${name}`;
  return { url: url.href, name, drop: () => onServer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

/** Somebody else has it: another clone is being made of the template, or the server's own vacuum looks through it. */
const BUSY: readonly (string | undefined)[] = ['55006', '42501'];

/** Runs one statement on the test server, as soon as nobody else is in its way. */
async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: inject('postgresUrl') });
  await client.connect();
  try {
    await retryWhileBusy(() => client.query(statement));
  } finally {
    await client.end();
  }
}

async function retryWhileBusy(run: () => Promise<unknown>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await run();
      return;
    } catch (error) {
      if (!BUSY.includes((error as { code?: string }).code) || attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
