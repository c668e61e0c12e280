/** Services that hold leases over gRPC, each one a `TaskDashClient` with a connection and a task of its own. */
import { TaskDashClient } from '../../client/client.js';
import { idOf, StandstillWatch, sum, untilSettled, type Fleet, type FleetPlan, type FleetStatus } from './fleet.js';

/** How a fleet of leases is made. */
export interface LeaseFleetPlan extends FleetPlan {
  readonly door: 'grpc';
  readonly url: string;
  readonly token: string;
}

export class LeaseFleet implements Fleet {
  readonly #services: Service[];
  readonly #standstill = new StandstillWatch();

  constructor(readonly plan: LeaseFleetPlan) {
    this.#services = Array.from({ length: plan.count }, (_, i) => new Service(plan, plan.first + i));
  }

  async start(deadlineMs: number): Promise<void> {
    for (const service of this.#services) service.begin(Math.random() * this.plan.spreadMs);
    await this.settled(deadlineMs);
  }

  settled(deadlineMs: number): Promise<void> {
    const isSettled = () => this.#services.every((service) => service.isSettled);
    return untilSettled(deadlineMs, isSettled, () => `${this.status().settled} of ${this.plan.count}`);
  }

  status(): FleetStatus {
    const registered = this.#services.filter(({ writes }) => writes > 0);
    return {
      settled: this.#services.filter(({ isSettled }) => isSettled).length,
      reconnects: sum(this.#services.map(({ reconnects }) => reconnects)),
      writes: sum(this.#services.map(({ writes }) => writes)),
      acknowledged: Object.fromEntries(registered.map(({ id, acknowledged }) => [id, acknowledged])),
      silentSince: {},
      stoodStillMs: this.#standstill.longestMs,
    };
  }
}

class Service {
  readonly id: string;
  reconnects = -1;
  writes = 0;
  acknowledged = 0;
  readonly #client: TaskDashClient;

  constructor(
    private readonly plan: LeaseFleetPlan,
    private readonly number: number,
  ) {
    this.id = idOf(number);
    const onState = (state: string) => void (state === 'alive' && this.reconnects++);
    this.#client = new TaskDashClient({ url: plan.url, token: plan.token, onState });
  }

  get isSettled(): boolean {
    return this.writes > 0 && this.#client.state === 'alive';
  }

  begin(delayMs: number): void {
    setTimeout(() => void this.#serve(), delayMs);
  }

  async #serve(): Promise<void> {
    await this.#client.register({ id: this.id, name: 'lease', groupId: 'mx', description: '0' });
    this.writes++;
    for (let count = 1; this.number % this.plan.workEvery === 0; count++) {
      await new Promise((resolve) => setTimeout(resolve, this.plan.workPauseMs));
      await this.#client.update(this.id, { description: String(count) });
      this.acknowledged = count;
      this.writes++;
    }
  }
}
