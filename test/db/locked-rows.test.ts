/** Tasks whose rows somebody keeps locked in the database: they harm nobody but themselves. */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { BatchLane } from '../../server/domain/batch-id.js';
import { systemClock } from '../../server/domain/clock.js';
import type { TaskDashError } from '../../server/domain/errors.js';
import type { NodeReport, SessionRecord } from '../../server/domain/liveness-ports.js';
import type { Lapse, Log, TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import { WriteBatcher } from '../../server/domain/write-batcher.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration, update } from '../support/task-writes.js';

const report: NodeReport = { sessions: 0, suspects: [], taken: [], marked: 0, protection: null, hearsBeats: true };
const told: { details: object; message: string }[] = [];
const log: Log = { ...silentLog, warn: (details, message) => void told.push({ details, message }) };

let database: TestDatabase;
let storage: Storage;
/** Somebody's forgotten session. */
let holder: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  holder = new pg.Client({ connectionString: database.url, application_name: 'forgotten' });
  await holder.connect();
});
beforeEach(async () => {
  told.length = 0;
  storage = await openStorage({ url: database.url, nodeId: 'a', poolSize: 6, log, clock: systemClock });
});
afterEach(async () => {
  await holder.query('ROLLBACK');
  await storage.close();
  await holder.query('TRUNCATE task, task_event, session, node');
});
afterAll(async () => {
  await holder.end();
  await database.drop();
});

async function lock(...ids: string[]): Promise<void> {
  await holder.query('BEGIN');
  await holder.query('SELECT FROM task WHERE id = ANY ($1) FOR UPDATE', [ids]);
}

/** Inserts tasks and does not commit them. */
async function insert(...ids: string[]): Promise<void> {
  await holder.query('BEGIN');
  await holder.query(
    `INSERT INTO task SELECT (jsonb_populate_record(t, jsonb_build_object('id', new_id))).*
    FROM task t, unnest($1::text[]) AS new_id WHERE t.id = (SELECT id FROM task LIMIT 1)`,
    [ids],
  );
}

const free = () => holder.query('ROLLBACK');
const outcomes = (results: readonly TaskWriteResult[]) => results.map(({ outcome }) => outcome);

async function taskOf(id: string) {
  return (await storage.tasks.findMany('everything', [id]))[0];
}

/** A server with a lease, and a session of it that vouches for tasks. */
async function serverWithTasks(...taskIds: string[]) {
  const node = { id: randomUUID(), name: 'other' };
  await storage.nodes.renew(node, 60_000, report);
  const sessionId = node.id.slice(0, 13) + randomUUID().slice(13);
  const record: SessionRecord = {
    ...{ id: sessionId, door: 'grpc', address: '10.0.0.1', owner: 'token:a', ttlMs: 30_000, openedAgoMs: 0 },
    ...{ state: 'open', isProtected: false, holdsTasks: true, silentMs: null },
  };
  await storage.sessions.save(node.id, [record]);
  if (taskIds.length > 0) await storage.tasks.writeBatch(taskIds.map((id) => registration(id, {}, { sessionId })));
  return { node, sessionId };
}

describe('a batch with locked tasks', () => {
  beforeEach(async () => {
    await storage.tasks.writeBatch(['a', 'b', 'c'].map((id) => registration(id)));
  });

  it('writes the others, and can be written when they are free', async () => {
    await lock('a', 'b');
    const writes = [update('b', { name: 'x' }), registration('new'), update('c', { name: 'x' }), registration('a')];
    const batch = new BatchLane().next();
    expect(outcomes(await storage.tasks.writeBatch(writes, batch, 60_000))).toEqual([
      ...['locked', 'written', 'written', 'locked'],
    ]);
    expect(await taskOf('b')).toMatchObject({ name: '', revision: 1 });
    expect(await taskOf('c')).toMatchObject({ name: 'x', revision: 2 });
    await free();
    expect(outcomes(await storage.tasks.writeBatch(writes))).toEqual(['written', 'written', 'written', 'written']);
    expect(await taskOf('b')).toMatchObject({ name: 'x', revision: 2 });
    expect(await taskOf('new')).toMatchObject({ revision: 2 });
  });

  it('tells what is not there and what was not returned as ever', async () => {
    await lock('a');
    const writes = [update('nobody'), update('a'), update('b', {}, { returnsTask: true }), registration('new')];
    const results = await storage.tasks.writeBatch(writes);
    expect(outcomes(results)).toEqual(['not_found', 'locked', 'written', 'written']);
    expect(results[2]).toMatchObject({ task: { id: 'b', revision: 2 } });
  });

  it('of locked tasks alone writes nothing, and leaves no trace of itself', async () => {
    await lock('a');
    const batch = new BatchLane().next();
    expect(outcomes(await storage.tasks.writeBatch([update('a', { name: 'x' })], batch))).toEqual(['locked']);
    await free();
    expect(outcomes(await storage.tasks.writeBatch([update('a', { name: 'x' })], batch))).toEqual(['written']);
  });

  it('waits for whoever is done in a moment', async () => {
    await lock('a');
    const writing = storage.tasks.writeBatch([update('a', { name: 'x' })]);
    await holder.query(`SELECT pg_sleep(0.05)`);
    await free();
    expect(outcomes(await writing)).toEqual(['written']);
  });

  it('waits for its turn among those who write events, however long that takes', async () => {
    await holder.query('BEGIN');
    await holder.query('SELECT pg_advisory_xact_lock(8386110886257190244)');
    const writing = storage.tasks.writeBatch([update('a', { name: 'x' })]);
    await holder.query(`SELECT pg_sleep(0.8)`);
    await free();
    expect(outcomes(await writing)).toEqual(['written']);
    expect(told).toEqual([]);
  });

  it('writes nothing where somebody has inserted one of them without committing', async () => {
    await insert('new');
    const writes = [registration('new'), update('a', { name: 'x' })];
    await expect(storage.tasks.writeBatch(writes)).rejects.toMatchObject({ code: 'STORAGE_LOCKED' });
    expect(await taskOf('a')).toMatchObject({ name: '', revision: 1 });
  });

  it('that is in a hurry passes over locked tasks and waits for no insertion, but for its turn in the history', async () => {
    const hurried = (...writes: TaskWrite[]) => storage.tasks.writeBatch(writes, undefined, 60_000, true);
    await lock('a');
    expect(outcomes(await hurried(update('a'), update('b'), registration('new')))).toEqual([
      ...['locked', 'written', 'written'],
    ]);
    await free();
    await insert('hidden');
    await expect(hurried(registration('hidden'), update('a'))).rejects.toMatchObject({ code: 'STORAGE_LOCKED' });
    expect(told).toEqual([]);
    await free();
    await holder.query('BEGIN');
    await holder.query('SELECT pg_advisory_xact_lock(8386110886257190244)');
    const writing = hurried(update('a', {}, { returnsTask: true }));
    await holder.query(`SELECT pg_sleep(0.2)`);
    await free();
    expect(await writing).toMatchObject([{ outcome: 'written', task: { id: 'a' } }]);
  });

  it('is told in the log once, with who holds them', async () => {
    await lock('a', 'b');
    await storage.tasks.writeBatch([update('a'), update('c')]);
    await storage.tasks.writeBatch([update('b'), update('c')]);
    const { rows } = await holder.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await expect.poll(() => told).toHaveLength(1);
    expect(told[0]?.details).toMatchObject({
      tasks: ['a'],
      holders: [{ pid: rows[0]?.pid, application: 'forgotten', state: 'idle in transaction' }],
    });
  });
});

it('a task that hides is told in the log once it is found', async () => {
  await storage.tasks.writeBatch([registration('a')]);
  await insert('hidden');
  const writing = storage.tasks.writeBatch([registration('hidden')], undefined, 60_000, true);
  await expect(writing).rejects.toMatchObject({ code: 'STORAGE_LOCKED' });
  await expect.poll(() => told).toHaveLength(1);
  expect(told[0]?.details).toMatchObject({ tasks: ['hidden'] });
});

describe('writers', () => {
  const open = (deadlineMs = 5_000) =>
    new WriteBatcher(storage.tasks, systemClock, { maxBatch: 256, maxInFlight: 2, capacity: 1_000, deadlineMs });

  it('of twenty other tasks write while two tasks are locked, and those are written when they are free', async () => {
    await storage.tasks.writeBatch([registration('w0'), registration('w1')]);
    await lock('w0', 'w1');
    const batcher = open(60_000);
    const locked = ['w0', 'w1', 'w0', 'w1'].map((id, n) => batcher.submit(update(id, { name: `${n}` })));
    for (let round = 0; round < 3; round++) {
      const others = Array.from({ length: 20 }, (_, n) => batcher.submit(registration(`x${n}`, { name: `${round}` })));
      expect(outcomes(await Promise.all(others))).toEqual(others.map(() => 'written'));
    }
    expect(batcher.pending).toBe(4);
    await free();
    expect(outcomes(await Promise.all(locked))).toEqual(locked.map(() => 'written'));
    expect(await taskOf('w0')).toMatchObject({ name: '2', revision: 3 });
  });

  it('of a locked task are told that nothing was written', async () => {
    await storage.tasks.writeBatch([registration('w0')]);
    await lock('w0');
    await expect(open(1_200).submit(update('w0', { name: 'x' }))).rejects.toMatchObject({ code: 'STORAGE_LOCKED' });
    await free();
    expect(await taskOf('w0')).toMatchObject({ name: '', revision: 1 });
  });

  it('of other tasks write while somebody keeps a task inserted without committing', async () => {
    await storage.tasks.writeBatch([registration('a')]);
    await insert('new');
    const batcher = open(60_000);
    const hindered = batcher.submit(registration('new', { name: 'x' }));
    const others = ['b', 'c', 'd'].map((id) => batcher.submit(registration(id)));
    expect(outcomes(await Promise.all(others))).toEqual(others.map(() => 'written'));
    expect(batcher.pending).toBe(1);
    await free();
    expect(await hindered).toMatchObject({ outcome: 'written', revision: 1 });
  });

  it('of 196 tasks write long before their deadline while four in their midst are kept inserted', async () => {
    await storage.tasks.writeBatch([registration('a')]);
    const hidden = ['t10', 't60', 't110', 't160'];
    await insert(...hidden);
    const batcher = open(4_000);
    const startedMs = performance.now();
    const submitted = Array.from({ length: 200 }, (_, n) => `t${n}`).map((id) => ({
      id,
      answer: batcher.submit(registration(id)).then(
        ({ outcome }) => outcome,
        ({ code }: TaskDashError) => code,
      ),
    }));
    const answersOf = (isHidden: boolean) =>
      Promise.all(submitted.filter(({ id }) => hidden.includes(id) === isHidden).map(({ answer }) => answer));
    expect(new Set(await answersOf(false))).toEqual(new Set(['written']));
    expect(performance.now() - startedMs).toBeLessThan(2_500);
    expect(await answersOf(true)).toEqual(hidden.map(() => 'STORAGE_LOCKED'));
    await free();
    const again = await Promise.all(hidden.map((id) => batcher.submit(registration(id))));
    expect(again).toMatchObject(hidden.map(() => ({ outcome: 'written', revision: 1 })));
  });
});

describe('verdicts', () => {
  it('shut down the tasks that are free, and tell which are locked', async () => {
    const { sessionId } = await serverWithTasks('a', 'b');
    const verdict = { sessionId, epoch: 1, cause: 'heartbeat_timeout', silentMs: 1 } as const;
    const lapses = ['a', 'b', 'nobody'].map((taskId): Lapse => ({ taskId, ...verdict }));
    await lock('a');
    expect(await storage.tasks.lapse(lapses)).toEqual({ lapsed: ['b'], locked: ['a'] });
    await free();
    expect(await storage.tasks.lapse(lapses)).toEqual({ lapsed: ['a'], locked: [] });
  });

  it('that are void are not told as locked', async () => {
    const { sessionId } = await serverWithTasks('a', 'b');
    await lock('a', 'b');
    const verdict = { cause: 'heartbeat_timeout', silentMs: 60_000 } as const;
    const lapses: Lapse[] = [
      { taskId: 'a', sessionId: randomUUID(), epoch: 1, ...verdict },
      { taskId: 'b', sessionId, epoch: 1, ...verdict },
    ];
    expect(await storage.tasks.lapse(lapses)).toEqual({ lapsed: [], locked: ['b'] });
  });
});

describe('sessions', () => {
  it('are taken over with a locked task, whose epoch stays', async () => {
    const { node, sessionId } = await serverWithTasks('a', 'b', 'c');
    const here = { id: randomUUID(), name: 'here' };
    await storage.nodes.renew(here, 60_000, report);
    await storage.nodes.release(node.id);
    await lock('b');
    const [adopted] = await storage.sessions.adopt(here.id, { sessions: 10, tasks: 10 });
    expect(adopted).toMatchObject({ id: sessionId, locked: ['b'] });
    expect(new Map(adopted?.tasks.map(({ taskId, epoch }) => [taskId, epoch]))).toEqual(
      new Map([
        ['a', 2],
        ['c', 2],
        ['b', 1],
      ]),
    );
    expect(await storage.sessions.adopt(here.id, { sessions: 10, tasks: 10 })).toEqual([]);
  });

  it('move to whoever uses them, and wait a moment for the others who write', async () => {
    const { sessionId } = await serverWithTasks('a', 'b');
    const here = { id: randomUUID(), name: 'here' };
    await storage.nodes.renew(here, 60_000, report);
    await lock('a');
    const taking = storage.sessions.take(here.id, sessionId, 'token:a');
    await holder.query(`SELECT pg_sleep(0.05)`);
    await free();
    expect(await taking).toMatchObject([{ id: sessionId, locked: [] }]);
    expect((await taskOf('a'))?.epoch).toBe(2);
  });

  it('end though a task that had ended is locked, and release the others', async () => {
    const { node, sessionId } = await serverWithTasks('a', 'b');
    await storage.tasks.writeBatch(['a', 'b'].map((id) => update(id, { status: 'finish' })));
    await lock('a');
    expect(await storage.sessions.end(node.id, [{ id: sessionId, silentMs: 0 }])).toEqual([]);
    expect(await storage.sessions.holderOf(sessionId, 'token:a')).toBeUndefined();
    expect([await taskOf('a'), await taskOf('b')]).toMatchObject([{ sessionId }, { sessionId: null }]);
  });
});
