/**
 * The node's own lease: whether the database trusts this node, which decides what the node may decide.
 *
 *   ──renewed──► held ──not renewed for the lease's length──► lost ──renewed──► held, on probation ──a TTL──► held
 *
 * - While the lease is lost, and for a whole TTL after it was regained, the node judges nobody: while the database was
 *   away, others may have taken its sessions, and its clients may have gone to them.
 * - A node takes over from others only after it has held its lease for a whole lease: when the database comes back, all
 *   leases have run out, and those who renew a moment later are not dead.
 *
 * Whether it was lost is known here better than in the database: a renewal that the network had swallowed may arrive
 * after the loss, and make the lease hold there again before anybody here knows.
 *
 * The lease is counted from before the renewal was sent, on a clock that runs on while this process stands still: it is
 * never believed to hold when the database could think otherwise.
 */
import type { Clock, Timer } from './clock.js';
import type { NodeIdentity, NodeRenewal, NodeReport, NodeStore, ProtectionOrder } from './liveness-ports.js';
import type { Log } from './ports.js';

/** Settings of the lease. */
export interface NodeLeaseOptions {
  readonly store: Pick<NodeStore, 'renew' | 'release'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly node: NodeIdentity;
  readonly leaseMs: number;
  /** The probation after a loss. */
  readonly ttlMs: number;
  /** What to tell the other nodes. */
  readonly report: () => NodeReport;
  /** Told after every renewal; `regained`: the lease had been lost; `wasAway`: renewals before it had failed. */
  readonly onRenewed: (renewal: NodeRenewal, regained: boolean, wasAway: boolean) => void;
  /** Told once when the lease is found lost. */
  readonly onLost: () => void;
}

const RENEWALS_IN_A_LEASE = 3;
const RETRIES_IN_A_LEASE = 10;

export class NodeLease {
  #heldUntilMs = -Infinity;
  #heldSinceMs = Infinity;
  #trustedFromMs = Infinity;
  #isLost = false;
  #carriedOut: ProtectionOrder | undefined;
  #timer: Timer | undefined;
  #watch: Timer | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #stopped = false;
  /** Renewals that failed since the last one that did not. */
  #failed = 0;

  constructor(private readonly options: NodeLeaseOptions) {}

  /** Takes the lease for the first time; throws when the database does not give it. */
  async start(): Promise<void> {
    const { clock } = this.options;
    const sentAtMs = clock.monotonicMs();
    const renewal = await this.#renew();
    this.#trustedFromMs = sentAtMs;
    this.#onHeld(sentAtMs, renewal, false);
    this.#arm(this.#renewEveryMs);
  }

  /** Renews no more and gives the lease up, so that others need not wait for it to run out. Throws when they have to. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#watch?.cancel();
    await this.#renewing;
    this.#heldUntilMs = -Infinity;
    await this.options.store.release(this.options.node.id);
  }

  get isHeld(): boolean {
    return this.options.clock.monotonicMs() < this.#heldUntilMs;
  }

  /** Whether this node may decide shutdowns. */
  get mayJudge(): boolean {
    return this.isHeld && this.options.clock.monotonicMs() >= this.#trustedFromMs;
  }

  /** Whether this node may take over from others. */
  get mayAdopt(): boolean {
    return this.isHeld && this.options.clock.monotonicMs() >= this.#heldSinceMs + this.options.leaseMs;
  }

  get #renewEveryMs(): number {
    return this.options.leaseMs / RENEWALS_IN_A_LEASE;
  }

  #arm(delayMs: number): void {
    if (this.#stopped) return;
    this.#timer = this.options.clock.schedule(delayMs, () => {
      this.#renewing = this.#tryToRenew();
    });
  }

  async #tryToRenew(): Promise<void> {
    const { clock, log, leaseMs, ttlMs } = this.options;
    const sentAtMs = clock.monotonicMs();
    try {
      const renewal = await this.#renew();
      // What took longer than the lease says nothing any more.
      if (clock.monotonicMs() >= sentAtMs + leaseMs) return this.#arm(0);
      const regained = !this.isHeld || renewal.lapsed;
      if (regained) this.#trustedFromMs = clock.monotonicMs() + ttlMs;
      this.#onHeld(sentAtMs, renewal, regained);
      if (this.#failed > 0 && !regained) log.info({ failed: this.#failed }, 'the lease of this node is renewed again');
      this.#failed = 0;
      this.#arm(this.#renewEveryMs);
    } catch (error) {
      this.#failed++;
      log.warn({ err: error, held: this.isHeld }, 'the lease of this node could not be renewed');
      this.#arm(leaseMs / RETRIES_IN_A_LEASE);
    }
  }

  #renew(): Promise<NodeRenewal> {
    const { store, node, leaseMs, report } = this.options;
    return store.renew(node, leaseMs, report(), this.#carriedOut);
  }

  #onHeld(sentAtMs: number, renewal: NodeRenewal, regained: boolean): void {
    if (regained || this.#heldSinceMs === Infinity) this.#heldSinceMs = this.options.clock.monotonicMs();
    if (regained) this.#isLost = false;
    this.#heldUntilMs = sentAtMs + this.options.leaseMs;
    this.#watchEnd();
    if (this.#stopped) return;
    this.options.onRenewed(renewal, regained, this.#failed > 0);
    this.#carriedOut = renewal.order;
  }

  /** Notices the loss when it happens, for log and metrics; what may be decided is asked of the clock each time. */
  #watchEnd(): void {
    this.#watch?.cancel();
    if (this.#stopped) return;
    this.#watch = this.options.clock.schedule(this.#heldUntilMs - this.options.clock.monotonicMs(), () => {
      // Timers may be a moment early.
      if (this.isHeld) return this.#watchEnd();
      if (this.#isLost || this.#stopped) return;
      this.#isLost = true;
      this.options.onLost();
    });
  }
}
