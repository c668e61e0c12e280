/**
 * Random lives of a few services on a few servers, against a model in a few lines: a service that has been connected and
 * beating for a while has the statuses it reported; one that has been silent for long has `shutdown` in place of every
 * status that is not an end; in between either may be true. And whatever happens to a task stands in its history, one
 * change after the other, with its cause, its actor, its server and the gap.
 *
 * Every other service is a legacy connection; the rest hold leases, which they take along from server to server.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import type { Session } from '../../server/domain/sessions.js';
import type { FeedEvent } from '../../server/domain/ports.js';
import { hasEnded, type TaskEvent } from '../../server/domain/task.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';

/** More find more: TASKDASH_TEST_RUNS=3000 takes a few minutes. */
const RUNS = Number(process.env.TASKDASH_TEST_RUNS ?? 60);
const SERVICES = 4;
const TASKS_EACH = 2;
const TTL_MS = 30_000;
const FAILOVER_GRACE_MS = 60_000;
/** In whose name leases are held. */
const OWNER = 'token:leased';
/** By how much a gap may differ from the true silence. */
const GAP_TOLERANCE_MS = 1000;
/** Connected and beating for longer than this: everything is as reported (restart, take-over, look-ups included). */
const SETTLED_MS = 45_000;
/** Silent, with no server dying and no outage, for longer than this: everything that ran is shut down. Most is after
 * 90 s; a minute more where a server died in the very moment in which it had found the database again. */
const GONE_MS = 200_000;

type Step =
  | { do: 'pass'; seconds: number }
  | { do: 'outage'; seconds: number }
  | { do: 'report'; service: number; status: string; kind: 'register' | 'update' }
  | { do: 'operate'; service: number }
  | { do: 'revoke'; service: number; node: number; registers: boolean }
  | { do: 'silence' | 'close'; service: number }
  | { do: 'reconnect'; service: number; node: number; registers: boolean }
  | { do: 'steal'; service: number; task: number }
  | { do: 'lose'; node: number; after: number; count: number }
  | { do: 'kill' | 'restart' | 'stop' | 'cut'; node: number };

/** A service: what it reported, and since when nothing has disturbed it, beating or silent. */
interface Service {
  readonly address: string;
  readonly isLeased: boolean;
  readonly reported: Map<string, string>;
  node: TestNode | undefined;
  session: Session | undefined;
  /** The id of its lease; legacy connections have none. */
  leaseId: string | undefined;
  beats: boolean;
  /** The last sign of life, and whether the connection was closed after it. */
  heardMs: number;
  isClosed: boolean;
  sinceMs: number;
  /** It has to be asked for its tasks before it writes again: it believes to be registered. */
  believesUntilMs: number;
  /** It came back without registering, which may or may not have given it its tasks back. */
  isInDoubt: boolean;
}

class Life {
  readonly bench = new LivenessBench();
  readonly services: Service[] = [];
  readonly history = new History(this);

  get nowMs(): number {
    return this.bench.clock.monotonicMs();
  }

  get nodes(): TestNode[] {
    return this.bench.nodes.filter(({ isKilled }) => !isKilled);
  }

  async begin(): Promise<void> {
    await this.bench.startNode();
    await this.bench.startNode();
    for (let i = 0; i < SERVICES; i++) {
      const tasks = Array.from({ length: TASKS_EACH }, (_, k) => [`task-${i}-${k}`, 'running'] as const);
      const fixed = {
        address: `10.0.0.${i}`,
        isLeased: i % 2 === 1,
        reported: new Map(tasks),
        node: undefined,
        session: undefined,
      };
      this.services.push({
        ...fixed,
        leaseId: undefined,
        beats: false,
        heardMs: 0,
        isClosed: false,
        sinceMs: 0,
        believesUntilMs: 0,
        isInDoubt: false,
      });
      await this.reconnect(i, i, true);
    }
  }

  async take(step: Step): Promise<void> {
    if (step.do === 'pass') await this.pass(step.seconds);
    else if (step.do === 'outage') await this.outage(step.seconds);
    else if (step.do === 'report') await this.report(this.of(step.service), step.status, step.kind);
    else if (step.do === 'operate') await this.operate(this.of(step.service));
    else if (step.do === 'revoke') await this.revoke(this.of(step.service), step.node, step.registers);
    else if (step.do === 'reconnect') await this.reconnect(step.service, step.node, step.registers);
    else if (step.do === 'steal') await this.steal(this.of(step.service), step.task);
    else if (step.do === 'lose') await this.lose(step);
    else if ('service' in step) this.leave(this.of(step.service), step.do);
    else await this.disturb(this.nodes[step.node % this.nodes.length] as TestNode, step.do);
  }

  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      if (second % 10 === 0) await this.beat();
      await this.bench.pass(1000, 1000);
      this.check();
    }
  }

  async beat(): Promise<void> {
    for (const service of this.services) {
      if (!service.beats || !service.node) continue;
      service.heardMs = this.nowMs;
      if (service.leaseId === undefined) service.session?.heartbeat();
      else await this.keepAlive(service, service.node, 'renew');
    }
  }

  /** A lease that nobody knows any more is granted anew, and the tasks are registered again, as clients do. */
  async keepAlive(service: Service, node: TestNode, how: 'renew' | 'use' = 'use'): Promise<void> {
    try {
      if (how === 'renew') await node.liveness.leases.renew(service.leaseId ?? '', OWNER);
      else service.session = await node.liveness.leases.sessionOf(service.leaseId ?? '', OWNER);
    } catch (error) {
      const { code } = error as TaskDashError;
      if (code === 'LEASE_NOT_FOUND') return this.register(service, node);
      if (code !== 'STORAGE_UNAVAILABLE') throw error;
      // Not heard: the server has to ask the database, which is away.
      service.sinceMs = this.nowMs;
      service.believesUntilMs = this.nowMs + SETTLED_MS;
    }
  }

  /** Begins a connection or a lease. */
  async register(service: Service, node: TestNode): Promise<void> {
    if (service.isLeased) {
      service.leaseId = (await node.liveness.leases.grant({ address: service.address, owner: OWNER })).sessionId;
      service.session = await node.liveness.leases.sessionOf(service.leaseId, OWNER);
    }
    for (const [id, status] of service.reported) await node.register(service.session as Session, id, status);
  }

  check(): void {
    this.history.check();
    for (const { reported, beats, sinceMs, session, isInDoubt } of this.services) {
      const forMs = this.nowMs - sinceMs;
      for (const [id, status] of reported) {
        const stored = this.bench.task(id).status;
        if (hasEnded(status) || (beats && !isInDoubt && forMs > SETTLED_MS)) expect([id, stored]).toEqual([id, status]);
        else if (!beats && forMs > GONE_MS) expect([id, stored, session?.id]).toEqual([id, 'shutdown', session?.id]);
        else expect([status, 'shutdown']).toContain(stored);
      }
    }
  }

  async outage(seconds: number): Promise<void> {
    const beganAtMs = this.nowMs;
    this.bench.database.failure = new TaskDashError('STORAGE_UNAVAILABLE');
    for (let second = 0; second < seconds; second++) {
      if (second % 10 === 0) await this.beat();
      await this.bench.pass(1000, 1000);
    }
    this.bench.database.failure = undefined;
    this.onDisturbance(beganAtMs);
    this.check();
  }

  async report(service: Service, status: string, kind: 'register' | 'update'): Promise<void> {
    const { node, beats } = service;
    if (!node || !beats || this.nowMs < service.believesUntilMs) return;
    if (service.leaseId !== undefined) await this.keepAlive(service, node);
    service.heardMs = this.nowMs;
    service.isInDoubt = false;
    for (const id of service.reported.keys()) {
      service.reported.set(id, status);
      await node.register(service.session as Session, id, status, kind);
    }
    this.check();
  }

  /** An operator sets a task to shutdown, which nobody but its service undoes. */
  async operate(service: Service): Promise<void> {
    const [id] = service.reported.keys();
    if (id === undefined) return;
    service.reported.set(id, 'shutdown');
    const fixed = { kind: 'update', addr: undefined, sessionId: undefined, groups: 'every' } as const;
    const by = { cause: 'operator', actor: 'user:boss', expectedRevision: undefined, returnsTask: false } as const;
    await this.nodes[0]?.connection.tasks.submit({ ...fixed, ...by, id, texts: { status: 'shutdown' } });
    this.check();
  }

  /** The service with the lease says goodbye at a server, while it registers a task at its own. */
  async revoke(service: Service, node: number, registers: boolean): Promise<void> {
    if (!service.node || service.leaseId === undefined || !service.beats) return;
    if (this.nowMs < service.believesUntilMs) return;
    await this.keepAlive(service, service.node);
    const [id, status] = [...service.reported][0] ?? [];
    const target = this.nodes[node % this.nodes.length] as TestNode;
    const revoking = target.liveness.leases.revoke(service.leaseId, OWNER);
    if (registers && id !== undefined && !hasEnded(status ?? ''))
      await service.node.register(service.session as Session, id, status);
    await revoking;
    for (const [id, status] of service.reported) if (!hasEnded(status)) service.reported.set(id, 'shutdown');
    service.heardMs = this.nowMs;
    this.leave(service, 'close');
    this.check();
  }

  async reconnect(service: number, node: number, registers: boolean): Promise<void> {
    const back = this.of(service);
    const target = this.nodes[node % this.nodes.length];
    if (!target) throw new Error('there are no nodes');
    back.node = target;
    back.isClosed = false;
    back.isInDoubt = !registers && !back.isLeased;
    back.believesUntilMs = registers ? 0 : this.nowMs + SETTLED_MS;
    if (!back.beats || !registers) back.sinceMs = this.nowMs;
    back.beats = true;
    if (back.leaseId === undefined) {
      back.session?.close();
      back.session = target.open(back.address);
      if (!back.isLeased) back.session.heartbeat();
    }
    if (registers) await this.register(back, target);
    else if (back.leaseId !== undefined) await this.keepAlive(back, target);
    back.heardMs = this.nowMs;
    this.check();
  }

  async steal(thief: Service, task: number): Promise<void> {
    if (!thief.node || !thief.beats || this.nowMs < thief.believesUntilMs) return;
    if (thief.leaseId !== undefined) await this.keepAlive(thief, thief.node);
    const id = `task-${task % SERVICES}-${task % TASKS_EACH}`;
    const victim = this.services.find(({ reported }) => reported.has(id)) as Service;
    victim.reported.delete(id);
    thief.reported.set(id, 'running');
    thief.heardMs = this.nowMs;
    await thief.node.register(thief.session as Session, id);
    this.check();
  }

  /** Falls silent on an open connection, or closes it. */
  leave(service: Service, how: 'silence' | 'close'): void {
    if (how !== 'silence' && service.leaseId === undefined) {
      service.session?.close();
      service.session = undefined;
    }
    if (how === 'close' && service.leaseId === undefined) service.isClosed = true;
    if (service.beats) service.sinceMs = this.nowMs;
    service.beats = false;
  }

  async disturb(node: TestNode, how: 'kill' | 'restart' | 'stop' | 'cut'): Promise<void> {
    if (how === 'cut') return this.cut(node);
    if (how !== 'restart' && this.nodes.length === 1) return;
    const connected = this.services.filter((service) => service.node === node);
    if (how === 'stop') await this.stop(node, connected);
    else node.kill();
    this.history.onDead(node);
    for (const service of connected) this.leave(service, 'close');
    this.onDisturbance();
    if (how === 'restart') await this.bench.startNode();
    this.check();
  }

  async stop(node: TestNode, connected: readonly Service[]): Promise<void> {
    node.liveness.beginStop();
    for (const { session, leaseId } of connected) if (leaseId === undefined) session?.close();
    await node.stop();
    node.kill();
  }

  /** The way to the database is cut for longer than the lease, and shorter than the failover grace. */
  async cut(node: TestNode): Promise<void> {
    const beganAtMs = this.nowMs;
    node.cut();
    await this.pass(30);
    node.mend();
    await this.pass(10);
    this.onDisturbance(beganAtMs);
  }

  /** The answers to some statements are lost that a server sends by itself. */
  async lose({ node, after, count }: { node: number; after: number; count: number }): Promise<void> {
    const beganAtMs = this.nowMs;
    const { connection } = this.nodes[node % this.nodes.length] as TestNode;
    connection.losing = { after, count };
    await this.pass(15);
    connection.losing = { after: 0, count: 0 };
    this.onDisturbance(beganAtMs);
  }

  /** A server died, or lost its way to the database. */
  isDisturbed = false;

  /** Whoever is silent, or had not got its tasks back when the disturbance began, has to be given time anew. */
  onDisturbance(beganAtMs = this.nowMs): void {
    this.isDisturbed = true;
    for (const service of this.services) {
      const isWaiting = beganAtMs < service.believesUntilMs;
      if (isWaiting || !service.beats) service.sinceMs = this.nowMs;
      if (isWaiting) service.believesUntilMs = this.nowMs + SETTLED_MS;
    }
  }

  of(index: number): Service {
    return this.services[index % SERVICES] as Service;
  }
}

/** What the history of the tasks has to look like, read as it grows. */
class History {
  #read = 0;
  readonly #latest = new Map<string, TaskEvent>();
  readonly #lapses = new Map<string, TaskEvent>();
  readonly #diedAtMs = new Map<string, number>();

  constructor(private readonly life: Life) {}

  onDead(node: TestNode): void {
    this.#diedAtMs.set(node.name, this.life.nowMs);
  }

  check(): void {
    const { history } = this.life.bench.database.written;
    for (; this.#read < history.length; this.#read++) this.#checkEvent((history[this.#read] as FeedEvent).event);
  }

  #checkEvent(event: TaskEvent): void {
    const { taskId, kind, fromStatus, toStatus, cause, actor, gapMs, node } = event;
    const told = JSON.stringify(event);
    expect(fromStatus, told).toBe(this.#latest.get(taskId)?.toStatus ?? '');
    expect(
      this.life.bench.nodes.map(({ name }) => name),
      told,
    ).toContain(node);
    const atMs = this.life.nowMs - (this.life.bench.clock.now().getTime() - event.at.getTime());
    expect(this.#diedAtMs.get(node) ?? Infinity, told).toBeGreaterThanOrEqual(atMs);
    if (kind === 'lapsed') {
      expect([toStatus, actor], told).toEqual(['shutdown', 'server']);
      expect(['heartbeat_timeout', 'connection_closed', 'node_failover'], told).toContain(cause);
      expect(gapMs, told).toBeGreaterThanOrEqual(cause === 'node_failover' ? FAILOVER_GRACE_MS : TTL_MS);
      this.#checkSilence(event, atMs);
      this.#lapses.set(taskId, event);
    } else if (kind === 'restored') {
      const lapse = this.#lapses.get(taskId) as TaskEvent;
      expect([fromStatus, cause], told).toEqual(['shutdown', 'restored']);
      expect(gapMs, told).toBe((lapse.gapMs as number) + event.at.getTime() - lapse.at.getTime());
      expect(actor, told).toMatch(/^(test|service:10\.0\.0\.\d|token:leased)$/);
    } else {
      expect([cause, gapMs], told).toEqual([actor === 'user:boss' ? 'operator' : 'client', null]);
      expect(actor, told).toMatch(/^(test|service:10\.0\.0\.\d|token:leased|user:boss)$/);
    }
    this.#latest.set(taskId, event);
  }

  /** The gap of a service that is still gone is how long it really has been, and the cause is how it went. */
  #checkSilence({ taskId, gapMs, cause }: TaskEvent, atMs: number): void {
    const service = this.life.services.find(({ reported }) => reported.has(taskId));
    // Who was gone again before it had its tasks back was judged for the time before.
    if (!service || service.beats || service.heardMs <= service.believesUntilMs) return;
    // What a dead server had heard, nobody knows.
    if (cause === 'node_failover') return expect(this.life.isDisturbed).toBe(true);
    expect(Math.abs(atMs - service.heardMs - (gapMs as number)), taskId).toBeLessThanOrEqual(GAP_TOLERANCE_MS);
    expect(cause, taskId).toBe(service.isClosed ? 'connection_closed' : 'heartbeat_timeout');
  }
}

const index = fc.nat({ max: 7 });
const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('pass' as const), seconds: fc.integer({ min: 1, max: 220 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('outage' as const), seconds: fc.integer({ min: 1, max: 90 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('report' as const),
      service: index,
      status: fc.constantFrom('running', 'restart', 'finish', 'shutdown', 'paused'),
      kind: fc.constantFrom('register' as const, 'update' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('operate' as const), service: index }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('revoke' as const), service: index, node: index, registers: fc.boolean() }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('silence' as const, 'close' as const), service: index }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('reconnect' as const),
      service: index,
      node: index,
      registers: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('lose' as const),
      node: index,
      after: fc.nat({ max: 20 }),
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('steal' as const), service: index, task: index }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('kill' as const, 'restart' as const, 'stop' as const, 'cut' as const),
      node: index,
    }),
  },
);

it(
  'a service that beats has its statuses, one that is gone has shutdown, whatever happens around them',
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(stepArbitrary, { minLength: 5, maxLength: 25 }), async (steps) => {
        const life = new Life();
        try {
          await life.begin();
          for (const step of steps) await life.take(step);
        } finally {
          await life.bench.stop();
        }
      }),
      { numRuns: RUNS },
    );
  },
  RUNS * 1000,
);
