/** Batches whose answer was lost, and which are sent again. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { BatchLane } from '../../server/domain/batch-id.js';
import { systemClock } from '../../server/domain/clock.js';
import type { TaskWrite } from '../../server/domain/ports.js';
import { WriteBatcher } from '../../server/domain/write-batcher.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { LAPSE, WRITE } from '../../server/storage/task-write-statements.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { startStallingProxy, type StallingProxy } from '../support/stalling-proxy.js';
import { registration, update } from '../support/task-writes.js';

const SESSION = '00000000-0000-4000-8000-000000000001';
const OTHER_SESSION = '00000000-0000-4000-8000-000000000002';

let database: TestDatabase;
let proxy: StallingProxy;
let node: Storage;
let other: Storage;

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = await startStallingProxy(database.url);
  const settings = { poolSize: 4, log: silentLog, clock: systemClock };
  node = await openStorage({ ...settings, url: proxy.url, nodeId: 'node-a' });
  other = await openStorage({ ...settings, url: database.url, nodeId: 'node-b' });
});
beforeEach(async () => {
  await other.dataSource.query('TRUNCATE task, task_event');
});
afterEach(() => proxy.restore());
afterAll(async () => {
  await node.close();
  await other.close();
  await proxy.stop();
  await database.drop();
});

const task = async (id: string) => (await other.tasks.findMany('everything', [id]))[0];
const revisions = async (id: string) =>
  (await other.tasks.events('everything', id, undefined, 100)).map(({ revision }) => revision).reverse();

/** Submits a write whose answer is lost after it was committed, and lets something happen before it is sent again. */
async function loseTheAnswerOf(write: TaskWrite, revision: number, meanwhile: () => Promise<unknown>) {
  const batcher = new WriteBatcher(node.tasks, systemClock, {
    ...{ maxBatch: 10, maxInFlight: 2, capacity: 100, deadlineMs: 20_000 },
  });
  // What is asked before the first batch is not to be lost.
  await node.tasks.writeBatch([update('nobody')], undefined, 1_000);
  proxy.swallowAnswers();
  const result = batcher.submit(write);
  while ((await task(write.id))?.revision !== revision);
  await meanwhile();
  proxy.restore();
  proxy.cut();
  return result;
}

describe('a write whose answer was lost', () => {
  it('does not overwrite what another server was told to store meanwhile', async () => {
    await other.tasks.writeBatch([registration('a')]);
    const result = await loseTheAnswerOf(update('a', { status: 'restart' }), 2, () =>
      other.tasks.writeBatch([update('a', { status: 'finish' })]),
    );
    expect(result).toMatchObject({ outcome: 'written', revision: 2 });
    expect(await task('a')).toMatchObject({ status: 'finish', revision: 3 });
    expect(await revisions('a')).toEqual([1, 2, 3]);
  });

  it('for a known version is answered as written, not as changed', async () => {
    await other.tasks.writeBatch([registration('a')]);
    const write = update('a', { name: 'new' }, { expectedRevision: 1, returnsTask: true });
    const result = await loseTheAnswerOf(write, 2, async () => {});
    expect(result).toMatchObject({ outcome: 'written', revision: 2, task: { id: 'a', name: 'new', revision: 2 } });
    expect(await revisions('a')).toEqual([1, 2]);
  });

  it('does not give the task back to a session that has lost it since', async () => {
    const result = await loseTheAnswerOf(registration('a', {}, { sessionId: SESSION }), 1, () =>
      other.tasks.writeBatch([registration('a', {}, { sessionId: OTHER_SESSION })]),
    );
    expect(result).toEqual({ outcome: 'written', revision: 1, epoch: 1, status: 'running' });
    expect(await task('a')).toMatchObject({ sessionId: OTHER_SESSION, epoch: 2 });
  });
});

describe('a batch whose connection is cut', () => {
  it('is known not to have been sent while the time of the database is asked, and else may have been', async () => {
    const fresh = await openStorage({
      ...{ url: proxy.url, nodeId: 'node-c', poolSize: 2, log: silentLog, clock: systemClock },
    });
    const lost = async (nothingSent: boolean, isThere: () => Promise<unknown>) => {
      proxy.swallowAnswers();
      const sent = fresh.tasks.writeBatch([registration('a')], undefined, 60_000);
      const outcome = expect(sent).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE', nothingSent });
      while (!(await isThere()));
      proxy.restore();
      proxy.cut();
      await outcome;
    };
    await lost(true, () => Promise.resolve(true));
    await fresh.tasks.writeBatch([update('nobody')], undefined, 60_000);
    await lost(false, () => task('a'));
    await fresh.close();
  });
});

describe('batches whose connections are cut while their tasks are locked', () => {
  it('hold up nobody, however many lanes they came by, and are written once when the tasks are free', async () => {
    await other.tasks.writeBatch([registration('a'), registration('b')]);
    await node.tasks.writeBatch([update('nobody')], undefined, 1_000);
    const batcher = new WriteBatcher(node.tasks, systemClock, {
      ...{ maxBatch: 10, maxInFlight: 2, capacity: 100, deadlineMs: 6_000 },
    });
    const locked: Promise<unknown>[] = [];
    await other.postgres.transaction(async (rows) => {
      await rows({ name: 'test_lock_all', text: `SELECT FROM task FOR UPDATE` }, []);
      for (const id of ['a', 'b']) {
        locked.push(batcher.submit(update(id, { name: 'new' })));
        await rows({ name: 'test_nap', text: 'SELECT pg_sleep(0.1)' }, []);
      }
      proxy.cut();
      for (let round = 0; round < 3; round++) {
        const others = ['c', 'd'].map((id) => batcher.submit(registration(id)));
        expect(await Promise.all(others)).toMatchObject([{ outcome: 'written' }, { outcome: 'written' }]);
      }
      expect(batcher.pending).toBe(2);
    });
    expect(await Promise.all(locked)).toMatchObject([{ outcome: 'written' }, { outcome: 'written' }]);
    expect([await revisions('a'), await revisions('b')]).toEqual([
      [1, 2],
      [1, 2],
    ]);
  });
});

describe('a batch that is sent again', () => {
  it('is answered from what it wrote; what it did not write is to be decided anew', async () => {
    const id = new BatchLane().next();
    await other.tasks.writeBatch([registration('a')]);
    await other.tasks.writeBatch([update('a', { status: 'finish' })]);
    const writes = [registration('new'), update('a', { name: 'x' }), update('nobody', {}), registration('new-2')];
    const first = await node.tasks.writeBatch(writes, id);
    const second = await node.tasks.writeBatch(writes, id);
    expect(first.map(({ outcome }) => outcome)).toEqual(['written', 'written', 'not_found', 'written']);
    expect(first[1]).toEqual({ outcome: 'written', revision: 3, epoch: 1, status: 'finish' });
    expect(second).toEqual([first[0], first[1], { outcome: 'unwritten' }, first[3]]);
    expect(await node.tasks.writeBatch(writes.slice(1, 2), id)).toEqual([first[1]]);
    expect(await revisions('new')).toEqual([1]);
    expect(await revisions('a')).toEqual([1, 2, 3]);
  });

  it('while the first run is under way is written once', async () => {
    const lane = new BatchLane();
    await other.tasks.writeBatch([registration('a')]);
    for (let round = 0; round < 20; round++) {
      const id = lane.next();
      const writes = [update('a', { name: `${round}` }), registration(`new-${round}`)];
      const results = await Promise.all([node, other, node].map(({ tasks }) => tasks.writeBatch(writes, id)));
      expect(new Set(results.map((result) => JSON.stringify(result))).size).toBe(1);
    }
    expect(await revisions('a')).toHaveLength(21);
  });

  it('in parts is written by the first that can be, and the others are known not to be', async () => {
    const id = new BatchLane().next();
    await other.tasks.writeBatch([registration('a'), registration('b')]);
    const [one, two] = [update('a', { name: 'x' }), update('b', { name: 'x' })];
    expect(await node.tasks.writeBatch([one], id)).toMatchObject([{ outcome: 'written', revision: 2 }]);
    expect(await node.tasks.writeBatch([two], id)).toEqual([{ outcome: 'unwritten' }]);
    expect(await node.tasks.writeBatch([one, two], id)).toMatchObject([
      { outcome: 'written' },
      { outcome: 'unwritten' },
    ]);
    expect([await revisions('a'), await revisions('b')]).toEqual([[1, 2], [1]]);
  });

  it('is written, too, when its lane has gone on without it', async () => {
    const lane = new BatchLane();
    const [held, next] = [lane.next(), lane.next()];
    await node.tasks.writeBatch([registration('a')], next);
    expect(await node.tasks.writeBatch([registration('b')], held)).toMatchObject([{ outcome: 'written' }]);
  });
});

describe('a batch that gets its locks after it was given up', () => {
  const LONG_MS = 60_000;
  const texts = { name: 'other', url: '', user_id: '', group_id: '', description: '', start_time: '', stop_time: '' };
  const INSERTED = { ...texts, n: 0, id: 'a', registers: true, status: 'running', cause: 'client', actor: 'server' };

  it.each([
    ['an update', 'finish', update('a', { status: 'restart' })],
    ['a registration', 'finish', registration('a', {}, { sessionId: SESSION })],
  ])('overwrites nothing that was written meanwhile: %s', async (_what, status, late) => {
    await other.tasks.writeBatch([registration('a'), registration('b')]);
    let waiting: Promise<unknown> = Promise.resolve();
    await other.postgres.transaction(async (rows) => {
      await rows({ name: 'test_hold', text: `UPDATE task SET status = 'finish' WHERE id = 'a'` }, []);
      waiting = node.tasks.writeBatch([late, update('b', { name: 'too late' })], new BatchLane().next(), 150);
      await rows({ name: 'test_sleep', text: 'SELECT pg_sleep(0.2)' }, []);
    });
    expect(await waiting).toEqual([{ outcome: 'late' }, { outcome: 'late' }]);
    expect(await task('a')).toMatchObject({ status, revision: 1 });
    expect(await task('b')).toMatchObject({ name: '', revision: 1 });
  });

  it('of a registration that another one was before, neither', async () => {
    let waiting: Promise<unknown> = Promise.resolve();
    await other.postgres.transaction(async (rows) => {
      await rows(WRITE, [JSON.stringify([INSERTED]), 'node-b', undefined, '7', 1, undefined]);
      waiting = node.tasks.writeBatch([registration('a', { name: 'late' })], new BatchLane().next(), 150);
      await rows({ name: 'test_sleep', text: 'SELECT pg_sleep(0.2)' }, []);
    });
    expect(await waiting).toEqual([{ outcome: 'late' }]);
    expect(await task('a')).toMatchObject({ name: 'other', revision: 1 });
  });

  it('of a verdict, neither', async () => {
    await other.tasks.writeBatch([registration('a', {}, { sessionId: SESSION })]);
    const lapse = { id: 'a', task_id: 'a', session_id: SESSION, epoch: 1, cause: 'heartbeat_timeout', silent_ms: 1 };
    const sent = (lateFrom: Date) =>
      other.postgres.rows(LAPSE, [JSON.stringify([lapse]), 'node-b', undefined, '9', 1, lateFrom, undefined]);
    expect(await sent(new Date(Date.now() - LONG_MS))).toEqual([]);
    expect(await task('a')).toMatchObject({ status: 'running', revision: 1 });
    expect(await sent(new Date(Date.now() + LONG_MS))).toEqual([{ id: 'a', is_locked: false }]);
  });

  it('is written while there is time, by the clock of the database', async () => {
    await other.tasks.writeBatch([registration('a')]);
    const written = node.tasks.writeBatch([update('a', { name: 'in time' })], new BatchLane().next(), LONG_MS);
    expect(await written).toMatchObject([{ outcome: 'written' }]);
  });
});

describe('ids whose order in UTF-16 is not that in UTF-8', () => {
  it('are locked in one order by batches and by what the database orders', async () => {
    const ids = Array.from({ length: 40 }, (_, index) => [`😀${index}`, `！${index}`]).flat();
    const all = ids.map((id) => registration(id, {}, { sessionId: SESSION }));
    await other.tasks.writeBatch(all);
    const mover = async () => {
      for (let round = 0; round < 30; round++)
        await other.postgres.transaction((rows) =>
          rows({ name: 'test_lock', text: 'SELECT id FROM task ORDER BY id FOR UPDATE' }, []),
        );
    };
    const writer = async () => {
      for (let round = 0; round < 30; round++) await node.tasks.writeBatch(all);
    };
    // A deadlock rejects as STORAGE_UNAVAILABLE.
    await Promise.all([mover(), mover(), writer(), writer()]);
  });
});
