import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import type { LiveSession } from '../../server/domain/liveness-session.js';
import type { Session } from '../../server/domain/sessions.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';

let bench: LivenessBench;
let node: TestNode;

beforeEach(() => {
  bench = new LivenessBench();
});

afterEach(() => bench.stop());

const held = (session: Session) => [...(session as LiveSession).tasks.keys()];
const lapsedTasks = () => bench.database.lapsed.map(({ taskId }) => taskId);

describe('a silent session', () => {
  beforeEach(async () => {
    node = await bench.startNode();
  });

  it('lapses after its TTL, not earlier and at most two sweeps later, and is closed then', async () => {
    const session = await node.openWith('a');
    await bench.pass(29_950);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(250);
    const [lapse] = bench.database.lapsed;
    expect(lapse).toMatchObject({ taskId: 'a', sessionId: session.id, epoch: 1, cause: 'heartbeat_timeout' });
    expect(lapse?.silentMs).toBeGreaterThanOrEqual(30_000);
    expect(lapse?.silentMs).toBeLessThanOrEqual(30_200);
    expect(node.expired).toEqual([session.id]);
    expect(node.hints).toBe(1);
    expect(bench.task('a')).toMatchObject({ status: 'shutdown', statusBefore: 'running' });
  });

  it('lives as long as it beats, and costs the database nothing', async () => {
    const session = await node.openWith('a');
    for (let beats = 0; beats < 20; beats++) {
      await bench.pass(29_000);
      session.beat();
    }
    expect(lapsedTasks()).toEqual([]);
    expect(node.liveness.size).toBe(1);
    // One row for each renewal of the lease.
    const { rowsWritten } = bench.database;
    for (let beats = 0; beats < 60; beats++) {
      await bench.pass(1000);
      session.beat();
    }
    expect(bench.database.rowsWritten - rowsWritten).toBeLessThanOrEqual(19);
  });

  it('is closed though it holds no task, without a word to the database', async () => {
    const session = node.open();
    await bench.pass(30_300);
    expect(node.expired).toEqual([session.id]);
    expect(bench.database.sessions.size).toBe(0);
    expect(node.liveness.size).toBe(0);
  });

  it('may ask for its own TTL', async () => {
    await node.openWith('a', '10.0.0.1', { ttlMs: 5000 });
    await bench.pass(4900);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(400);
    expect(lapsedTasks()).toEqual(['a']);
  });

  it('is left in peace where its tasks have ended by themselves', async () => {
    const session = await node.openWith('a');
    await node.register(session, 'a', 'finish');
    await bench.pass(31_000);
    expect(bench.task('a')).toMatchObject({ status: 'finish', sessionId: null });
    expect(lapsedTasks()).toEqual([]);
  });

  it('keeps no memory of tasks that have ended, however many it runs in its life', async () => {
    const session = await node.openWith('runs');
    for (let i = 0; i < 100; i++) {
      await node.register(session, `job-${i}`);
      await node.register(session, `job-${i}`, i % 2 ? 'finish' : 'shutdown');
      await node.mention(session, `job-${i}`);
    }
    await node.register(session, 'by-a-person');
    await node.setStatus('by-a-person', 'finish');
    expect(held(session)).toEqual(['runs']);
    await node.register(session, 'job-0');
    expect(held(session)).toEqual(['runs', 'job-0']);
    await bench.pass(31_000);
    expect(lapsedTasks()).toEqual(['runs', 'job-0']);
    expect(bench.task('job-1')).toMatchObject({ status: 'finish', sessionId: null });
  });

  it('keeps a task that it claimed again while somebody was told to have ended it', async () => {
    const session = await node.openWith('a');
    await node.register(session, 'a', 'restart');
    node.liveness.onEnded('a', 1);
    expect(held(session)).toEqual(['a']);
  });

  it('still answers for a task that somebody ended and set running again', async () => {
    const session = await node.openWith('a');
    await node.setStatus('a', 'finish');
    await node.setStatus('a', 'running');
    await bench.passBeating(60_000, [session]);
    expect(lapsedTasks()).toEqual([]);
    session.close();
    await bench.pass(61_000);
    expect(lapsedTasks()).toEqual(['a']);
  });

  it('lapses with many others in few statements', async () => {
    await bench.stop();
    node = await bench.startNode({ protectionMaxMs: 0 });
    for (let i = 0; i < 3000; i++) await node.openWith(`task-${i}`);
    const { statements } = bench.database;
    await bench.pass(31_000);
    expect(lapsedTasks()).toHaveLength(3000);
    expect(bench.database.statements - statements).toBeLessThanOrEqual(50);
  });
});

describe('a closed connection', () => {
  it('leaves its tasks what was left of the TTL by default', async () => {
    node = await bench.startNode();
    const session = await node.openWith('a');
    await bench.pass(20_000);
    session.close();
    await bench.pass(9900);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(400);
    expect(bench.database.lapsed).toMatchObject([{ taskId: 'a', cause: 'connection_closed' }]);
    expect(bench.database.lapsed[0]?.silentMs).toBeGreaterThanOrEqual(30_000);
    expect(node.expired).toEqual([]);
  });

  it.each([0, 2000])('leaves its tasks a configured grace of %i ms', async (reconnectGraceMs) => {
    node = await bench.startNode({ reconnectGraceMs });
    const session = await node.openWith('a');
    await bench.pass(1000);
    session.close();
    session.close();
    if (reconnectGraceMs > 0) await bench.pass(reconnectGraceMs - 50);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(300);
    expect(lapsedTasks()).toEqual(['a']);
  });

  it('is forgotten at once when it held nothing', async () => {
    node = await bench.startNode();
    node.open().close();
    expect(node.liveness.size).toBe(0);
  });

  it('is forgotten as soon as its last task is claimed by another session', async () => {
    node = await bench.startNode();
    (await node.openWith('a')).close();
    const after = await node.openWith('a');
    expect(node.liveness.size).toBe(1);
    await bench.passBeating(40_000, [after]);
    expect(lapsedTasks()).toEqual([]);
  });

  it('whose tasks have all ended has nothing left to wait for, and is taken off them', async () => {
    node = await bench.startNode();
    const session = await node.openWith('a');
    await node.register(session, 'a', 'finish');
    session.close();
    expect(node.liveness.size).toBe(0);
    await bench.pass(1000);
    expect(bench.task('a')).toMatchObject({ status: 'finish', sessionId: null });
    expect(bench.database.sessions.size).toBe(0);
  });

  it('is taken off a task that turns out to have ended after it closed', async () => {
    node = await bench.startNode();
    const session = await node.openWith('a');
    session.close();
    await node.register(session, 'a', 'finish');
    expect(node.liveness.size).toBe(0);
    await bench.pass(1000);
    expect(bench.task('a')).toMatchObject({ status: 'finish', sessionId: null });
    await node.register(session, 'b', 'finish');
    await bench.pass(1000);
    expect(bench.task('b')).toMatchObject({ status: 'finish', sessionId: null });
  });

  it('still answers for a claim that becomes durable after it closed', async () => {
    node = await bench.startNode();
    const session = node.open();
    session.beat();
    session.close();
    expect(node.liveness.size).toBe(0);
    await bench.pass(10_000);
    await node.register(session, 'a');
    await bench.pass(31_000);
    expect(bench.database.lapsed).toMatchObject([{ taskId: 'a', cause: 'connection_closed' }]);
    expect(node.liveness.size).toBe(0);
  });
});

describe('the latest claim', () => {
  beforeEach(async () => {
    node = await bench.startNode();
  });

  it('wins: the silence of the earlier session harms nobody', async () => {
    const first = await node.openWith('a');
    const second = node.open();
    await node.register(first, 'b');
    await node.register(second, 'a');
    await bench.passBeating(40_000, [second]);
    expect(bench.database.lapsed).toMatchObject([{ taskId: 'b', sessionId: first.id }]);
  });

  it('wins though the news of the earlier one arrives later', async () => {
    const first = node.open();
    const second = await node.openWith('a');
    first.claimed('a', 0);
    await bench.passBeating(40_000, [second]);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(31_000);
    expect(bench.database.lapsed).toMatchObject([{ taskId: 'a', sessionId: second.id, epoch: 1 }]);
  });

  it('wins on another server too: the verdict on the earlier one is void', async () => {
    const other = await bench.startNode();
    await node.openWith('a');
    const second = await other.openWith('a');
    await bench.passBeating(40_000, [second]);
    expect(lapsedTasks()).toEqual([]);
    expect(node.liveness.size).toBe(0);
    expect(bench.task('a')).toMatchObject({ status: 'running', sessionId: second.id });
  });

  it('that becomes durable after the session lapsed, lapses like the others', async () => {
    const session = await node.openWith('a');
    await bench.pass(31_000);
    await node.register(session, 'late');
    await bench.pass(300);
    expect(bench.database.lapsed).toMatchObject([{ taskId: 'a' }, { taskId: 'late', cause: 'heartbeat_timeout' }]);
    expect(node.expired).toEqual([session.id]);
  });

  it('whose answer was lost is found when the session ends', async () => {
    const session = await node.openWith('a');
    await bench.pass(1000);
    bench.database.tasks.set('unheard', { ...bench.task('a'), id: 'unheard' });
    await bench.pass(60_000);
    expect(lapsedTasks()).toEqual(['a', 'unheard']);
    expect(bench.database.lapsed[1]?.sessionId).toBe(session.id);
  });

  it('whose answer was lost together with its session is found after failed writes', async () => {
    const session = await node.openWith('a');
    await bench.pass(1000);
    const unwritten = `${session.id.slice(0, 13)}-4000-8000-000000000000`;
    bench.database.tasks.set('unheard', { ...bench.task('a'), id: 'unheard', sessionId: unwritten });
    await bench.passBeating(40_000, [session]);
    expect(lapsedTasks()).toEqual([]);
    node.liveness.onWritesFailed();
    await bench.passBeating(40_000, [session]);
    expect(lapsedTasks()).toEqual(['unheard']);
  });
});

describe('a pause of the server', () => {
  beforeEach(async () => {
    node = await bench.startNode({ leaseMs: 600_000 });
  });

  it('is added to every deadline', async () => {
    await node.openWith('a');
    await bench.pass(10_000);
    bench.clock.jump(120_000);
    await bench.pass(19_500);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(900);
    expect(lapsedTasks()).toEqual(['a']);
    expect(node.log.lines.some((line) => line.message.includes('stood still'))).toBe(true);
  });

  it('does not lengthen the deadline of a session that beats before the late sweep', async () => {
    const session = await node.openWith('a');
    await bench.pass(10_000);
    bench.clock.skip(120_000);
    session.beat();
    await bench.pass(29_500);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(900);
    expect(lapsedTasks()).toEqual(['a']);
  });

  it('does not come from a loop that is merely busy: time runs on', async () => {
    await node.openWith('a');
    // Every sweep comes 80 ms late.
    for (let ms = 0; ms < 30_400; ms += 180) {
      bench.clock.jump(180);
      await Promise.resolve();
    }
    await bench.pass(200);
    expect(lapsedTasks()).toEqual(['a']);
  });

  it('leaves one turn in which waiting input is read before anything lapses', async () => {
    const session = await node.openWith('a');
    await bench.pass(29_950);
    // The sweep that finds the session overdue sets a timer of no delay; input comes in between.
    let turns = 0;
    const schedule = bench.clock.schedule.bind(bench.clock);
    bench.clock.schedule = (delayMs, callback) => {
      if (delayMs === 0 && turns++ === 0) session.beat();
      return schedule(delayMs, callback);
    };
    await bench.pass(1000);
    expect(turns).toBe(1);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(30_300);
    expect(lapsedTasks()).toEqual(['a']);
  });
});

describe('a database that is away', () => {
  const away = new TaskDashError('STORAGE_UNAVAILABLE');

  it('for a moment gets the verdicts when it is back, and the connection is closed only then', async () => {
    node = await bench.startNode();
    await node.openWith('a');
    await bench.pass(28_000);
    bench.database.failure = away;
    await bench.pass(5000);
    expect(node.expired).toEqual([]);
    bench.database.failure = undefined;
    await bench.pass(5100);
    expect(lapsedTasks()).toEqual(['a']);
    expect(node.expired).toHaveLength(1);
  });

  it('does not take back what another session claimed meanwhile', async () => {
    node = await bench.startNode({ leaseMs: 600_000 });
    await node.openWith('a');
    node.connection.tasks.lapse = () => Promise.reject(away);
    await bench.pass(40_000);
    const returned = await node.openWith('a');
    Reflect.deleteProperty(node.connection.tasks, 'lapse');
    await bench.passBeating(10_000, [returned]);
    expect(lapsedTasks()).toEqual([]);
  });

  it('for a minute harms nobody who beats, and nobody is judged for a whole TTL after it', async () => {
    node = await bench.startNode();
    const alive = await node.openWith('alive');
    await node.openWith('dead');
    await bench.passBeating(20_000, [alive]);
    bench.database.failure = away;
    await bench.passBeating(60_000, [alive]);
    expect(node.liveness.trust).toEqual({ isHeld: false, mayJudge: false });
    bench.database.failure = undefined;
    await bench.passBeating(28_000, [alive]);
    expect(node.liveness.trust).toEqual({ isHeld: true, mayJudge: false });
    expect(lapsedTasks()).toEqual([]);
    await bench.passBeating(10_000, [alive]);
    expect(lapsedTasks()).toEqual(['dead']);
    expect(alive.id).toBe(bench.task('alive').sessionId);
  });

  it('is over for a TTL, and the dead are judged soon after that, however short the TTL is', async () => {
    node = await bench.startNode({ ttlMs: 6000, leaseMs: 3000, protectionMaxMs: 0 });
    for (let number = 0; number < 12; number++) {
      await node.openWith(`dead-${number}`);
      await bench.pass(50);
    }
    bench.database.failure = away;
    await bench.pass(20_000);
    bench.database.failure = undefined;
    while (!node.liveness.trust.isHeld) await bench.pass(10);
    await bench.pass(5950);
    expect(lapsedTasks()).toEqual([]);
    await bench.pass(300);
    expect(lapsedTasks()).toHaveLength(12);
  });

  it('that took a verdict without answering gives the task back to a session that lives', async () => {
    node = await bench.startNode({ leaseMs: 60_000 });
    const session = await node.openWith('a');
    const lapse = node.connection.tasks.lapse.bind(node.connection.tasks);
    node.connection.tasks.lapse = async (lapses) => {
      await lapse(lapses);
      throw away;
    };
    await bench.pass(30_300);
    expect(bench.task('a').status).toBe('shutdown');
    session.beat();
    Reflect.deleteProperty(node.connection.tasks, 'lapse');
    await bench.passBeating(30_000, [session]);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId: session.id });
    expect(node.expired).toEqual([]);
  });
});

it('one verdict that the database refuses does not hold up the others', async () => {
  node = await bench.startNode();
  const lapse = node.connection.tasks.lapse.bind(node.connection.tasks);
  node.connection.tasks.lapse = async (lapses) => {
    if (lapses.some(({ taskId }) => taskId === 'refused')) throw new TaskDashError('STORAGE_REFUSED');
    return lapse(lapses);
  };
  for (const id of ['a', 'refused', 'b']) await node.openWith(id);
  await bench.pass(32_000);
  expect(lapsedTasks().sort()).toEqual(['a', 'b']);
  node.connection.tasks.lapse = lapse;
  await bench.pass(6000);
  expect(lapsedTasks()).toHaveLength(3);
});

describe('a verdict on locked tasks', () => {
  const keepLocked = (...ids: string[]) => {
    const lapse = node.connection.tasks.lapse.bind(node.connection.tasks);
    node.connection.tasks.lapse = async (lapses) => {
      const { lapsed } = await lapse(lapses.filter(({ taskId }) => !ids.includes(taskId)));
      return { lapsed, locked: lapses.map(({ taskId }) => taskId).filter((id) => ids.includes(id)) };
    };
    return () => (node.connection.tasks.lapse = lapse);
  };

  it('is carried out on all others, and on those when they are free', async () => {
    node = await bench.startNode();
    const free = keepLocked('locked');
    for (const id of ['a', 'locked', 'b']) await node.openWith(id);
    await node.register(await node.openWith('mate'), 'locked');
    await bench.pass(30_300);
    expect(lapsedTasks().sort()).toEqual(['a', 'b', 'mate']);
    free();
    await bench.pass(6000);
    expect(lapsedTasks()).toHaveLength(4);
    expect(bench.task('locked')).toMatchObject({ status: 'shutdown', cause: 'heartbeat_timeout' });
  });

  it('holds up no verdict that is reached while it is tried again', async () => {
    node = await bench.startNode();
    keepLocked('locked');
    await node.openWith('locked');
    await bench.pass(15_000);
    await node.openWith('a');
    await bench.pass(30_300);
    expect(lapsedTasks()).toEqual(['a']);
  });

  it('gives back what was shut down when the session is heard before it is whole', async () => {
    node = await bench.startNode();
    keepLocked('locked');
    const session = await node.openWith('a');
    await node.register(session, 'locked');
    await bench.pass(30_300);
    expect(bench.task('a').status).toBe('shutdown');
    await bench.passBeating(15_000, [session]);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId: session.id });
    expect(bench.task('locked')).toMatchObject({ status: 'running', sessionId: session.id });
    expect(node.expired).toEqual([]);
  });
});

describe('a goodbye', () => {
  it('ends in time where the database says nothing, and is told in one line', async () => {
    node = await bench.startNode();
    await node.openWith('a');
    const { sessions, nodes } = node.connection;
    const never = () => new Promise<never>(() => {});
    Object.assign(sessions, { save: never, end: never });
    Object.assign(nodes, { release: never });
    node.open('10.0.0.2');
    await node.openWith('b');
    const before = node.log.lines.length;
    let isStopped = false;
    void node.stop(2000).then(() => (isStopped = true));
    await bench.pass(1950);
    expect(isStopped).toBe(false);
    await bench.pass(50);
    expect(isStopped).toBe(true);
    expect(node.log.lines.slice(before)).toMatchObject([{ level: 'warn', details: { unsaid: ['sessions', 'lease'] } }]);
  });

  it('gives the lease up also where sessions cannot be written down', async () => {
    node = await bench.startNode();
    await node.openWith('a');
    Object.assign(node.connection.sessions, { save: () => Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE')) });
    await node.openWith('b');
    await node.stop();
    expect(bench.database.nodes.get(node.id)?.leaseUntilMs).toBeLessThanOrEqual(bench.clock.monotonicMs());
    const warnings = node.log.lines.filter(({ level }) => level !== 'debug');
    expect(warnings).toMatchObject([{ level: 'warn', details: { unsaid: ['sessions'] } }]);
  });
});
