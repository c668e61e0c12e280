import { randomUUID } from 'node:crypto';
import type { Clock, Timer } from '../../server/domain/clock.js';
import { Deadline } from '../../server/domain/deadline.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { Liveness, type LivenessOptions } from '../../server/domain/liveness.js';
import { Patience } from '../../server/domain/patience.js';
import type { Log, TaskWrite } from '../../server/domain/ports.js';
import type { Session, SessionOpening } from '../../server/domain/sessions.js';
import { hasEnded } from '../../server/domain/task.js';
import { tellClaimant } from '../../server/domain/task-registry.js';
import { ManualClock } from './manual-clock.js';
import { MemoryConnection, MemoryDatabase } from './memory-liveness-stores.js';
import type { StoredTask } from './memory-task-store.js';

/** A log that keeps its lines. */
export class KeptLog implements Log {
  readonly lines: { level: string; message: string; details: object }[] = [];
  debug = this.#keep('debug');
  info = this.#keep('info');
  warn = this.#keep('warn');
  error = this.#keep('error');

  #keep(level: string) {
    return (details: object, message: string) => void this.lines.push({ level, message, details });
  }
}

/** Lets everything that only waits for promises happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 60; turn++) await Promise.resolve();
}

/** The clock as one process sees it: it can be stopped, continued, and killed. */
export class ProcessClock implements Clock {
  #state: 'running' | 'stopped' | 'killed' = 'running';
  #deferred: (() => void)[] = [];

  constructor(private readonly machine: Clock) {}

  now(): Date {
    return this.machine.now();
  }

  monotonicMs(): number {
    return this.machine.monotonicMs();
  }

  schedule(delayMs: number, callback: () => void): Timer {
    return this.machine.schedule(delayMs, () => {
      if (this.#state === 'running') callback();
      else this.#deferred.push(callback);
    });
  }

  stop(): void {
    this.#state = 'stopped';
  }

  continue(): void {
    this.#state = 'running';
    for (const callback of this.#deferred.splice(0)) callback();
  }

  kill(): void {
    this.#state = 'killed';
  }
}

/** One database, one clock, and as many nodes as are started; time passes for all of them. */
export class LivenessBench {
  readonly clock = new ManualClock();
  readonly database = new MemoryDatabase(this.clock);
  readonly nodes: TestNode[] = [];

  /** Starts a server. */
  async startNode(options: Partial<LivenessOptions> = {}): Promise<TestNode> {
    const node = new TestNode(this, `node-${this.nodes.length + 1}`, options);
    this.nodes.push(node);
    await node.liveness.start();
    return node;
  }

  /** Moves time on; an answer of the database takes up to `stepMs`. */
  async pass(byMs: number, stepMs = 50): Promise<void> {
    for (let leftMs = byMs; leftMs > 0; leftMs -= stepMs) {
      this.clock.advance(Math.min(stepMs, leftMs));
      await settle();
    }
  }

  /** Lets time pass while sessions beat as they should. */
  async passBeating(byMs: number, sessions: readonly Session[], everyMs = 10_000): Promise<void> {
    for (let leftMs = byMs; leftMs > 0; leftMs -= everyMs) {
      for (const session of sessions) session.heartbeat();
      await this.pass(Math.min(everyMs, leftMs));
    }
  }

  task(id: string): StoredTask {
    const task = this.database.tasks.get(id);
    if (!task) throw new Error(`no task ${id}`);
    return task;
  }

  async stop(): Promise<void> {
    const running = this.nodes.filter(({ isKilled }) => !isKilled);
    for (const node of running) node.mend();
    await Promise.all(running.map((node) => node.stop()));
  }
}

/** A server with its own connection to the database. */
export class TestNode {
  readonly connection: MemoryConnection;
  readonly log = new KeptLog();
  readonly liveness: Liveness;
  readonly expired: string[] = [];
  readonly heard: string[] = [];
  readonly id = randomUUID();
  readonly process: ProcessClock;
  isKilled = false;
  hints = 0;

  constructor(
    readonly bench: LivenessBench,
    readonly name: string,
    options: Partial<LivenessOptions>,
  ) {
    this.connection = new MemoryConnection(bench.database, name);
    this.process = new ProcessClock(bench.clock);
    this.liveness = new Liveness({
      node: { id: this.id, name },
      lapses: this.connection.tasks,
      writes: this.connection.tasks,
      nodes: this.connection.nodes,
      sessions: this.connection.sessions,
      hints: { announce: () => void this.hints++ },
      beats: this.connection.beats,
      questions: this.connection.questions,
      patience: new Patience(this.process, { deadlineMs: 5000, maxWaiting: 1000 }),
      leaseMovesAtOnce: 4,
      clock: this.process,
      log: this.log,
      ttlMs: 30_000,
      reconnectGraceMs: undefined,
      events: { onProtection: ({ kind }) => this.heard.push(`protection ${kind}`) },
      ...options,
    });
  }

  /** Stops in order. */
  stop(withinMs = 60_000): Promise<void> {
    return this.liveness.stop(new Deadline(this.bench.clock, withinMs));
  }

  /** A connection. */
  open(address = '10.0.0.1', opening: Partial<SessionOpening> = {}): Session {
    const onExpired = () => this.expired.push(session.id);
    const session = this.liveness.open({ door: 'tcp', address, onExpired, ...opening });
    return session;
  }

  /** A durable register or update, as the registry reports it to the session. */
  async register(
    session: Session,
    taskId: string,
    status = 'running',
    kind: TaskWrite['kind'] = 'register',
  ): Promise<void> {
    session.beat();
    const texts = { status, ...(kind === 'register' && { user: 'ssx', group_id: 'mx' }) };
    await this.#write({ kind, id: taskId, texts }, session);
  }

  /** A durable update of other texts than the status. */
  async mention(session: Session, taskId: string): Promise<void> {
    await this.#write({ kind: 'update', id: taskId, texts: { stop_time: '2026-01-01' } }, session);
  }

  /** A durable update by somebody who claims nothing, through this server. */
  async setStatus(taskId: string, status: string): Promise<void> {
    await this.#write({ kind: 'update', id: taskId, texts: { status } });
  }

  async #write(change: Pick<TaskWrite, 'kind' | 'id' | 'texts'>, session?: Session): Promise<void> {
    const writing = this.connection.tasks.submit({
      ...change,
      addr: session?.address,
      sessionId: session?.id,
      isLease: session?.isLease,
      cause: 'client',
      actor: 'test',
      groups: 'every',
      expectedRevision: undefined,
      returnsTask: false,
    });
    session?.began(writing);
    const result = await writing;
    if (result.outcome !== 'written') return;
    if (session) tellClaimant(session, change.id, result);
    else if (hasEnded(result.status)) this.liveness.onEnded(change.id, result.epoch);
  }

  /** A connection that holds a task. */
  async openWith(taskId: string, address?: string, opening?: Partial<SessionOpening>): Promise<Session> {
    const session = this.open(address, opening);
    await this.register(session, taskId);
    return session;
  }

  /** Whether this server opened a session. */
  owns(sessionId: string): boolean {
    return sessionId.startsWith(this.id.slice(0, 13));
  }

  /** kill -9: nothing of this server runs any more. */
  kill(): void {
    this.process.kill();
    this.cut();
    this.isKilled = true;
  }

  /** Cuts the way to the database. */
  cut(): void {
    this.connection.failure = new TaskDashError('STORAGE_UNAVAILABLE');
  }

  /** Mends the way to the database. */
  mend(): void {
    this.connection.failure = undefined;
  }
}
