/**
 * Services that hold leases, each with a task of its own, whose calls go through several servers in turn, as a balancer
 * spreads them that knows nothing of leases. A lease is granted once: whoever is told that it is over fails.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { createClient, type Client, type Transport } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { authorized } from '../../client/authorized-transport.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { idOf, StandstillWatch, sum, untilSettled, type Fleet, type FleetPlan, type FleetStatus } from './fleet.js';

/** How such a fleet is made. */
export interface RoamingFleetPlan extends FleetPlan {
  readonly door: 'roaming';
  /** Of the gRPC doors. */
  readonly urls: readonly string[];
  readonly token: string;
  readonly beatMs: number;
}

const CALL = { timeoutMs: 5000 };

export class RoamingFleet implements Fleet {
  readonly #services: Service[];
  readonly #standstill = new StandstillWatch();

  constructor(readonly plan: RoamingFleetPlan) {
    const transports = plan.urls.map((url) => open(url, plan.token));
    this.#services = Array.from({ length: plan.count }, (_, i) => new Service(plan, transports, plan.first + i));
  }

  async start(deadlineMs: number): Promise<void> {
    for (const service of this.#services) service.begin(Math.random() * this.plan.spreadMs);
    await this.settled(deadlineMs);
  }

  settled(deadlineMs: number): Promise<void> {
    const isSettled = () => this.#services.every((service) => service.isSilent || service.isSettled);
    const describe = () => [`${this.status().settled} of ${this.plan.count}`, ...this.#failures()].join('; ');
    return untilSettled(deadlineMs, isSettled, describe);
  }

  /** These fall silent. */
  silence(from: number, to: number): void {
    for (const service of this.#services) if (service.number >= from && service.number < to) service.isSilent = true;
  }

  /** Throws when a call failed, ever. */
  status(): FleetStatus {
    const failures = this.#failures();
    if (failures.length > 0) throw new Error(failures.slice(0, 5).join('; '));
    const registered = this.#services.filter(({ writes }) => writes > 0);
    const silent = this.#services.filter(({ isSilent }) => isSilent);
    return {
      settled: this.#services.filter(({ isSettled }) => isSettled).length,
      reconnects: 0,
      writes: sum(this.#services.map(({ writes }) => writes)),
      acknowledged: Object.fromEntries(registered.map(({ id }) => [id, 0])),
      silentSince: Object.fromEntries(silent.map(({ id, lastSentAt }) => [id, lastSentAt])),
      stoodStillMs: this.#standstill.longestMs,
    };
  }

  #failures(): string[] {
    return this.#services.flatMap(({ id, failure }) => (failure === undefined ? [] : `${id}: ${failure}`));
  }
}

function open(baseUrl: string, token: string): Transport {
  const sessionManager = new Http2SessionManager(baseUrl);
  return authorized(createGrpcTransport({ baseUrl, sessionManager }), token);
}

class Service {
  readonly id: string;
  isSilent = false;
  isSettled = false;
  writes = 0;
  lastSentAt = 0;
  failure: string | undefined;
  readonly #leases: readonly Client<typeof LeaseService>[];
  readonly #tasks: Client<typeof TaskService>;
  /** Half of the services begin at the next server. */
  #turn: number;

  constructor(
    private readonly plan: RoamingFleetPlan,
    transports: readonly Transport[],
    readonly number: number,
  ) {
    this.id = idOf(number);
    this.#leases = transports.map((transport) => createClient(LeaseService, transport));
    this.#turn = number % transports.length;
    this.#tasks = createClient(TaskService, transports[this.#turn] as Transport);
  }

  begin(delayMs: number): void {
    setTimeout(() => void this.#serve().catch((error: unknown) => (this.failure = String(error))), delayMs);
  }

  async #serve(): Promise<void> {
    const { lease } = await this.#nextLeases().grantLease({}, CALL);
    const leaseId = lease?.id ?? '';
    const task = { id: this.id, name: 'roaming', groupId: 'mx', description: '0' };
    await this.#tasks.registerTask({ task, leaseId }, CALL);
    this.writes++;
    this.isSettled = true;
    while (!this.isSilent) {
      this.lastSentAt = Date.now();
      await this.#nextLeases().renewLease({ leaseId }, CALL);
      await delay(this.plan.beatMs);
    }
    this.isSettled = false;
  }

  #nextLeases(): Client<typeof LeaseService> {
    return this.#leases[this.#turn++ % this.#leases.length] as Client<typeof LeaseService>;
  }
}
