import { afterEach, describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { livenessBench } from '../support/liveness-bench.js';

let bench: ReturnType<typeof livenessBench>;

function begin(...args: Parameters<typeof livenessBench>) {
  bench = livenessBench(...args);
  return bench;
}

afterEach(async () => {
  await bench.liveness.stop();
  expect(bench.clock.pendingTimers).toBe(0);
});

describe('a silent session', () => {
  it('lapses after its TTL, not earlier and at most two sweeps later, and is closed then', async () => {
    const { open, store, pass, expired, hints } = begin();
    const session = open();
    store.claim(session, 'a');
    await pass(29_950);
    expect(store.lapsed).toEqual([]);
    await pass(250);
    expect(store.lapsed).toMatchObject([{ taskId: 'a', sessionId: session.id, epoch: 1, cause: 'heartbeat_timeout' }]);
    expect(store.lapsed[0]?.silentMs).toBeGreaterThanOrEqual(30_000);
    expect(store.lapsed[0]?.silentMs).toBeLessThanOrEqual(30_200);
    expect(expired).toEqual([session.id]);
    expect(hints()).toBe(1);
  });

  it('lives as long as it beats', async () => {
    const { open, store, pass, liveness } = begin();
    const session = open();
    store.claim(session, 'a');
    for (let beats = 0; beats < 20; beats++) {
      await pass(29_000);
      session.beat();
    }
    expect(store.lapsed).toEqual([]);
    expect(liveness.size).toBe(1);
  });

  it('is closed though it holds no task, without a word to the database', async () => {
    const { open, store, pass, expired, liveness } = begin();
    const session = open();
    await pass(30_300);
    expect(expired).toEqual([session.id]);
    expect(store.statements).toBe(0);
    expect(liveness.size).toBe(0);
  });

  it('may ask for its own TTL', async () => {
    const { open, store, pass } = begin();
    const session = open('10.0.0.1', { ttlMs: 5000 });
    store.claim(session, 'a');
    await pass(4900);
    expect(store.lapsed).toEqual([]);
    await pass(400);
    expect(store.lapsed).toHaveLength(1);
  });

  it('lapses with many others in few statements', async () => {
    const { open, store, pass } = begin();
    for (let i = 0; i < 3000; i++) store.claim(open(), `task-${i}`);
    await pass(31_000);
    expect(store.lapsed).toHaveLength(3000);
    expect(store.statements).toBeLessThanOrEqual(4);
  });
});

describe('a closed connection', () => {
  it('leaves its tasks what was left of the TTL by default', async () => {
    const { open, store, pass, expired } = begin();
    const session = open();
    store.claim(session, 'a');
    await pass(20_000);
    session.close();
    await pass(9900);
    expect(store.lapsed).toEqual([]);
    await pass(400);
    expect(store.lapsed).toMatchObject([{ taskId: 'a', cause: 'connection_closed' }]);
    expect(store.lapsed[0]?.silentMs).toBeGreaterThanOrEqual(30_000);
    expect(expired).toEqual([]);
  });

  it.each([0, 2000])('leaves its tasks a configured grace of %i ms', async (reconnectGraceMs) => {
    const { open, store, pass } = begin({ reconnectGraceMs });
    const session = open();
    store.claim(session, 'a');
    await pass(1000);
    session.close();
    session.close();
    if (reconnectGraceMs > 0) await pass(reconnectGraceMs - 50);
    expect(store.lapsed).toEqual([]);
    await pass(300);
    expect(store.lapsed).toHaveLength(1);
  });

  it('is forgotten at once when it held nothing', () => {
    const { open, liveness } = begin();
    open().close();
    expect(liveness.size).toBe(0);
  });

  it('is forgotten as soon as its last task is claimed by another session', async () => {
    const { open, store, pass, liveness } = begin();
    const before = open();
    store.claim(before, 'a');
    before.close();
    const after = open();
    store.claim(after, 'a');
    expect(liveness.size).toBe(1);
    for (let i = 0; i < 4; i++) {
      await pass(10_000);
      after.beat();
    }
    expect(store.lapsed).toEqual([]);
  });

  it('still answers for a claim that becomes durable after it closed', async () => {
    const { open, store, pass, liveness } = begin();
    const session = open();
    session.close();
    expect(liveness.size).toBe(0);
    await pass(10_000);
    store.claim(session, 'a');
    await pass(19_900);
    expect(store.lapsed).toEqual([]);
    await pass(400);
    expect(store.lapsed).toMatchObject([{ taskId: 'a', cause: 'connection_closed' }]);
    expect(liveness.size).toBe(0);
  });
});

describe('the latest claim', () => {
  it('wins: the silence of the earlier session harms nobody', async () => {
    const { open, store, pass } = begin();
    const first = open();
    const second = open();
    store.claim(first, 'a');
    store.claim(first, 'b');
    store.claim(second, 'a');
    for (let i = 0; i < 4; i++) {
      await pass(10_000);
      second.beat();
    }
    expect(store.lapsed).toMatchObject([{ taskId: 'b', sessionId: first.id }]);
  });

  it('wins though the news of the earlier one arrives later', async () => {
    const { open, store, pass } = begin();
    const first = open();
    const second = open();
    store.holders.set('a', { sessionId: second.id, epoch: 2 });
    second.claimed('a', 2);
    first.claimed('a', 1);
    for (let i = 0; i < 4; i++) {
      await pass(10_000);
      second.beat();
    }
    await pass(31_000);
    expect(store.lapsed).toMatchObject([{ taskId: 'a', sessionId: second.id, epoch: 2 }]);
  });

  it('is told to the database with every verdict, which refuses one that is void', async () => {
    const { open, store, pass, hints } = begin();
    const session = open();
    store.claim(session, 'a');
    store.holders.set('a', { sessionId: 'elsewhere', epoch: 2 });
    await pass(31_000);
    expect(store.statements).toBe(1);
    expect(store.lapsed).toEqual([]);
    expect(hints()).toBe(0);
  });

  it('that becomes durable after the session lapsed, lapses like the others', async () => {
    const { open, store, pass } = begin();
    const session = open();
    store.claim(session, 'a');
    await pass(31_000);
    store.claim(session, 'late');
    await pass(300);
    expect(store.lapsed).toMatchObject([{ taskId: 'a' }, { taskId: 'late', cause: 'heartbeat_timeout' }]);
    expect(bench.expired).toEqual([session.id]);
  });
});

describe('a pause of the server', () => {
  it('is added to every deadline', async () => {
    const { open, store, pass, clock, log } = begin();
    const session = open();
    store.claim(session, 'a');
    await pass(10_000);
    clock.jump(120_000);
    await pass(19_500);
    expect(store.lapsed).toEqual([]);
    await pass(900);
    expect(store.lapsed).toHaveLength(1);
    expect(log.lines.some((line) => line.message.includes('stood still'))).toBe(true);
  });

  it('does not lengthen the deadline of a session that beats before the late sweep', async () => {
    const { open, store, pass, clock } = begin();
    const session = open();
    store.claim(session, 'a');
    await pass(10_000);
    clock.skip(120_000);
    session.beat();
    await pass(29_500);
    expect(store.lapsed).toEqual([]);
    await pass(900);
    expect(store.lapsed).toHaveLength(1);
  });

  it('does not come from a loop that is merely busy: time runs on', async () => {
    const { open, store, clock } = begin();
    store.claim(open(), 'a');
    // Every sweep comes 80 ms late.
    for (let ms = 0; ms < 30_400; ms += 180) {
      clock.jump(180);
      await Promise.resolve();
    }
    await bench.pass(200);
    expect(store.lapsed).toHaveLength(1);
  });

  it('leaves one turn in which waiting input is read before anything lapses', async () => {
    const { open, store, clock, pass } = begin();
    const session = open();
    store.claim(session, 'a');
    await pass(29_950);
    // The sweep that finds the session overdue sets a timer of no delay; input comes in between.
    let beaten = false;
    const schedule = clock.schedule.bind(clock);
    clock.schedule = (delayMs, callback) => {
      if (delayMs === 0 && !beaten) {
        beaten = true;
        session.beat();
      }
      return schedule(delayMs, callback);
    };
    await pass(1000);
    expect(beaten).toBe(true);
    expect(store.lapsed).toEqual([]);
    await pass(30_300);
    expect(store.lapsed).toHaveLength(1);
  });
});

describe('a database that is away', () => {
  const away = new TaskDashError('STORAGE_UNAVAILABLE');

  it('gets the verdicts when it is back, and the connection is closed only then', async () => {
    const { open, store, pass, expired } = begin();
    store.failure = away;
    store.claim(open(), 'a');
    await pass(60_000);
    expect(expired).toEqual([]);
    const attempts = store.statements;
    expect(attempts).toBeGreaterThan(3);
    expect(attempts).toBeLessThan(20);
    store.failure = undefined;
    await pass(5100);
    expect(store.lapsed).toHaveLength(1);
    expect(store.lapsed[0]?.silentMs).toBeGreaterThanOrEqual(60_000);
    expect(expired).toHaveLength(1);
  });

  it('does not take back what another session claimed meanwhile', async () => {
    const { open, store, pass } = begin();
    store.failure = away;
    store.claim(open(), 'a');
    await pass(40_000);
    const returned = open();
    store.claim(returned, 'a');
    store.failure = undefined;
    await pass(10_000);
    expect(store.lapsed).toEqual([]);
  });
});

it('one verdict that the database refuses does not hold up the others', async () => {
  const { open, store, pass } = begin();
  const lapse = store.lapse.bind(store);
  store.lapse = async (lapses) => {
    if (lapses.some(({ taskId }) => taskId === 'refused')) throw new TaskDashError('STORAGE_REFUSED');
    return lapse(lapses);
  };
  for (const id of ['a', 'refused', 'b']) store.claim(open(), id);
  await pass(32_000);
  expect(store.lapsed.map(({ taskId }) => taskId).sort()).toEqual(['a', 'b']);
  store.lapse = lapse;
  await pass(6000);
  expect(store.lapsed).toHaveLength(3);
});

it('after stop nothing is judged, whatever closes', async () => {
  const { open, store, pass, liveness } = begin({ reconnectGraceMs: 0 });
  const session = open();
  store.claim(session, 'a');
  await liveness.stop();
  session.close();
  await pass(60_000);
  expect(store.statements).toBe(0);
});
