/** The change feed against transactions that commit late or never. */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { FeedPosition } from '../../server/domain/ports.js';
import { positionAfter } from '../../server/domain/task-feed.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { AFTER } from '../../server/storage/task-feed-store.js';
import { WRITE } from '../../server/storage/task-write-statements.js';
import { upTo } from '../support/page-limits.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration } from '../support/task-writes.js';

let database: TestDatabase;
let nodes: readonly [Storage, Storage];
const clients: pg.Client[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  const settings = { url: database.url, poolSize: 6, log: silentLog, clock: systemClock };
  nodes = [await openStorage({ ...settings, nodeId: 'node-a' }), await openStorage({ ...settings, nodeId: 'node-b' })];
});
beforeEach(async () => {
  for (const client of clients.splice(0)) await client.end();
  await nodes[0].dataSource.query('DELETE FROM task_event');
  await nodes[0].dataSource.query('DELETE FROM task');
});
afterAll(async () => {
  for (const client of clients) await client.end();
  for (const node of nodes) await node.close();
  await database.drop();
});

/** A connection with an open transaction that has a number. */
async function openTransaction(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  clients.push(client);
  await client.connect();
  await client.query('BEGIN');
  await client.query('SELECT pg_current_xact_id()');
  return client;
}

/** Registers a task in the transaction of a client, as a server does. */
async function registerIn(client: pg.Client, id: string): Promise<void> {
  const input = { n: 0, registers: true, claims: false, cause: 'client', actor: '', ...{ id, name: '', url: '' } };
  const texts = { user_id: '', group_id: '', description: '', status: 'running', start_time: '', stop_time: '' };
  await client.query(WRITE.text, [
    JSON.stringify([{ ...input, ...texts }]),
    'node-c',
    new Date(),
    '77',
    ++batches,
    null,
  ]);
}
let batches = 0;

const write = (...ids: string[]) => nodes[0].tasks.writeBatch(ids.map((id) => registration(id)));
const idsAfter = async (place: FeedPosition, node = nodes[0]) =>
  (await node.feed.after(place, upTo(1000), 100_000)).map(({ event }) => event.taskId);

async function untilSomebodyWaitsForALock(): Promise<void> {
  const text = `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  while ((await nodes[1].dataSource.query<unknown[]>(text)).length === 0);
}

describe('the feed', () => {
  it('tells changes in the order of their commits, also when one commits late', async () => {
    const start = await nodes[0].feed.head();
    const late = await openTransaction();
    await registerIn(late, 'late');
    const next = write('next');
    await untilSomebodyWaitsForALock();
    expect(await idsAfter(start)).toEqual([]);
    await late.query('COMMIT');
    await next;
    expect(await idsAfter(start)).toEqual(['late', 'next']);
  });

  it('does not tell of a transaction that was rolled back, and goes on behind it', async () => {
    const start = await nodes[0].feed.head();
    const undone = await openTransaction();
    await registerIn(undone, 'undone');
    await undone.query('ROLLBACK');
    await write('a');
    expect(await idsAfter(start)).toEqual(['a']);
  });

  it('is not held up by a transaction that stays open', async () => {
    await openTransaction();
    for (const id of ['a', 'b', 'c']) {
      const place = await nodes[0].feed.head();
      await write(id);
      expect(await idsAfter(place)).toEqual([id]);
    }
  });

  it('reads for a page what it returns, however many follow', async () => {
    await nodes[0].tasks.writeBatch(Array.from({ length: 1000 }, (_, index) => registration(`task-${index}`)));
    const [first] = await nodes[0].feed.after({ id: 0, batch: '' }, upTo(1), 100_000);
    // As autovacuum does sooner or later: without statistics the planner takes the table for empty.
    await nodes[0].dataSource.query('ANALYZE task_event');
    const plan = await nodes[0].dataSource.query<{ 'QUERY PLAN': string }[]>(`EXPLAIN (ANALYZE) ${AFTER.text}`, [
      first?.event.id,
      10,
      100_000,
      1_000_000,
    ]);
    const lines = plan.map((line) => line['QUERY PLAN']);
    const rows = lines
      .filter((line) => / on task_event/.test(line))
      .map((line) => /actual .* rows=([\d.]+) /.exec(line)?.[1]);
    expect(rows.map(Number)).toEqual([1, 10]);
    expect(lines.join('\n')).not.toMatch(/Removed by Filter|Seq Scan/);
  });

  it('means the same on every node', async () => {
    const place = await nodes[0].feed.head();
    await nodes[1].tasks.writeBatch([registration('b')]);
    expect(await idsAfter(place, nodes[1])).toEqual(['b']);
    expect(await nodes[1].feed.head()).toEqual(await nodes[0].feed.head());
  });

  it('tells each of 10 000 changes once, while two nodes write and readers stop and go on anywhere', async () => {
    const start = await nodes[0].feed.head();
    const perWriter = 2500;
    let writers = 4;
    const writer = async (node: Storage, name: string) => {
      for (let written = 0; written < perWriter;) {
        const size = Math.min(1 + ((written * 7) % 90), perWriter - written);
        // Some ids are the writer's own, some are everybody's.
        const writes = Array.from({ length: size }, (_, index) =>
          registration(index % 2 === 0 ? `shared-${index}` : `${name}-${written + index}`),
        );
        const results = await node.tasks.writeBatch(writes);
        written += results.filter((result) => result.outcome === 'written').length;
      }
      writers--;
    };
    const reader = async (salt: number) => {
      const told: number[] = [];
      let position = start;
      for (let turn = salt; ; turn++) {
        const isLast = writers === 0;
        const limit = 1 + ((turn * 37) % 400);
        const node = turn % 2 === 0 ? nodes[0] : nodes[1];
        const events = await node.feed.after(position, upTo(limit), 100_000);
        // A cut in the middle of a page, like a connection that is lost: the rest is read again from there.
        const kept = turn % 5 === 0 ? events.slice(0, Math.ceil(events.length / 2)) : events;
        told.push(...kept.map(({ event }) => event.id));
        const last = kept.at(-1);
        if (last) position = positionAfter(last);
        if (isLast && events.length === 0) return told;
      }
    };
    const [, , , , ...readers] = await Promise.all([
      writer(nodes[0], 'a'),
      writer(nodes[1], 'b'),
      writer(nodes[0], 'c'),
      writer(nodes[1], 'd'),
      reader(1),
      reader(2),
      reader(3),
    ]);
    const rows = await nodes[0].dataSource.query<{ seq: string }[]>('SELECT seq FROM task_event ORDER BY seq');
    const all = rows.map(({ seq }) => Number(seq));
    expect(all).toHaveLength(4 * perWriter);
    for (const told of readers) {
      expect(told).toEqual(all);
    }
  });
});
