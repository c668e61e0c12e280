import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import type { Session } from '../../server/domain/sessions.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';
import { MemoryConnection } from '../support/memory-liveness-stores.js';

let bench: LivenessBench;

beforeEach(() => {
  bench = new LivenessBench();
});

afterEach(() => bench.stop());

const lapsed = () => bench.database.lapsed.map(({ taskId }) => taskId);
const marksOf = (node: TestNode, id: string) => node.liveness.marks.marksOf(bench.task(id));

const NOTHING = { sessions: 0, suspects: [], taken: [], marked: 0, protection: null, hearsBeats: true };

/** The lease (10 s), a renewal of the survivor (3.4 s) and some slack. */
const TAKEN_OVER_MS = 15_000;

it('a lease that was written down and then revoked is over at once, on every server', async () => {
  const [node, other] = [await bench.startNode(), await bench.startNode()];
  const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner: 'token:ci' });
  const session = await node.liveness.leases.sessionOf(sessionId, 'token:ci');
  await node.register(session, 'a');
  await bench.pass(1000);
  await node.liveness.leases.revoke(sessionId, 'token:ci');
  for (const { liveness } of [node, other])
    await expect(liveness.leases.renew(sessionId, 'token:ci')).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
});

describe('a failover of the database to a standby that lacks the last of the history', () => {
  let node: TestNode;

  beforeEach(async () => {
    node = await bench.startNode();
    await bench.pass(TAKEN_OVER_MS);
  });

  /** What the standby has, and how it takes the place of the primary. */
  function standby(...ids: string[]) {
    const { tasks, sessions, written } = bench.database;
    const events = written.history.length;
    const copy = structuredClone({ tasks: ids.map((id) => bench.task(id)), sessions: [...sessions] });
    return async (outageMs: number, beating: readonly Session[]) => {
      node.cut();
      await bench.passBeating(outageMs, beating);
      for (const task of copy.tasks) tasks.set(task.id, task);
      written.history.length = events;
      sessions.clear();
      for (const [id, session] of copy.sessions) sessions.set(id, session);
      node.mend();
    };
  }

  it.each([0, 5000, 15_000])(
    'undoes no claim of a service that lives, and hides no death of it (away for %i ms)',
    async (awayMs) => {
      const before = await node.openWith('a');
      await bench.pass(1000);
      const failOver = standby('a');
      before.close();
      const after = await node.openWith('a');
      await bench.pass(1000);
      await failOver(awayMs, [after]);
      await bench.passBeating(300_000, [after]);
      expect(bench.task('a')).toMatchObject({ status: 'running', sessionId: after.id });
      expect(bench.database.lapsed).toEqual([]);
      await bench.pass(35_000);
      expect(bench.task('a').status).toBe('shutdown');
    },
  );

  it('gives back what the standby has as lapsed, and whose service was back', async () => {
    const before = await node.openWith('a');
    before.close();
    await bench.pass(35_000);
    expect(bench.task('a').status).toBe('shutdown');
    const failOver = standby('a');
    const after = await node.openWith('a');
    await failOver(15_000, [after]);
    await bench.passBeating(30_000, [after]);
    expect(bench.task('a')).toMatchObject({ status: 'running', sessionId: after.id, cause: 'restored' });
  });

  it('has claims made again beside a task that somebody keeps locked', async () => {
    const comers = async () => [await node.openWith('locked'), await node.openWith('b', '10.0.0.2')];
    const before = await comers();
    await bench.pass(1000);
    const failOver = standby('locked', 'b');
    for (const session of before) session.close();
    const services = await comers();
    const { tasks } = node.connection;
    const submit = tasks.submit.bind(tasks);
    let unlock = () => {};
    const isFree = new Promise<void>((resolve) => (unlock = resolve));
    tasks.submit = (write) => (write.id === 'locked' ? isFree.then(() => submit(write)) : submit(write));
    await failOver(0, services);
    await bench.passBeating(20_000, services);
    expect([bench.task('locked').sessionId, bench.task('b').sessionId]).toEqual([before[0]?.id, services[1]?.id]);
    unlock();
    await bench.passBeating(1000, services);
    expect(bench.task('locked').sessionId).toBe(services[0]?.id);
  });

  it('lets who had lapsed in what is lost lapse again', async () => {
    const dead = await node.openWith('a');
    await bench.pass(1000);
    const failOver = standby('a');
    dead.close();
    await bench.pass(35_000);
    expect(bench.task('a').status).toBe('shutdown');
    await failOver(15_000, []);
    expect(bench.task('a').status).toBe('running');
    await bench.pass(90_000);
    expect(bench.task('a').status).toBe('shutdown');
    expect(node.liveness.size).toBe(0);
    expect([...bench.database.sessions.values()].filter(({ state }) => state !== 'ended')).toEqual([]);
  });

  /** A service reports once more, and that is lost; it goes to another server, and registers there. */
  async function moves(updates: number) {
    const other = await bench.startNode();
    const before = await node.openWith('a');
    await bench.pass(1000);
    const failOver = standby('a');
    for (let update = 0; update < updates; update++) await node.register(before, 'a', 'running', 'update');
    node.cut();
    await bench.pass(500);
    return { other, before, failOver };
  }

  it.each([1, 5])(
    'leaves a service that went elsewhere its task: its old connection lost %i updates',
    async (updates) => {
      const { other, failOver } = await moves(updates);
      await failOver(0, []);
      node.cut();
      const after = await other.openWith('a');
      await bench.passBeating(5000, [after]);
      node.mend();
      await bench.passBeating(120_000, [after]);
      expect(bench.task('a')).toMatchObject({ status: 'running', sessionId: after.id });
      expect(bench.database.lapsed).toEqual([]);
      await bench.pass(35_000);
      expect(bench.task('a').status).toBe('shutdown');
    },
  );

  it('leaves the task to who claimed it last, and alone, when both live', async () => {
    const { other, before, failOver } = await moves(5);
    await failOver(0, [before]);
    node.cut();
    await bench.passBeating(100, [before]);
    const after = await other.openWith('a');
    node.mend();
    await bench.passBeating(60_000, [before, after]);
    expect(bench.task('a').sessionId).toBe(after.id);
    await bench.passBeating(60_000, [after]);
    expect(bench.task('a')).toMatchObject({ status: 'running', sessionId: after.id });
  });

  it('leaves a claim that somebody else has made since then theirs', async () => {
    const other = await bench.startNode();
    const before = await node.openWith('a');
    await bench.pass(1000);
    const failOver = standby('a');
    const holder = await node.openWith('a', '10.0.0.2');
    await failOver(15_000, [holder, before]);
    const thief = await other.openWith('a', '10.0.0.3');
    for (let claims = 0; claims < 4; claims++) await other.register(thief, 'a');
    await bench.passBeating(60_000, [thief, holder, before]);
    expect(bench.task('a').sessionId).toBe(thief.id);
  });
});

describe('a server that is killed', () => {
  let dead: TestNode;
  let alive: TestNode;

  beforeEach(async () => {
    dead = await bench.startNode();
    alive = await bench.startNode();
    await bench.pass(11_000);
  });

  it('leaves tasks that are unconfirmed, until their failover grace is over', async () => {
    await dead.openWith('a');
    await bench.pass(1000);
    dead.kill();
    await bench.pass(TAKEN_OVER_MS);
    expect(marksOf(alive, 'a')).toEqual(['unconfirmed']);
    expect(bench.task('a').status).toBe('running');
    await bench.pass(50_000);
    expect(lapsed()).toEqual([]);
    await bench.pass(11_000);
    expect(bench.database.lapsed).toMatchObject([{ taskId: 'a', cause: 'node_failover' }]);
    expect(bench.database.lapsed[0]?.silentMs).toBeGreaterThan(66_000);
  });

  it('leaves its tasks to whoever claims them anywhere', async () => {
    const third = await bench.startNode();
    await dead.openWith('a');
    await dead.openWith('b');
    await bench.pass(1000);
    dead.kill();
    await bench.pass(5000);
    const early = await third.openWith('a');
    await bench.passBeating(TAKEN_OVER_MS, [early]);
    const late = await alive.openWith('b');
    await bench.passBeating(120_000, [early, late]);
    expect(lapsed()).toEqual([]);
    expect(marksOf(alive, 'b')).toEqual([]);
    expect(alive.liveness.counts().orphan).toBe(0);
  });

  it('leaves tasks even where it had not yet written their session down', async () => {
    await dead.openWith('a');
    dead.kill();
    expect(bench.database.sessions.size).toBe(0);
    await bench.pass(TAKEN_OVER_MS + 62_000);
    expect(lapsed()).toEqual(['a']);
  });

  it('is shared by the survivors, each session taken once', async () => {
    const third = await bench.startNode();
    await bench.pass(11_000);
    for (let i = 0; i < 30; i++) await dead.openWith(`task-${i}`);
    await bench.pass(1000);
    dead.kill();
    await bench.pass(TAKEN_OVER_MS);
    expect(alive.liveness.counts().orphan + third.liveness.counts().orphan).toBe(30);
    // That nobody comes back is suspicious: they are protected for a while.
    await bench.pass(62_000);
    expect(lapsed()).toEqual([]);
    await bench.pass(16 * 60_000, 500);
    expect(lapsed()).toHaveLength(30);
  });

  it('is taken over bit by bit in one round, which is told once', async () => {
    const { sessions } = alive.connection;
    const adopt = sessions.adopt.bind(sessions);
    sessions.adopt = (nodeId) => adopt(nodeId, { sessions: 100, tasks: 5 });
    for (let i = 0; i < 12; i++) await dead.openWith(`task-${i}`);
    await bench.pass(1000);
    dead.kill();
    await bench.pass(TAKEN_OVER_MS);
    expect(alive.liveness.counts().orphan).toBe(12);
    const told = bench.database.events.filter(({ kind }) => kind === 'sessions_adopted');
    expect(told).toMatchObject([{ details: { sessions: 12, tasks: 12 } }]);
  });

  it.each([10, 100])(
    'has its sessions judged though the answer to their takeover was lost, and keeps them for who comes back (after %i s)',
    async (seconds) => {
      const [first, second] = [await bench.startNode(), await bench.startNode()];
      await bench.pass(TAKEN_OVER_MS);
      const session = await first.openWith('a');
      await bench.pass(1000);
      first.kill();
      const { sessions } = second.connection;
      const adopt = sessions.adopt.bind(sessions);
      sessions.adopt = async (...args) => {
        const moved = await adopt(...args);
        if (moved.length === 0) return moved;
        Reflect.deleteProperty(sessions, 'adopt');
        throw new TaskDashError('STORAGE_UNAVAILABLE');
      };
      await bench.pass(TAKEN_OVER_MS + 10_000);
      expect([lapsed(), marksOf(second, 'a')]).toEqual([[], ['unconfirmed']]);
      if (seconds === 10) await second.openWith('a');
      else await bench.pass(seconds * 1000);
      expect(bench.task('a')).toMatchObject(
        seconds === 10 ? { status: 'running' } : { status: 'shutdown', cause: 'node_failover' },
      );
      expect(bench.task('a').lapsedSessionId).toBe(seconds === 10 ? null : session.id);
    },
  );

  it('is not judged by a survivor that dies too: the next one goes on', async () => {
    await dead.openWith('a');
    await bench.pass(1000);
    dead.kill();
    await bench.pass(TAKEN_OVER_MS);
    const third = await bench.startNode();
    alive.kill();
    await bench.pass(2 * TAKEN_OVER_MS);
    expect(marksOf(third, 'a')).toEqual(['unconfirmed']);
    await bench.pass(60_000);
    expect(lapsed()).toEqual(['a']);
  });
});

describe('a restart of the only server', () => {
  it('after kill -9 gives its own old sessions the failover grace', async () => {
    const before = await bench.startNode();
    await before.openWith('back');
    await before.openWith('gone');
    await bench.pass(1000);
    before.kill();
    await bench.pass(3000);
    const after = await bench.startNode();
    const returned = await after.openWith('back');
    await bench.passBeating(TAKEN_OVER_MS, [returned]);
    expect(marksOf(after, 'gone')).toEqual(['unconfirmed']);
    expect(marksOf(after, 'back')).toEqual([]);
    await bench.passBeating(65_000, [returned]);
    expect(lapsed()).toEqual(['gone']);
  });

  it('that is graceful leaves orphans, though the doors close every connection, with a grace of 0 too', async () => {
    const before = await bench.startNode({ reconnectGraceMs: 0 });
    const session = await before.openWith('a');
    await bench.pass(1000);
    before.liveness.beginStop();
    session.close();
    await bench.pass(500);
    await before.stop();
    expect(lapsed()).toEqual([]);
    const after = await bench.startNode({ reconnectGraceMs: 0 });
    await bench.pass(TAKEN_OVER_MS);
    expect(marksOf(after, 'a')).toEqual(['unconfirmed']);
    const back = await after.openWith('a');
    await bench.passBeating(80_000, [back]);
    expect(lapsed()).toEqual([]);
  });
});

it('a verdict whose answer was lost, and which is stored late, takes no task from a session that was heard since', async () => {
  const node = await bench.startNode({ protectionMaxMs: 0 });
  const session = await node.openWith('a');
  const { tasks } = node.connection;
  const store = tasks.lapse.bind(tasks);
  const lost: (() => Promise<unknown>)[] = [];
  tasks.lapse = (lapses) => {
    lost.push(() => store(lapses));
    return Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
  };
  while (lost.length === 0) await bench.pass(100);
  session.beat();
  session.heartbeat();
  tasks.lapse = store;
  await bench.passBeating(4_500, [session]);
  await lost[0]?.();
  expect(bench.task('a').status).toBe('shutdown');
  await bench.passBeating(4_000, [session]);
  expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId: session.id });
});

describe('a server that loses its way to the database', () => {
  let cut: TestNode;
  let other: TestNode;
  let session: Session;

  beforeEach(async () => {
    cut = await bench.startNode();
    other = await bench.startNode();
    await bench.pass(11_000);
    session = await cut.openWith('a');
    await bench.pass(1000);
  });

  it('takes its sessions back when it finds it again within the grace', async () => {
    cut.cut();
    await bench.passBeating(40_000, [session]);
    expect(marksOf(other, 'a')).toEqual(['unconfirmed']);
    cut.mend();
    await bench.passBeating(100_000, [session]);
    expect(lapsed()).toEqual([]);
    expect(marksOf(other, 'a')).toEqual([]);
    expect(bench.task('a').sessionId).toBe(session.id);
    await bench.pass(31_000);
    expect(bench.database.lapsed).toMatchObject([{ taskId: 'a', cause: 'heartbeat_timeout' }]);
  });

  it('takes sessions with very many tasks back one by one', async () => {
    const crowded = [await cut.openWith('b'), await cut.openWith('c')];
    for (const [index, one] of crowded.entries()) {
      for (let task = 0; task < 6000; task++) one.claimed(`task-${index}-${task}`, 1);
    }
    await bench.pass(1000);
    const { sessions } = cut.connection;
    const reclaim = sessions.reclaim.bind(sessions);
    const parts: (readonly string[])[] = [];
    sessions.reclaim = (nodeId, ids) => {
      parts.push(ids);
      return reclaim(nodeId, ids);
    };
    cut.cut();
    await bench.passBeating(40_000, [session, ...crowded]);
    cut.mend();
    await bench.passBeating(10_000, [session, ...crowded]);
    expect(parts.flat().sort()).toEqual([session, ...crowded].map(({ id }) => id).sort());
    expect(parts.every((ids) => ids.length === 1)).toBe(true);
  });

  it('restores what was shut down meanwhile, when its connections are still there', async () => {
    cut.cut();
    await bench.passBeating(100_000, [session]);
    expect(bench.task('a').status).toBe('shutdown');
    cut.mend();
    await bench.passBeating(10_000, [session]);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId: session.id });
  });

  it('takes them back though a renewal that was on its way all the time came before it', async () => {
    cut.cut();
    await bench.passBeating(30_000, [session]);
    expect(marksOf(other, 'a')).toEqual(['unconfirmed']);
    const late = new MemoryConnection(bench.database);
    await late.nodes.renew({ id: cut.id, name: cut.name }, 10_000, NOTHING);
    cut.mend();
    await bench.passBeating(100_000, [session]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(session.id);
  });

  it('believes no answer that took longer than the lease', async () => {
    const renew = cut.connection.nodes.renew.bind(cut.connection.nodes);
    cut.connection.nodes.renew = async (...args) => {
      const renewal = await renew(...args);
      await new Promise<void>((resolve) => bench.clock.schedule(12_000, resolve));
      return renewal;
    };
    await bench.passBeating(60_000, [session]);
    expect(cut.liveness.trust).toEqual({ isHeld: false, mayJudge: false });
    expect(cut.log.lines.filter(({ message }) => message.includes('holds its lease again'))).toEqual([]);
    expect(cut.log.lines.filter(({ message }) => message.includes('has run out'))).toHaveLength(1);
    Reflect.deleteProperty(cut.connection.nodes, 'renew');
    await bench.passBeating(60_000, [session]);
    expect(cut.liveness.trust).toEqual({ isHeld: true, mayJudge: true });
  });

  it('cannot shut down what lives elsewhere meanwhile', async () => {
    const gone = await cut.openWith('moved');
    await bench.pass(1000);
    cut.cut();
    await bench.passBeating(30_000, [session]);
    const moved = await other.openWith('moved');
    cut.mend();
    await bench.passBeating(100_000, [session, moved]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('moved').sessionId).toBe(moved.id);
    expect(cut.expired).toEqual([gone.id]);
  });

  it('takes over from nobody until it has held its lease for a whole lease again', async () => {
    bench.database.failure = new TaskDashError('STORAGE_UNAVAILABLE');
    await bench.passBeating(30_000, [session]);
    bench.database.failure = undefined;
    await bench.passBeating(60_000, [session]);
    expect(cut.log.lines.concat(other.log.lines).filter(({ message }) => message.includes('took over'))).toEqual([]);
    expect(marksOf(other, 'a')).toEqual([]);
  });
});

describe('a server that is stopped for longer than the TTL and goes on', () => {
  it('shuts nothing down that beats', async () => {
    const node = await bench.startNode();
    const session = await node.openWith('a');
    await bench.pass(5000);
    node.process.stop();
    await bench.pass(45_000);
    node.process.continue();
    await bench.passBeating(60_000, [session]);
    expect(lapsed()).toEqual([]);
    await bench.pass(31_000);
    expect(lapsed()).toEqual(['a']);
  });

  it('finds that others have taken its sessions, and takes back those whose connections live', async () => {
    const [stopped, other] = [await bench.startNode(), await bench.startNode()];
    await bench.pass(11_000);
    const stays = await stopped.openWith('stays');
    await stopped.openWith('goes');
    await bench.pass(5000);
    stopped.process.stop();
    await bench.pass(40_000);
    const moved = await other.openWith('goes');
    stopped.process.continue();
    await bench.passBeating(100_000, [stays, moved]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('stays').sessionId).toBe(stays.id);
    expect(bench.task('goes').sessionId).toBe(moved.id);
  });
});

describe('a task that a late write claims for a session that nobody knows any more', () => {
  const claimLate = async (node: TestNode, { id, address }: Session) => {
    const late = { id, address, beat: () => {}, began: () => {}, claimed: () => {} } as unknown as Session;
    await node.register(late, 'late');
  };

  it.each(['nothing', 'a task'])('has its grace and lapses: the session held %s', async (held) => {
    const node = await bench.startNode();
    const session = node.open();
    if (held === 'a task') await node.register(session, 'a');
    await bench.pass(1000);
    session.close();
    await bench.pass(60_000);
    await claimLate(node, session);
    await bench.pass(20_000);
    expect(bench.task('late').status).toBe('running');
    await bench.pass(100_000);
    expect(bench.task('late').status).toBe('shutdown');
    expect(node.liveness.size).toBe(0);
  });

  it('lapses too where the server of the session is dead', async () => {
    const [node, other] = [await bench.startNode(), await bench.startNode()];
    const session = await node.openWith('a');
    session.close();
    await bench.pass(60_000);
    node.kill();
    await bench.pass(60_000);
    await claimLate(other, session);
    await bench.pass(200_000);
    expect(bench.task('late').status).toBe('shutdown');
  });
});

describe('a lease of a service', () => {
  const owner = 'token:builder';

  it('tells when the next beat is due, a little different each time and never late', async () => {
    const node = await bench.startNode();
    const hints = new Set<number>();
    const { sessionId, ttlMs } = await node.liveness.leases.grant({ address: '10.0.0.1', owner, ttlMs: 12_000 });
    expect(ttlMs).toBe(12_000);
    for (let i = 0; i < 50; i++) {
      const { nextBeatInMs } = await node.liveness.leases.renew(sessionId, owner);
      expect(nextBeatInMs).toBeLessThanOrEqual(4000);
      expect(nextBeatInMs).toBeGreaterThanOrEqual(3200);
      hints.add(nextBeatInMs);
    }
    expect(hints.size).toBeGreaterThan(5);
  });

  it.each([4999, 600_001, 1.5, -1])('refuses a TTL of %d ms', async (ttlMs) => {
    const node = await bench.startNode();
    await expect(node.liveness.leases.grant({ address: '10.0.0.1', owner, ttlMs })).rejects.toThrow(
      /ttl must be 5 to 600/,
    );
  });

  it('is refused beyond so many of one owner, which log and events tell once, until some are over', async () => {
    const node = await bench.startNode({ leasesPerOwner: 3 });
    const grant = async (by = owner) =>
      (await node.liveness.leases.grant({ address: '10.0.0.1', owner: by })).sessionId;
    const leases = [await grant(), await grant(), await grant()];
    for (let i = 0; i < 5; i++) await expect(grant()).rejects.toThrow(/has 3 leases at this server/);
    await grant('token:other');
    await bench.pass(1000);
    expect(bench.database.events).toMatchObject([{ kind: 'limit_reached', details: { owner, limit: 'leases' } }]);
    await node.liveness.leases.revoke(leases[0] as string, owner);
    await grant();
    await bench.pass(40_000);
    for (let i = 0; i < 3; i++) await grant();
    await expect(grant()).rejects.toThrow();
  });

  it('is known to every server when it is granted', async () => {
    const [node, other] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner });
    await other.register(await other.liveness.leases.sessionOf(sessionId, owner), 'a');
    expect(bench.task('a')).toMatchObject({ status: 'running', sessionId });
  });

  it.each(['away', 'standing still'])(
    'is granted, and works at its server alone, while the database is %s',
    async (how) => {
      const node = await bench.startNode();
      if (how === 'away') node.cut();
      else node.connection.sessions.save = () => new Promise(() => {});
      let granted: string | undefined;
      void node.liveness.leases.grant({ address: '10.0.0.1', owner }).then(({ sessionId }) => (granted = sessionId));
      await bench.pass(2000);
      expect((await node.liveness.leases.renew(granted ?? '', owner)).sessionId).toBe(granted);
      node.kill();
    },
  );

  it('is nobody else’s', async () => {
    const node = await bench.startNode();
    const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner });
    await bench.pass(1000);
    await expect(node.liveness.leases.renew(sessionId, 'token:thief')).rejects.toMatchObject({
      code: 'LEASE_NOT_FOUND',
    });
    await expect(node.liveness.leases.renew('no uuid', owner)).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
    await expect(node.liveness.leases.revoke(sessionId, 'token:thief')).rejects.toMatchObject({
      code: 'LEASE_NOT_FOUND',
    });
  });

  it('follows its client to another server, and the first one judges it no more', async () => {
    const [first, second] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
    await first.register(await first.liveness.leases.sessionOf(sessionId, owner), 'a');
    await bench.pass(5000);
    for (let beats = 0; beats < 10; beats++) {
      await second.liveness.leases.renew(sessionId, owner);
      await bench.pass(10_000);
    }
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(sessionId);
    await second.register(await second.liveness.leases.sessionOf(sessionId, owner), 'b');
    // Where it was before, it is looked for once it seems to miss a beat.
    await bench.pass(20_000);
    expect(first.liveness.size).toBe(0);
    await bench.pass(20_000);
    expect(lapsed().sort()).toEqual(['a', 'b']);
  });

  it('costs no row a beat, whichever of several servers gets it', async () => {
    const nodes = [await bench.startNode(), await bench.startNode(), await bench.startNode()];
    const at = (beat: number) => (nodes[beat % 3] as TestNode).liveness.leases;
    const leases: string[] = [];
    for (let i = 0; i < 50; i++) {
      const { sessionId } = await at(i).grant({ address: '10.0.0.1', owner, ttlMs: 6000 });
      await (nodes[i % 3] as TestNode).register(await at(i).sessionOf(sessionId, owner), `task-${i}`);
      leases.push(sessionId);
    }
    await bench.pass(4000);
    const { rowsWritten } = bench.database;
    const epochs = leases.map((_, i) => bench.task(`task-${i}`).epoch);
    for (let beat = 0; beat < 30; beat++) {
      for (const [i, lease] of leases.entries()) await at(i + beat).renew(lease, owner);
      await bench.pass(2000);
    }
    expect(lapsed()).toEqual([]);
    expect(leases.map((_, i) => bench.task(`task-${i}`).epoch)).toEqual(epochs);
    // Three nodes renew their own leases every 3.3 s; 1500 beats cost nothing beside that.
    expect(bench.database.rowsWritten - rowsWritten).toBeLessThanOrEqual(60);
  });

  it('that only beats elsewhere is no secret to others: its owner alone may', async () => {
    const [first, second] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
    await bench.pass(4000);
    await second.liveness.leases.renew(sessionId, owner);
    await expect(second.liveness.leases.renew(sessionId, 'token:thief')).rejects.toMatchObject({
      code: 'LEASE_NOT_FOUND',
    });
    await second.liveness.leases.renew(sessionId, owner);
  });

  it('is not known elsewhere any more, a TTL after it was revoked at the latest', async () => {
    const [first, second] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
    await bench.pass(4000);
    await second.liveness.leases.renew(sessionId, owner);
    await first.liveness.leases.revoke(sessionId, owner);
    await bench.pass(31_000);
    await expect(second.liveness.leases.renew(sessionId, owner)).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
  });

  it('goes to where it is used when the server that holds it dies', async () => {
    const [first, second] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
    await first.register(await first.liveness.leases.sessionOf(sessionId, owner), 'a');
    for (let beat = 0; beat < 40; beat++) {
      await bench.pass(5000);
      if (beat === 5) first.kill();
      await second.liveness.leases.renew(sessionId, owner);
    }
    expect(lapsed()).toEqual([]);
    expect(second.liveness.size).toBe(1);
  });

  it.each([1, 20])('is not blamed while its server is deaf for %i renewals', async (renewals) => {
    const [first, second] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner, ttlMs: 6000 });
    await first.register(await first.liveness.leases.sessionOf(sessionId, owner), 'a');
    await bench.pass(4000);
    first.connection.beats.heardForMs = 0;
    for (let beat = 0; beat < 60; beat++) {
      await second.liveness.leases.renew(sessionId, owner);
      await bench.pass(2000);
      if (beat === Math.ceil(renewals * 1.7)) first.connection.beats.heardForMs = 1;
      if (beat > renewals * 2) first.connection.beats.heardForMs = Infinity;
    }
    expect(lapsed()).toEqual([]);
  });

  describe('that beats elsewhere, and of which its server hears nothing', () => {
    let first: TestNode;
    let second: TestNode;
    let lease: string;

    beforeEach(async () => {
      [first, second] = [await bench.startNode(), await bench.startNode()];
      lease = (await first.liveness.leases.grant({ address: '10.0.0.1', owner, ttlMs: 6000 })).sessionId;
      await first.register(await first.liveness.leases.sessionOf(lease, owner), 'a');
      await bench.pass(4000);
    });

    const beat = async (forMs: number) => {
      for (let passedMs = 0; passedMs < forMs; passedMs += 1000) {
        await second.liveness.leases.renew(lease, owner);
        await bench.pass(1000);
      }
    };

    it('lives: the other one is asked, however long it cannot tell', async () => {
      second.connection.beats.isStuck = true;
      await beat(60_000);
      expect(lapsed()).toEqual([]);
      await bench.pass(13_000);
      expect(lapsed()).toEqual(['a']);
    });

    it('is fetched by the other one when it has not been able to tell for a third of the TTL', async () => {
      second.connection.beats.isStuck = true;
      const { epoch } = bench.task('a');
      second.connection.beats.untoldForMs = 1999;
      await second.liveness.leases.renew(lease, owner);
      expect(bench.task('a').epoch).toBe(epoch);
      second.connection.beats.untoldForMs = 2000;
      await second.liveness.leases.renew(lease, owner);
      expect(bench.task('a').epoch).toBe(epoch + 1);
    });

    it('lives though its server does not hear and has not noticed: without an answer it tries whether it does', async () => {
      const { beats } = first.connection;
      beats.isDeaf = () => beats.probes === 0;
      await beat(60_000);
      expect(beats.probes).toBeGreaterThan(0);
      expect(lapsed()).toEqual([]);
    });

    it('is judged in the end when nobody answers', async () => {
      first.connection.beats.isDeaf = () => true;
      await bench.pass(12_000);
      expect(lapsed()).toEqual([]);
      await bench.pass(9000);
      expect(lapsed()).toEqual(['a']);
    });

    it('is judged though the way on which it would be heard breaks again and again', async () => {
      first.connection.beats.heardForMs = 1;
      await bench.pass(7000);
      expect(lapsed()).toEqual(['a']);
    });
  });

  it('may be beaten on two servers in turn', async () => {
    const nodes = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await (nodes[0] as TestNode).liveness.leases.grant({ address: '10.0.0.1', owner });
    const session = await (nodes[0] as TestNode).liveness.leases.sessionOf(sessionId, owner);
    await (nodes[0] as TestNode).register(session, 'a');
    for (let beats = 0; beats < 20; beats++) {
      await (nodes[beats % 2] as TestNode).liveness.leases.renew(sessionId, owner);
      await bench.pass(10_000);
    }
    expect(lapsed()).toEqual([]);
  });

  it('that goes to another server for one beat and comes back is kept by where it is used', async () => {
    const [first, second] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
    await first.register(await first.liveness.leases.sessionOf(sessionId, owner), 'a');
    await bench.pass(5000);
    await second.liveness.leases.renew(sessionId, owner);
    await bench.pass(5000);
    for (let beats = 0; beats < 10; beats++) {
      await first.liveness.leases.renew(sessionId, owner);
      await bench.pass(10_000);
    }
    expect(lapsed()).toEqual([]);
    expect(second.liveness.size).toBe(0);
    const { rowsWritten } = bench.database;
    for (let beats = 0; beats < 6; beats++) {
      await first.liveness.leases.renew(sessionId, owner);
      await bench.pass(10_000);
    }
    // Two nodes renew their leases every 3.3 s: beats cost nothing once it has settled.
    expect(bench.database.rowsWritten - rowsWritten).toBeLessThanOrEqual(38);
  });

  it('that has moved is not taken back by a server that finds the database again', async () => {
    const [first, second] = [await bench.startNode(), await bench.startNode()];
    const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
    await first.register(await first.liveness.leases.sessionOf(sessionId, owner), 'a');
    await bench.pass(1000);
    first.cut();
    await bench.pass(11_000);
    await second.liveness.leases.renew(sessionId, owner);
    first.mend();
    for (let beats = 0; beats < 12; beats++) {
      await bench.pass(10_000);
      await second.liveness.leases.renew(sessionId, owner);
    }
    expect(lapsed()).toEqual([]);
  });

  it('that lapsed comes back with its tasks when its client is heard again', async () => {
    const node = await bench.startNode();
    const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner });
    await node.register(await node.liveness.leases.sessionOf(sessionId, owner), 'a');
    await bench.pass(35_000);
    expect(bench.task('a').status).toBe('shutdown');
    await node.liveness.leases.renew(sessionId, owner);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId });
    await bench.pass(32_000);
    expect(bench.task('a').status).toBe('shutdown');
  });

  it('that holds nothing and comes back in the moment of its end stays on record', async () => {
    const node = await bench.startNode();
    const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner });
    const session = await node.liveness.leases.sessionOf(sessionId, owner);
    await node.register(session, 'a');
    while (bench.task('a').status !== 'shutdown') await bench.pass(50);
    await node.liveness.leases.renew(sessionId, owner);
    await node.register(await node.liveness.leases.sessionOf(sessionId, owner), 'a', 'finish', 'update');
    await bench.pass(1000);
    expect(bench.database.sessions.get(sessionId)).toMatchObject({ state: 'open' });
  });

  it.each(['renew', 'sessionOf'] as const)(
    'whose client had gone to a server that died (%s) gets the failover grace',
    async (use) => {
      const [first, second] = [await bench.startNode(), await bench.startNode()];
      await bench.pass(11_000);
      const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
      await first.register(await first.liveness.leases.sessionOf(sessionId, owner), 'a');
      await bench.pass(3000);
      await second.liveness.leases[use](sessionId, owner);
      second.kill();
      await bench.pass(50_000);
      expect([lapsed(), marksOf(first, 'a')]).toEqual([[], ['unconfirmed']]);
      await bench.pass(30_000);
      expect(bench.database.lapsed).toMatchObject([{ taskId: 'a', cause: 'node_failover' }]);
    },
  );

  it('survives the restart of its server', async () => {
    const before = await bench.startNode();
    const { sessionId } = await before.liveness.leases.grant({ address: '10.0.0.1', owner });
    await before.register(await before.liveness.leases.sessionOf(sessionId, owner), 'a');
    await bench.pass(1000);
    before.kill();
    const after = await bench.startNode();
    await after.liveness.leases.renew(sessionId, owner);
    await bench.pass(15_000);
    await after.liveness.leases.renew(sessionId, owner);
    expect(marksOf(after, 'a')).toEqual([]);
    for (let beats = 0; beats < 10; beats++) {
      await bench.pass(10_000);
      await after.liveness.leases.renew(sessionId, owner);
    }
    expect(lapsed()).toEqual([]);
  });

  it('that is heard again while its verdict waits for the database, after the failover grace too, lives', async () => {
    const before = await bench.startNode();
    const { sessionId } = await before.liveness.leases.grant({ address: '10.0.0.1', owner });
    await before.register(await before.liveness.leases.sessionOf(sessionId, owner), 'a');
    await bench.pass(1000);
    before.kill();
    const after = await bench.startNode();
    await bench.pass(70_000);
    after.connection.tasks.lapse = () => Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
    await bench.pass(8000);
    expect(after.liveness.counts()).toMatchObject({ orphan: 1, condemned: 1 });
    await after.liveness.leases.renew(sessionId, owner);
    Reflect.deleteProperty(after.connection.tasks, 'lapse');
    for (let beats = 0; beats < 5; beats++) {
      await bench.pass(8000);
      await after.liveness.leases.renew(sessionId, owner);
    }
    expect(lapsed()).toEqual([]);
    expect(after.liveness.counts()).toMatchObject({ open: 1, orphan: 0, condemned: 0 });
  });

  it('that is heard in the moment after its verdict keeps the tasks that it gets back', async () => {
    const node = await bench.startNode();
    const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner });
    await node.register(await node.liveness.leases.sessionOf(sessionId, owner), 'a');
    while (bench.task('a').status !== 'shutdown') await bench.pass(50);
    await node.liveness.leases.renew(sessionId, owner);
    await bench.pass(10_000);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId });
    expect(bench.database.sessions.get(sessionId)).toMatchObject({ state: 'open' });
  });

  it('of which a server had shut down a part of the tasks when it died has all of them back when it is heard', async () => {
    const before = await bench.startNode();
    const { sessionId } = await before.liveness.leases.grant({ address: '10.0.0.1', owner });
    const session = await before.liveness.leases.sessionOf(sessionId, owner);
    await before.register(session, 'a');
    await before.register(session, 'b');
    const lapse = before.connection.tasks.lapse.bind(before.connection.tasks);
    before.connection.tasks.lapse = async (lapses) => {
      await lapse(lapses.slice(0, 1));
      before.kill();
      throw new TaskDashError('STORAGE_UNAVAILABLE');
    };
    await bench.pass(35_000);
    expect([bench.task('a').status, bench.task('b').status]).toEqual(['shutdown', 'running']);
    const after = await bench.startNode();
    await bench.pass(TAKEN_OVER_MS);
    expect(after.liveness.counts()).toMatchObject({ orphan: 1 });
    await after.liveness.leases.renew(sessionId, owner);
    await bench.pass(5000);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId });
    expect(bench.task('b')).toMatchObject({ status: 'running', sessionId });
  });

  it('of which a server had shut down every task when it died has them back when it is heard', async () => {
    const before = await bench.startNode();
    const { sessionId } = await before.liveness.leases.grant({ address: '10.0.0.1', owner });
    await before.register(await before.liveness.leases.sessionOf(sessionId, owner), 'a');
    const lapse = before.connection.tasks.lapse.bind(before.connection.tasks);
    before.connection.tasks.lapse = async (lapses) => {
      const changed = await lapse(lapses);
      before.kill();
      return changed;
    };
    await bench.pass(35_000);
    expect(bench.task('a').status).toBe('shutdown');
    const after = await bench.startNode();
    await bench.pass(TAKEN_OVER_MS);
    await after.liveness.leases.renew(sessionId, owner);
    await bench.pass(5000);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId });
  });

  it('that says goodbye shuts its running tasks down as its own word, and is not known any more', async () => {
    const node = await bench.startNode();
    const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner });
    const session = await node.liveness.leases.sessionOf(sessionId, owner);
    await node.register(session, 'a');
    await node.register(session, 'b', 'finish');
    await bench.pass(1000);
    expect(await node.liveness.leases.revoke(sessionId, owner)).toBe(1);
    expect(bench.task('a')).toMatchObject({ status: 'shutdown', statusBefore: '', cause: 'client', sessionId: null });
    expect(bench.task('b').status).toBe('finish');
    await bench.pass(1000);
    await expect(node.liveness.leases.renew(sessionId, owner)).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
    expect(lapsed()).toEqual([]);
    expect(node.liveness.size).toBe(0);
  });
});

describe('a round of moving sessions', () => {
  it('goes on where one step fails, and tells of that once', async () => {
    const node = await bench.startNode();
    const dying = await bench.startNode();
    await dying.openWith('a');
    await bench.pass(TAKEN_OVER_MS);
    node.connection.tasks.hasLostWrites = () => Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
    dying.kill();
    await bench.pass(2 * TAKEN_OVER_MS);
    const owners = [...bench.database.sessions.values()].map(({ nodeId }) => nodeId);
    expect(owners).toEqual([node.id]);
    const warned = node.log.lines.filter(({ message }) => message.includes('could not be moved'));
    expect(warned).toMatchObject([{ details: { step: 'reassert' } }]);
  });

  it('takes back what was locked when it is free', async () => {
    const node = await bench.startNode();
    const other = await bench.startNode();
    const session = await node.openWith('a');
    await bench.passBeating(20_000, [session]);
    node.cut();
    await bench.passBeating(20_000, [session]);
    expect(bench.database.sessions.get(session.id)?.nodeId).toBe(other.id);
    const { sessions } = node.connection;
    const reclaim = sessions.reclaim.bind(sessions);
    sessions.reclaim = (_nodeId, ids, onLocked) => {
      for (const id of ids) onLocked?.(id);
      return Promise.resolve([]);
    };
    node.mend();
    await bench.passBeating(20_000, [session]);
    expect(bench.database.sessions.get(session.id)?.nodeId).toBe(other.id);
    sessions.reclaim = reclaim;
    await bench.passBeating(10_000, [session]);
    expect(bench.database.sessions.get(session.id)?.nodeId).toBe(node.id);
    expect(lapsed()).toEqual([]);
  });
});

it('a session whose record is locked is written down when it is free, and others meanwhile', async () => {
  const node = await bench.startNode();
  const { sessions } = node.connection;
  const save = sessions.save.bind(sessions);
  let lockedId = '';
  let attempts = 0;
  sessions.save = (nodeId, records, onLocked) => {
    if (records.some(({ id }) => id === lockedId)) {
      attempts++;
      onLocked?.(lockedId);
    }
    return save(
      nodeId,
      records.filter(({ id }) => id !== lockedId),
    );
  };
  const session = node.open();
  lockedId = session.id;
  await node.register(session, 'a');
  await bench.pass(500);
  expect(attempts).toBe(1);
  const other = await node.openWith('b');
  await bench.pass(500);
  expect([...bench.database.sessions.keys()]).toEqual([other.id]);
  // Its own pace is slow; it comes along when others are written.
  expect(attempts).toBe(2);
  await bench.pass(3000);
  expect(attempts).toBe(3);
  lockedId = '';
  await bench.pass(3000);
  expect(bench.database.sessions.has(session.id)).toBe(true);
});
