/**
 * Random lives of a few services on a few servers, against a model in a few lines: a service that has been connected and
 * beating for a while has the statuses it reported; one that has been silent for long has `shutdown` in place of every
 * status that is not an end; in between either may be true.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import type { Session } from '../../server/domain/sessions.js';
import { LivenessBench, type TestNode } from '../support/liveness-bench.js';

/** More find more: TASKDASH_TEST_RUNS=3000 takes a few minutes. */
const RUNS = Number(process.env.TASKDASH_TEST_RUNS ?? 60);
const SERVICES = 4;
const TASKS_EACH = 2;
/** Connected and beating for longer than this: everything is as reported (restart, take-over, look-ups included). */
const SETTLED_MS = 45_000;
/** Silent, with no server dying and no outage, for longer than this: everything that ran is shut down. Most is after
 * 90 s; a minute more where a server died in the very moment in which it had found the database again. */
const GONE_MS = 200_000;

type Step =
  | { do: 'pass'; seconds: number }
  | { do: 'outage'; seconds: number }
  | { do: 'report'; service: number; status: string }
  | { do: 'silence' | 'close'; service: number }
  | { do: 'reconnect'; service: number; node: number; registers: boolean }
  | { do: 'steal'; service: number; task: number }
  | { do: 'kill' | 'restart' | 'stop' | 'cut'; node: number };

/** A service: what it reported, and since when nothing has disturbed it, beating or silent. */
interface Service {
  readonly address: string;
  readonly reported: Map<string, string>;
  node: TestNode | undefined;
  session: Session | undefined;
  beats: boolean;
  sinceMs: number;
  /** It has to be asked for its tasks before it writes again: it believes to be registered. */
  believesUntilMs: number;
}

class Life {
  readonly bench = new LivenessBench();
  readonly services: Service[] = [];

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
      const fixed = { address: `10.0.0.${i}`, reported: new Map(tasks), node: undefined, session: undefined };
      this.services.push({ ...fixed, beats: false, sinceMs: 0, believesUntilMs: 0 });
      await this.reconnect(i, i, true);
    }
  }

  async take(step: Step): Promise<void> {
    if (step.do === 'pass') await this.pass(step.seconds);
    else if (step.do === 'outage') await this.outage(step.seconds);
    else if (step.do === 'report') await this.report(this.of(step.service), step.status);
    else if (step.do === 'reconnect') await this.reconnect(step.service, step.node, step.registers);
    else if (step.do === 'steal') await this.steal(this.of(step.service), step.task);
    else if ('service' in step) this.leave(this.of(step.service), step.do);
    else await this.disturb(this.nodes[step.node % this.nodes.length] as TestNode, step.do);
  }

  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      if (second % 10 === 0) for (const { session, beats } of this.services) if (beats) session?.heartbeat();
      await this.bench.pass(1000, 1000);
      this.check();
    }
  }

  check(): void {
    for (const { reported, beats, sinceMs, session } of this.services) {
      const forMs = this.nowMs - sinceMs;
      for (const [id, status] of reported) {
        const hasEnded = status === 'finish' || status === 'shutdown';
        const stored = this.bench.task(id).status;
        if (hasEnded || (beats && forMs > SETTLED_MS)) expect([id, stored]).toEqual([id, status]);
        else if (!beats && forMs > GONE_MS) expect([id, stored, session?.id]).toEqual([id, 'shutdown', session?.id]);
        else expect([status, 'shutdown']).toContain(stored);
      }
    }
  }

  async outage(seconds: number): Promise<void> {
    const beganAtMs = this.nowMs;
    this.bench.database.failure = new TaskDashError('STORAGE_UNAVAILABLE');
    for (let second = 0; second < seconds; second++) {
      if (second % 10 === 0) for (const { session, beats } of this.services) if (beats) session?.heartbeat();
      await this.bench.pass(1000, 1000);
    }
    this.bench.database.failure = undefined;
    this.onDisturbance(beganAtMs);
    this.check();
  }

  async report(service: Service, status: string): Promise<void> {
    const { session, node, beats } = service;
    if (!session || !node || !beats || this.nowMs < service.believesUntilMs) return;
    for (const id of service.reported.keys()) {
      service.reported.set(id, status);
      await node.register(session, id, status);
    }
    this.check();
  }

  async reconnect(service: number, node: number, registers: boolean): Promise<void> {
    const back = this.of(service);
    back.session?.close();
    const target = this.nodes[node % this.nodes.length];
    if (!target) throw new Error('there are no nodes');
    back.node = target;
    back.session = target.open(back.address);
    back.believesUntilMs = registers ? 0 : this.nowMs + SETTLED_MS;
    if (!back.beats || !registers) back.sinceMs = this.nowMs;
    back.beats = true;
    back.session.heartbeat();
    if (registers) for (const [id, status] of back.reported) await target.register(back.session, id, status);
    this.check();
  }

  async steal(thief: Service, task: number): Promise<void> {
    if (!thief.session || !thief.beats || this.nowMs < thief.believesUntilMs) return;
    const id = `task-${task % SERVICES}-${task % TASKS_EACH}`;
    const victim = this.services.find(({ reported }) => reported.has(id)) as Service;
    victim.reported.delete(id);
    thief.reported.set(id, 'running');
    await thief.node?.register(thief.session, id);
    this.check();
  }

  /** Falls silent on an open connection, or closes it. */
  leave(service: Service, how: 'silence' | 'close'): void {
    if (how !== 'silence') {
      service.session?.close();
      service.session = undefined;
    }
    if (service.beats) service.sinceMs = this.nowMs;
    service.beats = false;
  }

  async disturb(node: TestNode, how: 'kill' | 'restart' | 'stop' | 'cut'): Promise<void> {
    if (how === 'cut') return this.cut(node);
    if (how !== 'restart' && this.nodes.length === 1) return;
    const connected = this.services.filter((service) => service.node === node);
    if (how === 'stop') await this.stop(node, connected);
    else node.kill();
    for (const service of connected) this.leave(service, 'close');
    this.onDisturbance();
    if (how === 'restart') await this.bench.startNode();
    this.check();
  }

  async stop(node: TestNode, connected: readonly Service[]): Promise<void> {
    node.liveness.beginStop();
    for (const { session } of connected) session?.close();
    await node.liveness.stop();
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

  /** Whoever is silent, or had not got its tasks back when the disturbance began, has to be given time anew. */
  onDisturbance(beganAtMs = this.nowMs): void {
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
    }),
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
