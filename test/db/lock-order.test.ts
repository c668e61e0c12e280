/**
 * All that locks several rows takes them in one order, so that nobody waits in a circle. PostgreSQL finds circles on the test server
 * before anybody's patience is over (global-setup.ts), and counts them.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../server/domain/clock.js';
import type { NodeReport } from '../../server/domain/liveness-ports.js';
import type { LoginSession } from '../../server/domain/ports.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { registration, update } from '../support/task-writes.js';

const ROUNDS = 12;
const OWNER = 'token:a';
const report: NodeReport = { sessions: 0, suspects: [], taken: [], marked: 0, protection: null, hearsBeats: true };
/** Their order in UTF-16 is not that in UTF-8. */
const IDS = Array.from({ length: 30 }, (_, index) => [`😀${index}`, `！${index}`]).flat();
const NODES = [randomUUID(), randomUUID()] as const;
const LEASES = NODES.map((node) => node.slice(0, 13) + randomUUID().slice(13));
const USER = 'vera';

let database: TestDatabase;
let storages: readonly Storage[];

beforeEach(async () => {
  database = await createTestDatabase();
  const settings = { url: database.url, poolSize: 6, log: silentLog, clock: systemClock };
  storages = await Promise.all(NODES.map((nodeId) => openStorage({ ...settings, nodeId })));
  for (const [index, { nodes, sessions, tasks }] of storages.entries()) {
    await nodes.renew({ id: NODES[index] ?? '', name: `node-${index}` }, 60_000, report);
    await sessions.save(NODES[index] ?? '', [recordOf(LEASES[index] ?? '')]);
    await tasks.writeBatch(IDS.map((id) => registration(id, {}, { sessionId: LEASES[index] ?? '', isLease: true })));
  }
  const user = { id: USER, displayName: USER, passwordHash: 'hash', administrator: false, disabled: false };
  await storages[0]?.identity.saveUser({ ...user, mustChangePassword: false, memberships: new Map() });
});
afterEach(() => database.drop());

function recordOf(id: string) {
  return {
    ...({ id, door: 'grpc', address: '10.0.0.1', owner: OWNER, ttlMs: 30_000, openedAgoMs: 0, state: 'open' } as const),
    ...{ isProtected: false, holdsTasks: true, silentMs: null },
  };
}

function shuffled<T>(items: readonly T[]): T[] {
  return [...items]
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

const some = () => shuffled(IDS).slice(0, 40);

/** What servers do to several rows at once, at one of them. */
const WORKS: Readonly<Record<string, (storage: Storage, node: string, lease: string) => Promise<unknown>>> = {
  registers: ({ tasks }, _, lease) =>
    tasks.writeBatch(some().map((id) => registration(id, {}, { sessionId: lease, isLease: true }))),
  updates: ({ tasks }) => tasks.writeBatch(some().map((id) => update(id, { name: id }))),
  verdicts: ({ tasks }, node, lease) =>
    tasks.lapse(
      some().map((taskId) => ({ taskId, sessionId: lease, epoch: 1, cause: 'heartbeat_timeout', silentMs: 1 })),
      node,
    ),
  // The one that has registered last.
  'a lease that moves here': ({ sessions }, node) => sessions.take(node, LEASES[1] ?? '', OWNER),
  'sessions that are written down': ({ sessions }, node) => sessions.save(node, shuffled(LEASES).map(recordOf)),
  'sessions that end': ({ sessions }, node) =>
    sessions.end(
      node,
      shuffled(LEASES).map((id) => ({ id, silentMs: 1 })),
    ),
  'sessions that are taken back': ({ sessions }, node) => sessions.reclaim(node, shuffled(LEASES)),
  'a revoked lease': ({ sessions }, node, lease) => sessions.revoke(node, { ...recordOf(lease), id: randomUUID() }),
};

/** $1 user. */
const MANY_LOGINS = `
INSERT INTO login_session (id_hash, user_id, address, user_agent, created_at, last_used_at, expires_at)
SELECT gen_random_uuid()::text, $1, '127.0.0.1', 'test', now(), now() - random() * interval '1 day', '2100-01-01'
FROM generate_series(1, 100)`;

function newLogin(): LoginSession {
  return {
    ...{ idHash: randomUUID(), userId: USER, address: '127.0.0.1', userAgent: 'test', createdAt: new Date() },
    ...{ lastUsedAt: new Date(Math.random() * 1e12), expiresAt: new Date('2100-01-01') },
  };
}

/** What people do, of whom some are the same. */
const LOGINS: typeof WORKS = {
  'logins that end earlier ones': async ({ identity, postgres }) => {
    await postgres.adHocRows(MANY_LOGINS, [USER]);
    await identity.saveSession(newLogin(), 'hash', 0);
  },
  'sessions that end with others': ({ identity }) => identity.deleteSessionsOf(USER, undefined),
  'changes of the password': ({ identity }) => identity.setPassword(USER, 'hash', false),
  cleaning: ({ identity }) => {
    const now = new Date();
    return identity.deleteExpired({ now, unusedSince: now, attemptsBefore: now, networksBefore: now });
  },
};

const pairsOf = (works: typeof WORKS) =>
  Object.keys(works).flatMap((one, index, names) => names.slice(index).map((other) => [one, other] as const));

async function runBeside(works: typeof WORKS, names: readonly string[]): Promise<void> {
  const callers = [0, 1].flatMap((caller) => names.map((name) => ({ name, caller })));
  await Promise.all(
    callers.map(async ({ name, caller }) => {
      for (let round = 0; round < ROUNDS; round++)
        await works[name]?.(storages[caller] as Storage, NODES[caller] ?? '', LEASES[caller] ?? '').catch(() => {});
    }),
  );
}

/** They are told when connections end, at the latest. */
async function deadlocks(): Promise<number> {
  await Promise.all(storages.map((storage) => storage.close()));
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  const { rows } = await client.query<{ deadlocks: string }>(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  );
  await client.end();
  return Number(rows[0]?.deadlocks);
}

it.each(pairsOf(WORKS))('tasks and sessions are locked in one order: %s beside %s', async (...names) => {
  await runBeside(WORKS, names);
  expect(await deadlocks()).toBe(0);
});

it.each(pairsOf(LOGINS))('login sessions are locked in one order: %s beside %s', async (...names) => {
  await runBeside(LOGINS, names);
  expect(await deadlocks()).toBe(0);
});
