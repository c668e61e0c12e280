import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LivenessOptions } from '../../server/domain/liveness.js';
import type { Session } from '../../server/domain/sessions.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';

const TTL_MS = 30_000;
/** How long a connection has to register by itself, and how much longer the decision takes at most. */
const SETTLE_MS = 3000;
const DECISION_MS = 2000;

let bench: LivenessBench;
let node: TestNode;

beforeEach(() => begin());

afterEach(() => bench.stop());

/** A server that has taken over what there is to be taken over. */
async function begin(options: Partial<LivenessOptions> = {}): Promise<void> {
  bench = new LivenessBench();
  node = await bench.startNode(options);
  await bench.pass(11_000);
}

const lapsed = () => bench.database.lapsed.map(({ taskId }) => taskId);
const marksOf = (id: string, at: TestNode = node) => at.liveness.marks.marksOf(bench.task(id));
const doubts = () => bench.database.events.filter(({ kind }) => kind === 'return_in_doubt');

/** A service with a task is lost from an address. */
async function lose(id = 'a', address = '10.0.0.1', at: TestNode = node): Promise<void> {
  const session = await at.openWith(id, address);
  await bench.pass(1000);
  session.close();
  await bench.pass(1000);
}

describe('a service that reconnects and only beats', () => {
  it('keeps its tasks when it is back before they lapse, unconfirmed until it names them', async () => {
    const before = await node.openWith('a');
    await node.register(before, 'b');
    await bench.pass(1000);
    before.close();
    await bench.pass(5000);
    const after = node.open();
    await bench.passBeating(60_000, [after]);
    expect(lapsed()).toEqual([]);
    for (const id of ['a', 'b']) {
      expect(bench.task(id)).toMatchObject({ status: 'running', sessionId: after.id });
      expect(marksOf(id)).toEqual(['unconfirmed']);
    }
    await node.register(after, 'b', 'running', 'update');
    expect(marksOf('a')).toEqual(['unconfirmed']);
    expect(marksOf('b')).toEqual([]);
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
    await bench.pass(1000);
    before.close();
    await bench.pass(40 * 60_000);
    expect(bench.task('a').status).toBe('shutdown');
    const after = node.open();
    await bench.passBeating(5000, [after]);
    expect(bench.task('a')).toMatchObject({ status: 'running', cause: 'restored', sessionId: after.id });
    expect(bench.task('again')).toMatchObject({ status: 'restart', cause: 'restored' });
    expect(bench.task('done').status).toBe('finish');
  });

  it('gets nothing back after more than an hour', async () => {
    await lose();
    await bench.pass(62 * 60_000);
    await bench.passBeating(30_000, [node.open()]);
    expect(bench.task('a').status).toBe('shutdown');
  });

  it('gets nothing back that it, or an operator, had shut down', async () => {
    const before = await node.openWith('a');
    await node.register(before, 'own', 'shutdown');
    await bench.pass(1000);
    before.close();
    await bench.pass(40_000);
    const task = bench.task('a');
    task.statusBefore = '';
    task.lapsedSessionId = null;
    await bench.passBeating(30_000, [node.open()]);
    expect(bench.task('a').status).toBe('shutdown');
    expect(bench.task('own').status).toBe('shutdown');
  });

  it('gets nothing of another address, or of another owner', async () => {
    await lose('a', '10.0.0.1');
    const owned = await node.openWith('b', '10.0.0.2', { owner: 'token:x' });
    await bench.pass(1000);
    owned.close();
    await bench.pass(40_000);
    await bench.passBeating(60_000, [node.open('10.0.0.3'), node.open('10.0.0.2')]);
    expect(bench.task('a').status).toBe('shutdown');
    expect(bench.task('b').status).toBe('shutdown');
  });

  it('gets them back where its owner was known only a while after it had connected, at whatever server', async () => {
    const other = await bench.startNode();
    const before = node.open();
    before.beat();
    await bench.pass(2000);
    before.identify('token:x');
    await node.register(before, 'a');
    await bench.pass(1000);
    before.close();
    await bench.pass(1000);
    const after = other.open();
    after.beat();
    await bench.pass(2000);
    after.identify('token:x');
    await bench.passBeating(60_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(after.id);
  });

  it('gets its tasks from the server that it was connected to before', async () => {
    const other = await bench.startNode();
    await lose();
    const after = other.open();
    await bench.passBeating(60_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(after.id);
    expect(node.liveness.size).toBe(0);
    expect(marksOf('a')).toEqual(['unconfirmed']);
    expect(marksOf('a', other)).toEqual(['unconfirmed']);
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
    expect(marksOf('a', restarted)).toEqual(['unconfirmed']);
  });
});

describe('somebody else may be meant, and nothing is given back', () => {
  it('when two were lost from the address: two behind one NAT after a restart, which log and events tell', async () => {
    await node.openWith('a');
    await node.openWith('b');
    await bench.pass(1000);
    node.kill();
    const restarted = await bench.startNode();
    const both = [restarted.open(), restarted.open()];
    await bench.passBeating(120_000, both);
    expect(lapsed().sort()).toEqual(['a', 'b']);
    expect(doubts()).toMatchObject([{ details: { address: '10.0.0.1' } }]);
    await restarted.register(both[0] as Session, 'a');
    expect(marksOf('a', restarted)).toEqual([]);
  });

  it('when two were lost with their server and come back one after the other, which is told once', async () => {
    await node.openWith('a');
    await node.openWith('b');
    await bench.pass(1000);
    node.kill();
    const restarted = await bench.startNode();
    const first = restarted.open();
    await bench.passBeating(500, [first]);
    await bench.passBeating(120_000, [first, restarted.open()]);
    expect(lapsed().sort()).toEqual(['a', 'b']);
    expect(doubts()).toMatchObject([{ details: { address: '10.0.0.1' } }]);
  });

  it('when two were lost and one comes back', async () => {
    await lose('a');
    await lose('b');
    await bench.passBeating(60_000, [node.open()]);
    expect(lapsed().sort()).toEqual(['a', 'b']);
    expect(doubts()).toMatchObject([{ details: { address: '10.0.0.1' } }]);
    expect(node.log.lines.filter(({ details }) => JSON.stringify(details).includes('10.0.0.1'))).toMatchObject([
      { level: 'warn', message: expect.stringContaining('registers its tasks after it has reconnected') as string },
    ]);
  });

  it('when two come back for one', async () => {
    await lose();
    const two = [node.open(), node.open()];
    await bench.passBeating(60_000, two);
    expect(lapsed()).toEqual(['a']);
  });

  it('when two come back for one, on two servers', async () => {
    const other = await bench.startNode();
    await lose();
    await bench.passBeating(60_000, [node.open(), other.open()]);
    expect(lapsed()).toEqual(['a']);
  });

  it.each([0, 20_000])(
    'when somebody is connected at another server who only asks (since %i ms before)',
    async (sinceMs) => {
      const other = await bench.startNode();
      const asks = other.open();
      asks.beat();
      await bench.pass(sinceMs);
      await lose();
      const prober = node.open();
      for (let i = 0; i < 60; i++) {
        asks.beat();
        await bench.passBeating(1000, [prober]);
      }
      expect(lapsed()).toEqual(['a']);
      asks.close();
      await bench.pass(1000);
      expect([...bench.database.sessions.keys()]).not.toContain(asks.id);
    },
  );

  it('when another service of the address lives, on this server or on another', async () => {
    const other = await bench.startNode();
    const all: Session[] = [await node.openWith('living-a', '10.0.1.1'), await other.openWith('living-b', '10.0.1.2')];
    await lose('a', '10.0.1.1');
    await lose('b', '10.0.1.2');
    all.push(node.open('10.0.1.1'), node.open('10.0.1.2'));
    await bench.passBeating(90_000, all);
    expect(lapsed().sort()).toEqual(['a', 'b']);
  });

  it('when a lease of the address lives', async () => {
    await node.liveness.leases.grant({ address: '10.0.0.1', owner: 'token:x', ttlMs: 600_000 });
    await lose();
    await bench.passBeating(60_000, [node.open()]);
    expect(lapsed()).toEqual(['a']);
  });

  it('when the old connection is still open as far as anybody knows: it may be another service’s', async () => {
    await node.openWith('a');
    await bench.pass(12_000);
    const after = node.open();
    await bench.passBeating(60_000, [after]);
    expect(bench.task('a').status).toBe('shutdown');
  });

  it.each([0, 1, 5, 4000])('when it was opened %i ms before the other was last heard', async (byMs) => {
    const other = await node.openWith('a');
    await bench.pass(5000);
    const bystander = node.open();
    await bench.pass(byMs, 1);
    other.beat();
    other.close();
    await bench.passBeating(120_000, [bystander]);
    expect(lapsed()).toEqual(['a']);
  });

  it('but it may be opened a moment after', async () => {
    const other = await node.openWith('a');
    await bench.pass(5000);
    other.beat();
    other.close();
    await bench.pass(5, 1);
    const after = node.open();
    await bench.passBeating(120_000, [after]);
    expect(lapsed()).toEqual([]);
  });

  it('when a third one was there within the hour', async () => {
    const prober = node.open();
    prober.heartbeat();
    await bench.pass(5000);
    prober.close();
    await lose();
    await bench.passBeating(60_000, [node.open()]);
    expect(lapsed()).toEqual(['a']);
    expect(doubts()).toHaveLength(1);
  });

  it('though a third one that never said a word is nobody', async () => {
    node.open().close();
    await lose();
    await bench.passBeating(60_000, [node.open()]);
    expect(lapsed()).toEqual([]);
  });

  it('a second time within the hour: no guess stands on another', async () => {
    const other = await bench.startNode();
    await lose();
    const first = node.open();
    await bench.passBeating(10_000, [first]);
    expect(bench.task('a').sessionId).toBe(first.id);
    first.close();
    await bench.pass(1000);
    await bench.passBeating(60_000, [other.open()]);
    expect(lapsed()).toEqual(['a']);
  });

  it('but again when the service has named them in between, and an hour has passed since the others', async () => {
    await lose();
    const first = node.open();
    await bench.passBeating(10_000, [first]);
    await node.register(first, 'a');
    await bench.passBeating(62 * 60_000, [first]);
    first.close();
    await bench.pass(1000);
    const second = node.open();
    await bench.passBeating(60_000, [second]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(second.id);
  });

  it('who only asks', async () => {
    await lose();
    const asking = node.open();
    for (let i = 0; i < 10; i++) {
      asking.beat();
      await bench.pass(5000);
    }
    expect(bench.task('a').status).toBe('shutdown');
  });

  it('who registers by itself: a restarted service is asked nothing', async () => {
    await lose('old');
    const after = node.open();
    after.heartbeat();
    await bench.pass(1000);
    await node.register(after, 'new');
    await bench.passBeating(60_000, [after]);
    expect(lapsed()).toEqual(['old']);
  });

  it('who is gone again', async () => {
    await lose();
    const after = node.open();
    after.heartbeat();
    await bench.pass(1000);
    after.close();
    await bench.pass(60_000);
    expect(lapsed()).toEqual(['a']);
  });
});

describe('of a server that was killed only the last renewal is known', () => {
  let doomed: TestNode;
  let service: Session;

  beforeEach(async () => {
    doomed = await bench.startNode();
    service = await doomed.openWith('a');
    await bench.passBeating(4000, [service]);
  });

  /** Some time after a renewal of the server that is to die, and well before the next one. */
  async function passRenewal(byMs: number): Promise<void> {
    const renewedAtMs = () => bench.database.nodes.get(doomed.id)?.renewedAtMs;
    for (const beforeMs = renewedAtMs(); renewedAtMs() === beforeMs;) await bench.pass(50);
    await bench.pass(byMs);
  }

  it.each([0, 20_000, 200_000])(
    'and who was opened elsewhere after it, while the service was there, gets nothing (first beat after %i ms)',
    async (firstBeatMs) => {
      await passRenewal(1000);
      const bystander = node.open();
      await bench.pass(1000);
      doomed.kill();
      for (let passedMs = 0; passedMs < firstBeatMs; passedMs += 1000) {
        bystander.beat();
        await bench.pass(1000);
      }
      await bench.passBeating(120_000, [bystander]);
      expect(lapsed()).toEqual(['a']);
      expect(bench.task('a').status).toBe('shutdown');
      expect(doubts()).toMatchObject([{ details: { reason: 'the connection was open before the loss' } }]);
    },
  );

  it.each(['', ' as soon although nothing is heard of others'])(
    'but a service that is back at once, and only beats, has its tasks again%s',
    async (isDeaf) => {
      await passRenewal(1000);
      if (isDeaf) node.connection.questions.isListening = false;
      doomed.kill();
      const after = node.open();
      await bench.passBeating(15_000, [after]);
      expect(bench.task('a').sessionId).toBe(after.id);
      expect(marksOf('a')).toEqual(['unconfirmed']);
      await bench.passBeating(120_000, [after]);
      expect(lapsed()).toEqual([]);
    },
  );

  it('but a third server that lives and knows nobody of the address says nothing against it', async () => {
    const third = await bench.startNode();
    await bench.pass(4000);
    await passRenewal(1000);
    doomed.kill();
    const after = third.open();
    await bench.passBeating(120_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(after.id);
  });

  it('and who was opened while nothing could be heard of it is asked for again when it can', async () => {
    await passRenewal(500);
    node.connection.questions.isListening = false;
    const bystander = node.open();
    await bench.pass(500);
    node.connection.questions.isListening = true;
    await bench.pass(500);
    doomed.kill();
    await bench.passBeating(120_000, [bystander]);
    expect(lapsed()).toEqual(['a']);
  });

  it('but where its server lives on, it is known to the millisecond: an old connection that is half dead', async () => {
    await bench.pass(5000);
    const after = node.open();
    await bench.pass(2000);
    service.close();
    await bench.passBeating(120_000, [after]);
    expect(lapsed()).toEqual([]);
    expect(bench.task('a').sessionId).toBe(after.id);
  });

  it('and who was with the service at the server that was killed is no return of it', async () => {
    const beside = doomed.open();
    await bench.passBeating(4000, [service, beside]);
    doomed.kill();
    await bench.pass(500);
    const back = node.open();
    await bench.passBeating(120_000, [back]);
    expect(lapsed()).toEqual(['a']);
  });

  it.each([2000, 12_000])('not even when it comes back %i ms later', async (laterMs) => {
    const beside = doomed.open();
    await bench.passBeating(4000, [service, beside]);
    doomed.kill();
    await bench.pass(laterMs);
    await bench.passBeating(120_000, [node.open()]);
    expect(lapsed()).toEqual(['a']);
  });
});

describe('a task that somebody keeps locked', () => {
  /** Writes of a task wait until they are let go. */
  function lock(id: string): () => void {
    const { tasks } = node.connection;
    const submit = tasks.submit.bind(tasks);
    let free = () => {};
    const isFree = new Promise<void>((resolve) => (free = resolve));
    tasks.submit = async (write) => {
      if (write.id === id) await isFree;
      return submit(write);
    };
    return free;
  }

  it('keeps its own service waiting, and no other one of those that come back', async () => {
    const before = await node.openWith('locked', '10.0.0.1');
    await node.register(before, 'beside');
    await bench.pass(1000);
    before.close();
    await lose('early', '10.0.0.2');
    await lose('late', '10.0.0.3');
    const free = lock('locked');
    const back = [node.open('10.0.0.1'), node.open('10.0.0.2')];
    await bench.passBeating(4000, back);
    expect(bench.task('beside').sessionId).toBe(back[0]?.id);
    expect(bench.task('early').sessionId).toBe(back[1]?.id);
    const late = node.open('10.0.0.3');
    await bench.passBeating(4000, [...back, late]);
    expect(bench.task('late').sessionId).toBe(late.id);
    free();
    await bench.passBeating(1000, back);
    expect(bench.task('locked').sessionId).toBe(back[0]?.id);
  });

  it('keeps no server from stopping', async () => {
    await lose('locked');
    const free = lock('locked');
    await bench.passBeating(4000, [node.open()]);
    let isStopped = false;
    void node.stop().then(() => (isStopped = true));
    await bench.pass(1500);
    expect(isStopped).toBe(true);
    free();
  });
});

describe('an expiry waits for the decision', () => {
  it('once, and no longer than that takes, however many connect, beat and leave', async () => {
    const before = await node.openWith('a');
    before.close();
    for (let passedMs = 0; passedMs < TTL_MS + SETTLE_MS + DECISION_MS + 1000; passedMs += 1000) {
      const prober = node.open();
      prober.heartbeat();
      await bench.pass(500);
      prober.close();
      await bench.pass(500);
    }
    expect(lapsed()).toEqual(['a']);
    expect(
      bench.task('a').statusChangedAt.getTime() - (bench.task('a').silentSince?.getTime() ?? 0),
    ).toBeLessThanOrEqual(TTL_MS + SETTLE_MS + DECISION_MS + 300);
  });

  it('and not at all where others are there', async () => {
    const living = node.open();
    const before = await node.openWith('a');
    before.close();
    await bench.pass(TTL_MS - 1000);
    const another = node.open();
    living.heartbeat();
    another.heartbeat();
    await bench.pass(1500);
    expect(lapsed()).toEqual(['a']);
  });
});

describe('no address is believed', () => {
  const comesBack = async (address = '10.0.0.1') => {
    await lose('a', address);
    await bench.passBeating(60_000, [node.open(address)]);
    return lapsed().length === 0;
  };

  it('where the operator says so', async () => {
    await begin({ resumeByAddress: 'off' });
    expect(await comesBack()).toBe(false);
  });

  it('of a configured proxy', async () => {
    await begin({ isProxy: (address) => address === '10.0.0.1' });
    expect(await comesBack('10.0.0.1')).toBe(false);
  });

  it('that had more connections in a day than one service opens, which is told once', async () => {
    for (let i = 0; i < 200; i++) node.open().close();
    expect(await comesBack()).toBe(false);
    const told = node.log.lines.filter(({ message }) => message.includes('more connections came from an address'));
    expect(told).toMatchObject([{ level: 'warn', details: { address: '10.0.0.1' } }]);
  });

  it('until the day is over', async () => {
    for (let i = 0; i < 200; i++) node.open().close();
    await bench.pass(24 * 3_600_000, 60_000);
    expect(await comesBack()).toBe(true);
  });
});

it('a crowd asks other servers once for each connection, of proxies and crowded addresses never, and alone nobody', async () => {
  await begin({ isProxy: (address) => address === '10.9.9.9' });
  node.open('10.0.0.1');
  expect(node.connection.questions.asked).toBe(0);
  const other = await bench.startNode();
  await bench.pass(4000);
  for (let i = 0; i < 500; i++) node.open(`10.1.${i >> 8}.${i & 255}`);
  for (let i = 0; i < 300; i++) node.open('10.9.9.9');
  for (let i = 0; i < 300; i++) node.open('10.0.0.7');
  await bench.pass(1000);
  expect(node.connection.questions.asked).toBe(500 + 100);
  expect(other.connection.questions.answered).toBe(0);
});

it('a crowd that comes back costs few statements', async () => {
  for (let i = 0; i < 2000; i++) await node.openWith(`task-${i}`, `10.1.${i >> 8}.${i & 255}`);
  await bench.pass(1000);
  node.kill();
  await bench.pass(1000);
  const restarted = await bench.startNode();
  await bench.pass(25_000);
  const { statements } = bench.database;
  for (let i = 0; i < 2000; i++) restarted.open(`10.1.${i >> 8}.${i & 255}`).heartbeat();
  await bench.pass(10_000);
  const back = [...bench.database.tasks.values()].filter(({ sessionId }) => sessionId && restarted.owns(sessionId));
  expect(back).toHaveLength(2000);
  // Two look-ups of a thousand, the claims (one write each here, batched in the real one), and what goes on anyway.
  expect(bench.database.statements - statements - 2000).toBeLessThan(60);
});
