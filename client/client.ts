/**
 * A client for services: registers tasks, keeps them alive, and says how they end.
 *
 *   new ──start──► connecting ──lease granted, what is due reported──► alive ──stop──► stopped
 *                      ▲ │                                              │ ▲
 *                      │ └── not reached: wait, longer each time ───┐   │ │
 *                      └──────── a beat or a report failed ◄────────┴───┘ │
 *                                          └── lease still there ─────────┘
 *
 * One loop does everything in turn: it beats when a beat is due and sends what is due to be reported, for which it waits a
 * moment only (reports.ts). Beats are single calls rather than a stream: they pass every proxy, and each is answered or
 * fails within its deadline.
 *
 * Invariants
 * - Whatever happens to network or server, the client goes on until `stop`: waits grow from half a second to ten, each
 *   a little different, and are never so long that a lease which could be kept is lost for them.
 * - When the lease is gone, every task that has not ended is registered again, as it was last reported, under a new one.
 * - A write whose outcome is unknown is sent again: registers and updates may arrive twice without harm.
 * - No call that others wait for takes longer than `timeoutMs`. After a failure the connection is a new one: the old may be
 *   dead unnoticed.
 * - Only calls that somebody waits for keep the process alive.
 */
import { Code, ConnectError, createClient, type Client } from '@connectrpc/connect';
import { durationFromMs, durationMs } from '@bufbuild/protobuf/wkt';
import { LeaseService, type Lease } from '../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../proto/gen/taskdash/task/v1/task_service_pb.js';
import { openChannel, type Channel, type ChannelOptions } from './channel.js';
import { deferred } from './deferred.js';
import { isPassing, reasonOf } from './failures.js';
import { Outbox, type TaskReport } from './outbox.js';
import { Pause } from './pause.js';
import { Reports } from './reports.js';

export { Code, ConnectError } from '@connectrpc/connect';
export type { TaskReport } from './outbox.js';

/** How to reach TaskDash. */
export interface TaskDashClientOptions extends ChannelOptions {
  /** How long this service may be silent before its tasks count as shut down; the server's default if left out. */
  readonly ttlMs?: number;
  /** How long a call may take; 5000 if left out. */
  readonly timeoutMs?: number;
  /** Tasks that may be known at once, of which the last report is kept for the time when TaskDash is away; 10 000. */
  readonly maxTasks?: number;
  /** Told when the connection to TaskDash is lost or found again; a service works on either way. */
  readonly onState?: (state: ClientState, error?: ConnectError) => void;
  /** Told when a task is refused that was accepted before, and nobody waits for it: after the token's scopes changed. */
  readonly onRefused?: (id: string, error: ConnectError) => void;
}

/** How the client stands. */
export type ClientState = 'connecting' | 'alive' | 'stopped';

/** How long one is willing to wait. What was reported is sent all the same. */
export interface WaitOptions {
  readonly signal?: AbortSignal;
}

const TIMEOUT_MS = 5_000;
/** Of a report that is sent alone: longer than the server tries to write what is locked, so that it is known what became of it. */
const ALONE_TIMEOUT_MS = 6_000;
const STOP_TIMEOUT_MS = 5_000;
/** What of it is left for the goodbye, at most. */
const GOODBYE_MS = 500;
const MIN_CALL_MS = 1_000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 10_000;
/** While stopping there is not much time left to try again. */
const RETRY_STOPPING_MS = 500;
const MAX_TASKS = 10_000;

export class TaskDashClient {
  readonly #channel: Channel;
  readonly #leases: Client<typeof LeaseService>;
  readonly #reports: Reports;
  readonly #outbox = new Outbox();
  readonly #pause = new Pause();
  readonly #cut = new AbortController();
  #lease: Lease | undefined;
  /** When the next beat is due, on the clock of `performance.now`. */
  #beatDueMs = 0;
  #state: ClientState = 'connecting';
  #connected = deferred();
  #running: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  /** Throws TypeError for options that cannot be right. Connects to nothing yet. */
  constructor(private readonly options: TaskDashClientOptions) {
    this.#channel = openChannel(options);
    this.#leases = createClient(LeaseService, this.#channel.transport);
    this.#reports = new Reports({
      outbox: this.#outbox,
      tasks: createClient(TaskService, this.#channel.transport),
      timeoutMs: () => this.#callOptions().timeoutMs,
      aloneTimeoutMs: Math.max(ALONE_TIMEOUT_MS, options.timeoutMs ?? 0),
      onLate: () => this.#wake(),
      onRefused: (id, error) => this.#tell(() => options.onRefused?.(id, error)),
    });
  }

  /** How the client stands now. */
  get state(): ClientState {
    return this.#state;
  }

  /**
   * Connects, and keeps connected until `stop`; resolves when it is alive. Rejects with a ConnectError when TaskDash
   * answers and refuses (a token that is not valid); the client goes on trying all the same. Idempotent.
   */
  start(options: WaitOptions = {}): Promise<void> {
    this.#run();
    return this.#wait(this.#connected.promise, options);
  }

  /**
   * Reports a task that begins, or begins again, and remembers it: it is registered again whenever that is needed.
   * Resolves when the registry has it. Rejects with a ConnectError when it is refused; while the registry is not reached
   * it waits, for as long as the client runs.
   */
  async register(report: TaskReport, options: WaitOptions = {}): Promise<void> {
    this.#requireRunning();
    if (!this.#outbox.has(report.id)) this.#requireRoom();
    await this.#post(this.#outbox.begin(report), options);
  }

  /** Reports what changed of a task that was registered. Resolves and rejects as `register` does. */
  async update(id: string, changes: Omit<TaskReport, 'id'>, options: WaitOptions = {}): Promise<void> {
    await this.#change(id, changes, false, options);
  }

  /** Reports that a task ended as planned, now if no other time is given, and forgets it when that has arrived. */
  async finish(id: string, stopTime = new Date().toISOString(), options: WaitOptions = {}): Promise<void> {
    await this.#change(id, { status: 'finish', stopTime }, true, options);
  }

  /**
   * Sends what has not arrived yet, then says goodbye: tasks that have not ended become "shutdown" at once. Takes
   * `timeoutMs` at most (5000 if left out), and never rejects: reports that did not arrive reject for those who made
   * them. Idempotent.
   */
  stop(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#stopping ??= this.#stop(options.timeoutMs ?? STOP_TIMEOUT_MS);
    return this.#stopping;
  }

  async #change(id: string, changes: Omit<TaskReport, 'id'>, ends: boolean, options: WaitOptions): Promise<void> {
    this.#requireRunning();
    const before = this.#outbox.find(id);
    if (!before) throw new Error(`The task ${JSON.stringify(id)} was not registered by this client, or has ended.`);
    await this.#post(this.#outbox.change({ ...before, ...changes, id }, ends), options);
  }

  #post(arrived: Promise<void>, options: WaitOptions): Promise<void> {
    this.#run();
    this.#wake();
    return this.#wait(arrived, options);
  }

  /** There is something to do again. After a failure it waits until it is time to try again. */
  #wake(): void {
    if (this.#state === 'alive') this.#pause.end();
  }

  /** Waits, and keeps the process alive for as long. */
  async #wait(promise: Promise<void>, { signal }: WaitOptions): Promise<void> {
    signal?.throwIfAborted();
    const release = this.#pause.hold();
    const aborted = deferred();
    const onAbort = () => aborted.reject(signal?.reason as Error);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([promise, aborted.promise]);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      release();
    }
  }

  #requireRunning(): void {
    if (this.#stopping) throw stopped();
  }

  #requireRoom(): void {
    const maxTasks = this.options.maxTasks ?? MAX_TASKS;
    if (this.#outbox.size < maxTasks) return;
    throw new ConnectError(`${maxTasks} tasks have not ended; finish some, or raise maxTasks`, Code.ResourceExhausted);
  }

  // ── The loop ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #run(): void {
    if (!this.#stopping) this.#running ??= this.#loop();
  }

  async #loop(): Promise<void> {
    let retryMs = RETRY_FIRST_MS;
    while (!this.#isDone()) {
      try {
        await this.#turn();
        retryMs = RETRY_FIRST_MS;
        this.#setState('alive');
        if (!this.#outbox.hasDue && !this.#isDone()) await this.#pause.for(this.#nextDueMs() - performance.now());
      } catch (thrown) {
        this.#onFailure(ConnectError.from(thrown));
        const longestMs = this.#stopping ? RETRY_STOPPING_MS : Math.min(RETRY_MAX_MS, this.#beatMs());
        if (!this.#cut.signal.aborted) await this.#pause.for(Math.min(retryMs, longestMs) * (0.5 + Math.random()));
        retryMs *= 2;
      }
    }
  }

  #isDone(): boolean {
    return this.#cut.signal.aborted || (this.#stopping !== undefined && !this.#outbox.hasUnsent);
  }

  #nextDueMs(): number {
    return Math.min(this.#beatDueMs, this.#outbox.aloneDueMs);
  }

  /** Has a lease that is alive, and sends what is due. Throws where that did not succeed. */
  async #turn(): Promise<void> {
    if (!this.#lease) await this.#grant();
    else if (this.#state !== 'alive' || performance.now() >= this.#beatDueMs) await this.#renew(this.#lease.id);
    await this.#reports.sendDue(this.#lease?.id ?? '');
  }

  async #grant(): Promise<void> {
    const { ttlMs } = this.options;
    const { lease } = await this.#leases.grantLease(
      ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) },
      this.#callOptions(),
    );
    this.#keep(lease);
  }

  async #renew(leaseId: string): Promise<void> {
    this.#keep((await this.#leases.renewLease({ leaseId }, this.#callOptions())).lease);
  }

  #keep(lease: Lease | undefined): void {
    this.#lease = lease;
    this.#reports.onAnswer();
    this.#beatDueMs = performance.now() + this.#beatMs();
  }

  #beatMs(): number {
    return this.#lease?.nextBeatIn ? durationMs(this.#lease.nextBeatIn) : RETRY_MAX_MS;
  }

  // ── Failures and the end ───────────────────────────────────────────────────────────────────────────────────────────

  #onFailure(error: ConnectError): void {
    if (reasonOf(error) === 'LEASE_NOT_FOUND') {
      this.#lease = undefined;
      this.#outbox.registerAllAgain();
    } else {
      this.#channel.reset();
      if (!isPassing(error)) this.#refuseAll(error);
    }
    this.#setState('connecting', error);
  }

  /** Everything is refused, whoever asks: this is not for waiting. */
  #refuseAll(error: ConnectError): void {
    this.#outbox.rejectAll(error);
    this.#connected.reject(error);
    this.#connected = deferred();
  }

  async #stop(timeoutMs: number): Promise<void> {
    const endsAtMs = performance.now() + timeoutMs;
    const cutting = setTimeout(
      () => {
        this.#cut.abort(stopped());
        this.#reports.stop(stopped());
        this.#pause.end();
      },
      timeoutMs - Math.min(GOODBYE_MS, timeoutMs / 5),
    );
    // The loop looks at #stopping, which is set when this first turn is over.
    await Promise.resolve();
    this.#outbox.hurry();
    this.#pause.end();
    const release = this.#pause.hold();
    await this.#running;
    await this.#revoke(endsAtMs - performance.now());
    clearTimeout(cutting);
    release();
    this.#outbox.rejectAll(stopped());
    this.#connected.reject(stopped());
    this.#channel.reset();
    this.#setState('stopped');
  }

  async #revoke(leftMs: number): Promise<void> {
    // Whole milliseconds: Connect takes no others.
    const timeoutMs = Math.floor(Math.min(leftMs, TIMEOUT_MS));
    if (!this.#lease || timeoutMs <= 0) return;
    try {
      await this.#leases.revokeLease({ leaseId: this.#lease.id }, { timeoutMs });
    } catch (thrown) {
      // The lease ends by itself; whoever wants to know is told.
      this.#setState('stopped', ConnectError.from(thrown));
    }
  }

  #callOptions() {
    const longestMs = Math.max(MIN_CALL_MS, this.#lease ? this.#beatMs() : Infinity);
    return {
      timeoutMs: Math.ceil(Math.min(this.options.timeoutMs ?? TIMEOUT_MS, longestMs)),
      signal: this.#cut.signal,
    };
  }

  #setState(state: ClientState, error?: ConnectError): void {
    if (state === 'alive') this.#connected.resolve();
    else if (this.#state === 'alive') this.#connected = deferred();
    if (this.#state === state && !error) return;
    this.#state = state;
    this.#tell(() => this.options.onState?.(state, error));
  }

  /** What a listener throws is its own affair, not the loop's. */
  #tell(listener: () => void): void {
    queueMicrotask(listener);
  }
}

function stopped(): ConnectError {
  return new ConnectError('the client was stopped', Code.Canceled);
}
