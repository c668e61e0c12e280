/**
 * A client for services: registers tasks, keeps them alive, and says how they end.
 *
 *   new ──start──► connecting ──lease granted, tasks registered──► alive ──stop──► stopped
 *                      ▲ │                                           │ ▲
 *                      │ └── not reached: wait, longer each time ──┐ │ │
 *                      └──────────────── a beat failed ◄───────────┴─┘ │
 *                                          └── lease still there ──────┘
 *
 * Invariants
 * - Whatever happens to network or server, the client goes on until `stop`: waits grow from half a second to ten, each
 *   a little different, and never so long that a lease which could be kept is lost for it.
 * - When the lease is gone, every task that has not ended is registered again, as it was last reported, under a new one.
 * - No call waits longer than `timeoutMs`.
 */
import { Code, ConnectError, createClient, type Client } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { authorized } from './authorized-transport.js';
import { durationFromMs, durationMs } from '@bufbuild/protobuf/wkt';
import { ErrorInfoSchema } from '../proto/gen/google/rpc/error_details_pb.js';
import { LeaseService, type Lease } from '../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../proto/gen/taskdash/task/v1/task_service_pb.js';

/** A task as a service reports it; what is left out is empty. */
export interface TaskReport {
  readonly id: string;
  readonly name?: string;
  readonly url?: string;
  readonly user?: string;
  readonly groupId?: string;
  readonly description?: string;
  /** "running" by default. */
  readonly status?: string;
  readonly startTime?: string;
  readonly stopTime?: string;
}

/** How to reach TaskDash. */
export interface TaskDashClientOptions {
  /** The gRPC door, such as http://127.0.0.1:50051. */
  readonly url: string;
  /** A service token with the scope "register". */
  readonly token: string;
  /** How long this service may be silent before its tasks count as shut down; the server's default if left out. */
  readonly ttlMs?: number;
  /** How long a call may take; 5000 if left out. */
  readonly timeoutMs?: number;
  /** Told when the connection to TaskDash is lost or found again; a service works on either way. */
  readonly onState?: (state: ClientState, error?: ConnectError) => void;
}

/** How the client stands. */
export type ClientState = 'connecting' | 'alive' | 'stopped';

const TIMEOUT_MS = 5_000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 10_000;
const BATCH_SIZE = 500;

export class TaskDashClient {
  readonly #leases: Client<typeof LeaseService>;
  readonly #tasks: Client<typeof TaskService>;
  readonly #reports = new Map<string, TaskReport>();
  readonly #timeoutMs: number;
  #lease: Lease | undefined;
  #state: ClientState = 'connecting';
  #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #connected = deferred();

  constructor(private readonly options: TaskDashClientOptions) {
    const transport = authorized(createGrpcTransport({ baseUrl: options.url }), options.token);
    this.#leases = createClient(LeaseService, transport);
    this.#tasks = createClient(TaskService, transport);
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  }

  /** How the client stands now. */
  get state(): ClientState {
    return this.#state;
  }

  /** Connects, and keeps connected until `stop`; resolves when it is alive for the first time. Idempotent. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#connected.promise;
  }

  /**
   * Reports a task and remembers it: it is registered again whenever that is needed. Resolves when the registry has it.
   * Rejects with a ConnectError when the record is refused; when the registry is not reached it waits, for as long as the
   * client runs.
   */
  async register(report: TaskReport): Promise<void> {
    this.#reports.set(report.id, report);
    for (;;) {
      await this.start();
      try {
        await this.#tasks.registerTask({ task: report, leaseId: this.#leaseId() }, this.#callOptions());
        return;
      } catch (thrown) {
        await this.#afterFailure(report.id, thrown);
      }
    }
  }

  /** Reports what changed of a task that was registered. Resolves and rejects as `register` does. */
  async update(id: string, changes: Omit<TaskReport, 'id'>): Promise<void> {
    const before = this.#reports.get(id);
    if (!before) throw new Error(`The task ${JSON.stringify(id)} was not registered by this client, or has ended.`);
    return this.register({ ...before, ...changes, id });
  }

  /** Reports that a task ended as planned, now if no other time is given, and forgets it. */
  async finish(id: string, stopTime = new Date().toISOString()): Promise<void> {
    await this.update(id, { status: 'finish', stopTime });
    this.#reports.delete(id);
  }

  /** Says goodbye: tasks that have not ended become "shutdown" at once. Never rejects for a registry that is not reached. */
  async stop(): Promise<void> {
    if (this.#state === 'stopped') return;
    this.#stopping.abort();
    await this.#running;
    this.#setState('stopped');
    this.#connected.reject(new ConnectError('the client was stopped', Code.Canceled));
    if (!this.#lease) return;
    try {
      await this.#leases.revokeLease({ leaseId: this.#lease.id }, { timeoutMs: this.#timeoutMs });
    } catch (thrown) {
      // The lease ends by itself; whoever wants to know is told.
      this.options.onState?.('stopped', ConnectError.from(thrown));
    }
  }

  /** Connects and beats in turn until stopped. */
  async #run(): Promise<void> {
    let retryMs = RETRY_FIRST_MS;
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#connect();
        retryMs = RETRY_FIRST_MS;
        await this.#beatUntilLost();
      } catch (thrown) {
        this.#setState('connecting', ConnectError.from(thrown));
        await this.#pause(retryMs * (0.5 + Math.random()));
        retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
      }
    }
  }

  /** Has a lease that is alive, with every task under it. */
  async #connect(): Promise<void> {
    if (this.#lease && (await this.#renew(this.#lease.id))) return this.#setState('alive');
    const ttl = this.options.ttlMs === undefined ? {} : { ttl: durationFromMs(this.options.ttlMs) };
    const { lease } = await this.#leases.grantLease(ttl, this.#callOptions());
    const reports = [...this.#reports.values()];
    for (let n = 0; n < reports.length; n += BATCH_SIZE) {
      await this.#tasks.batchRegisterTasks(
        { tasks: reports.slice(n, n + BATCH_SIZE), leaseId: lease?.id ?? '' },
        this.#callOptions(),
      );
    }
    this.#lease = lease;
    this.#setState('alive');
  }

  async #beatUntilLost(): Promise<void> {
    while (this.#lease && !this.#stopping.signal.aborted) {
      await this.#pause(this.#lease.nextBeatIn ? durationMs(this.#lease.nextBeatIn) : RETRY_MAX_MS);
      if (this.#stopping.signal.aborted) return;
      if (!(await this.#renew(this.#lease.id))) return;
    }
  }

  /** Beats once; false when there is no such lease any more. Throws when the registry is not reached. */
  async #renew(leaseId: string): Promise<boolean> {
    try {
      this.#lease = (await this.#leases.renewLease({ leaseId }, this.#callOptions())).lease;
      return true;
    } catch (thrown) {
      if (ConnectError.from(thrown).code !== Code.NotFound) throw thrown;
      this.#lease = undefined;
      this.#setState('connecting', ConnectError.from(thrown));
      return false;
    }
  }

  /** Decides about a write that failed: rejects what is wrong with it, and waits where trying again helps. */
  async #afterFailure(id: string, thrown: unknown): Promise<void> {
    const error = ConnectError.from(thrown);
    if (this.#stopping.signal.aborted) throw error;
    const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
    if (!PASSING.has(error.code) && reason !== 'LEASE_NOT_FOUND') {
      this.#reports.delete(id);
      throw error;
    }
    await this.#pause(RETRY_FIRST_MS * (0.5 + Math.random()));
  }

  #leaseId(): string {
    if (this.#lease) return this.#lease.id;
    throw new ConnectError('there is no lease at the moment', Code.Unavailable);
  }

  #callOptions() {
    return { timeoutMs: this.#timeoutMs, signal: this.#stopping.signal };
  }

  #setState(state: ClientState, error?: ConnectError): void {
    if (state === 'alive') this.#connected.resolve();
    else if (this.#state === 'alive') this.#connected = deferred();
    if (this.#state === state && !error) return;
    this.#state = state;
    this.options.onState?.(state, error);
  }

  #pause(forMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stopping.signal.aborted) return resolve();
      const finish = () => {
        clearTimeout(timer);
        this.#stopping.signal.removeEventListener('abort', finish);
        resolve();
      };
      const timer = setTimeout(finish, forMs);
      this.#stopping.signal.addEventListener('abort', finish);
    });
  }
}

/** Failures that may pass: trying again is the cure. */
const PASSING: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Aborted,
  Code.Internal,
  Code.Canceled,
]);

interface Deferred {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

function deferred(): Deferred {
  let resolve: () => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  // Nobody has to wait for it.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
