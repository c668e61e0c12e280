/** The health protocol of gRPC (grpc.health.v1). */
import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { HealthCheckResponse_ServingStatus as Status, type Health } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { delay, type Clock } from '../domain/clock.js';
import type { Readiness } from './readiness.js';

const POLL_MS = 2_000;

/** The health of a server that has these services; all are as healthy as their database. */
export function createHealth(
  services: readonly string[],
  readiness: Readiness,
  clock: Clock,
): ServiceImpl<typeof Health> {
  const known = new Set(['', ...services]);
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
    watch: async function* ({ service }, context) {
      let told: Status | undefined;
      while (!context.signal.aborted) {
        const status = await statusOf(service);
        if (status !== told) yield { status };
        told = status;
        await delay(clock, POLL_MS, context.signal);
      }
    },
  };
}
