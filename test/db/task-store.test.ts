/** What only the real database shows of the task store: several writers at once, and what stands in the rows. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import { systemClock } from '../../server/domain/clock.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration, update } from '../support/task-writes.js';

const SESSION = '00000000-0000-4000-8000-000000000001';

let database: TestDatabase;
let nodes: readonly [Storage, Storage];

beforeAll(async () => {
  database = await createTestDatabase();
  const settings = { url: database.url, poolSize: 6, log: silentLog, clock: systemClock };
  nodes = [await openStorage({ ...settings, nodeId: 'node-a' }), await openStorage({ ...settings, nodeId: 'node-b' })];
});
beforeEach(async () => {
  await nodes[0].dataSource.query('DELETE FROM task_event');
  await nodes[0].dataSource.query('DELETE FROM task');
});
afterAll(async () => {
  for (const node of nodes) await node.close();
  await database.drop();
});

/** A shuffled copy, by a generator that gives the same order in every run. */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  let state = seed;
  const random = () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  return items
    .map((item) => ({ item, rank: random() }))
    .sort((one, other) => one.rank - other.rank)
    .map(({ item }) => item);
}

/** Writes like the batcher does: what was raced is written again. */
async function writeAll(node: Storage, writes: readonly TaskWrite[]): Promise<TaskWriteResult[]> {
  const results = await node.tasks.writeBatch(writes);
  for (const [index, result] of results.entries()) {
    const write = writes[index];
    const isOpen = result.outcome === 'raced' || result.outcome === 'locked';
    if (isOpen && write) results.splice(index, 1, ...(await writeAll(node, [write])));
  }
  return results;
}

const query = (text: string): Promise<unknown> => nodes[0].dataSource.query(text);

describe('two nodes', () => {
  it('that write the same ids at once, in different orders, never deadlock and count every write', async () => {
    const ids = Array.from({ length: 60 }, (_, index) => `task-${index}`);
    const rounds = 40;
    const writer = async (node: Storage, salt: number) => {
      for (let round = 0; round < rounds; round++) {
        const writes = shuffled(ids, salt + round).map((id, index) =>
          index % 3 === 0 ? update(id, { name: `${salt}-${round}` }) : registration(id, { name: `${salt}-${round}` }),
        );
        await writeAll(node, writes);
      }
    };
    await Promise.all(ids.map((id) => writeAll(nodes[0], [registration(id)])));
    await Promise.all([writer(nodes[0], 100), writer(nodes[1], 200), writer(nodes[0], 300), writer(nodes[1], 400)]);
    const tasks = await nodes[0].tasks.findMany('everything', ids);
    expect(tasks.map((task) => task.revision)).toEqual(ids.map(() => 1 + 4 * rounds));
    expect(await query('SELECT count(*)::int AS count FROM task_event')).toEqual([{ count: 60 * (1 + 4 * rounds) }]);
  });

  it('that register the same new ids at once store each once, and count the other registration too', async () => {
    for (let round = 0; round < 25; round++) {
      const ids = Array.from({ length: 30 }, (_, index) => `new-${round}-${index}`);
      const results = await Promise.all(
        [...nodes, ...nodes].map((node, index) =>
          writeAll(
            node,
            shuffled(ids, round * 4 + index + 1).map((id) => registration(id)),
          ),
        ),
      );
      const revisions = results.map((batch) =>
        batch.map((result) => (result.outcome === 'written' ? result.revision : 0)),
      );
      expect(revisions.flat().reduce((sum, revision) => sum + revision, 0)).toBe(30 * (1 + 2 + 3 + 4));
    }
  });

  it('that write and lapse at once leave every history without a gap', async () => {
    const ids = Array.from({ length: 40 }, (_, index) => `task-${index}`);
    await writeAll(
      nodes[0],
      ids.map((id) => registration(id, {}, { sessionId: SESSION })),
    );
    const claiming = async () => {
      for (let round = 0; round < 30; round++)
        await writeAll(
          nodes[0],
          shuffled(ids, round + 1).map((id) => update(id, {}, { sessionId: SESSION })),
        );
    };
    const lapsing = async () => {
      for (let round = 0; round < 30; round++) {
        const tasks = await nodes[1].tasks.findMany('everything', shuffled(ids, round + 50));
        await nodes[1].tasks.lapse(
          tasks.map(({ id, epoch }) => ({
            taskId: id,
            sessionId: SESSION,
            epoch,
            cause: 'heartbeat_timeout',
            silentMs: 5,
          })),
        );
      }
    };
    await Promise.all([claiming(), lapsing()]);
    const broken = await query(`
      SELECT task_id, seq FROM (
        SELECT task_id, seq, from_status, revision,
          lag(status) OVER history AS status_before, lag(revision) OVER history AS revision_before
        FROM task_event WINDOW history AS (PARTITION BY task_id ORDER BY seq)
      ) AS told WHERE revision <> COALESCE(revision_before, 0) + 1 OR from_status <> COALESCE(status_before, '')`);
    expect(broken).toEqual([]);
  });

  it('see no half of a batch', async () => {
    const ids = Array.from({ length: 100 }, (_, index) => `task-${index}`);
    await writeAll(
      nodes[0],
      ids.map((id) => registration(id, { name: 'round 0' })),
    );
    let isWriting = true;
    const writing = (async () => {
      for (let round = 1; round <= 30; round++)
        await nodes[0].tasks.writeBatch(ids.map((id) => registration(id, { name: `round ${round}` })));
      isWriting = false;
    })();
    while (isWriting) {
      const tasks = await nodes[1].tasks.findMany('everything', ids);
      expect(new Set(tasks.map((task) => task.name)).size).toBe(1);
    }
    await writing;
  });
});

describe('a batch', () => {
  it('that the database refuses is refused as a whole, and stores nothing', async () => {
    const batch = [registration('good'), registration('bad', { name: 'half a pair \ud800' })];
    await expect(nodes[0].tasks.writeBatch(batch)).rejects.toMatchObject({ code: 'STORAGE_REFUSED' });
    expect(await nodes[0].tasks.find('everything', 'good')).toBeUndefined();
  });

  it('runs on one generic plan that probes the primary key, however large the table is', async () => {
    await writeAll(
      nodes[0],
      Array.from({ length: 1000 }, (_, index) => registration(`task-${index}`)),
    );
    for (let round = 0; round < 12; round++) await nodes[0].tasks.writeBatch([registration(`task-${round}`)]);
    const plans = (await query(`
      SELECT sum(generic_plans)::int AS generic, sum(custom_plans)::int AS custom
      FROM pg_prepared_statements WHERE name = 'task_write'`)) as { generic: number; custom: number }[];
    // The pool gives out its latest connection first, so that this query sees the statements of the writes.
    expect(plans[0]?.generic).toBeGreaterThan(0);
    expect(plans[0]?.custom).toBeLessThanOrEqual(5);
  });
});

describe('the rows', () => {
  const liveness = (id: string) =>
    query(`SELECT status_before, lapsed_session_id, silent_since IS NULL AS heard FROM task WHERE id = '${id}'`);

  it('keep for whose sake a task lapsed, until somebody writes a status or claims it', async () => {
    const lapsed = { status_before: 'running', lapsed_session_id: SESSION, heard: false };
    const over = { status_before: '', lapsed_session_id: null, heard: true };
    const ends = [
      update('a', { status: 'shutdown' }),
      update('a', {}, { sessionId: SESSION }),
      registration('a', {}, { sessionId: null }),
    ];
    for (const end of ends) {
      await nodes[0].tasks.writeBatch([registration('a', {}, { sessionId: SESSION })]);
      const task = await nodes[0].tasks.find('everything', 'a');
      await nodes[0].tasks.lapse([
        { taskId: 'a', sessionId: SESSION, epoch: task?.epoch ?? 0, cause: 'connection_closed', silentMs: 1 },
      ]);
      await nodes[0].tasks.writeBatch([update('a', { name: 'x' })]);
      expect(await liveness('a')).toEqual([lapsed]);
      await nodes[0].tasks.writeBatch([end]);
      expect(await liveness('a')).toEqual([over]);
    }
  });
});
