/** The health protocol of gRPC (grpc.health.v1). */
import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { HealthCheckResponse_ServingStatus as Status, type Health } from '../../proto/gen/grpc/health/v1/health_pb.js';
import type { Clock, Timer } from '../domain/clock.js';
import type { StrangerPortions } from './grpc-strangers.js';
import type { Readiness } from './readiness.js';

const POLL_MS = 2_000;

/** The health of a server that has these services; all are as healthy as their database. */
export function createHealth(
  services: readonly string[],
  readiness: Readiness,
  clock: Clock,
  portions: StrangerPortions,
): ServiceImpl<typeof Health> {
  const known = new Set(['', ...services]);
  const pulse = new Pulse(clock);
  const statusOf = async (service: string): Promise<Status> => {
    if (!known.has(service)) return Status.SERVICE_UNKNOWN;
    return (await readiness.problem()) === undefined ? Status.SERVING : Status.NOT_SERVING;
  };
  return {
    check: async ({ service }) => {
      const status = await statusOf(service);
      if (status === Status.SERVICE_UNKNOWN)
        throw new ConnectError(`there is no service ${JSON.stringify(service)}`, Code.NotFound);
      return { status };
    },
    watch: ({ service }, context) =>
      portions.stream(context, async function* () {
        let told: Status | undefined;
        while (!context.signal.aborted) {
          const status = await statusOf(service);
          if (status !== told) yield { status };
          told = status;
          await pulse.beat(context.signal);
        }
      }),
  };
}

/** Wakes all that wait for it at once, by one timer, which only runs while somebody waits. */
class Pulse {
  readonly #waiting = new Set<() => void>();
  #timer: Timer | undefined;

  constructor(private readonly clock: Clock) {}

  /** Resolves with the next beat, or at once when the signal aborts. */
  beat(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
      if (!this.#timer) this.#timer = this.clock.schedule(POLL_MS, () => this.#wakeAll());
    });
  }

  #wakeAll(): void {
    this.#timer = undefined;
    for (const wake of [...this.#waiting]) wake();
  }
}
