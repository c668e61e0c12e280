/** The change feed while PostgreSQL crashes, beside a program whose transaction numbers never reach the disk. */
import pg from 'pg';
import { expect, it } from 'vitest';
import { systemClock } from '../../../server/domain/clock.js';
import type { FeedPosition } from '../../../server/domain/ports.js';
import { positionAfter } from '../../../server/domain/task-feed.js';
import { WriteBatcher } from '../../../server/domain/write-batcher.js';
import { openStorage, type Storage } from '../../../server/storage/storage.js';
import { upTo } from '../../support/page-limits.js';
import { silentLog } from '../../support/silent-log.js';
import { registration } from '../../support/task-writes.js';
import { until } from './process-list.js';
import { Sandbox } from './sandbox.js';

const sandbox = new Sandbox();
const CRASHES = 3;

/** Takes transaction numbers that are lost in a crash, until its connection breaks; resolves with the process to kill. */
async function makeNoise(url: string): Promise<{ pid: number; ended: Promise<void> }> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  await client.query('SET synchronous_commit = off');
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const run = async () => {
    for (;;) await client.query('SELECT pg_current_xact_id()');
  };
  return { pid: rows[0]?.pid ?? 0, ended: run().catch(() => {}) };
}

it(
  'skips nothing and tells nothing twice, though the database crashes again and again',
  { timeout: 60_000 },
  async () => {
    const { connectionString: url } = await sandbox.start(await sandbox.seeded('crashing'));
    const storage = await openStorage({ url, nodeId: 'node-a', poolSize: 4, log: silentLog, clock: systemClock });
    const batcher = new WriteBatcher(storage.tasks, systemClock, {
      ...{ maxBatch: 20, maxInFlight: 2, capacity: 1000, deadlineMs: 30_000 },
    });
    const acknowledged: string[] = [];
    const told: string[] = [];
    let isOver = false;
    let isWritten = false;
    const writer = async (name: string) => {
      for (let index = 0; !isOver; index++) {
        const { outcome } = await batcher.submit(registration(`${name}-${index}`));
        if (outcome === 'written') acknowledged.push(`${name}-${index}`);
      }
    };
    const watching = watch(storage, told, () => isWritten);
    const writing = ['a', 'b', 'c'].map(writer);
    for (let crash = 0; crash < CRASHES; crash++) {
      const noise = await whenBack(() => makeNoise(url));
      const wanted = acknowledged.length + 50;
      await until('the watcher and the writers get on', () => told.length >= wanted && acknowledged.length >= wanted);
      process.kill(noise.pid, 'SIGKILL');
      await noise.ended;
    }
    const wanted = acknowledged.length + 50;
    await until('the writers get on after the last crash', () => acknowledged.length >= wanted);
    isOver = true;
    await Promise.all(writing);
    isWritten = true;
    await watching;
    const rows = await storage.postgres.adHocRows<{ task_id: string }>(
      'SELECT task_id FROM task_event ORDER BY seq',
      [],
    );
    expect(told).toEqual(rows.map((row) => row.task_id));
    expect(new Set(told).size).toBe(told.length);
    expect(acknowledged.filter((id) => !told.includes(id))).toEqual([]);
    await batcher.stop();
    await storage.close();
  },
);

/** Follows the feed from the beginning until all is over and told; goes on from its place when the database is back. */
async function watch(storage: Storage, told: string[], isOver: () => boolean): Promise<void> {
  let place: FeedPosition = { id: 0, batch: '' };
  for (;;) {
    const isLast = isOver();
    const events = await whenBack(() => storage.feed.after(place, upTo(100), 1_000_000));
    told.push(...events.map(({ task }) => task.id));
    const last = events.at(-1);
    if (last) place = positionAfter(last);
    else if (isLast) return;
  }
}

/** Tries until the database, which is recovering, answers. */
async function whenBack<T>(ask: () => Promise<T>): Promise<T> {
  let answer: { value: T } | undefined;
  let failure: unknown;
  await until('the database is back', async () => {
    answer = await ask().then(
      (value) => ({ value }),
      (error: unknown) => void (failure = error),
    );
    return answer !== undefined || isRefusal(failure);
  });
  if (answer) return answer.value;
  throw failure;
}

function isRefusal(error: unknown): boolean {
  return String((error as { code?: unknown }).code).startsWith('RESUME_TOKEN');
}
