/** The services of the contract with their handlers: written once, mounted on every door. */
import { AdminService } from '../../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { AuthService } from '../../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { LeaseService } from '../../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { SessionService } from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { TaskService } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { DescService } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Clock } from '../../domain/clock.js';
import type { Liveness } from '../../domain/liveness.js';
import type { TokenSealer } from '../../domain/token-sealer.js';
import type { ReadingTurns } from '../reading-turns.js';
import { AllowedStreams } from './allowed-stream.js';
import { createAuthHandlers } from './auth-handlers.js';
import { Calls, type CallObserver } from './call.js';
import { createLeaseHandlers } from './lease-handlers.js';
import { PageTurns } from './page-turns.js';
import { createAdminHandlers, createSessionHandlers, type Sessions } from './session-handlers.js';
import { createTaskHandlers, type TaskHandlersOptions } from './task-handlers.js';

/** What the services work with. */
export interface RpcServicesOptions extends Omit<TaskHandlersOptions, 'calls' | 'pages' | 'streams' | 'leases'> {
  readonly liveness: Sessions & Pick<Liveness, 'leases'>;
  readonly sealer: TokenSealer;
  readonly clock: Clock;
  readonly turns: Pick<ReadingTurns, 'forLongWork'>;
  /** How often it is looked up whether the caller of an open stream may still have it. */
  readonly recheckMs: number;
  /** How many lists, histories and counts are read at the same time. */
  readonly pagesAtOnce: number;
  readonly observer: CallObserver;
}

/** A service with its implementation, for any door to mount. */
export interface RpcService<S extends DescService = DescService> {
  readonly service: S;
  readonly implementation: ServiceImpl<S>;
}

/** Builds the handlers of every service. */
export function createRpcServices(options: RpcServicesOptions): readonly RpcService[] {
  const { auth, liveness } = options;
  const calls = new Calls(options.log, options.observer);
  const pages = new PageTurns(options.clock, options.pagesAtOnce, options.turns);
  const streams = new AllowedStreams(options.clock, options.recheckMs, options.log);
  const sessionOptions = { auth, calls, pages, log: options.log, sessions: liveness, sealer: options.sealer };
  return [
    pair(TaskService, createTaskHandlers({ ...options, calls, pages, streams, leases: liveness.leases })),
    pair(LeaseService, createLeaseHandlers({ auth, calls, streams, leases: liveness.leases })),
    pair(SessionService, createSessionHandlers(sessionOptions)),
    pair(AdminService, createAdminHandlers(sessionOptions)),
    pair(AuthService, createAuthHandlers({ auth, calls })),
  ];
}

/** Forgets which service it is, after the two have been checked against each other. */
function pair<S extends DescService>(service: S, implementation: ServiceImpl<S>): RpcService {
  return { service, implementation };
}
