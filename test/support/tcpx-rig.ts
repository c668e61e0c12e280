/** The legacy door on a real socket, over real registry and batchers, with stores and sessions in memory. */
import { systemClock, type Clock } from '../../server/domain/clock.js';
import type { Log } from '../../server/domain/ports.js';
import { ReadBatcher } from '../../server/domain/read-batcher.js';
import type { Session, SessionHost, SessionOpening } from '../../server/domain/sessions.js';
import { TaskRegistry } from '../../server/domain/task-registry.js';
import { TokenSealer } from '../../server/domain/token-sealer.js';
import { WriteBatcher } from '../../server/domain/write-batcher.js';
import type { TcpxLimits } from '../../server/transports/tcpx/limits.js';
import { TcpxServer, type TcpxServerOptions } from '../../server/transports/tcpx/server.js';
import type { TcpxMetrics } from '../../server/transports/tcpx/tcpx-metrics.js';
import { silentLog } from './silent-log.js';
import { TcpxClient, type TcpxClientOptions } from './tcpx-client.js';
import { TcpxTaskStore } from './tcpx-task-store.js';

/** A session that notes what happens to it. */
export class NotedSession implements Session {
  readonly door = 'tcp';
  readonly isLease = false;
  beats = 0;
  heartbeats = 0;
  closed = false;
  readonly claims: string[] = [];
  owner: string | undefined;

  constructor(
    readonly id: string,
    private readonly opening: SessionOpening,
  ) {}

  get address(): string {
    return this.opening.address;
  }

  beat(): void {
    this.beats++;
  }

  heartbeat(): void {
    this.heartbeats++;
  }

  began(): void {
    // No lease.
  }

  identify(owner: string): void {
    this.owner = owner;
  }

  close(): void {
    this.closed = true;
  }

  claimed(taskId: string): void {
    this.claims.push(taskId);
  }

  concluded(taskId: string): void {
    this.claims.splice(this.claims.indexOf(taskId) >>> 0, 1);
  }

  /** What the registry does when the session was silent for too long. */
  expire(): void {
    this.opening.onExpired();
  }
}

export class NotedSessions implements SessionHost {
  readonly opened: NotedSession[] = [];

  open(opening: SessionOpening): Session {
    const session = new NotedSession(`session-${this.opened.length + 1}`, opening);
    this.opened.push(session);
    return session;
  }
}

/** Counts under names such as `frame heartbeat`, `closed client`, `error 1000`, `bytes read`, `times written`. */
export class NotedMetrics implements TcpxMetrics {
  readonly counts = new Map<string, number>();

  connection(event: string, reason: string): void {
    this.#add(`${event} ${reason}`.trim());
  }

  frame(kind: string): void {
    this.#add(`frame ${kind}`);
  }

  error(errid: number): void {
    this.#add(`error ${errid}`);
  }

  bytes(direction: string, count: number): void {
    this.#add(`bytes ${direction}`, count);
    this.#add(`times ${direction}`);
  }

  of(name: string): number {
    return this.counts.get(name) ?? 0;
  }

  #add(name: string, count = 1): void {
    this.counts.set(name, this.of(name) + count);
  }
}

/** What a test sets. */
export interface TcpxRigOptions {
  readonly limits?: Partial<TcpxLimits>;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly host?: string;
  readonly writeCapacity?: number;
  readonly readCapacity?: number;
  readonly deadlineMs?: number;
  readonly server?: Partial<TcpxServerOptions>;
}

export class TcpxRig {
  readonly store = new TcpxTaskStore();
  readonly sessions = new NotedSessions();
  readonly metrics = new NotedMetrics();
  readonly batcher: WriteBatcher;
  readonly reader: ReadBatcher;
  readonly registry: TaskRegistry;
  readonly server: TcpxServer;
  readonly #clients: TcpxClient[] = [];

  private constructor(options: TcpxRigOptions) {
    const { clock = systemClock, deadlineMs = 5_000, writeCapacity = 10_000, readCapacity = 10_000 } = options;
    this.batcher = new WriteBatcher(this.store, clock, {
      maxBatch: 1000,
      maxInFlight: 2,
      capacity: writeCapacity,
      deadlineMs,
    });
    this.reader = new ReadBatcher(this.store, clock, { capacity: readCapacity, deadlineMs });
    const hints = { announce: () => {} };
    this.registry = new TaskRegistry(this.store, this.batcher, hints, new TokenSealer(Buffer.alloc(32)), this.reader);
    this.server = new TcpxServer({
      registry: this.registry,
      room: this.batcher,
      readRoom: this.reader,
      sessions: this.sessions,
      metrics: this.metrics,
      log: options.log ?? silentLog,
      clock,
      limits: options.limits ?? {},
      ...options.server,
    });
  }

  /** A door that listens on a free port. */
  static async start(options: TcpxRigOptions = {}): Promise<TcpxRig> {
    const rig = new TcpxRig(options);
    await rig.server.start({ host: options.host ?? '127.0.0.1', port: 0 });
    return rig;
  }

  /** A client of the door, closed with the rig. */
  async connect(options: TcpxClientOptions = {}): Promise<TcpxClient> {
    const client = await TcpxClient.connect(this.server.address, options);
    this.#clients.push(client);
    return client;
  }

  /** Closes clients and door. */
  async stop(): Promise<void> {
    this.store.resume();
    await Promise.all(this.#clients.map((client) => client.close()));
    await this.server.stop(1_000);
    await Promise.all([this.batcher.stop(), this.reader.stop()]);
  }
}

/** Waits until something is so, looking at it in every turn of the event loop; throws when it takes too long. */
export async function until(what: string, holds: () => boolean, deadlineMs = 5_000): Promise<void> {
  const endsAtMs = performance.now() + deadlineMs;
  while (!holds()) {
    if (performance.now() > endsAtMs) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
