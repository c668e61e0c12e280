import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type {
  NeighbourRequest,
  NodeReport,
  NodeStore,
  ProtectionOrder,
  SessionRecord,
  SessionStore,
} from '../../server/domain/liveness-ports.js';
import { createDataSource } from '../../server/storage/data-source.js';
import { PostgresNodeStore } from '../../server/storage/node-store.js';
import { Postgres } from '../../server/storage/postgres.js';
import { LockedRows } from '../../server/storage/locked-rows.js';
import { PostgresSessionStore } from '../../server/storage/session-store.js';
import { createTestDatabase } from '../support/database.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryConnection, MemoryDatabase } from '../support/memory-liveness-stores.js';
import { silentLog } from '../support/silent-log.js';

interface TaskState {
  sessionId: string | null;
  epoch: number;
  status: string;
}

/** The stores, and the hands that move what is around them. */
interface Bench {
  readonly nodes: NodeStore;
  readonly sessions: SessionStore;
  /** Stores a task that a session vouches for. */
  putTask(
    id: string,
    sessionId: string | null,
    more?: { group?: string; user?: string; status?: string },
  ): Promise<void>;
  /** Lapses a task as the registry does. */
  lapseTask(id: string): Promise<void>;
  /** Lets it be believed only, for as long, that a task is its session's. */
  doubtTask(id: string, forMs: number): Promise<void>;
  task(id: string): Promise<TaskState>;
  /** Lets a node's lease run out. */
  expireLease(nodeId: string): Promise<void>;
  /** Makes ended sessions and dead nodes older. */
  age(byMs: number): Promise<void>;
  clear(): Promise<void>;
  close(): Promise<void>;
}

const LEASE_MS = 10_000;
const ALL = { sessions: 100, tasks: 1000 };
/** Small, so that a few tasks take several statements. */
const PART_SIZE = 3;
const report: NodeReport = { sessions: 0, suspects: [], taken: [], marked: 0, protection: null, hearsBeats: true };
const protection = { sinceMs: 0, endsInMs: 900_000, lost: 20, of: 100, held: 20, heldBy: '' };

function memoryBench(): Bench {
  const clock = new ManualClock();
  let database = new MemoryDatabase(clock);
  const connection = { current: new MemoryConnection(database) };
  return {
    get nodes() {
      return connection.current.nodes;
    },
    get sessions() {
      return connection.current.sessions;
    },
    async putTask(id, sessionId, more = {}) {
      const { group = 'mx', user = 'ssx', status = 'running' } = more;
      await connection.current.tasks.submit({
        kind: 'register',
        id,
        texts: { user, group_id: group, status },
        addr: '10.0.0.1',
        sessionId,
        cause: 'client',
        actor: 'test',
        groups: 'every',
        expectedRevision: undefined,
        returnsTask: false,
      });
    },
    async lapseTask(id) {
      const task = database.tasks.get(id);
      if (!task?.sessionId) throw new Error(`${id} has no session`);
      const lapse = { taskId: id, sessionId: task.sessionId, epoch: task.epoch, cause: 'heartbeat_timeout' } as const;
      await connection.current.tasks.lapse([{ ...lapse, silentMs: 1 }]);
    },
    doubtTask(id, forMs) {
      const task = database.tasks.get(id);
      if (task) task.unconfirmedSince = new Date(clock.now().getTime() - forMs);
      return Promise.resolve();
    },
    task: (id) => Promise.resolve(database.tasks.get(id) as TaskState),
    expireLease(nodeId) {
      const node = database.nodes.get(nodeId);
      if (node) node.leaseUntilMs = clock.monotonicMs() - 1;
      return Promise.resolve();
    },
    age(byMs) {
      clock.advance(byMs);
      return Promise.resolve();
    },
    clear() {
      database = new MemoryDatabase(clock);
      connection.current = new MemoryConnection(database);
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
}

async function postgresBench(): Promise<Bench> {
  const database = await createTestDatabase();
  const dataSource = createDataSource({
    url: database.url,
    poolSize: 4,
    applicationName: 'taskdash test',
    log: silentLog,
  });
  await dataSource.initialize();
  const postgres = new Postgres(dataSource, silentLog);
  const query = <Row extends object>(text: string, values: unknown[] = []) => postgres.adHocRows<Row>(text, values);
  return {
    nodes: new PostgresNodeStore(postgres),
    sessions: new PostgresSessionStore(postgres, new LockedRows(postgres, silentLog, () => 0), PART_SIZE),
    async putTask(id, sessionId, { group = 'mx', user = 'ssx', status = 'running' } = {}) {
      await query(
        `INSERT INTO task (id, name, url, user_id, group_id, description, status, start_time, stop_time, addr, cause,
           status_before, status_changed_at, created_at, updated_at, session_id, epoch, revision)
         VALUES ($1, '', '', $2, $3, '', $4, '', '', '10.0.0.1', 'client', '', now(), now(), now(), $5, 1, 1)
         ON CONFLICT (id) DO UPDATE SET session_id = $5, epoch = task.epoch + 1, revision = task.revision + 1,
           status = $4, status_before = '', lapsed_session_id = NULL`,
        [id, user, group, status, sessionId],
      );
    },
    async lapseTask(id) {
      await query(
        `UPDATE task SET lapsed_session_id = session_id, session_id = NULL, status_before = status,
           status = 'shutdown', cause = 'heartbeat_timeout', revision = revision + 1 WHERE id = $1`,
        [id],
      );
    },
    async doubtTask(id, forMs) {
      await query(`UPDATE task SET unconfirmed_since = now() - $2 * interval '1 ms' WHERE id = $1`, [id, forMs]);
    },
    async task(id) {
      const [row] = await query<{ session_id: string | null; epoch: string; status: string }>(
        'SELECT session_id, epoch, status FROM task WHERE id = $1',
        [id],
      );
      if (!row) throw new Error(`no task ${id}`);
      return { sessionId: row.session_id, epoch: Number(row.epoch), status: row.status };
    },
    async expireLease(nodeId) {
      await query(`UPDATE node SET lease_until = now() - interval '1 ms' WHERE id = $1`, [nodeId]);
    },
    async age(byMs) {
      await query(
        `UPDATE session SET ended_at = ended_at - $1 * interval '1 ms', silent_since = silent_since - $1 * interval '1 ms'`,
        [byMs],
      );
      await query(
        `UPDATE node SET lease_until = lease_until - $1 * interval '1 ms', renewed_at = renewed_at - $1 * interval '1 ms'`,
        [byMs],
      );
    },
    async clear() {
      await query('TRUNCATE task, session, node, node_event');
    },
    async close() {
      await dataSource.destroy();
      await database.drop();
    },
  };
}

/** A node with a lease. */
async function startNode(bench: Bench, name = `node-${randomUUID().slice(0, 4)}`) {
  const node = { id: randomUUID(), name };
  await bench.nodes.renew(node, LEASE_MS, report);
  return node;
}

function sessionIdOf(node: { id: string }): string {
  return node.id.slice(0, 13) + randomUUID().slice(13);
}

function recordOf(id: string, more: Partial<SessionRecord> = {}): SessionRecord {
  const fixed = { id, door: 'tcp', address: '10.0.0.1', owner: '', ttlMs: 30_000, openedAgoMs: 60_000 } as const;
  return { ...fixed, state: 'open', isProtected: false, holdsTasks: true, silentMs: null, ...more };
}

describe.each([
  { stores: 'in memory', open: () => Promise.resolve(memoryBench()) },
  { stores: 'on PostgreSQL', open: postgresBench },
])('node and session stores $stores', ({ open }) => {
  let bench: Bench;

  beforeAll(async () => {
    bench = await open();
  });
  beforeEach(() => bench.clear());
  afterAll(() => bench.close());

  /** Tasks of a session, with ids of no particular order. */
  async function putTasks(sessionId: string, count: number, status = 'running'): Promise<string[]> {
    const ids = Array.from({ length: count }, () => randomUUID());
    for (const id of ids) await bench.putTask(id, sessionId, { status });
    return ids;
  }

  describe('a lease', () => {
    it('says whether it had run out, or there was none', async () => {
      const node = { id: randomUUID(), name: 'a' };
      expect((await bench.nodes.renew(node, LEASE_MS, report)).lapsed).toBe(true);
      expect((await bench.nodes.renew(node, LEASE_MS, report)).lapsed).toBe(false);
      await bench.expireLease(node.id);
      expect((await bench.nodes.renew(node, LEASE_MS, report)).lapsed).toBe(true);
    });

    it('shows the other nodes whose lease holds, with what they report', async () => {
      const [a, b] = [await startNode(bench, 'a'), await startNode(bench, 'b')];
      await bench.nodes.renew(b, LEASE_MS, { ...report, sessions: 7, suspects: ['x'] });
      const seen = (await bench.nodes.renew(a, LEASE_MS, report)).peers;
      expect(seen).toMatchObject([{ id: b.id, name: 'b', report: { sessions: 7, suspects: ['x'] } }]);
      await bench.nodes.release(b.id);
      expect((await bench.nodes.renew(a, LEASE_MS, report)).peers).toEqual([]);
    });

    it('brings an order that was left for the node, until it is told that it was carried out', async () => {
      const node = await startNode(bench, 'a');
      const protecting = { ...report, protection };
      const renew = async (carriedOut?: ProtectionOrder) =>
        (await bench.nodes.renew(node, LEASE_MS, protecting, carriedOut)).order;
      await renew();
      const [first, second] = [
        { decision: 'expire_now', actor: 'user:ssx' },
        { decision: 'hold', actor: 'user:ssx' },
      ] as const;
      expect(await bench.nodes.order('a', first)).toBe(true);
      expect([await renew(), await renew()]).toEqual([first, first]);
      expect(await bench.nodes.order('a', second)).toBe(true);
      // What was carried out meanwhile is not what is ordered now.
      expect([await renew(first), await renew(first)]).toEqual([second, second]);
      expect([await renew(second), await renew(second), await renew()]).toEqual([undefined, undefined, undefined]);
    });

    it('takes an order only for a node that holds its lease and protects something', async () => {
      const order = { decision: 'hold', actor: 'user:ssx' } as const;
      const node = await startNode(bench, 'a');
      expect(await bench.nodes.order('nobody', order)).toBe(false);
      expect(await bench.nodes.order('a', order)).toBe(false);
      await bench.nodes.renew(node, LEASE_MS, { ...report, protection });
      expect(await bench.nodes.order('a', order)).toBe(true);
      await bench.expireLease(node.id);
      expect(await bench.nodes.order('a', order)).toBe(false);
    });

    it('keeps events, the newest first', async () => {
      await bench.nodes.note('a', 'protection_began', { lost: 20, of: 100 });
      await bench.nodes.note('a', 'protection_ended', { reason: 'calm' });
      const events = await bench.nodes.events(10);
      expect(events.map(({ kind }) => kind)).toEqual(['protection_ended', 'protection_began']);
      expect(events[1]).toMatchObject({ node: 'a', details: { lost: 20, of: 100 } });
      expect(events[1]?.at).toBeInstanceOf(Date);
    });
  });

  describe('a dead node', () => {
    it('loses its sessions to the first who takes them, as orphans, and their tasks get a new epoch', async () => {
      const [dead, alive] = [await startNode(bench), await startNode(bench)];
      const [open, closing] = [sessionIdOf(dead), sessionIdOf(dead)];
      await bench.sessions.save(dead.id, [recordOf(open), recordOf(closing, { state: 'closing', silentMs: 9000 })]);
      await bench.putTask('a', open);
      await bench.putTask('b', closing);
      expect(await bench.sessions.adopt(alive.id, ALL)).toEqual([]);
      await bench.expireLease(dead.id);
      const adopted = await bench.sessions.adopt(alive.id, ALL);
      expect(adopted.map(({ id }) => id).sort()).toEqual([open, closing].sort());
      expect(adopted.every(({ state }) => state === 'orphan')).toBe(true);
      expect(adopted.find(({ id }) => id === open)).toMatchObject({
        address: '10.0.0.1',
        ttlMs: 30_000,
        tasks: [{ taskId: 'a', epoch: 2 }],
      });
      expect(adopted.find(({ id }) => id === open)?.silentMs).toBeLessThan(30_000);
      expect(adopted.find(({ id }) => id === closing)?.silentMs).toBeGreaterThanOrEqual(9000);
      expect(await bench.task('a')).toMatchObject({ sessionId: open, epoch: 2 });
      expect(await bench.sessions.adopt(alive.id, ALL)).toEqual([]);
    });

    it('loses nothing but the name of a task that has ended: its epoch stays', async () => {
      const [dead, alive] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(dead);
      await bench.sessions.save(dead.id, [recordOf(session)]);
      await bench.putTask('runs', session);
      await bench.putTask('done', session, { status: 'finish' });
      await bench.expireLease(dead.id);
      expect(await bench.sessions.adopt(alive.id, ALL)).toMatchObject([{ tasks: [{ taskId: 'runs', epoch: 2 }] }]);
      expect(await bench.task('done')).toMatchObject({ sessionId: session, epoch: 1 });
    });

    it('loses them in parts, and to several takers without any of them twice', async () => {
      const [dead, one, other] = [await startNode(bench), await startNode(bench), await startNode(bench)];
      const ids = Array.from({ length: 50 }, () => sessionIdOf(dead));
      await bench.sessions.save(
        dead.id,
        ids.map((id) => recordOf(id)),
      );
      await bench.expireLease(dead.id);
      const taken: string[] = [];
      const take = async (node: { id: string }) => {
        for (let got = 1; got > 0;) {
          const part = await bench.sessions.adopt(node.id, { ...ALL, sessions: 7 });
          taken.push(...part.map(({ id }) => id));
          got = part.length;
        }
      };
      await Promise.all([take(one), take(other)]);
      expect(taken.sort()).toEqual(ids.sort());
    });

    it('loses them bit by bit by the number of their tasks, one with too many by itself', async () => {
      const [dead, alive] = [await startNode(bench), await startNode(bench)];
      const ids = Array.from({ length: 6 }, () => sessionIdOf(dead)).sort();
      const tasks = [4, 4, 0, 3, 25, 1];
      await bench.sessions.save(
        dead.id,
        ids.map((id) => recordOf(id)),
      );
      for (const [session, count] of tasks.entries()) await putTasks(ids[session] as string, count);
      await bench.putTask('done', ids[0] as string, { status: 'finish' });
      await bench.expireLease(dead.id);
      const parts = [];
      for (let part = 0; part < 5; part++)
        parts.push(await bench.sessions.adopt(alive.id, { sessions: 100, tasks: 10 }));
      const adopted = parts.map((part) => part.map(({ id, tasks }) => [ids.indexOf(id), tasks.length]).sort());
      expect(adopted).toEqual([
        [
          [0, 4],
          [1, 4],
          [2, 0],
        ],
        [[3, 3]],
        [[4, 25]],
        [[5, 1]],
        [],
      ]);
      const held = parts.flat().flatMap((session) => session.tasks);
      expect(new Set(held.map(({ taskId }) => taskId)).size).toBe(37);
      expect(held.every(({ epoch }) => epoch === 2)).toBe(true);
      for (const { taskId } of held) expect((await bench.task(taskId)).epoch).toBe(2);
    });

    it('loses the sessions that it had not yet written down too', async () => {
      const [dead, alive] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(dead);
      await bench.putTask('a', session);
      await bench.putTask('b', session);
      await bench.putTask('elsewhere', sessionIdOf(alive));
      await bench.expireLease(dead.id);
      const adopted = await bench.sessions.adopt(alive.id, ALL);
      expect(adopted).toMatchObject([{ id: session, state: 'orphan', address: '10.0.0.1' }]);
      expect(adopted[0]?.tasks.map(({ taskId }) => taskId).sort()).toEqual(['a', 'b']);
    });

    it('is looked at again when a late write left something after all', async () => {
      const [dead, alive] = [await startNode(bench), await startNode(bench)];
      await bench.expireLease(dead.id);
      expect(await bench.sessions.adopt(alive.id, ALL)).toEqual([]);
      await bench.putTask('late', sessionIdOf(dead));
      expect(await bench.sessions.adopt(alive.id, ALL)).toEqual([]);
      await bench.sessions.unsettle();
      expect(await bench.sessions.adopt(alive.id, ALL)).toMatchObject([{ tasks: [{ taskId: 'late' }] }]);
    });

    it('that gave its lease up is dead at once', async () => {
      const [dead, alive] = [await startNode(bench), await startNode(bench)];
      await bench.sessions.save(dead.id, [recordOf(sessionIdOf(dead))]);
      await bench.nodes.release(dead.id);
      await bench.age(1);
      expect(await bench.sessions.adopt(alive.id, ALL)).toHaveLength(1);
    });

    it('is forgotten when it is long dead and nothing is left of it', async () => {
      const [dead, alive] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(dead);
      await bench.sessions.save(dead.id, [recordOf(session)]);
      await bench.expireLease(dead.id);
      await bench.age(100_000);
      await bench.nodes.renew(alive, LEASE_MS, report);
      await bench.sessions.adopt(alive.id, ALL);
      expect(await bench.nodes.purge(50_000)).toBe(0);
      expect(await bench.sessions.adopt(alive.id, ALL)).toEqual([]);
      expect(await bench.nodes.purge(50_000)).toBe(1);
    });
  });

  it('a session whose owner is known only later is that owner’s', async () => {
    const [dead, alive] = [await startNode(bench), await startNode(bench)];
    const session = sessionIdOf(dead);
    await bench.sessions.save(dead.id, [recordOf(session)]);
    await bench.sessions.save(dead.id, [recordOf(session, { owner: 'token:x' })]);
    await bench.expireLease(dead.id);
    expect(await bench.sessions.adopt(alive.id, ALL)).toMatchObject([{ id: session, owner: 'token:x' }]);
  });

  describe('a session whose node comes back', () => {
    it('is taken back with its tasks, in a new epoch, and what lapsed meanwhile', async () => {
      const [late, taker] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(late);
      await bench.sessions.save(late.id, [recordOf(session)]);
      await bench.putTask('a', session);
      await bench.putTask('b', session);
      await bench.expireLease(late.id);
      await bench.sessions.adopt(taker.id, ALL);
      await bench.lapseTask('b');
      const [back] = await bench.sessions.reclaim(late.id, [session, sessionIdOf(late)]);
      expect(back).toMatchObject({ id: session, state: 'open', silentMs: null, tasks: [{ taskId: 'a', epoch: 3 }] });
      expect(back?.lapsed.map(({ taskId }) => taskId)).toEqual(['b']);
      expect(await bench.sessions.whereabouts(taker.id, [session])).toEqual(
        new Map([[session, { isElsewhere: true, hasTasks: true }]]),
      );
      expect(await bench.sessions.reclaim(late.id, [session])).toEqual([]);
    });

    it('is taken back with all of many tasks', async () => {
      const [late, taker] = [await startNode(bench), await startNode(bench)];
      const ids = [sessionIdOf(late), sessionIdOf(late)];
      await bench.sessions.save(
        late.id,
        ids.map((id) => recordOf(id)),
      );
      for (const id of ids) await putTasks(id, 10);
      await bench.expireLease(late.id);
      await bench.sessions.adopt(taker.id, ALL);
      const back = await bench.sessions.reclaim(late.id, ids);
      const held = back.flatMap(({ tasks }) => tasks);
      expect(back.map(({ id }) => id).sort()).toEqual(ids.sort());
      expect(new Set(held.map(({ taskId }) => taskId)).size).toBe(20);
      expect(held.every(({ epoch }) => epoch === 3)).toBe(true);
    });

    it('is not taken back when it is a lease that its client has taken along', async () => {
      const [late, taker, used] = [await startNode(bench), await startNode(bench), await startNode(bench)];
      const [orphan, moved] = [sessionIdOf(late), sessionIdOf(late)];
      await bench.sessions.save(
        late.id,
        [orphan, moved].map((id) => recordOf(id, { door: 'grpc' })),
      );
      await bench.expireLease(late.id);
      await bench.sessions.adopt(taker.id, ALL);
      await bench.sessions.take(used.id, moved, '');
      expect(await bench.sessions.reclaim(late.id, [orphan, moved])).toMatchObject([{ id: orphan }]);
    });

    it('is written by nobody else any more', async () => {
      const [late, taker] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(late);
      await bench.sessions.save(late.id, [recordOf(session)]);
      await bench.putTask('a', session);
      await bench.expireLease(late.id);
      await bench.sessions.adopt(taker.id, ALL);
      await bench.sessions.save(late.id, [recordOf(session, { state: 'closing', silentMs: 1 })]);
      expect(await bench.sessions.end(late.id, [{ id: session, silentMs: 1 }])).toEqual([]);
      expect(await bench.sessions.list('everything', undefined, 10)).toMatchObject([
        { id: session, nodeId: taker.id, state: 'orphan' },
      ]);
    });
  });

  describe('a lease that moves', () => {
    it('goes to whoever is used by its owner', async () => {
      const [from, to] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(from);
      await bench.sessions.save(from.id, [recordOf(session, { door: 'grpc', owner: 'token:x' })]);
      await bench.putTask('a', session);
      expect(await bench.sessions.take(to.id, session, 'token:y')).toEqual([]);
      expect(await bench.sessions.take(to.id, session, 'token:x')).toMatchObject([
        { id: session, owner: 'token:x', tasks: [{ taskId: 'a', epoch: 2 }], lapsed: [] },
      ]);
    });

    it('changes nothing where it is taken by the node that has it', async () => {
      const node = await startNode(bench);
      const session = sessionIdOf(node);
      await bench.sessions.save(node.id, [recordOf(session, { door: 'grpc' })]);
      for (const id of ['a', 'b', 'ended']) await bench.putTask(id, session);
      await bench.putTask('ended', session, { status: 'finish' });
      await bench.lapseTask('b');
      const [taken] = await bench.sessions.take(node.id, session, '');
      expect(taken).toMatchObject({ id: session, state: 'open', tasks: [{ taskId: 'a', epoch: 1 }] });
      expect(taken?.tasks).toHaveLength(1);
      expect(taken?.lapsed).toMatchObject([{ taskId: 'b' }]);
      expect(await bench.task('a')).toMatchObject({ epoch: 1, sessionId: session });
    });

    it('is open again where it waited at the node that takes it', async () => {
      const node = await startNode(bench);
      const [orphan, held] = [sessionIdOf(node), sessionIdOf(node)];
      await bench.sessions.save(node.id, [
        recordOf(orphan, { door: 'grpc', state: 'orphan', silentMs: 1 }),
        recordOf(held, { door: 'grpc', isProtected: true, silentMs: 1 }),
      ]);
      for (const id of [orphan, held])
        expect(await bench.sessions.take(node.id, id, '')).toMatchObject([{ state: 'open', isProtected: false }]);
    });

    it('comes back even after it lapsed, with what may be restored', async () => {
      const node = await startNode(bench);
      const session = sessionIdOf(node);
      await bench.sessions.save(node.id, [recordOf(session, { door: 'grpc' })]);
      await bench.putTask('a', session);
      await bench.lapseTask('a');
      await bench.sessions.end(node.id, [{ id: session, silentMs: 1 }]);
      const [taken] = await bench.sessions.take(node.id, session, '');
      expect(taken?.lapsed).toMatchObject([{ taskId: 'a' }]);
      expect(taken?.tasks).toEqual([]);
    });

    it('does not happen to a connection', async () => {
      const [from, to] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(from);
      await bench.sessions.save(from.id, [recordOf(session)]);
      expect(await bench.sessions.take(to.id, session, '')).toEqual([]);
    });
  });

  describe('a lease that is revoked', () => {
    const OWNER = 'token:x';
    const lease = (id: string) => recordOf(id, { door: 'grpc', owner: OWNER });

    async function revoked(...tasks: readonly string[]) {
      const [node, other] = [await startNode(bench), await startNode(bench)];
      const session = sessionIdOf(node);
      await bench.sessions.save(node.id, [lease(session)]);
      for (const id of tasks) await bench.putTask(id, session);
      expect(await bench.sessions.revoke(node.id, lease(session))).toBe(true);
      return { node, other, session };
    }

    it('is nobody’s any more, and no server writes it down anew', async () => {
      const { node, other, session } = await revoked('a');
      await bench.sessions.save(node.id, [lease(session)]);
      await bench.sessions.end(node.id, [{ id: session, silentMs: 1 }]);
      for (const { id } of [node, other]) expect(await bench.sessions.take(id, session, OWNER)).toEqual([]);
      expect(await bench.sessions.holderOf(session, OWNER)).toBeUndefined();
      expect(await bench.sessions.reclaim(other.id, [session])).toEqual([]);
      expect(await bench.sessions.list('everything', undefined, 10)).toEqual([]);
      expect(await bench.sessions.strays(node.id, [])).toEqual([]);
      expect(await bench.sessions.unattended(node.id)).toEqual([]);
    });

    it('is so wherever it was, and whether or not it was written down; twice is once', async () => {
      const [holder, elsewhere] = [await startNode(bench), await startNode(bench)];
      const [known, unknown] = [sessionIdOf(holder), sessionIdOf(holder)];
      await bench.sessions.save(holder.id, [lease(known)]);
      for (const id of [known, unknown, known]) expect(await bench.sessions.revoke(elsewhere.id, lease(id))).toBe(true);
      await bench.sessions.save(holder.id, [lease(known)]);
      await bench.sessions.save(elsewhere.id, [lease(unknown)]);
      for (const id of [known, unknown]) expect(await bench.sessions.take(holder.id, id, OWNER)).toEqual([]);
    });

    it('is told while it has tasks, to who asks for it, and to all when its server is dead', async () => {
      const { node, other, session } = await revoked('a', 'b');
      const left = [{ id: session, owner: OWNER, address: '10.0.0.1' }];
      expect(await bench.sessions.leaving([session, randomUUID()])).toEqual(left);
      expect(await bench.sessions.leaving([])).toEqual([]);
      await bench.nodes.release(node.id);
      expect(await bench.sessions.adopt(other.id, ALL)).toEqual([]);
      expect(await bench.sessions.leaving([])).toEqual(left);
      for (const id of ['a', 'b']) await bench.putTask(id, null, { status: 'shutdown' });
      expect(await bench.sessions.leaving([session])).toEqual([]);
      expect(await bench.sessions.adopt(other.id, ALL)).toEqual([]);
    });

    it('is looked at again where a late write left something at a dead server', async () => {
      const { node, other, session } = await revoked();
      await bench.nodes.release(node.id);
      expect(await bench.sessions.adopt(other.id, ALL)).toEqual([]);
      await bench.putTask('late', session);
      expect(await bench.sessions.leaving([])).toEqual([]);
      await bench.sessions.unsettle();
      expect(await bench.sessions.leaving([])).toMatchObject([{ id: session }]);
    });

    it('releases the tasks that had ended by themselves', async () => {
      const node = await startNode(bench);
      const session = sessionIdOf(node);
      await bench.sessions.save(node.id, [lease(session)]);
      const tasks = await putTasks(session, 10, 'finish');
      await bench.sessions.revoke(node.id, lease(session));
      for (const id of tasks) expect(await bench.task(id)).toMatchObject({ status: 'finish', sessionId: null });
    });

    it('is nobody’s neighbour', async () => {
      const { node } = await revoked();
      const request = { sessionId: randomUUID(), address: '10.0.0.1', owner: OWNER };
      expect((await bench.sessions.neighbours(node.id, [request])).neighbours).toEqual([]);
    });

    it('is remembered for an hour, and as long as it has tasks', async () => {
      const { session } = await revoked('a');
      await bench.age(3_500_000);
      await bench.putTask('a', null, { status: 'shutdown' });
      expect(await bench.sessions.purge()).toBe(0);
      await bench.putTask('a', session);
      await bench.age(200_000);
      expect(await bench.sessions.purge()).toBe(0);
      await bench.putTask('a', null, { status: 'shutdown' });
      expect(await bench.sessions.purge()).toBe(1);
    });
  });

  describe('the end of a session', () => {
    it('forgets one of which nothing can be resumed', async () => {
      const node = await startNode(bench);
      const session = sessionIdOf(node);
      await bench.sessions.save(node.id, [recordOf(session)]);
      expect(await bench.sessions.end(node.id, [{ id: session, silentMs: 1 }])).toEqual([]);
      expect(await bench.sessions.list('everything', undefined, 10)).toEqual([]);
      expect(await bench.sessions.purge()).toBe(0);
    });

    it('remembers one whose tasks lapsed for an hour, but lists it no more', async () => {
      const node = await startNode(bench);
      const session = sessionIdOf(node);
      await bench.sessions.save(node.id, [recordOf(session)]);
      await bench.putTask('a', session);
      await bench.lapseTask('a');
      await bench.sessions.end(node.id, [{ id: session, silentMs: 1 }]);
      expect(await bench.sessions.list('everything', undefined, 10)).toEqual([]);
      expect((await bench.sessions.lapsedOf([session])).get(session)).toMatchObject([{ taskId: 'a' }]);
      await bench.age(3_500_000);
      expect(await bench.sessions.purge()).toBe(0);
      await bench.age(200_000);
      expect(await bench.sessions.purge()).toBe(1);
    });

    it('remembers as long who was there without a task when the server died: it may come back', async () => {
      const [dead, living] = [await startNode(bench), await startNode(bench)];
      const [beside, served, lease] = [sessionIdOf(dead), sessionIdOf(dead), sessionIdOf(dead)];
      await bench.sessions.save(dead.id, [
        recordOf(beside, { holdsTasks: false }),
        recordOf(served, { holdsTasks: true }),
        recordOf(lease, { holdsTasks: false, door: 'grpc' }),
      ]);
      await bench.nodes.release(dead.id);
      await bench.sessions.adopt(living.id, { sessions: 10, tasks: 10 });
      await bench.sessions.end(
        living.id,
        [beside, served, lease].map((id) => ({ id, silentMs: 1 })),
      );
      expect(await bench.sessions.list('everything', undefined, 10)).toEqual([]);
      const neighbours = async () => {
        const request = { sessionId: randomUUID(), address: recordOf(beside).address, owner: '' };
        return (await bench.sessions.neighbours(living.id, [request])).neighbours;
      };
      expect(await neighbours()).toMatchObject([{ id: beside, isOpen: false, tasks: [] }]);
      await bench.age(3_700_000);
      expect(await neighbours()).toEqual([]);
      expect(await bench.sessions.purge()).toBe(1);
    });

    it('releases the tasks that had ended by themselves', async () => {
      const node = await startNode(bench);
      const session = sessionIdOf(node);
      await bench.sessions.save(node.id, [recordOf(session)]);
      await bench.putTask('a', session, { status: 'finish' });
      expect(await bench.sessions.end(node.id, [{ id: session, silentMs: 1 }])).toEqual([]);
      expect(await bench.task('a')).toMatchObject({ status: 'finish', sessionId: null });
      expect(await bench.sessions.list('everything', undefined, 10)).toEqual([]);
    });

    it('releases any number of such tasks, but none of a session that another node holds', async () => {
      const [node, other] = [await startNode(bench), await startNode(bench)];
      const [ours, theirs] = [sessionIdOf(node), sessionIdOf(node)];
      await bench.sessions.save(node.id, [recordOf(ours)]);
      await bench.sessions.save(other.id, [recordOf(theirs)]);
      const tasks = await putTasks(ours, 10, 'finish');
      const [kept = ''] = await putTasks(theirs, 1, 'shutdown');
      const ended = [ours, theirs].map((id) => ({ id, silentMs: 1 }));
      expect(await bench.sessions.end(node.id, ended)).toEqual([]);
      for (const id of tasks) expect(await bench.task(id)).toMatchObject({ status: 'finish', sessionId: null });
      expect(await bench.task(kept)).toMatchObject({ sessionId: theirs });
    });

    it('does not come while the database knows of tasks, which are told', async () => {
      const node = await startNode(bench);
      const [session, unwritten] = [sessionIdOf(node), sessionIdOf(node)];
      await bench.sessions.save(node.id, [recordOf(session)]);
      await bench.putTask('a', session);
      await bench.putTask('b', unwritten);
      const ended = [session, unwritten].map((id) => ({ id, silentMs: 1 }));
      const left = await bench.sessions.end(node.id, ended);
      expect(left.sort((x, y) => x.taskId.localeCompare(y.taskId))).toEqual([
        { sessionId: session, taskId: 'a', epoch: 1 },
        { sessionId: unwritten, taskId: 'b', epoch: 1 },
      ]);
      expect(await bench.sessions.list('everything', undefined, 10)).toHaveLength(1);
    });
  });

  it('tasks of sessions that nobody wrote down are found by the node that opened them', async () => {
    const [node, other] = [await startNode(bench), await startNode(bench)];
    const [written, unwritten] = [sessionIdOf(node), sessionIdOf(node)];
    await bench.sessions.save(node.id, [recordOf(written)]);
    await bench.putTask('a', written);
    await bench.putTask('b', unwritten);
    await bench.putTask('c', sessionIdOf(other));
    await bench.putTask('done', unwritten, { status: 'finish' });
    expect(await bench.sessions.unattended(node.id)).toEqual([
      { taskId: 'b', epoch: 1, session: { id: unwritten, door: 'tcp', address: '10.0.0.1', owner: '' } },
    ]);
  });

  it('tasks that a late write claims for a session that is over are found, also when its node is dead', async () => {
    const [node, other] = [await startNode(bench), await startNode(bench)];
    const session = sessionIdOf(node);
    await bench.sessions.save(node.id, [recordOf(session)]);
    await bench.putTask('lapsed', session);
    await bench.lapseTask('lapsed');
    await bench.sessions.end(node.id, [{ id: session, silentMs: 1000 }]);
    await bench.putTask('late', session);
    expect(await bench.sessions.unattended(node.id)).toMatchObject([{ taskId: 'late', session: { id: session } }]);
    await bench.expireLease(node.id);
    await bench.sessions.unsettle();
    expect(await bench.sessions.adopt(other.id, ALL)).toMatchObject([{ id: session, tasks: [{ taskId: 'late' }] }]);
  });

  it('a session that is over is found with what is on record of it, which nobody who knows less changes', async () => {
    const node = await startNode(bench);
    const lease = recordOf(sessionIdOf(node), { door: 'grpc', owner: 'token:x', address: '10.0.0.7' });
    await bench.sessions.save(node.id, [lease]);
    await bench.putTask('lapsed', lease.id);
    await bench.lapseTask('lapsed');
    await bench.sessions.end(node.id, [{ id: lease.id, silentMs: 1000 }]);
    await bench.putTask('late', lease.id);
    const found = { id: lease.id, door: 'grpc', address: '10.0.0.7', owner: 'token:x' };
    expect(await bench.sessions.unattended(node.id)).toMatchObject([{ taskId: 'late', session: found }]);
    await bench.sessions.save(node.id, [recordOf(lease.id, { owner: '', address: '10.0.0.1', state: 'closing' })]);
    expect(await bench.sessions.list('everything', undefined, 10)).toMatchObject([{ ...found, state: 'closing' }]);
    expect(await bench.sessions.holderOf(lease.id, 'token:x')).toMatchObject({ nodeId: node.id });
  });

  it('whereabouts tell of every session that is asked for', async () => {
    const node = await startNode(bench);
    const [busy, idle, unknown] = [sessionIdOf(node), sessionIdOf(node), sessionIdOf(node)];
    await bench.sessions.save(node.id, [recordOf(busy), recordOf(idle)]);
    await bench.putTask('a', busy);
    await bench.putTask('done', idle, { status: 'finish' });
    expect(await bench.sessions.whereabouts(node.id, [busy, idle, unknown])).toEqual(
      new Map([
        [busy, { isElsewhere: false, hasTasks: true }],
        [idle, { isElsewhere: false, hasTasks: false }],
        [unknown, { isElsewhere: false, hasTasks: false }],
      ]),
    );
  });

  describe('the neighbours of a connection', () => {
    const ask = (address = '10.0.0.1', more = {}) => ({ sessionId: randomUUID(), address, owner: '', ...more });

    async function neighboursOf(request: NeighbourRequest = ask()) {
      return (await bench.sessions.neighbours(randomUUID(), [request])).neighbours;
    }

    async function lose(
      state: 'closing' | 'orphan' | 'lapsed' | 'open',
      task: string,
      more: Partial<SessionRecord> = {},
    ) {
      const node = await startNode(bench);
      const session = sessionIdOf(node);
      const silent = { silentMs: 20_000, ...more };
      await bench.sessions.save(node.id, [recordOf(session, { ...more, state: 'open' })]);
      await bench.putTask(task, session);
      if (state === 'closing' || state === 'orphan')
        await bench.sessions.save(node.id, [recordOf(session, { ...silent, state })]);
      if (state !== 'lapsed') return session;
      await bench.lapseTask(task);
      await bench.sessions.end(node.id, [{ id: session, silentMs: silent.silentMs ?? 0 }]);
      return session;
    }

    it.each(['closing', 'orphan', 'lapsed'] as const)('are told with their tasks: one that is %s', async (state) => {
      const lost = await lose(state, 'a');
      const request = ask();
      const { neighbours } = await bench.sessions.neighbours(randomUUID(), [request, ask('10.0.0.2')]);
      expect(neighbours).toMatchObject([
        {
          sessionId: request.sessionId,
          id: lost,
          isOpen: false,
          isSameOwner: true,
          isGuess: false,
          tasks: [{ taskId: 'a' }],
        },
      ]);
      // The clock of the database may have been set back a little in between.
      expect(neighbours[0]?.silentMs).toBeGreaterThan(19_000);
      expect(neighbours[0]?.silentMs).toBeLessThan(60_000);
    });

    it('are not the connection itself', async () => {
      const itself = await lose('open', 'a');
      expect(await neighboursOf({ ...ask(), sessionId: itself })).toEqual([]);
    });

    it('are open ones as well, with their node and without tasks', async () => {
      const session = await lose('open', 'a');
      const [found] = await neighboursOf();
      expect(found).toMatchObject({ id: session, isOpen: true, silentMs: 0, tasks: [] });
      expect(found?.nodeRenewedAgoMs).toBeLessThan(10_000);
      expect(session.startsWith(found?.nodeId.slice(0, 13) ?? '-')).toBe(true);
    });

    it('may be those of another owner', async () => {
      await lose('closing', 'a', { owner: 'token:x' });
      expect(await neighboursOf()).toMatchObject([{ isSameOwner: false }]);
      expect(await neighboursOf(ask('10.0.0.1', { owner: 'token:x' }))).toMatchObject([{ isSameOwner: true }]);
    });

    it('may be leases, which no connection continues', async () => {
      await lose('closing', 'a', { door: 'grpc' });
      expect(await neighboursOf()).toMatchObject([{ isSameOwner: false }]);
    });

    it('are none that were lost more than an hour ago', async () => {
      await lose('lapsed', 'a');
      await bench.age(3_600_000);
      expect(await neighboursOf()).toEqual([]);
    });

    it('have no tasks that others have claimed, or that have ended', async () => {
      const lost = await lose('closing', 'a');
      await bench.putTask('a', randomUUID());
      await bench.putTask('b', lost, { status: 'finish' });
      expect(await neighboursOf()).toMatchObject([{ id: lost, tasks: [] }]);
    });

    it('are a guess when their tasks came to them by address within the hour', async () => {
      const lost = await lose('closing', 'a');
      await bench.putTask('b', lost);
      expect(await neighboursOf()).toMatchObject([{ isGuess: false }]);
      await bench.doubtTask('a', 3_500_000);
      expect(await neighboursOf()).toMatchObject([{ isGuess: true }]);
      await bench.doubtTask('a', 3_700_000);
      expect(await neighboursOf()).toMatchObject([{ isGuess: false }]);
    });

    it('are at most a few, those that are not open first', async () => {
      for (let i = 0; i < 4; i++) await lose('open', `open-${i}`);
      for (let i = 0; i < 4; i++) await lose('closing', `closing-${i}`);
      expect((await neighboursOf()).map(({ isOpen }) => isOpen)).toEqual([false, false, true, true]);
    });

    it('come with how long the longest missed other node has not renewed, until its sessions are taken over', async () => {
      const [asking, other] = [await startNode(bench), await startNode(bench)];
      const missedForMs = async () => (await bench.sessions.neighbours(asking.id, [ask()])).missedForMs;
      await bench.age(5000);
      await bench.nodes.renew(asking, LEASE_MS, report);
      expect(await missedForMs()).toBeGreaterThanOrEqual(5000);
      await bench.nodes.renew(other, LEASE_MS, report);
      expect(await missedForMs()).toBeLessThan(5000);
    });
  });

  it('claims that a failover has undone are told with the version as it is now', async () => {
    const node = await startNode(bench);
    const [here, before] = [sessionIdOf(node), sessionIdOf(node)];
    await bench.putTask('same', here);
    await bench.putTask('undone', before);
    await bench.putTask('nobody', null);
    await bench.putTask('lapsed', before);
    await bench.lapseTask('lapsed');
    await bench.putTask('own', here);
    await bench.lapseTask('own');
    await bench.putTask('ended', before, { status: 'finish' });
    await bench.putTask('taken', before);
    await bench.putTask('taken', before);
    await bench.putTask('taken', before);
    await bench.putTask('theirs', before);
    await bench.putTask('theirs', before);
    const ids = ['same', 'undone', 'nobody', 'lapsed', 'own', 'ended', 'taken', 'gone', 'theirs'];
    const undone = async (claimedAgoMs: number) => {
      const claims = ids.map((taskId) => ({ taskId, sessionId: here, epoch: 2, claimedAgoMs }));
      const found = await bench.sessions.undone(claims);
      return found.map(({ taskId, sessionId, revision, isTheirs }) => [taskId, sessionId === here, revision, isTheirs]);
    };
    expect((await undone(0)).sort()).toEqual([
      ['lapsed', true, 2, false],
      ['nobody', true, 1, false],
      ['theirs', true, 2, true],
      ['undone', true, 1, false],
    ]);
    // Who claimed the task after that has it in the history that is.
    expect((await undone(60_000)).filter(([, , , isTheirs]) => isTheirs).map(([id]) => id)).toEqual(
      expect.arrayContaining(['undone', 'theirs']),
    );
  });

  it('sessions on record that their node does not know are told with their running tasks', async () => {
    const [node, other] = [await startNode(bench), await startNode(bench)];
    const [known, stray, empty, foreign] = [
      sessionIdOf(node),
      sessionIdOf(node),
      sessionIdOf(node),
      sessionIdOf(other),
    ];
    const orphan = recordOf(empty, { state: 'orphan', silentMs: 1 });
    await bench.sessions.save(node.id, [recordOf(known), recordOf(stray), orphan]);
    await bench.putTask('b', empty);
    await bench.lapseTask('b');
    await bench.sessions.save(other.id, [recordOf(foreign)]);
    await bench.putTask('a', stray);
    await bench.putTask('done', stray, { status: 'finish' });
    const strays = await bench.sessions.strays(node.id, [known]);
    expect(new Map(strays.map(({ id, ...rest }) => [id, rest]))).toMatchObject(
      new Map([
        [stray, { address: '10.0.0.1', state: 'open', tasks: [{ taskId: 'a', epoch: 1 }], lapsed: [] }],
        [empty, { address: '10.0.0.1', state: 'orphan', tasks: [], lapsed: [{ taskId: 'b' }] }],
      ]),
    );
  });

  it('the tasks of a session are those that still run', async () => {
    const node = await startNode(bench);
    const session = sessionIdOf(node);
    await bench.putTask('a', session);
    await bench.putTask('b', session, { status: 'finish' });
    await bench.putTask('c', session, { status: 'shutdown' });
    expect(await bench.sessions.tasksOf(session)).toEqual([{ taskId: 'a', revision: 1 }]);
  });

  it('marks are told of other nodes only', async () => {
    const [node, dead, alive] = [await startNode(bench), await startNode(bench), await startNode(bench)];
    const [orphan, held, own] = [sessionIdOf(dead), sessionIdOf(alive), sessionIdOf(node)];
    await bench.sessions.save(dead.id, [recordOf(orphan)]);
    await bench.sessions.save(alive.id, [recordOf(held, { isProtected: true, silentMs: 40_000 })]);
    await bench.sessions.save(node.id, [recordOf(own, { isProtected: true, silentMs: 40_000 })]);
    await bench.expireLease(dead.id);
    await bench.sessions.adopt(alive.id, ALL);
    expect(await bench.sessions.marked(node.id, 10)).toEqual(
      new Map([
        [orphan, 'unconfirmed'],
        [held, 'protected'],
      ]),
    );
  });

  describe('a list of sessions', () => {
    it('goes on after an id, and counts tasks', async () => {
      const node = await startNode(bench, 'a');
      const ids = Array.from({ length: 5 }, () => sessionIdOf(node)).sort();
      await bench.sessions.save(
        node.id,
        ids.map((id) => recordOf(id)),
      );
      await bench.putTask('a', ids[0] ?? '');
      await bench.putTask('b', ids[0] ?? '');
      const first = await bench.sessions.list('everything', undefined, 2);
      const rest = await bench.sessions.list('everything', first[1]?.id, 10);
      expect([...first, ...rest].map(({ id }) => id)).toEqual(ids);
      expect(first[0]).toMatchObject({ tasks: 2, nodeName: 'a', nodeId: node.id, state: 'open', ttlMs: 30_000 });
      expect(first[0]?.openedAgoMs).toBeGreaterThan(59_000);
      expect(rest[0]?.tasks).toBe(0);
    });

    it('shows only sessions with tasks in the scope, and counts only those', async () => {
      const node = await startNode(bench);
      const [mine, theirs, idle] = [sessionIdOf(node), sessionIdOf(node), sessionIdOf(node)];
      await bench.sessions.save(
        node.id,
        [mine, theirs, idle].map((id) => recordOf(id)),
      );
      await bench.putTask('a', mine);
      await bench.putTask('b', mine, { user: 'other' });
      await bench.putTask('c', mine, { group: 'foreign' });
      await bench.putTask('d', theirs, { group: 'foreign' });
      const member = { user: 'ssx', ownGroups: ['mx'], wholeGroups: [] };
      expect(await bench.sessions.list(member, undefined, 10)).toMatchObject([{ id: mine, tasks: 1 }]);
      const viewer = { user: 'ssx', ownGroups: [], wholeGroups: ['mx'] };
      expect(await bench.sessions.list(viewer, undefined, 10)).toMatchObject([{ id: mine, tasks: 2 }]);
      await bench.putTask('a', mine, { status: 'finish' });
      expect(await bench.sessions.list(member, undefined, 10)).toMatchObject([{ id: mine, tasks: 0 }]);
    });
  });
});
