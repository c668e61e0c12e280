import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Principal } from '../../server/domain/access.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';

let bench: LivenessBench;
let node: TestNode;
let other: TestNode;

beforeEach(async () => {
  bench = new LivenessBench();
  node = await bench.startNode();
  other = await bench.startNode();
  await bench.pass(11_000);
});

afterEach(() => bench.stop());

const marksOn = (on: TestNode, id: string) => on.liveness.marks.marksOf(bench.task(id));

describe('a task is suspect', () => {
  it('once its session has missed a beat, on every node, until it is heard again', async () => {
    const session = await node.openWith('a');
    await bench.pass(14_900);
    expect(marksOn(node, 'a')).toEqual([]);
    await bench.pass(300);
    expect(marksOn(node, 'a')).toEqual(['suspect']);
    await bench.pass(4000);
    expect(marksOn(other, 'a')).toEqual(['suspect']);
    session.beat();
    expect(marksOn(node, 'a')).toEqual([]);
    await bench.passBeating(5000, [session]);
    expect(marksOn(other, 'a')).toEqual([]);
  });

  it('while its connection is closed and waited for', async () => {
    const session = await node.openWith('a');
    session.close();
    expect(marksOn(node, 'a')).toEqual(['suspect']);
    await node.openWith('a');
    expect(marksOn(node, 'a')).toEqual([]);
  });

  it('not when it has ended: then nobody has to be there any more', async () => {
    const session = await node.openWith('a');
    const marksOf = (status: string) => node.liveness.marks.marksOf({ ...bench.task('a'), status });
    session.close();
    expect([marksOf('running'), marksOf('finish'), marksOf('shutdown')]).toEqual([['suspect'], [], []]);
  });

  it('not for ever where the service simply beats slower than others', async () => {
    const session = await node.openWith('a');
    let suspect = 0;
    for (let beats = 0; beats < 10; beats++) {
      await bench.pass(19_000);
      suspect += marksOn(node, 'a').length;
      await bench.pass(1000);
      session.beat();
    }
    expect(suspect).toBe(2);
  });
});

describe('a task is flapping', () => {
  it('after five changes of its status within ten minutes, on every node, until they are ten minutes old', async () => {
    const session = await node.openWith('a');
    for (const status of ['restart', 'running', 'restart', 'running']) {
      await bench.passBeating(30_000, [session]);
      await node.register(session, 'a', status);
    }
    await bench.passBeating(30_000, [session]);
    expect(marksOn(other, 'a')).toEqual([]);
    await node.register(session, 'a', 'finish');
    await bench.passBeating(10_000, [session]);
    expect(marksOn(node, 'a')).toEqual(['flapping']);
    expect(marksOn(other, 'a')).toEqual(['flapping']);
    // The first of the five was 120 s before the last.
    await bench.passBeating(460_000, [session]);
    expect(marksOn(other, 'a')).toEqual(['flapping']);
    await bench.passBeating(20_000, [session]);
    expect(marksOn(other, 'a')).toEqual([]);
  });

  it('by shutdowns of the registry and restorations too', async () => {
    for (let times = 0; times < 3; times++) {
      await node.openWith('a');
      await bench.pass(32_000);
    }
    await bench.pass(4000);
    expect(bench.task('a').status).toBe('shutdown');
    expect(marksOn(node, 'a')).toEqual(['flapping']);
  });
});

describe('the list of sessions', () => {
  const administrator: Principal = { kind: 'user', id: 'boss', administrator: true, memberships: new Map() };
  const foreigner: Principal = {
    kind: 'user',
    id: 'x',
    administrator: false,
    memberships: new Map([['other', 'viewer']]),
  };

  it('knows the sessions of this node exactly', async () => {
    const session = await node.openWith('a', '10.0.0.7');
    await bench.pass(3000);
    session.beat();
    await bench.pass(2000);
    const nowMs = bench.clock.now().getTime();
    expect(await node.liveness.listSessions(administrator, undefined, 10)).toEqual([
      {
        id: session.id,
        door: 'tcp',
        address: '10.0.0.7',
        owner: '',
        node: 'node-1',
        state: 'open',
        tasks: 1,
        ttlMs: 30_000,
        openedAt: new Date(nowMs - 5000),
        lastSeenAt: new Date(nowMs - 2000),
        lastSeenWithinMs: 0,
        marks: [],
      },
    ]);
  });

  it('knows the sessions of other nodes as of their last renewal', async () => {
    const session = await node.openWith('a');
    await bench.passBeating(20_000, [session], 5000);
    const [beating] = await other.liveness.listSessions(administrator, undefined, 10);
    const nowMs = bench.clock.now().getTime();
    expect(beating?.marks).toEqual([]);
    expect(beating?.lastSeenAt.getTime()).toBeLessThanOrEqual(nowMs - 5000);
    expect((beating?.lastSeenAt.getTime() ?? 0) + (beating?.lastSeenWithinMs ?? 0)).toBeGreaterThanOrEqual(
      nowMs - 5000,
    );
    await bench.pass(20_000);
    const [silent] = await other.liveness.listSessions(administrator, undefined, 10);
    expect(silent?.marks).toEqual(['suspect']);
    expect(silent?.lastSeenAt.getTime()).toBeLessThanOrEqual(nowMs - 5000);
  });

  it('shows orphans, and nothing that has ended', async () => {
    await node.openWith('a');
    await bench.pass(1000);
    node.kill();
    await bench.pass(15_000);
    expect(await other.liveness.listSessions(administrator, undefined, 10)).toMatchObject([
      { state: 'orphan', node: 'node-2', marks: ['unconfirmed'], lastSeenWithinMs: 0 },
    ]);
    await bench.pass(70_000);
    expect(await other.liveness.listSessions(administrator, undefined, 10)).toEqual([]);
  });

  it('shows nothing of foreign groups', async () => {
    await node.openWith('a');
    await bench.pass(1000);
    expect(await node.liveness.listSessions(foreigner, undefined, 10)).toEqual([]);
  });
});

it('idle sessions cost no rows, however many they are and however often they beat', async () => {
  const rowsInAMinute = async (sessions: number) => {
    const crowd = Array.from({ length: sessions }, (_, i) => node.open(`10.2.${i >> 8}.${i & 255}`));
    await bench.passBeating(120_000, crowd);
    const { rowsWritten } = bench.database;
    await bench.passBeating(60_000, crowd);
    return bench.database.rowsWritten - rowsWritten;
  };
  const few = await rowsInAMinute(10);
  const many = await rowsInAMinute(1000);
  expect(many).toBe(few);
  // Two nodes renew their leases every 3.3 s.
  expect(few).toBeLessThanOrEqual(38);
});
