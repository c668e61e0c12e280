/** Who wins when verdicts, claims, take-overs and returning servers meet in the database, in an order that is forced. */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { MovedSession, NodeReport } from '../../server/domain/liveness-ports.js';
import type { Lapse } from '../../server/domain/ports.js';
import { REVOKE } from '../../server/storage/farewell-statements.js';
import { moveSessions, takeLease } from '../../server/storage/session-moves.js';
import type { Statement } from '../../server/storage/postgres.js';
import { ADOPT } from '../../server/storage/session-statements.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration, update } from '../support/task-writes.js';

const LEASE_MS = 60_000;
const report: NodeReport = { sessions: 0, suspects: [], taken: [], marked: 0, protection: null, hearsBeats: true };

let database: TestDatabase;
let storage: Storage;
let client: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  storage = await openStorage({ url: database.url, nodeId: 'a', poolSize: 4, log: silentLog, clock: systemClock });
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterEach(async () => {
  await client.query('ROLLBACK');
  await client.query('TRUNCATE task, task_event, session, node');
});
afterAll(async () => {
  await client.end();
  await storage.close();
  await database.drop();
});

/** A server with a lease, and a session of it that vouches for a task. */
async function serverWithTask(taskId: string, door: 'tcp' | 'grpc' = 'tcp') {
  const node = { id: randomUUID(), name: taskId };
  await storage.nodes.renew(node, LEASE_MS, report);
  const sessionId = node.id.slice(0, 13) + randomUUID().slice(13);
  const record = { id: sessionId, door, address: '10.0.0.1', owner: '', ttlMs: 30_000, openedAgoMs: 0 } as const;
  await storage.sessions.save(node.id, [
    { ...record, state: 'open', isProtected: false, holdsTasks: true, silentMs: null },
  ]);
  await storage.tasks.writeBatch([registration(taskId, {}, { sessionId })]);
  const verdict: Lapse = { taskId, sessionId, epoch: 1, cause: 'heartbeat_timeout', silentMs: 30_000 };
  return { node, sessionId, verdict };
}

async function die(nodeId: string): Promise<void> {
  await client.query(`UPDATE node SET lease_until = now() - interval '1 s' WHERE id = $1`, [nodeId]);
}

/** Takes over in the transaction of `client`, which is to be committed. */
async function adoptUncommitted(nodeId: string, sessions = 10): Promise<MovedSession[]> {
  const run = async <Row extends object>({ text }: Statement, values: readonly unknown[]) =>
    (await client.query<Row & Record<string, unknown>>(text, [...values])).rows;
  return moveSessions(run, ADOPT, [nodeId, sessions, 100], 100);
}

/** Resolves when a statement of the database waits for a lock of another. */
async function untilOneWaits(): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const { rows } = await client.query<{ waiting: number }>(
      `SELECT count(*)::int AS waiting FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    if ((rows[0]?.waiting ?? 0) > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('nobody waited within 5 s');
}

async function stateOf(taskId: string) {
  const { rows } = await client.query<{ status: string; epoch: string }>(
    'SELECT status, epoch FROM task WHERE id = $1',
    [taskId],
  );
  return rows[0];
}

describe('a verdict that is under way', () => {
  it('is void when another session’s claim comes first, though both were on their way', async () => {
    const { verdict } = await serverWithTask('a');
    await client.query('BEGIN');
    await client.query('UPDATE task SET session_id = $1, epoch = epoch + 1 WHERE id = $2', [randomUUID(), 'a']);
    const lapsing = storage.tasks.lapse([verdict]);
    await untilOneWaits();
    await client.query('COMMIT');
    expect(await lapsing).toEqual({ lapsed: [], locked: [] });
    expect(await stateOf('a')).toMatchObject({ status: 'running', epoch: '2' });
  });

  it('is void when the same session has claimed the task anew', async () => {
    const { verdict, sessionId } = await serverWithTask('a');
    await client.query('BEGIN');
    await client.query('UPDATE task SET session_id = $1, epoch = epoch + 1 WHERE id = $2', [sessionId, 'a']);
    const lapsing = storage.tasks.lapse([verdict]);
    await untilOneWaits();
    await client.query('COMMIT');
    expect(await lapsing).toEqual({ lapsed: [], locked: [] });
    expect(await stateOf('a')).toMatchObject({ status: 'running' });
  });

  it('is void when the session is taken over meanwhile', async () => {
    const { node, verdict } = await serverWithTask('a');
    await die(node.id);
    await client.query('BEGIN');
    expect(await adoptUncommitted(randomUUID())).toHaveLength(1);
    const lapsing = storage.tasks.lapse([verdict]);
    await untilOneWaits();
    await client.query('COMMIT');
    expect(await lapsing).toEqual({ lapsed: [], locked: [] });
    expect(await stateOf('a')).toMatchObject({ status: 'running', epoch: '2' });
  });

  it('is void when its session has gone to another server with a task that somebody kept locked', async () => {
    const { node, sessionId, verdict } = await serverWithTask('a', 'grpc');
    const taker = randomUUID();
    await client.query('BEGIN');
    await client.query(`SELECT FROM task WHERE id = 'a' FOR UPDATE`);
    expect(await storage.sessions.take(taker, sessionId, '')).toMatchObject([{ locked: ['a'] }]);
    await client.query('COMMIT');
    expect(await storage.tasks.lapse([verdict], node.id)).toEqual({ lapsed: [], locked: [] });
    expect(await stateOf('a')).toMatchObject({ status: 'running', epoch: '1' });
    expect(await storage.tasks.lapse([verdict], taker)).toEqual({ lapsed: ['a'], locked: [] });
  });

  it('that comes first stands: the claim that waited for it restores', async () => {
    const { verdict } = await serverWithTask('a');
    await client.query('BEGIN');
    await client.query('SELECT FROM task WHERE id = $1 FOR UPDATE', ['a']);
    const lapsing = storage.tasks.lapse([verdict]);
    await untilOneWaits();
    await client.query('COMMIT');
    expect(await lapsing).toEqual({ lapsed: ['a'], locked: [] });
    await storage.tasks.writeBatch([registration('a', {}, { sessionId: randomUUID() })]);
    const [event] = await storage.tasks.events('everything', 'a', undefined, 1);
    expect(event).toMatchObject({ kind: 'restored', cause: 'restored', fromStatus: 'shutdown', toStatus: 'running' });
    expect(event?.gapMs).toBeGreaterThanOrEqual(30_000);
  });
});

describe('a server that comes back while others take its sessions over', () => {
  it('learns that its lease had run out, when they were first', async () => {
    const { node, sessionId } = await serverWithTask('a');
    const taker = randomUUID();
    await die(node.id);
    await client.query('BEGIN');
    await adoptUncommitted(taker);
    const renewing = storage.nodes.renew(node, LEASE_MS, report);
    await untilOneWaits();
    await client.query('COMMIT');
    expect((await renewing).lapsed).toBe(true);
    expect(await storage.sessions.reclaim(node.id, [sessionId])).toMatchObject([
      { tasks: [{ taskId: 'a', epoch: 3 }] },
    ]);
  });

  it('keeps them all when its renewal was first, though it is not through yet', async () => {
    const { node } = await serverWithTask('a');
    await die(node.id);
    await client.query('BEGIN');
    await client.query('SELECT FROM node WHERE id = $1 FOR UPDATE', [node.id]);
    expect(await storage.sessions.adopt(randomUUID(), { sessions: 10, tasks: 100 })).toEqual([]);
    await client.query('COMMIT');
    expect(await stateOf('a')).toMatchObject({ epoch: '1' });
  });
});

it('two who take over at once get different sessions, and neither waits for the other', async () => {
  const servers = await Promise.all(['a', 'b', 'c'].map((id) => serverWithTask(id)));
  for (const { node } of servers) await die(node.id);
  await client.query('BEGIN');
  const some = await adoptUncommitted(randomUUID(), 2);
  const others = await storage.sessions.adopt(randomUUID(), { sessions: 10, tasks: 100 });
  await client.query('COMMIT');
  expect([...some, ...others].map(({ id }) => id).sort()).toEqual(servers.map(({ sessionId }) => sessionId).sort());
  expect(some).toHaveLength(2);
});

describe('a lease that another server is at', () => {
  const connections = async () => {
    const { rows } = await client.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskdash a' ORDER BY pid`,
    );
    return rows.map(({ pid }) => pid);
  };

  it('is waited for in the database for a moment only, and costs no connection', async () => {
    const { sessionId } = await serverWithTask('a', 'grpc');
    const taker = randomUUID();
    const before = await connections();
    await client.query('BEGIN');
    await client.query('SELECT FROM session WHERE id = $1 FOR UPDATE', [sessionId]);
    const startedAtMs = performance.now();
    const taking = storage.sessions.take(taker, sessionId, '');
    await expect(taking).rejects.toMatchObject({ code: 'STORAGE_LOCKED' });
    // A statement may take 8 s.
    expect(performance.now() - startedAtMs).toBeLessThan(4000);
    await client.query('COMMIT');
    expect(await storage.sessions.take(taker, sessionId, '')).toMatchObject([{ tasks: [{ taskId: 'a', epoch: 2 }] }]);
    expect(await connections()).toEqual(expect.arrayContaining(before));
  });

  it('is taken without a task that somebody has locked, which keeps its epoch and is told, and costs no connection', async () => {
    const { sessionId } = await serverWithTask('a', 'grpc');
    const before = await connections();
    await client.query('BEGIN');
    await client.query('SELECT FROM task WHERE session_id = $1 FOR UPDATE', [sessionId]);
    expect(await storage.sessions.take(randomUUID(), sessionId, '')).toMatchObject([
      { tasks: [{ taskId: 'a', epoch: 1 }], locked: ['a'] },
    ]);
    await client.query('COMMIT');
    expect(await connections()).toEqual(before);
  });

  it('is not taken by anybody before who has it knows how it stands', async () => {
    const { node, sessionId } = await serverWithTask('a', 'grpc');
    const run = async <Row extends object>({ text }: Statement, values: readonly unknown[]) =>
      (await client.query<Row & Record<string, unknown>>(text, [...values])).rows;
    await client.query('BEGIN');
    expect(await takeLease(run, [node.id, sessionId, ''], 100)).toMatchObject([{ tasks: [{ taskId: 'a', epoch: 1 }] }]);
    const taking = storage.sessions.take(randomUUID(), sessionId, '');
    await untilOneWaits();
    await client.query('COMMIT');
    expect(await taking).toMatchObject([{ tasks: [{ taskId: 'a', epoch: 2 }] }]);
  });
});

describe('a lease that is revoked', () => {
  const fixed = { door: 'grpc', address: '10.0.0.1', owner: '', ttlMs: 30_000, openedAgoMs: 0, state: 'open' } as const;
  const record = (id: string) => ({ ...fixed, id, isProtected: false, holdsTasks: true, silentMs: null });
  const underLease = (sessionId: string) => ({ sessionId, isLease: true });

  it('claims nothing any more, which holds up nobody else', async () => {
    const { node, sessionId } = await serverWithTask('a', 'grpc');
    await storage.sessions.revoke(node.id, record(sessionId));
    await client.query('BEGIN');
    await client.query(`SELECT FROM task WHERE id = 'a' FOR UPDATE`);
    const writes = [
      registration('new', {}, underLease(sessionId)),
      update('a', { name: 'x' }, underLease(sessionId)),
      update('nobody', {}, underLease(sessionId)),
      registration('other', {}, underLease(randomUUID())),
      registration('plain'),
    ];
    const results = await storage.tasks.writeBatch(writes);
    expect(results.map(({ outcome }) => outcome)).toEqual(['revoked', 'revoked', 'revoked', 'written', 'written']);
    expect(await stateOf('new')).toBeUndefined();
  });

  it('is told with what a write has claimed that the database had begun before', async () => {
    const { node, sessionId } = await serverWithTask('a', 'grpc');
    await storage.tasks.writeBatch([update('a', { status: 'shutdown' }, { sessionId: null })]);
    await client.query('BEGIN');
    await client.query(`SELECT FROM task WHERE id = 'a' FOR UPDATE`);
    const writing = storage.tasks.writeBatch([registration('a', {}, underLease(sessionId))]);
    await untilOneWaits();
    await storage.sessions.revoke(node.id, record(sessionId));
    expect(await storage.sessions.leaving([sessionId])).toEqual([]);
    await client.query('COMMIT');
    expect(await writing).toMatchObject([{ outcome: 'written' }]);
    expect(await storage.sessions.leaving([sessionId])).toMatchObject([{ id: sessionId }]);
  });

  it('is not taken by a server that has waited for its record meanwhile', async () => {
    const { node, sessionId } = await serverWithTask('a', 'grpc');
    await client.query('BEGIN');
    await client.query(REVOKE.text, [node.id, sessionId, '10.0.0.1', '', 30_000, 0]);
    const taking = storage.sessions.take(randomUUID(), sessionId, '');
    await untilOneWaits();
    await client.query('COMMIT');
    expect(await taking).toEqual([]);
  });

  it('is written down as such when its record is free, which is told', async () => {
    const { node, sessionId } = await serverWithTask('a', 'grpc');
    await client.query('BEGIN');
    await client.query('SELECT FROM session WHERE id = $1 FOR UPDATE', [sessionId]);
    expect(await storage.sessions.revoke(node.id, record(sessionId))).toBe(false);
    await client.query('COMMIT');
    expect(await storage.sessions.revoke(node.id, record(sessionId))).toBe(true);
  });
});

describe('rows of sessions are locked in the order of their ids, so that no two of these wait for each other', () => {
  const open = { door: 'tcp', address: '10.0.0.1', owner: '', ttlMs: 30_000, openedAgoMs: 0, state: 'open' } as const;
  const recordOf = (id: string) => ({ ...open, id, isProtected: false, holdsTasks: true, silentMs: null });
  const closing = (id: string) => ({ ...recordOf(id), state: 'closing' as const, silentMs: 1 });
  const ended = (id: string) => ({ id, silentMs: 1 });

  it.each([
    ['written down', (node: string, ids: string[]) => storage.sessions.save(node, ids.map(closing))],
    ['ended', (node: string, ids: string[]) => storage.sessions.end(node, ids.map(ended))],
    [
      'ended and remembered',
      async (node: string, ids: string[]) => {
        for (const [index, sessionId] of ids.entries()) {
          await storage.tasks.writeBatch([registration(`task-${index}`, {}, { sessionId })]);
          const lapse = { sessionId, epoch: 1, cause: 'heartbeat_timeout', silentMs: 1 } as const;
          await storage.tasks.lapse([{ ...lapse, taskId: `task-${index}` }]);
        }
        return storage.sessions.end(node, ids.map(ended));
      },
    ],
  ])('when they are %s', async (_what, change) => {
    const node = randomUUID();
    const [first, last] = [randomUUID(), randomUUID()].sort() as [string, string];
    // Where they lie in the table is another order, and so is that in which they are given.
    for (const id of [last, first]) await storage.sessions.save(node, [recordOf(id)]);
    await client.query('BEGIN');
    await client.query('SELECT FROM session WHERE id = $1 FOR UPDATE', [first]);
    const changing = change(node, [last, first]);
    await untilOneWaits();
    const free = await client.query('SELECT id FROM session WHERE id = $1 FOR UPDATE SKIP LOCKED', [last]);
    await client.query('ROLLBACK');
    await changing;
    expect(free.rows).toEqual([{ id: last }]);
  });
});
