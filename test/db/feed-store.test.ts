/** The change feed against transactions that commit late, never, or in another order than they began. */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { FeedMark } from '../../server/domain/ports.js';
import { parseMark } from '../../server/storage/feed-mark.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { BETWEEN, NEVER } from '../../server/storage/task-feed-store.js';
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

/** Notes a change in the transaction of a client. */
async function noteChange(client: pg.Client, taskId: string): Promise<void> {
  await client.query(
    `INSERT INTO task_event (task_id, kind, from_status, event_cause, actor, node, at, name, url, user_id, group_id,
       description, status, start_time, stop_time, addr, cause, status_before, status_changed_at, created_at, epoch, revision)
     VALUES ($1, 'updated', '', 'client', '', '', now(), '', '', '', '', '', '', '', '', '', 'client', '', now(), now(), 0, 1)`,
    [taskId],
  );
}

const write = (...ids: string[]) => nodes[0].tasks.writeBatch(ids.map((id) => registration(id)));

async function read(from: FeedMark, until?: FeedMark) {
  const { until: next, events } = await nodes[0].feed.between(from, until, 0, 1000);
  return { next, ids: events.map(({ event }) => event.taskId) };
}

describe('the feed', () => {
  it('tells of a transaction that began before the mark and committed after it', async () => {
    const late = await openTransaction();
    await noteChange(late, 'late');
    await write('early');
    const mark = await nodes[0].feed.mark();
    await write('next');
    const first = await read(mark);
    expect(first.ids).toEqual(['next']);
    await late.query('COMMIT');
    expect(await read(first.next)).toMatchObject({ ids: ['late'] });
    // From the mark on, both are new; the one with the smaller number comes first.
    expect((await read(mark)).ids).toEqual(['late', 'next']);
  });

  it('does not tell of a transaction that was rolled back', async () => {
    const mark = await nodes[0].feed.mark();
    const undone = await openTransaction();
    await noteChange(undone, 'undone');
    await undone.query('ROLLBACK');
    await write('a');
    expect((await read(mark)).ids).toEqual(['a']);
  });

  it('is not held up by a transaction that stays open', async () => {
    const mark = await nodes[0].feed.mark();
    await openTransaction();
    let { next } = await read(mark);
    for (const id of ['a', 'b', 'c']) {
      await write(id);
      const page = await read(next);
      expect(page.ids).toEqual([id]);
      next = page.next;
    }
  });

  it('reads no old events again because a transaction stays open', async () => {
    await openTransaction();
    await nodes[0].tasks.writeBatch(Array.from({ length: 1000 }, (_, index) => registration(`task-${index}`)));
    const { next } = await read(await nodes[0].feed.mark());
    await write('new');
    const { xmax, xip } = parseMark(next);
    // As autovacuum does sooner or later: without statistics the planner takes the table for empty.
    await nodes[0].dataSource.query('ANALYZE task_event');
    const plan = await nodes[0].dataSource.query<{ 'QUERY PLAN': string }[]>(`EXPLAIN (ANALYZE) ${BETWEEN.text}`, [
      String(xmax),
      xip.map(String),
      NEVER,
      [],
      0,
      100,
    ]);
    const scans = plan.map((line) => line['QUERY PLAN']).filter((line) => / on task_event /.test(line));
    const rows = scans.map((line) => Number(/rows=([\d.]+) loops=1/.exec(line)?.[1] ?? 0));
    expect(rows.reduce((sum, count) => sum + count, 0)).toBe(1);
    expect(plan.map((line) => line['QUERY PLAN']).join('\n')).not.toContain('Removed by Filter');
  });

  it('bounds what lay between two marks, whatever committed since', async () => {
    const late = await openTransaction();
    await noteChange(late, 'late');
    const from = await nodes[0].feed.mark();
    await write('a');
    const until = await nodes[0].feed.mark();
    await write('b');
    await late.query('COMMIT');
    expect(await read(from, until)).toEqual({ ids: ['a'], next: until });
  });

  it('refuses a mark that the database has not reached, or of another generation', async () => {
    const [generation = '', xmax = ''] = (await nodes[0].feed.mark()).split(':');
    const future = `${generation}:${BigInt(xmax) + 1_000_000n}:`;
    await expect(read(future)).rejects.toMatchObject({ code: 'RESUME_TOKEN_INVALID' });
    await expect(read(`0123abcd:${xmax}:`)).rejects.toMatchObject({ code: 'RESUME_TOKEN_INVALID' });
    await expect(nodes[1].feed.between(`${generation}:1:`, future, 0, 1)).rejects.toMatchObject({
      code: 'RESUME_TOKEN_INVALID',
    });
  });

  it('means the same on every node', async () => {
    const mark = await nodes[0].feed.mark();
    await nodes[1].tasks.writeBatch([registration('b')]);
    const { until, events } = await nodes[1].feed.between(mark, undefined, 0, 10);
    expect(events.map(({ event }) => event.taskId)).toEqual(['b']);
    expect((await nodes[0].feed.between(until, undefined, 0, 10)).events).toEqual([]);
    expect(nodes[0].feed.reaches(until, mark)).toBe(true);
  });

  it('tells each of 10 000 changes once, while two nodes write and readers stop and go on anywhere', async () => {
    const start = await nodes[0].feed.mark();
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
      let position: { from: FeedMark; until?: FeedMark; afterId: number } = { from: start, afterId: 0 };
      for (let turn = salt; ; turn++) {
        const isLast = writers === 0;
        const limit = 1 + ((turn * 37) % 400);
        const node = turn % 2 === 0 ? nodes[0] : nodes[1];
        const { from, until, afterId } = position;
        const page = await node.feed.between(from, until, afterId, limit);
        // A cut in the middle of a page, like a connection that is lost: the rest is read again from there.
        const kept = turn % 5 === 0 ? page.events.slice(0, Math.ceil(page.events.length / 2)) : page.events;
        told.push(...kept.map(({ event }) => event.id));
        const isWhole = kept.length === page.events.length && page.events.length < limit;
        position = isWhole
          ? { from: page.until, afterId: 0 }
          : { from, until: page.until, afterId: kept.at(-1)?.event.id ?? afterId };
        if (isLast && isWhole && !until && page.events.length === 0) return told;
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
      expect(told).toHaveLength(all.length);
      expect([...told].sort((one, other) => one - other)).toEqual(all);
    }
  });
});
