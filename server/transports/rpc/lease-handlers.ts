/** LeaseService: a lease is a session without a connection of its own. */
import type { ServiceImpl } from '@connectrpc/connect';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs, durationMs } from '@bufbuild/protobuf/wkt';
import type { LeaseSchema, LeaseService } from '../../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { ownerOf, requireSomeWriting } from '../../domain/access.js';
import type { Authenticator } from '../../domain/authenticator.js';
import { TaskDashError } from '../../domain/errors.js';
import type { Leases, LeaseTerms } from '../../domain/leases.js';
import type { HandlerContext } from '@connectrpc/connect';
import { until, type AllowedStreams } from './allowed-stream.js';
import type { Calls } from './call.js';
import { callerKey, requirePrincipal } from './guard.js';

/** The implementation of LeaseService, for every door. */
export function createLeaseHandlers(options: {
  leases: Pick<Leases, 'grant' | 'renew' | 'revoke'>;
  auth: Authenticator;
  calls: Calls;
  streams: AllowedStreams;
}): ServiceImpl<typeof LeaseService> {
  const { leases, auth, calls, streams } = options;

  /** The caller as the owner of leases: one who may register. */
  async function requireOwner(context: HandlerContext): Promise<string> {
    const principal = await requirePrincipal(auth, context);
    requireSomeWriting(principal);
    return ownerOf(principal);
  }

  /** Whether a beat counts. That nobody can be looked up ends none: an outage of the database is no client's fault. */
  async function requireStill(context: HandlerContext): Promise<void> {
    try {
      await requireOwner(context);
    } catch (error) {
      if (TaskDashError.from(error).code !== 'STORAGE_UNAVAILABLE') throw error;
    }
  }

  return {
    grantLease: (request, context) =>
      calls.unary(context, async () => {
        const owner = await requireOwner(context);
        const { address } = context.values.get(callerKey);
        const ttl = request.ttl && { ttlMs: durationMs(request.ttl) };
        const terms = await leases.grant({ address, owner, ...ttl });
        return { lease: leaseMessage(terms) };
      }),

    keepAlive: (requests, context) =>
      calls.stream(context, async function* () {
        const owner = await requireOwner(context);
        const lookUp = async () => void (await requireOwner(context));
        yield* streams.run(context, lookUp, async function* (_standing, signal) {
          for await (const { leaseId } of until(signal, requests)) {
            await requireStill(context);
            yield { lease: leaseMessage(await leases.renew(leaseId, owner)) };
          }
        });
      }),

    renewLease: (request, context) =>
      calls.unary(context, async () => ({
        lease: leaseMessage(await leases.renew(request.leaseId, await requireOwner(context))),
      })),

    revokeLease: (request, context) =>
      calls.unary(context, async () => ({
        shutdownTasks: await leases.revoke(request.leaseId, await requireOwner(context)),
      })),
  };
}

function leaseMessage(terms: LeaseTerms): MessageInitShape<typeof LeaseSchema> {
  return {
    id: terms.sessionId,
    ttl: durationFromMs(terms.ttlMs),
    nextBeatIn: durationFromMs(Math.round(terms.nextBeatInMs)),
  };
}
