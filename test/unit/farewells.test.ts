/** Leases that are revoked while something else is under way: they are over for good, and everything under them ends with them. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';
import { registration, update } from '../support/task-writes.js';

const OWNER = 'token:builder';
const NOT_FOUND = { code: 'LEASE_NOT_FOUND' };
/** A renewal of a server's lease, and some slack. */
const RENEWED_MS = 4000;

let bench: LivenessBench;
let node: TestNode;
let other: TestNode;

beforeEach(async () => {
  bench = new LivenessBench();
  [node, other] = [await bench.startNode(), await bench.startNode()];
  await bench.pass(11_000);
});
afterEach(() => bench.stop());

const lapsed = () => bench.database.lapsed.map(({ taskId }) => taskId);
const goodbye = { status: 'shutdown', cause: 'client', sessionId: null };

async function lease(taskId?: string): Promise<string> {
  const { sessionId } = await node.liveness.leases.grant({ address: '10.0.0.1', owner: OWNER });
  if (taskId !== undefined) await node.register(await node.liveness.leases.sessionOf(sessionId, OWNER), taskId);
  return sessionId;
}

/** A write that was stored though the lease is over, since the database had begun it before. */
async function storeLate(sessionId: string, taskId: string) {
  const result = await bench.nodes[1]?.connection.tasks.submit(registration(taskId, {}, { sessionId }));
  return result?.outcome === 'written' ? result.epoch : 0;
}

/** Has a server's writes of a task wait. */
function holdWrites(at: TestNode, taskId: string, when: 'before' | 'after') {
  const { tasks } = at.connection;
  const submit = tasks.submit.bind(tasks);
  let release = () => {};
  const isFree = new Promise<void>((resolve) => (release = resolve));
  tasks.submit = async (write) => {
    if (write.id !== taskId) return submit(write);
    if (when === 'before') await isFree;
    const result = await submit(write);
    await isFree;
    return result;
  };
  return release;
}

it('what is being registered under a lease when it is revoked is taken before, and ends with it', async () => {
  const id = await lease();
  const session = await node.liveness.leases.sessionOf(id, OWNER);
  const release = holdWrites(node, 'a', 'before');
  const registering = node.register(session, 'a');
  const revoking = node.liveness.leases.revoke(id, OWNER);
  await bench.pass(500);
  release();
  await registering;
  expect(await revoking).toBe(1);
  await bench.pass(60_000);
  expect(bench.task('a')).toMatchObject(goodbye);
  expect(lapsed()).toEqual([]);
});

it('tasks that are not being written end at once, beside one that is', async () => {
  const id = await lease('b');
  const session = await node.liveness.leases.sessionOf(id, OWNER);
  const release = holdWrites(node, 'a', 'before');
  const registering = node.register(session, 'a');
  const revoking = node.liveness.leases.revoke(id, OWNER);
  await bench.pass(50);
  expect(bench.task('b')).toMatchObject(goodbye);
  release();
  await registering;
  await bench.pass(100);
  expect(await revoking).toBe(2);
  expect(bench.task('a')).toMatchObject(goodbye);
});

it.each(['node', 'other'])(
  'what takes long to be registered when the lease is revoked at a server (%s) is refused',
  async (at) => {
    const id = await lease();
    const session = await node.liveness.leases.sessionOf(id, OWNER);
    const release = holdWrites(node, 'a', 'before');
    const registering = node.register(session, 'a');
    const revoking = (at === 'node' ? node : other).liveness.leases.revoke(id, OWNER);
    await bench.pass(2000);
    expect(await revoking).toBe(0);
    release();
    await registering;
    await bench.pass(60_000);
    expect(bench.database.tasks.has('a')).toBe(false);
  },
);

it('what was stored before, and is told only after the lease was revoked, ended with it', async () => {
  const id = await lease();
  const session = await node.liveness.leases.sessionOf(id, OWNER);
  const release = holdWrites(node, 'a', 'after');
  const registering = node.register(session, 'a');
  const revoking = node.liveness.leases.revoke(id, OWNER);
  await bench.pass(2000);
  release();
  await registering;
  expect(await revoking).toBe(1);
  await bench.pass(60_000);
  expect(bench.task('a')).toMatchObject(goodbye);
  expect(lapsed()).toEqual([]);
});

it.each(['told', 'not told'])(
  'what is stored late under a revoked lease says goodbye too, where that is %s',
  async (how) => {
    const id = await lease('a');
    const session = await node.liveness.leases.sessionOf(id, OWNER);
    expect(await node.liveness.leases.revoke(id, OWNER)).toBe(1);
    const epoch = await storeLate(id, 'late');
    if (how === 'told') session.claimed('late', epoch);
    await bench.pass(how === 'told' ? 50 : RENEWED_MS);
    expect(bench.task('late')).toMatchObject(goodbye);
    await bench.pass(60_000);
    expect(lapsed()).toEqual([]);
    expect(node.liveness.size).toBe(0);
  },
);

it('no server takes a revoked lease, nor a write under it, whatever it knew before', async () => {
  const id = await lease('a');
  await other.liveness.leases.renew(id, OWNER);
  const before = await node.liveness.leases.sessionOf(id, OWNER);
  await other.liveness.leases.revoke(id, OWNER);
  await bench.pass(100);
  for (const { liveness } of [node, other]) {
    await expect(liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
    await expect(liveness.leases.sessionOf(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
    await expect(liveness.leases.revoke(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
  }
  await node.register(before, 'b');
  await node.register(before, 'a', 'running', 'update');
  expect(bench.database.tasks.has('b')).toBe(false);
  expect(bench.task('a')).toMatchObject(goodbye);
});

it('a beat told between servers does not outlive the lease', async () => {
  const id = await lease('a');
  await other.liveness.leases.renew(id, OWNER);
  await node.liveness.leases.revoke(id, OWNER);
  await bench.pass(100);
  await expect(other.liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
});

it('a lease of which a task is locked when it is revoked is over all the same, and the task when it is free', async () => {
  const id = await lease('a');
  await node.register(await node.liveness.leases.sessionOf(id, OWNER), 'locked');
  const { tasks } = node.connection;
  const submit = tasks.submit.bind(tasks);
  let isLocked = true;
  tasks.submit = (write) =>
    isLocked && write.id === 'locked' ? Promise.reject(new TaskDashError('STORAGE_LOCKED')) : submit(write);
  await expect(node.liveness.leases.revoke(id, OWNER)).rejects.toMatchObject({
    code: 'STORAGE_LOCKED',
    message: expect.stringContaining('The lease is over, and its tasks are shut down but for those') as string,
  });
  expect(bench.task('a')).toMatchObject(goodbye);
  for (const { liveness } of [node, other])
    await expect(liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
  await bench.pass(100_000);
  expect(bench.task('locked').status).toBe('running');
  isLocked = false;
  await bench.pass(RENEWED_MS);
  expect(bench.task('locked')).toMatchObject(goodbye);
  expect(lapsed()).toEqual([]);
});

it('whoever revokes a lease again of which something is left has that done', async () => {
  const id = await lease('a');
  const { tasks } = node.connection;
  const submit = tasks.submit.bind(tasks);
  tasks.submit = () => Promise.reject(new TaskDashError('STORAGE_LOCKED'));
  await expect(node.liveness.leases.revoke(id, OWNER)).rejects.toMatchObject({ code: 'STORAGE_LOCKED' });
  tasks.submit = submit;
  await expect(node.liveness.leases.revoke(id, 'token:thief')).rejects.toMatchObject(NOT_FOUND);
  expect(await node.liveness.leases.revoke(id, OWNER)).toBe(1);
  await expect(node.liveness.leases.revoke(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
});

it('a lease that is revoked while the database is away is over, and its tasks when the database is back', async () => {
  const id = await lease('a');
  node.cut();
  await expect(node.liveness.leases.revoke(id, OWNER)).rejects.toMatchObject({
    code: 'STORAGE_UNAVAILABLE',
    message: expect.stringMatching(/^The lease is over at this server/) as string,
  });
  await expect(node.liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
  await bench.pass(5000);
  node.mend();
  await bench.pass(RENEWED_MS);
  expect(bench.task('a')).toMatchObject(goodbye);
  for (const { liveness } of [node, other])
    await expect(liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
});

it('a lease whose end is written down without an answer is over, and its tasks with the next renewal', async () => {
  const id = await lease('a');
  const { sessions } = node.connection;
  const revoke = sessions.revoke.bind(sessions);
  sessions.revoke = async (...args) => {
    await revoke(...args);
    Reflect.deleteProperty(sessions, 'revoke');
    throw new TaskDashError('STORAGE_UNAVAILABLE');
  };
  await expect(node.liveness.leases.revoke(id, OWNER)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
  for (const { liveness } of [node, other])
    await expect(liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
  await bench.pass(RENEWED_MS);
  expect(bench.task('a')).toMatchObject(goodbye);
});

it('any number of leases that are revoked while the database is away are over soon after it is back', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 350; i++) ids.push(await lease(`task-${i}`));
  node.cut();
  for (const id of ids) await node.liveness.leases.revoke(id, OWNER).catch(() => {});
  node.mend();
  await bench.pass(RENEWED_MS);
  for (let i = 0; i < 350; i++) expect(bench.task(`task-${i}`)).toMatchObject(goodbye);
});

it('leases that are revoked while the database is away count until that is done', async () => {
  const few = await bench.startNode({ leasesPerOwner: 1 });
  const grant = () => few.liveness.leases.grant({ address: '10.0.0.1', owner: OWNER });
  const { sessionId } = await grant();
  few.cut();
  await expect(few.liveness.leases.revoke(sessionId, OWNER)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
  await expect(grant()).rejects.toMatchObject({ code: 'OVERLOADED' });
  few.mend();
  await bench.pass(RENEWED_MS);
  await grant();
});

it.each(['stays dead', 'starts again'])(
  'a server that dies in the middle of a goodbye (%s) leaves it to others',
  async (what) => {
    const id = await lease('a');
    const { tasks } = node.connection;
    tasks.submit = () => {
      node.kill();
      return Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
    };
    await expect(node.liveness.leases.revoke(id, OWNER)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    expect(bench.task('a').status).toBe('running');
    if (what === 'starts again') await bench.startNode();
    await bench.pass(35_000);
    expect(bench.task('a')).toMatchObject(goodbye);
    await bench.pass(100_000);
    expect([lapsed(), bench.database.events.filter(({ kind }) => kind === 'sessions_adopted')]).toEqual([[], []]);
    await expect(other.liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
  },
);

it('a server that had the lease, lost its way to the database and finds it again, does not bring it back', async () => {
  const id = await lease('a');
  await bench.pass(1000);
  node.cut();
  await bench.pass(30_000);
  expect(await other.liveness.leases.revoke(id, OWNER)).toBe(1);
  await node.liveness.leases.renew(id, OWNER);
  node.mend();
  await bench.pass(RENEWED_MS);
  await expect(node.liveness.leases.renew(id, OWNER)).rejects.toMatchObject(NOT_FOUND);
  expect(bench.database.sessions.get(id)).toMatchObject({ state: 'revoked' });
});

it('a task that somebody changes meanwhile, and one that another lease takes, are whose they are', async () => {
  const id = await lease('a');
  await node.register(await node.liveness.leases.sessionOf(id, OWNER), 'b');
  const next = await lease();
  const { tasks } = node.connection;
  const submit = tasks.submit.bind(tasks);
  tasks.submit = async (write) => {
    if (write.id === 'a' && write.expectedRevision === 1) await submit(update('a', { description: 'edit' }));
    if (write.id === 'b' && write.expectedRevision === 1) await submit(registration('b', {}, { sessionId: next }));
    return submit(write);
  };
  expect(await node.liveness.leases.revoke(id, OWNER)).toBe(1);
  expect(bench.task('a')).toMatchObject({ ...goodbye, description: 'edit' });
  expect(bench.task('b')).toMatchObject({ status: 'running', sessionId: next });
});
