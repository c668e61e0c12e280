import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import type { Session } from '../../server/domain/sessions.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';

let bench: LivenessBench;
let node: TestNode;

beforeEach(async () => {
  bench = new LivenessBench();
  node = await bench.startNode();
});

afterEach(() => bench.stop());

const lapsed = () => bench.database.lapsed.map(({ taskId }) => taskId);

/** A crowd whose beats are spread over the interval, `silent` of them about to fall silent. */
class Crowd {
  readonly beating: Session[] = [];
  readonly silent: Session[] = [];
  #elapsedMs = 0;

  static async of(total: number, silent: number): Promise<Crowd> {
    const crowd = new Crowd();
    for (let i = 0; i < total; i++) {
      const session = await node.openWith(`task-${i}`, `10.0.${i >> 8}.${i & 255}`);
      (i < silent ? crowd.silent : crowd.beating).push(session);
    }
    // Everybody has found their place in the interval before anything happens.
    await crowd.pass(20_000, [...crowd.silent, ...crowd.beating]);
    return crowd;
  }

  /** Each beats every ten seconds, at its own second. */
  async pass(byMs: number, sessions: readonly Session[] = this.beating): Promise<void> {
    for (let leftMs = byMs; leftMs > 0; leftMs -= 500) {
      const turn = (this.#elapsedMs / 500) % 20;
      sessions.forEach((session, index) => index % 20 === turn && session.heartbeat());
      await bench.pass(500);
      this.#elapsedMs += 500;
    }
  }

  /** Those who are to fall silent close their connections instead, beating until then. */
  async leaveOneByOne(everyMs: number): Promise<void> {
    for (let session = this.silent.shift(); session; session = this.silent.shift()) {
      session.close();
      for (const staying of this.silent) staying.heartbeat();
      await this.pass(everyMs);
    }
  }

  /** Those who had fallen silent are there again. */
  recover(): void {
    this.beating.push(...this.silent.splice(0));
    for (const session of this.beating) session.heartbeat();
  }
}

/** Somebody keeps all tasks locked, until the returned function is called. */
function lockTasks(): () => void {
  const { tasks } = node.connection;
  const lapse = tasks.lapse.bind(tasks);
  tasks.lapse = (lapses) => Promise.resolve({ lapsed: [], locked: lapses.map(({ taskId }) => taskId) });
  return () => (tasks.lapse = lapse);
}

describe('services that die one after the other', () => {
  it('are no mass silence, also while somebody keeps their tasks locked', async () => {
    const crowd = await Crowd.of(60, 18);
    const unlock = lockTasks();
    crowd.beating.push(...crowd.silent.splice(0));
    for (let n = 0; n < 6; n++) {
      crowd.beating.splice(-3);
      await crowd.pass(40_000);
    }
    expect(node.liveness.protections()).toEqual([]);
    unlock();
    await crowd.pass(10_000);
    expect(lapsed()).toHaveLength(18);
  });
});

describe('mass silence', () => {
  it('shuts nobody down: half of a crowd falls silent and comes back', async () => {
    const crowd = await Crowd.of(200, 100);
    await crowd.pass(45_000);
    expect(lapsed()).toEqual([]);
    expect(node.liveness.protections()).toMatchObject([{ node: 'node-1', protection: { of: 200, heldBy: '' } }]);
    expect(node.liveness.counts().held).toBe(100);
    expect(node.liveness.marks.marksOf(bench.task('task-0'))).toEqual(['protected']);
    expect(node.liveness.marks.marksOf(bench.task('task-150'))).toEqual([]);
    crowd.recover();
    expect(node.liveness.marks.marksOf(bench.task('task-0'))).toEqual([]);
    await crowd.pass(40_000);
    expect(node.liveness.protections()).toEqual([]);
    expect(lapsed()).toEqual([]);
    expect(node.heard).toEqual(['protection began', 'protection ended']);
  });

  it('is told in the log, as an event, and to other servers, which show its marks', async () => {
    const other = await bench.startNode();
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(45_000);
    expect(other.liveness.protections()).toMatchObject([{ node: 'node-1', protection: { held: 50, lost: 50 } }]);
    expect(other.liveness.marks.marksOf(bench.task('task-0'))).toEqual(['protected']);
    expect(node.log.lines.some(({ level, message }) => level === 'error' && message.includes('protected'))).toBe(true);
    expect(await other.liveness.nodeEvents(10)).toMatchObject([
      { node: 'node-1', kind: 'protection_began', details: { lost: 50, of: 100 } },
    ]);
  });

  it('ends after fifteen minutes, and what is still silent expires', async () => {
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(30_000 + 14 * 60_000);
    expect(lapsed()).toEqual([]);
    await crowd.pass(90_000);
    expect(lapsed()).toHaveLength(50);
    expect(node.liveness.protections()).toEqual([]);
    expect(node.expired).toHaveLength(50);
    expect(node.heard).toEqual(['protection began', 'protection ended']);
  });

  it('ends when enough have come back, and the few that have not expire', async () => {
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(45_000);
    const dead = crowd.silent.splice(0, 12);
    crowd.recover();
    await crowd.pass(29_000);
    expect(lapsed()).toEqual([]);
    await crowd.pass(3000);
    expect(lapsed()).toHaveLength(dead.length);
    expect(node.heard).toEqual(['protection began', 'protection ended']);
  });

  it('lets explicit stops pass', async () => {
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(45_000);
    await node.register(crowd.beating[0] as Session, 'task-50', 'shutdown');
    expect(bench.task('task-50')).toMatchObject({ status: 'shutdown', statusBefore: '', cause: 'client' });
  });

  it('may come by closed connections, as when a load balancer restarts', async () => {
    const crowd = await Crowd.of(100, 40);
    for (const session of crowd.silent) session.close();
    await crowd.pass(40_000);
    expect(lapsed()).toEqual([]);
    expect(node.liveness.counts()).toMatchObject({ held: 40, closing: 40 });
    // They come back on new connections, and the old ones are forgotten.
    for (let i = 0; i < 40; i++) crowd.beating.push(await node.openWith(`task-${i}`));
    expect(node.liveness.counts()).toMatchObject({ held: 0, closing: 0 });
    await crowd.pass(40_000);
    expect(node.liveness.protections()).toEqual([]);
    expect(lapsed()).toEqual([]);
  });
});

describe('sessions that close', () => {
  it('right after a sign of life count like all others: busy services behind a load balancer', async () => {
    const crowd = await Crowd.of(100, 40);
    // Not at the very moment of a sweep, so that the verdict comes a little later than the TTL.
    await bench.pass(50);
    for (const session of crowd.silent) session.beat();
    for (const session of crowd.silent) session.close();
    await crowd.pass(40_000);
    expect(lapsed()).toEqual([]);
    expect(node.liveness.counts()).toMatchObject({ held: 40, closing: 40 });
  });

  it.each([
    { everyMs: 1500, expired: 15, why: 'the sixteenth within one TTL is one too many of a hundred' },
    { everyMs: 3000, expired: 20, why: 'no more than eleven go within one TTL' },
  ])('one by one without any grace, every $everyMs ms: $why', async ({ everyMs, expired }) => {
    await bench.stop();
    node = await bench.startNode({ reconnectGraceMs: 0 });
    const crowd = await Crowd.of(100, 20);
    await crowd.leaveOneByOne(everyMs);
    expect(lapsed()).toHaveLength(expired);
    expect(node.liveness.counts().held).toBe(20 - expired);
  });

  it('and are waited for longer than a TTL, count with those of the same TTL only', async () => {
    await bench.stop();
    node = await bench.startNode({ reconnectGraceMs: 300_000 });
    const crowd = await Crowd.of(100, 20);
    await crowd.leaveOneByOne(5000);
    await crowd.pass(320_000);
    expect(lapsed()).toHaveLength(20);
    expect(node.heard).toEqual([]);
  });
});

describe('the bound', () => {
  it.each([
    { total: 10, silent: 10, protects: true },
    { total: 66, silent: 10, protects: true },
    { total: 67, silent: 10, protects: false },
    { total: 200, silent: 30, protects: false },
    { total: 200, silent: 31, protects: true },
  ])('of ten and 15 %: $silent of $total', async ({ total, silent, protects }) => {
    const crowd = await Crowd.of(total, silent);
    await crowd.pass(31_000);
    expect(node.heard).toEqual(protects ? ['protection began'] : []);
    expect(lapsed()).toHaveLength(protects ? 0 : silent);
  });

  it('counts nobody twice whose verdict has to wait for the database', async () => {
    const crowd = await Crowd.of(100, 10);
    await crowd.pass(19_000);
    node.connection.tasks.lapse = () => Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
    await crowd.pass(10_000);
    Reflect.deleteProperty(node.connection.tasks, 'lapse');
    await crowd.pass(10_000);
    expect(node.heard).toEqual([]);
    expect(lapsed()).toHaveLength(10);
  });
});

describe('connections without tasks count for nothing', () => {
  const crowdOfMute = async (count: number) => {
    const mute = [];
    for (let i = 0; i < count; i++) mute.push(node.open(`10.9.0.${i}`));
    for (const session of mute) session.beat();
    await bench.pass(1000);
    return mute;
  };

  it('among the lost: twelve that fall silent protect no dead service', async () => {
    const crowd = await Crowd.of(1, 1);
    await crowdOfMute(12);
    await crowd.pass(60_000);
    expect(node.heard).toEqual([]);
    expect(lapsed()).toEqual(['task-0']);
  });

  it('nor among all: a hundred and fifty that beat hide no twenty services that died', async () => {
    const crowd = await Crowd.of(20, 20);
    crowd.beating.push(...(await crowdOfMute(150)));
    await crowd.pass(31_000);
    expect(node.heard).toEqual(['protection began']);
    expect(node.liveness.protections()).toMatchObject([{ protection: { of: 20 } }]);
    expect(lapsed()).toEqual([]);
  });

  it('and neither do those whose tasks have all ended', async () => {
    const crowd = await Crowd.of(40, 20);
    for (const [i, session] of crowd.beating.entries()) await node.register(session, `task-${20 + i}`, 'finish');
    await crowd.pass(31_000);
    expect(node.liveness.protections()).toMatchObject([{ protection: { of: 20 } }]);
  });

  it.each([
    [
      'who then told something more of them',
      async (session: Session, id: string) => {
        await node.register(session, id, 'finish');
        await node.mention(session, id);
      },
    ],
    ['by somebody else', (_session: Session, id: string) => node.setStatus(id, 'finish')],
  ])('and neither do those whose tasks have all ended, %s', async (_how, end) => {
    const crowd = await Crowd.of(162, 12);
    for (const [i, session] of crowd.beating.entries()) await end(session, `task-${12 + i}`);
    await crowd.pass(31_000);
    expect(node.liveness.protections()).toMatchObject([{ protection: { lost: 12, of: 12 } }]);
    expect(lapsed()).toEqual([]);
  });
});

describe('a session counts once', () => {
  it('though it lapses again and again within a TTL', async () => {
    const crowd = await Crowd.of(20, 0);
    const owner = 'token:x';
    const grant = async () => (await node.liveness.leases.grant({ address: '10.0.0.1', owner, ttlMs: 5000 })).sessionId;
    const leases = [await grant(), await grant(), await grant()];
    for (let round = 0; round < 20; round++) {
      for (const lease of leases) await node.register(await node.liveness.leases.sessionOf(lease, owner), lease);
      await crowd.pass(5500);
      for (const lease of leases) expect(bench.task(lease).status).toBe('shutdown');
    }
    expect(node.heard).toEqual([]);
  });
});

describe('sessions of a dead server', () => {
  /** A server with so many sessions dies, and another one waits for them. */
  async function orphans(count: number, name = 'orphan', beating: readonly Session[] = []) {
    const { orphan: before } = node.liveness.counts();
    const dying = await bench.startNode();
    for (let i = 0; i < count; i++) await dying.openWith(`${name}-${i}`, `10.8.0.${i}`);
    await bench.passBeating(11_000, beating);
    dying.kill();
    await bench.passBeating(15_000, beating);
    expect(node.liveness.counts().orphan).toBe(before + count);
  }
  const comeBack = async (count: number, name = 'orphan') => {
    const back: Session[] = [];
    for (let i = 0; i < count; i++) back.push(await node.openWith(`${name}-${i}`, `10.8.0.${i}`));
    return back;
  };

  it('are protected when nobody of them comes back in their grace', async () => {
    await orphans(40);
    await bench.pass(62_000);
    expect(lapsed()).toEqual([]);
    expect(node.heard).toEqual(['protection began']);
    expect(node.liveness.protections()).toMatchObject([{ protection: { lost: 40, of: 40, held: 40 } }]);
    expect(node.liveness.marks.marksOf(bench.task('orphan-0'))).toEqual(['protected']);
    const back = await comeBack(40);
    await bench.passBeating(40_000, back);
    expect(node.heard).toEqual(['protection began', 'protection ended']);
    expect(lapsed()).toEqual([]);
  });

  it.each([
    { count: 40, back: 30, protects: true },
    { count: 40, back: 31, protects: false },
    { count: 80, back: 68, protects: false },
    { count: 80, back: 67, protects: true },
  ])('of $count, $back came back: protected $protects', async ({ count, back, protects }) => {
    await orphans(count);
    const there = await comeBack(back);
    await bench.passBeating(70_000, there);
    expect(node.heard).toEqual(protects ? ['protection began'] : []);
    expect(lapsed()).toHaveLength(protects ? 0 : count - back);
  });

  it('count as back also where they were so before the server was missed', async () => {
    const dying = await bench.startNode();
    for (let i = 0; i < 80; i++) await dying.openWith(`orphan-${i}`, `10.8.0.${i}`);
    await bench.pass(11_000);
    dying.kill();
    const back = await comeBack(69);
    await bench.passBeating(100_000, back);
    expect(node.heard).toEqual([]);
    expect(lapsed()).toHaveLength(11);
  });

  it('are not hidden by those whose tasks had all ended: they have nothing to come back for', async () => {
    const dying = await bench.startNode();
    const all: Session[] = [];
    for (let i = 0; i < 80; i++) {
      all.push(await dying.openWith(`done-${i}`, `10.9.0.${i}`));
      await dying.register(all[i] as Session, `done-${i}`, 'finish', 'update');
    }
    for (let i = 0; i < 12; i++) all.push(await dying.openWith(`orphan-${i}`, `10.8.0.${i}`));
    await bench.passBeating(30_000, all);
    dying.kill();
    await bench.pass(15_000 + 62_000);
    expect(lapsed()).toEqual([]);
    expect(node.liveness.protections()).toMatchObject([{ protection: { lost: 12, of: 12 } }]);
  });

  it('count among themselves: a crowd that lives here does not hide them, and they hide none of it', async () => {
    const crowd = await Crowd.of(200, 0);
    await orphans(20);
    await crowd.pass(62_000);
    expect(node.liveness.protections()).toMatchObject([{ protection: { lost: 20, of: 20 } }]);
  });

  it('are lost when they are, and not for as long as somebody keeps their tasks locked', async () => {
    await orphans(80);
    const back = await comeBack(70);
    const unlock = lockTasks();
    await bench.passBeating(200_000, back);
    await orphans(20, 'later', back);
    back.push(...(await comeBack(19, 'later')));
    await bench.passBeating(70_000, back);
    expect(node.heard).toEqual([]);
    unlock();
    await bench.passBeating(10_000, back);
    expect(lapsed()).toHaveLength(11);
  });

  it('are lost among all that came though their verdicts were withdrawn in between', async () => {
    await orphans(80);
    const back = await comeBack(70);
    lockTasks();
    await bench.passBeating(100_000, back);
    await orphans(20, 'later', back);
    back.push(...(await comeBack(19, 'later')));
    node.cut();
    await bench.passBeating(20_000, back);
    node.mend();
    await bench.passBeating(70_000, back);
    expect(node.heard).toEqual([]);
  });

  it('expire when an administrator says so', async () => {
    await orphans(40);
    await bench.pass(62_000);
    expect(await node.liveness.expireNow('node-1', 'user:boss')).toBe(true);
    await bench.pass(5000);
    expect(lapsed()).toHaveLength(40);
  });

  it('expire in the end', async () => {
    await orphans(40);
    await bench.pass(62_000 + 16 * 60_000, 500);
    expect(lapsed()).toHaveLength(40);
    expect(node.heard).toEqual(['protection began', 'protection ended']);
  });
});

describe('few silent sessions', () => {
  it.each([
    { total: 9, silent: 9, why: 'fewer than ten' },
    { total: 200, silent: 29, why: 'less than 15 %' },
  ])('expire in time: $silent of $total are $why', async ({ total, silent }) => {
    const crowd = await Crowd.of(total, silent);
    await crowd.pass(31_000);
    expect(lapsed()).toHaveLength(silent);
    expect(node.heard).toEqual([]);
  });

  it('are those that close after their tasks have ended: that is how jobs go', async () => {
    const crowd = await Crowd.of(100, 50);
    for (const [i, session] of crowd.silent.entries()) {
      await node.register(session, `task-${i}`, 'finish');
      session.close();
    }
    const dead = await node.openWith('dead');
    dead.close();
    await crowd.pass(40_000);
    expect(node.heard).toEqual([]);
    expect(lapsed()).toEqual(['dead']);
  });

  it('that expire one after the other are not mass silence', async () => {
    const crowd = await Crowd.of(100, 0);
    const mute = { heartbeat: () => {} } as Session;
    for (let i = 0; i < 20; i++) {
      crowd.beating[i] = mute;
      await crowd.pass(5000);
    }
    await crowd.pass(40_000);
    expect(lapsed()).toHaveLength(20);
    expect(node.heard).toEqual([]);
  });

  it('that beat slower than others are no sign of anything', async () => {
    const slow: Session[] = [];
    for (let i = 0; i < 60; i++) slow.push(await node.openWith(`task-${i}`));
    const dead = await node.openWith('dead');
    let seconds = 0;
    const beatSlowly = async (byMs: number) => {
      for (const endS = seconds + byMs / 1000; seconds < endS; seconds++) {
        slow.forEach((session, index) => index % 20 === seconds % 20 && session.heartbeat());
        await bench.pass(1000);
      }
    };
    for (let beats = 0; beats < 12; beats++) {
      dead.heartbeat();
      await beatSlowly(10_000);
    }
    expect(node.liveness.counts().suspect).toBe(0);
    await beatSlowly(40_000);
    expect(lapsed()).toEqual(['dead']);
    expect(node.heard).toEqual([]);
  });
});

describe('an administrator', () => {
  it('lets what is silent expire now, and what had fallen silent too but was not due', async () => {
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(28_000);
    expect(node.heard).toEqual(['protection began']);
    const { held } = node.liveness.counts();
    expect(held).toBeGreaterThan(0);
    expect(held).toBeLessThan(50);
    expect(await node.liveness.expireNow('node-1', 'user:boss')).toBe(true);
    await crowd.pass(5000);
    expect(lapsed()).toHaveLength(50);
    expect(node.heard).toEqual(['protection began', 'protection ended']);
    expect(await node.liveness.nodeEvents(1)).toMatchObject([{ details: { reason: 'operator', actor: 'user:boss' } }]);
  });

  it('holds for the longest time anew, though enough have come back', async () => {
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(45_000);
    expect(await node.liveness.hold('node-1', 'user:boss')).toBe(true);
    crowd.silent.splice(0, 5);
    crowd.recover();
    await crowd.pass(14 * 60_000);
    expect(lapsed()).toEqual([]);
    expect(node.liveness.protections()).toMatchObject([{ protection: { heldBy: 'user:boss', held: 5 } }]);
    await crowd.pass(2 * 60_000);
    expect(lapsed()).toHaveLength(5);
  });

  it('decides on another server too', async () => {
    const other = await bench.startNode();
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(45_000);
    expect(await other.liveness.expireNow('node-1', 'user:boss')).toBe(true);
    await crowd.pass(5000);
    expect(lapsed()).toHaveLength(50);
    expect(await other.liveness.nodeEvents(1)).toMatchObject([
      { node: 'node-1', kind: 'protection_ended', details: { reason: 'operator', actor: 'user:boss', held: 50 } },
    ]);
  });

  it('is obeyed though the answer that brought the decision was lost, and once', async () => {
    const other = await bench.startNode();
    const crowd = await Crowd.of(100, 50);
    await crowd.pass(45_000);
    const renew = node.connection.nodes.renew.bind(node.connection.nodes);
    let lost = 0;
    node.connection.nodes.renew = async (...args) => {
      const renewal = await renew(...args);
      if (renewal.order && lost++ === 0) throw new TaskDashError('STORAGE_UNAVAILABLE');
      return renewal;
    };
    expect(await other.liveness.hold('node-1', 'user:boss')).toBe(true);
    await crowd.pass(10_000);
    expect(lost).toBe(2);
    expect(node.heard).toEqual(['protection began', 'protection held']);
    expect(other.liveness.protections()).toMatchObject([{ protection: { heldBy: 'user:boss' } }]);
  });

  it('has nothing to decide where nothing is protected', async () => {
    expect(await node.liveness.expireNow('node-1', 'user:boss')).toBe(false);
    expect(await node.liveness.hold('node-1', 'user:boss')).toBe(false);
    expect(await node.liveness.hold('nobody', 'user:boss')).toBe(false);
    await bench.startNode();
    expect(await node.liveness.hold('node-2', 'user:boss')).toBe(false);
  });
});

it('protection may be switched off', async () => {
  await bench.stop();
  node = await bench.startNode({ protectionMaxMs: 0 });
  const crowd = await Crowd.of(100, 50);
  await crowd.pass(35_000);
  expect(lapsed()).toHaveLength(50);
});

it('services of a long TTL that died one after the other keep no other one alive', async () => {
  const crowd = await Crowd.of(60, 0);
  const { leases } = node.liveness;
  for (let n = 0; n < 12; n++) {
    const { sessionId } = await leases.grant({ address: '10.1.0.1', owner: 'token:jobs', ttlMs: 200_000 });
    await node.register(await leases.sessionOf(sessionId, 'token:jobs'), `job-${n}`);
    await crowd.pass(8_000);
  }
  await crowd.pass(96_000);
  const [dead] = crowd.beating.splice(0, 1);
  await crowd.pass(45_000);
  expect(dead && lapsed()).toContain('task-0');
  expect(node.heard).toEqual([]);
});
