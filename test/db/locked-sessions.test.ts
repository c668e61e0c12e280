/** Sessions and nodes whose rows somebody keeps locked in the database: all others are written down and moved as ever. */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { NodeReport, SessionRecord } from '../../server/domain/liveness-ports.js';
import type { Log } from '../../server/domain/ports.js';
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
