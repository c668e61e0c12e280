/** A client goes on with its lease at another server, with many calls at once, while that is not easy. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { LivenessBench, settle, type TestNode } from '../support/liveness-bench.js';
import { registration } from '../support/task-writes.js';

const OWNER = 'token:builder';
/** Long enough for a renewal to fail, and no longer than the lease of a server lasts. */
const CUT_MS = 4_000;
const AWAY = new TaskDashError('STORAGE_UNAVAILABLE');
const LOCKED = new TaskDashError('STORAGE_LOCKED');

let bench: LivenessBench;
let first: TestNode;
let second: TestNode;

beforeEach(async () => {
  bench = new LivenessBench();
  [first, second] = [await bench.startNode(), await bench.startNode({ leaseMovesAtOnce: 3 })];
});
afterEach(() => bench.stop());

/** A lease of the first server that holds a task. */
async function leaseWith(taskId: string, owner = OWNER): Promise<string> {
  const { sessionId } = await first.liveness.leases.grant({ address: '10.0.0.1', owner });
  await first.register(await first.liveness.leases.sessionOf(sessionId, owner), taskId);
  return sessionId;
}

/** What becomes of some calls at the second server, as of now. */
function callsAt(node: TestNode, leases: readonly string[], owner = OWNER): (string | undefined)[] {
  const outcomes = leases.map((): string | undefined => undefined);
  leases.forEach((lease, index) => {
    node.liveness.leases.sessionOf(lease, owner).then(
      ({ id }) => (outcomes[index] = id),
      (error: unknown) => (outcomes[index] = TaskDashError.from(error).code),
    );
  });
  return outcomes;
}

/** Has takes at a server wait until they are let go, with an answer or with a failure. */
function holdTakes(node: TestNode) {
  const { sessions } = node.connection;
  const take = sessions.take.bind(sessions);
  const held: { id: string; letGo: (failure?: TaskDashError) => void }[] = [];
  sessions.take = (nodeId, id, owner) =>
    new Promise((resolve, reject) => {
      const letGo = (failure?: TaskDashError) => (failure ? reject(failure) : resolve(take(nodeId, id, owner)));
      held.push({ id, letGo });
    });
  return held;
}

/** Has writes of a task at the second server wait until they are let go. */
function holdWrites(taskId: string): () => void {
  const { tasks } = second.connection;
  const submit = tasks.submit.bind(tasks);
  let letGo = () => {};
  const isFree = new Promise<void>((resolve) => (letGo = resolve));
  tasks.submit = (write) => (write.id === taskId ? isFree.then(() => submit(write)) : submit(write));
  return letGo;
}

it('a herd of calls is one move', async () => {
  const lease = await leaseWith('a');
  const held = holdTakes(second);
  const { epoch } = bench.task('a');
  const outcomes = callsAt(
    second,
    Array.from({ length: 40 }, () => lease),
  );
  await settle();
  expect(held).toHaveLength(1);
  held[0]?.letGo();
  await settle();
  expect(new Set(outcomes)).toEqual(new Set([lease]));
  expect(bench.task('a').epoch).toBe(epoch + 1);
});

it('a herd of calls shares a failure, and the attempt after it', async () => {
  const lease = await leaseWith('a');
  const held = holdTakes(second);
  const outcomes = callsAt(
    second,
    Array.from({ length: 40 }, () => lease),
  );
  await settle();
  held[0]?.letGo(AWAY);
  await bench.pass(1000);
  expect([held.length, ...new Set(outcomes)]).toEqual([2, undefined]);
  held[1]?.letGo();
  await settle();
  expect(new Set(outcomes)).toEqual(new Set([lease]));
});

it('each call waits for as long as its own patience lasts, and no longer', async () => {
  const lease = await leaseWith('a');
  const held = holdTakes(second);
  const early = callsAt(second, [lease]);
  await bench.pass(3000);
  const late = callsAt(second, [lease]);
  await bench.pass(2000);
  expect([early, late]).toEqual([['STORAGE_UNAVAILABLE'], [undefined]]);
  expect(held).toHaveLength(1);
  held[0]?.letGo();
  await settle();
  expect(late).toEqual([lease]);
});

it('nobody gets the lease of another by a move that is under way', async () => {
  const lease = await leaseWith('a');
  const held = holdTakes(second);
  const outcomes = callsAt(second, [lease]);
  const stolen = callsAt(second, [lease], 'token:thief');
  await settle();
  for (const { letGo } of held) letGo();
  await settle();
  expect([outcomes, stolen]).toEqual([[lease], ['LEASE_NOT_FOUND']]);
});

it('few leases move at once, owners in turn', async () => {
  const crowd: string[] = [];
  for (let i = 0; i < 20; i++) crowd.push(await leaseWith(`task-${i}`));
  const lone = await leaseWith('lone', 'token:lone');
  const held = holdTakes(second);
  const outcomes = callsAt(second, crowd);
  const alone = callsAt(second, [lone], 'token:lone');
  await settle();
  expect(held).toHaveLength(3);
  held[0]?.letGo();
  held[1]?.letGo();
  await settle();
  expect(held).toHaveLength(5);
  expect(held.map(({ id }) => id)).toContain(lone);
  for (const { letGo } of held) letGo();
  for (let done = 5; done < 21; done++) {
    await settle();
    held[done]?.letGo();
  }
  await settle();
  expect([outcomes, alone]).toEqual([crowd, [lone]]);
});

it('one that comes back to the server that has it raises no epochs, though another says that it took it', async () => {
  const lease = await leaseWith('a');
  await second.liveness.leases.sessionOf(lease, OWNER);
  await bench.pass(8000);
  await first.liveness.leases.sessionOf(lease, OWNER);
  const { epoch } = bench.task('a');
  let asked = 0;
  const { sessions } = first.connection;
  const take = sessions.take.bind(sessions);
  sessions.take = (nodeId, id, owner) => {
    asked++;
    return take(nodeId, id, owner);
  };
  for (let calls = 0; calls < 10; calls++) {
    await bench.pass(2000);
    expect((await first.liveness.leases.sessionOf(lease, OWNER)).id).toBe(lease);
  }
  expect(asked).toBeGreaterThan(0);
  expect(bench.task('a').epoch).toBe(epoch);
  await bench.pass(60_000);
  expect(bench.task('a').status).toBe('shutdown');
});

it('one that had lapsed keeps its calls waiting for a moment only while somebody keeps a task of it locked', async () => {
  const lease = await leaseWith('locked');
  await first.register(await first.liveness.leases.sessionOf(lease, OWNER), 'free');
  await bench.pass(40_000);
  const unlock = holdWrites('locked');
  const outcomes = callsAt(second, [lease]);
  await bench.pass(600);
  expect(outcomes).toEqual([lease]);
  expect(bench.task('free')).toMatchObject({ status: 'running', sessionId: lease });
  unlock();
  await settle();
  expect(bench.task('locked')).toMatchObject({ status: 'running', sessionId: lease });
});

it('one that gets its tasks back keeps no other session from being taken over while somebody keeps a task of it locked', async () => {
  const lease = await leaseWith('locked');
  await bench.pass(40_000);
  const { tasks } = second.connection;
  tasks.submit = () => Promise.reject(new TaskDashError('STORAGE_LOCKED'));
  callsAt(second, [lease]);
  await settle();
  Reflect.deleteProperty(tasks, 'submit');
  const unlock = holdWrites('locked');
  await first.openWith('other', '10.0.0.2');
  first.kill();
  await bench.pass(15_000);
  expect(second.liveness.counts().orphan).toBe(1);
  unlock();
});

it('a lease whose move is stored without an answer lives on, whatever is looked at before that is tried again', async () => {
  const lease = await leaseWith('a');
  const { sessions } = second.connection;
  const take = sessions.take.bind(sessions);
  let isLost = true;
  sessions.take = async (...args) => {
    if (isLost) {
      await take(...args);
      second.cut();
    }
    isLost = false;
    throw AWAY;
  };
  const outcomes = callsAt(second, [lease]);
  await bench.pass(CUT_MS);
  second.mend();
  await bench.pass(8_000);
  expect(outcomes).toEqual(['STORAGE_UNAVAILABLE']);
  sessions.take = take;
  for (let beat = 0; beat < 10; beat++) {
    const heard = callsAt(second, [lease]);
    await bench.pass(10_000);
    expect(heard).toEqual([lease]);
  }
  expect(bench.task('a')).toMatchObject({ status: 'running', lapsedSessionId: null });
  await bench.pass(100_000);
  expect(bench.task('a')).toMatchObject({ status: 'shutdown', cause: 'heartbeat_timeout' });
});

it('calls that cannot fetch their lease keep it alive where it is, and say that it is locked', async () => {
  await bench.pass(11_000);
  const lease = await leaseWith('a');
  second.connection.sessions.take = () => Promise.reject(LOCKED);
  for (let call = 0; call < 12; call++) {
    const outcomes = callsAt(second, [lease]);
    await bench.pass(6000);
    expect(outcomes).toEqual(['STORAGE_LOCKED']);
  }
  expect(bench.task('a').status).toBe('running');
  await bench.pass(40_000);
  expect(bench.task('a')).toMatchObject({ status: 'shutdown', cause: 'heartbeat_timeout' });
});

it('calls of strangers keep no lease alive', async () => {
  await bench.pass(11_000);
  const lease = await leaseWith('a');
  second.connection.sessions.take = () => Promise.reject(LOCKED);
  for (let call = 0; call < 6; call++) {
    callsAt(second, [lease], 'token:thief');
    await bench.pass(6000);
  }
  expect(bench.task('a')).toMatchObject({ status: 'shutdown', cause: 'heartbeat_timeout' });
});

it('a lease of which a task turns up when it is over is still its owner’s', async () => {
  await bench.pass(11_000);
  const lease = await leaseWith('a');
  await bench.pass(60_000);
  expect(bench.task('a')).toMatchObject({ status: 'shutdown', cause: 'heartbeat_timeout' });
  await second.connection.tasks.submit(registration('late', {}, { sessionId: lease }));
  first.liveness.onWritesFailed();
  await bench.pass(5000);
  expect(first.liveness.counts().closing).toBe(1);
  const outcomes = callsAt(first, [lease]);
  await bench.pass(5000);
  expect(outcomes).toEqual([lease]);
  expect([bench.task('a').status, bench.task('late').status]).toEqual(['running', 'running']);
});
