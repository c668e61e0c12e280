/** The services of the contract with their handlers: written once, mounted on every door. */
import { AuthService } from '../../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { TaskService } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { ConnectRouter, ServiceImpl } from '@connectrpc/connect';
import type { Log } from '../../domain/ports.js';
import { createAuthHandlers } from './auth-handlers.js';
import { Calls, type CallObserver } from './call.js';
import { createTaskHandlers, type TaskHandlersOptions } from './task-handlers.js';

/** What the services work with. */
export interface RpcServicesOptions extends Omit<TaskHandlersOptions, 'calls'> {
  readonly log: Log;
  readonly observer: CallObserver;
}

/** Every service with its implementation. */
export interface RpcServices {
  readonly task: ServiceImpl<typeof TaskService>;
  readonly auth: ServiceImpl<typeof AuthService>;
}

/** Builds the handlers. */
export function createRpcServices(options: RpcServicesOptions): RpcServices {
  const calls = new Calls(options.log, options.observer);
  return { task: createTaskHandlers({ ...options, calls }), auth: createAuthHandlers({ auth: options.auth, calls }) };
}

/** Mounts the services on a router of Connect. */
export function mountServices(router: ConnectRouter, services: RpcServices): void {
  router.service(TaskService, services.task);
  router.service(AuthService, services.auth);
}

export { AuthService, TaskService };
