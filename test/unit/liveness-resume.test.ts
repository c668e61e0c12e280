import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';

let bench: LivenessBench;
let node: TestNode;

beforeEach(async () => {
  bench = new LivenessBench();
  node = await bench.startNode();
  await bench.pass(11_000);
});

afterEach(() => bench.stop());

const lapsed = () => bench.database.lapsed.map(({ taskId }) => taskId);

describe('a service that reconnects and only beats', () => {
  it('keeps its tasks when it is back before they lapse', async () => {
    const before = await node.openWith('a');
    await node.register(before, 'b');
    await bench.pass(1000);
    before.close();
    await bench.pass(5000);
    const after = node.open();
    await bench.passBeating(60_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a')).toMatchObject({ status: 'running', sessionId: after.id });
    expect(bench.task('b').sessionId).toBe(after.id);
    await bench.pass(31_000);
    expect(lapsed().sort()).toEqual(['a', 'b']);
  });

  it('keeps them though it is back only a moment before they lapse', async () => {
    const before = await node.openWith('a');
    before.close();
    await bench.pass(29_500);
    const after = node.open();
    await bench.passBeating(30_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(after.id);
  });

  it('gets them back with the status from before when they have lapsed', async () => {
    const before = await node.openWith('a');
    await node.register(before, 'done', 'finish');
    await node.register(before, 'again', 'restart');
    await bench.pass(40 * 60_000);
    expect(bench.task('a').status).toBe('shutdown');
    const after = node.open();
    await bench.passBeating(5000, [after]);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId: after.id });
    expect(bench.task('again')).toMatchObject({ status: 'restart', cause: 'restored' });
    expect(bench.task('done').status).toBe('finish');
  });

  it('gets nothing back after more than an hour', async () => {
    await node.openWith('a');
    await bench.pass(62 * 60_000);
    await bench.passBeating(30_000, [node.open()]);
    expect(bench.task('a').status).toBe('shutdown');
  });

  it('gets nothing back that it, or an operator, had shut down', async () => {
    const before = await node.openWith('a');
    await node.register(before, 'own', 'shutdown');
    await bench.pass(40_000);
    const task = bench.task('a');
    task.statusBefore = '';
    task.lapsedSessionId = null;
    await bench.passBeating(30_000, [node.open()]);
    expect(bench.task('a').status).toBe('shutdown');
    expect(bench.task('own').status).toBe('shutdown');
  });

  it('gets nothing when two were lost from its address', async () => {
    await node.openWith('a');
    await node.openWith('b');
    await bench.pass(40_000);
    const after = node.open();
    await bench.passBeating(60_000, [after]);
    expect(bench.task('a').status).toBe('shutdown');
    expect(bench.task('b').status).toBe('shutdown');
  });

  it('gets nothing of another address, or of another owner', async () => {
    await node.openWith('a', '10.0.0.1');
    await node.openWith('b', '10.0.0.2', { owner: 'token:x' });
    await bench.pass(40_000);
    await bench.passBeating(60_000, [node.open('10.0.0.3'), node.open('10.0.0.2')]);
    expect(bench.task('a').status).toBe('shutdown');
    expect(bench.task('b').status).toBe('shutdown');
  });

  it('gets its tasks from the server that it was connected to before', async () => {
    const other = await bench.startNode();
    const before = await node.openWith('a');
    await bench.pass(1000);
    before.close();
    await bench.pass(1000);
    const after = other.open();
    await bench.passBeating(60_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(after.id);
    expect(node.liveness.size).toBe(0);
  });

  it('gets its tasks back after the server was killed and started again', async () => {
    await node.openWith('a');
    await bench.pass(1000);
    node.kill();
    await bench.pass(2000);
    const restarted = await bench.startNode();
    const after = restarted.open();
    await bench.passBeating(120_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(after.id);
    expect(restarted.liveness.marks.marksOf(bench.task('a'))).toEqual([]);
  });

  it('gets its tasks back once the old connection, of which nobody had noticed the end, has lapsed', async () => {
    await node.openWith('a');
    await bench.pass(12_000);
    const after = node.open();
    await bench.passBeating(40_000, [after]);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId: after.id });
  });
});

describe('nobody gets tasks', () => {
  it('who was there already when the other fell silent', async () => {
    const bystander = node.open();
    await bench.passBeating(11_000, [bystander]);
    const before = await node.openWith('a');
    await bench.passBeating(10_000, [bystander]);
    before.close();
    await bench.passBeating(120_000, [bystander]);
    expect(bench.task('a').status).toBe('shutdown');
  });

  it('who only asks', async () => {
    const before = await node.openWith('a');
    await bench.pass(1000);
    before.close();
    const asking = node.open();
    for (let i = 0; i < 10; i++) {
      asking.beat();
      await bench.pass(5000);
    }
    expect(bench.task('a').status).toBe('shutdown');
  });

  it('who registers by itself: a restarted service is asked nothing', async () => {
    const before = await node.openWith('old');
    await bench.pass(1000);
    before.close();
    const after = node.open();
    after.heartbeat();
    await bench.pass(1000);
    await node.register(after, 'new');
    await bench.passBeating(60_000, [after]);
    expect(lapsed()).toEqual(['old']);
  });

  it('who is gone again', async () => {
    const before = await node.openWith('a');
    await bench.pass(1000);
    before.close();
    const after = node.open();
    after.heartbeat();
    await bench.pass(1000);
    after.close();
    await bench.pass(60_000);
    expect(lapsed()).toEqual(['a']);
  });

  it('twice: of two who come back for one, one gets it', async () => {
    const before = await node.openWith('a');
    await bench.pass(1000);
    before.close();
    const two = [node.open(), node.open()];
    await bench.passBeating(60_000, two);
    expect(two.map(({ id }) => id)).toContain(bench.task('a').sessionId);
    expect(lapsed()).toEqual([]);
  });
});

it('a crowd that comes back costs few statements', async () => {
  for (let i = 0; i < 2000; i++) await node.openWith(`task-${i}`, `10.1.${i >> 8}.${i & 255}`);
  await bench.pass(1000);
  node.kill();
  await bench.pass(1000);
  const restarted = await bench.startNode();
  await bench.pass(15_000);
  const { statements } = bench.database;
  for (let i = 0; i < 2000; i++) restarted.open(`10.1.${i >> 8}.${i & 255}`).heartbeat();
  await bench.pass(10_000);
  const back = [...bench.database.tasks.values()].filter(({ sessionId }) => sessionId && restarted.owns(sessionId));
  expect(back).toHaveLength(2000);
  // Two look-ups of a thousand, the claims (one write each here, batched in the real one), and what goes on anyway.
  expect(bench.database.statements - statements - 2000).toBeLessThan(60);
});
