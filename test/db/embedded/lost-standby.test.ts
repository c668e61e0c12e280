/** A primary whose commits wait for a standby that is gone: nothing can be written, and readiness says so. */
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { expect, it } from 'vitest';
import { systemClock } from '../../../server/domain/clock.js';
import { openStorage } from '../../../server/storage/storage.js';
import { Readiness } from '../../../server/transports/readiness.js';
import { silentLog } from '../../support/silent-log.js';
import { postmasterOf, Sandbox } from './sandbox.js';

const sandbox = new Sandbox();

it('is not ready while commits wait, asks one connection only, and is ready again', { timeout: 60_000 }, async () => {
  const dataDir = await sandbox.seeded('waiting');
  const { connectionString: url } = await sandbox.start(dataDir, { settings: { max_wal_senders: '2' } });
  const waitForStandby = async (name: string) => {
    await appendFile(join(dataDir, 'postgres', 'postgresql.conf'), `synchronous_standby_names = '${name}'\n`);
    process.kill(await postmasterOf(dataDir), 'SIGHUP');
  };
  const storage = await openStorage({ url, nodeId: 'node-a', poolSize: 4, log: silentLog, clock: systemClock });
  const readiness = new Readiness(storage.health, systemClock);
  const aside = new pg.Client({ connectionString: url });
  await aside.connect();
  const waiting = async () => {
    const { rows } = await aside.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM pg_stat_activity WHERE wait_event = 'SyncRep'`,
    );
    return rows[0]?.count;
  };
  try {
    expect(await readiness.problem()).toBeUndefined();
    await waitForStandby('gone');
    await expect.poll(() => readiness.problem(), { timeout: 10_000 }).toBe('the database did not answer within 2 s');
    for (let round = 0; round < 3; round++) await expect.poll(() => readiness.problem()).toContain('did not answer');
    expect(await waiting()).toBe(1);
    await waitForStandby('');
    await expect.poll(() => readiness.problem(), { timeout: 10_000 }).toBeUndefined();
  } finally {
    await aside.end();
    await storage.close();
  }
});
