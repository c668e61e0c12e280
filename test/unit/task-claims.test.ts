/** What the registry writes of tasks by itself, while somebody else changes them: a description, say, which claims nothing. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';
import { update } from '../support/task-writes.js';

const OWNER = 'token:builder';

let bench: LivenessBench;
let node: TestNode;

beforeEach(async () => {
  bench = new LivenessBench();
  node = await bench.startNode();
  await bench.pass(11_000);
});
afterEach(() => bench.stop());

/** Has somebody change each task right before the first of the registry's own writes reaches the database. */
function editBeforeClaims(times = 1): void {
  const { tasks } = node.connection;
  const submit = tasks.submit.bind(tasks);
  const left = new Map<string, number>();
  tasks.submit = async (write) => {
    const count = left.get(write.id) ?? times;
    left.set(write.id, count - 1);
    if (write.expectedRevision !== undefined && count > 0)
      await submit(update(write.id, { description: `edit ${count}` }));
    return submit(write);
  };
}

it('a service that comes back after its verdict gets tasks back that somebody changes meanwhile', async () => {
  const { leases } = node.liveness;
  const { sessionId } = await leases.grant({ address: '10.0.0.1', owner: OWNER });
  await node.register(await leases.sessionOf(sessionId, OWNER), 'a');
  await bench.pass(60_000);
  expect(bench.task('a')).toMatchObject({ status: 'shutdown', cause: 'heartbeat_timeout' });
  editBeforeClaims();
  await leases.sessionOf(sessionId, OWNER);
  for (let second = 0; second < 10; second++) {
    await bench.pass(1_000);
    await leases.sessionOf(sessionId, OWNER);
  }
  expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', description: 'edit 1' });
});

it('a service that only beats after a reconnect keeps a task that somebody changes meanwhile', async () => {
  const lost = await node.openWith('a');
  await node.register(lost, 'b');
  await bench.pass(1_000);
  lost.close();
  await bench.pass(5_000);
  editBeforeClaims(2);
  const back = node.open();
  await bench.passBeating(60_000, [back]);
  for (const id of ['a', 'b'])
    expect(bench.task(id)).toMatchObject({ status: 'running', description: 'edit 1', sessionId: back.id });
});

it('a goodbye reaches tasks that somebody changes meanwhile', async () => {
  const { leases } = node.liveness;
  const { sessionId } = await leases.grant({ address: '10.0.0.1', owner: OWNER });
  for (const id of ['a', 'b']) await node.register(await leases.sessionOf(sessionId, OWNER), id);
  editBeforeClaims(3);
  expect(await leases.revoke(sessionId, OWNER)).toBe(2);
  for (const id of ['a', 'b']) expect(bench.task(id)).toMatchObject({ status: 'shutdown', cause: 'client' });
  await expect(leases.sessionOf(sessionId, OWNER)).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
});
