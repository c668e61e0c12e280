/** Sessions and nodes whose rows somebody keeps locked in the database: all others are written down and moved as ever. */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import { Deadline } from '../../server/domain/deadline.js';
import type { NodeReport, SessionRecord } from '../../server/domain/liveness-ports.js';
import { Liveness } from '../../server/domain/liveness.js';
import { Patience } from '../../server/domain/patience.js';
import type { Log } from '../../server/domain/ports.js';
import { WriteBatcher } from '../../server/domain/write-batcher.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration } from '../support/task-writes.js';

const report: NodeReport = { sessions: 0, suspects: [], taken: [], marked: 0, protection: null, hearsBeats: true };
const told: { details: object; message: string }[] = [];
const log: Log = { ...silentLog, warn: (details, message) => void told.push({ details, message }) };
const LIMITS = { sessions: 10, tasks: 10 };

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
  await free();
  await storage.close();
  await holder.query('TRUNCATE task, task_event, session, node');
});
afterAll(async () => {
  await holder.end();
  await database.drop();
});

async function lock(table: 'session' | 'node', id: string): Promise<void> {
  await holder.query('BEGIN');
  await holder.query(`SELECT FROM ${table} WHERE id = $1 FOR UPDATE`, [id]);
}

/** Inserts sessions, and does not commit. */
async function insert(nodeId: string, ...ids: readonly string[]): Promise<void> {
  await holder.query('BEGIN');
  await holder.query(
    `INSERT INTO session (id, node_id, door, address, owner, ttl_ms, state, is_protected, has_claimed, opened_at)
     SELECT id, $1, 'tcp', '10.0.0.9', '', 30000, 'open', false, true, now() FROM unnest($2::uuid[]) AS s (id)`,
    [nodeId, ids],
  );
}

const free = () => holder.query('ROLLBACK');

async function server(name = 'here') {
  const node = { id: randomUUID(), name };
  await storage.nodes.renew(node, 60_000, report);
  return node;
}

const sessionIdOf = (nodeId: string) => nodeId.slice(0, 13) + randomUUID().slice(13);

function recordOf(id: string, changes: Partial<SessionRecord> = {}): SessionRecord {
  return {
    ...{ id, door: 'tcp', address: '10.0.0.1', owner: 'token:a', ttlMs: 30_000, openedAgoMs: 0, state: 'open' },
    ...{ isProtected: false, holdsTasks: true, silentMs: null },
    ...changes,
  };
}

/** A server with so many sessions on record, in the order of their ids, each with a task. */
async function serverWithSessions(count: number) {
  const node = await server('other');
  const ids = Array.from({ length: count }, () => sessionIdOf(node.id)).sort();
  await storage.sessions.save(
    node.id,
    ids.map((id) => recordOf(id)),
  );
  await storage.tasks.writeBatch(ids.map((sessionId) => registration(`task of ${sessionId}`, {}, { sessionId })));
  return { node, ids };
}

async function rowOf(id: string) {
  const { rows } = await holder.query<{ node_id: string; state: string }>(
    'SELECT node_id, state FROM session WHERE id = $1',
    [id],
  );
  return rows[0];
}

const idsOf = (sessions: readonly { id: string }[]) => sessions.map(({ id }) => id).sort();

describe('sessions that are claimed back', () => {
  it('come without the locked one, which comes when it is free', async () => {
    const { node, ids } = await serverWithSessions(3);
    const here = await server();
    await storage.nodes.release(node.id);
    await storage.sessions.adopt(here.id, LIMITS);
    await storage.nodes.renew(node, 60_000, report);
    const [first = '', second = '', third = ''] = ids;
    await lock('session', first);
    const locked: string[] = [];
    const moved = await storage.sessions.reclaim(node.id, ids, (id) => locked.push(id));
    expect(idsOf(moved)).toEqual([second, third]);
    expect(locked).toEqual([first]);
    await expect.poll(() => told).toHaveLength(1);
    expect(told[0]?.details).toMatchObject({ sessions: [first], holders: [{ application: 'forgotten' }] });
    await free();
    expect(idsOf(await storage.sessions.reclaim(node.id, ids, (id) => locked.push(id)))).toEqual([first]);
    expect(locked).toEqual([first]);
  });
});

describe('sessions that are written down', () => {
  it('are all written but the locked one, which is waited for once', async () => {
    const { node, ids } = await serverWithSessions(2);
    const [first = '', second = ''] = ids;
    const fresh = sessionIdOf(node.id);
    await lock('session', first);
    const locked: string[] = [];
    const save = (state: SessionRecord['state']) =>
      storage.sessions.save(
        node.id,
        [first, second, fresh].map((id) => recordOf(id, { state, silentMs: 0 })),
        (id) => locked.push(id),
      );
    await save('closing');
    expect([await rowOf(first), await rowOf(second), await rowOf(fresh)]).toMatchObject([
      { state: 'open' },
      { state: 'closing' },
      { state: 'closing' },
    ]);
    await save('open');
    // As it stands on record it is to be again: nothing is left to write.
    expect(locked).toEqual([first]);
    expect(await rowOf(second)).toMatchObject({ state: 'open' });
    await save('closing');
    await free();
    await save('closing');
    expect(locked).toEqual([first, first]);
    expect(await rowOf(first)).toMatchObject({ state: 'closing' });
    await expect.poll(() => told).toHaveLength(1);
    expect(told[0]?.details).toMatchObject({ sessions: [first], holders: [{ application: 'forgotten' }] });
  });

  it('are all written but one that somebody has inserted and not committed', async () => {
    const node = await server();
    const ids = Array.from({ length: 100 }, () => sessionIdOf(node.id));
    const [theirs = ''] = ids.slice(37);
    await insert(node.id, theirs);
    const locked: string[] = [];
    const save = (state: SessionRecord['state']) =>
      storage.sessions.save(
        node.id,
        ids.map((id) => recordOf(id, { state, silentMs: 0 })),
        (id) => locked.push(id),
      );
    const written = async (state: SessionRecord['state']) =>
      (await holder.query('SELECT FROM session WHERE state = $1 AND id <> $2', [state, theirs])).rowCount;
    await save('closing');
    expect([locked, await written('closing')]).toEqual([[theirs], 99]);
    const beganAtMs = performance.now();
    await save('open');
    expect([locked, await written('open')]).toEqual([[theirs, theirs], 99]);
    // Who is known is waited for apart, once and briefly.
    expect(performance.now() - beganAtMs).toBeLessThan(700);
    await free();
    await save('closing');
    expect([locked.length, await rowOf(theirs)]).toMatchObject([2, { state: 'closing' }]);
  });

  it('are not tried for long where somebody has inserted many of them; others are written the next time', async () => {
    const node = await server();
    const ids = Array.from({ length: 20 }, () => sessionIdOf(node.id));
    const theirs = ids.slice(0, 12);
    await insert(node.id, ...theirs);
    const locked = new Set<string>();
    const beganAtMs = performance.now();
    const save = () =>
      storage.sessions.save(
        node.id,
        ids.map((id) => recordOf(id)),
        (id) => locked.add(id),
      );
    await save();
    expect(performance.now() - beganAtMs).toBeLessThan(5000);
    expect(theirs.every((id) => locked.has(id))).toBe(true);
    for (let again = 0; again < 2; again++) await save();
    const others = await holder.query('SELECT FROM session WHERE id = ANY ($1)', [ids.slice(12)]);
    expect(others.rowCount).toBe(8);
  });

  it('are waited for where whoever is at them is done in a moment', async () => {
    const { node, ids } = await serverWithSessions(1);
    const [id = ''] = ids;
    await lock('session', id);
    const locked: string[] = [];
    const closing = recordOf(id, { state: 'closing', silentMs: 0 });
    const saving = storage.sessions.save(node.id, [closing], (passed) => locked.push(passed));
    await holder.query('SELECT pg_sleep(0.05)');
    await free();
    await saving;
    expect(locked).toEqual([]);
    expect(await rowOf(id)).toMatchObject({ state: 'closing' });
  });

  it('end, but for the locked one', async () => {
    const node = await server();
    const ids = [sessionIdOf(node.id), sessionIdOf(node.id), sessionIdOf(node.id)].sort();
    const [first = '', second = '', holding = ''] = ids;
    await storage.sessions.save(
      node.id,
      ids.map((id) => recordOf(id)),
    );
    await storage.tasks.writeBatch([registration('a', {}, { sessionId: holding })]);
    await lock('session', first);
    const locked: string[] = [];
    const ended = ids.map((id) => ({ id, silentMs: 0 }));
    const end = () => storage.sessions.end(node.id, ended, (id) => locked.push(id));
    const leftover = [{ taskId: 'a', sessionId: holding, epoch: 1 }];
    expect(await end()).toEqual(leftover);
    expect(locked).toEqual([first]);
    expect([await rowOf(first), await rowOf(second)]).toMatchObject([{ state: 'open' }, undefined]);
    expect(await end()).toEqual(leftover);
    await free();
    expect(await end()).toEqual(leftover);
    expect(locked).toEqual([first, first]);
    expect(await rowOf(first)).toBeUndefined();
  });
});

it('a lease that had lapsed is used again after a moment, though a task of it is locked', async () => {
  const owner = 'token:a';
  const [node, here] = [await server('other'), { id: randomUUID(), name: 'here' }];
  const id = sessionIdOf(node.id);
  await storage.sessions.save(node.id, [recordOf(id, { door: 'grpc', state: 'closing', silentMs: 0 })]);
  await storage.tasks.writeBatch(['free', 'locked'].map((task) => registration(task, {}, { sessionId: id })));
  const verdict = { sessionId: id, epoch: 1, cause: 'heartbeat_timeout', silentMs: 30_000 } as const;
  await storage.tasks.lapse(['free', 'locked'].map((taskId) => ({ ...verdict, taskId })));
  const { sessions, nodes, hints, beats, questions, tasks: lapses } = storage;
  const limits = { maxBatch: 100, maxInFlight: 2, capacity: 1000, deadlineMs: 5000 };
  const writes = new WriteBatcher(storage.tasks, systemClock, limits);
  const patience = new Patience(systemClock, { deadlineMs: 5000, maxWaiting: 10 });
  const liveness = new Liveness({
    ...{ node: here, lapses, writes, nodes, sessions, hints, beats, questions, patience, clock: systemClock, log },
    ...{ ttlMs: 30_000, reconnectGraceMs: undefined, leaseMovesAtOnce: 2 },
  });
  await liveness.start();
  await holder.query('BEGIN');
  await holder.query(`SELECT FROM task WHERE id = 'locked' FOR UPDATE`);
  const beganAtMs = performance.now();
  expect(await liveness.leases.sessionOf(id, owner)).toMatchObject({ id });
  expect(performance.now() - beganAtMs).toBeLessThan(2500);
  const statusOf = async (task: string) => (await storage.tasks.find('everything', task))?.status;
  await expect.poll(() => statusOf('free')).toBe('running');
  await free();
  await expect.poll(() => statusOf('locked'), { timeout: 5000 }).toBe('running');
  await Promise.all([liveness.stop(new Deadline(systemClock, 5000)), writes.stop()]);
});

describe('the sessions of a dead server', () => {
  it('are taken over beside a locked one, those too that it had not written down', async () => {
    const { node, ids } = await serverWithSessions(2);
    const [first = '', second = ''] = ids;
    const unrecorded = sessionIdOf(node.id);
    await storage.tasks.writeBatch([registration('unrecorded', {}, { sessionId: unrecorded })]);
    const here = await server();
    await storage.nodes.release(node.id);
    await lock('session', first);
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual([second]);
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual([unrecorded]);
    expect(await storage.sessions.adopt(here.id, LIMITS)).toEqual([]);
    await free();
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual([first]);
  });

  it('are taken over though it had not written them down, beside one that somebody has inserted and not committed', async () => {
    const node = await server('other');
    const ids = Array.from({ length: 5 }, () => sessionIdOf(node.id)).sort();
    await storage.tasks.writeBatch(ids.map((sessionId) => registration(`task of ${sessionId}`, {}, { sessionId })));
    const here = await server();
    await storage.nodes.release(node.id);
    const [theirs = '', ...others] = ids;
    await insert(node.id, theirs);
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual(others);
    expect(await storage.sessions.adopt(here.id, LIMITS)).toEqual([]);
    await free();
    await storage.sessions.unsettle();
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual([theirs]);
  });

  it('are taken over beside one that had ended, has tasks all the same, and is locked', async () => {
    const { node, ids } = await serverWithSessions(2);
    const [first = '', second = ''] = ids;
    await holder.query(`UPDATE session SET state = 'ended', ended_at = now() WHERE id = ANY ($1)`, [ids]);
    const here = await server();
    await storage.nodes.release(node.id);
    await lock('session', first);
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual([second]);
    expect(await storage.sessions.adopt(here.id, LIMITS)).toEqual([]);
    await free();
    await storage.sessions.unsettle();
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual([first]);
  });
});

describe('a locked node', () => {
  it('cannot renew its lease nor give it up, and the log says who holds it', async () => {
    const node = await server();
    await lock('node', node.id);
    const isLocked = { code: 'STORAGE_UNAVAILABLE', cause: { code: '55P03' } };
    await expect(storage.nodes.renew(node, 60_000, report)).rejects.toMatchObject(isLocked);
    await expect.poll(() => told).toHaveLength(1);
    expect(told[0]?.details).toMatchObject({ nodes: [node.id], holders: [{ application: 'forgotten' }] });
    await expect(storage.nodes.release(node.id)).rejects.toMatchObject(isLocked);
    await free();
    expect(await storage.nodes.renew(node, 60_000, report)).toMatchObject({ lapsed: false });
  });

  it('that is dead is left alone, which is told when it is so again; the others are taken over', async () => {
    const { node } = await serverWithSessions(1);
    const other = await serverWithSessions(1);
    const here = await server();
    await storage.nodes.release(node.id);
    await storage.nodes.release(other.node.id);
    await lock('node', node.id);
    expect(idsOf(await storage.sessions.adopt(here.id, LIMITS))).toEqual(other.ids);
    expect(await storage.sessions.adopt(here.id, LIMITS)).toEqual([]);
    expect(told).toEqual([]);
    expect(await storage.sessions.adopt(here.id, LIMITS)).toEqual([]);
    await expect.poll(() => told).toHaveLength(1);
    expect(told[0]?.details).toMatchObject({ nodes: [node.id], holders: [{ application: 'forgotten' }] });
  });

  it('is not needed for a locked session of a dead one to be told, when it is left behind again', async () => {
    const { node, ids } = await serverWithSessions(1);
    const here = await server();
    await storage.nodes.release(node.id);
    await lock('session', ids[0] ?? '');
    for (let round = 0; round < 2; round++) expect(await storage.sessions.adopt(here.id, LIMITS)).toEqual([]);
    await expect.poll(() => told).toHaveLength(1);
    expect(told[0]?.details).toMatchObject({ sessions: ids, holders: [{ application: 'forgotten' }] });
  });
});
