/** TaskService: each handler says who calls, turns the message into the domain's words, and the answer back. */
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import {
  GetTaskStatsResponseSchema,
  type TaskService,
  type WatchTasksRequest,
} from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { TaskSchema, type Task as TaskMessage } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { create } from '@bufbuild/protobuf';
import { isVisible, ownerOf, readScope, type Principal } from '../../domain/access.js';
import type { Authenticator } from '../../domain/authenticator.js';
import { TaskDashError } from '../../domain/errors.js';
import type { Leases } from '../../domain/leases.js';
import { networkOf } from '../../domain/network.js';
import type { Log, StatusCount } from '../../domain/ports.js';
import { checkId, sentBytesOf, TASK_LIMITS, type Task } from '../../domain/task.js';
import { MAX_BATCH_REGISTRATIONS, type Claimant, type TaskRegistry } from '../../domain/task-registry.js';
import { requireSameSight, type TaskWatcher } from '../../domain/task-watch.js';
import type { AllowedStreams } from './allowed-stream.js';
import type { Calls } from './call.js';
import {
  batchResult,
  eventMessage,
  filterOf,
  maskedTexts,
  orderOf,
  requestInvalid,
  taskMessage,
  textsOf,
  tooMany,
  versionMessage,
  type MarksOf,
} from './convert.js';
import { callerKey, requirePrincipal } from './guard.js';
import { MAX_WATCHES, pageBytes, recordBytes, type RpcLimits } from './limits.js';
import type { PageTurns } from './page-turns.js';
import { sendableOnly, sendableOr } from './sendable.js';
import { Shares, type Share } from './shares.js';
import { WatchMessages, type WatchAnswer } from './watch-messages.js';

/** What the handlers work with. */
export interface TaskHandlersOptions {
  readonly registry: TaskRegistry;
  readonly watcher: TaskWatcher;
  readonly auth: Authenticator;
  readonly calls: Calls;
  readonly pages: PageTurns;
  readonly streams: AllowedStreams;
  readonly marksOf: MarksOf;
  readonly leases: Pick<Leases, 'sessionOf'>;
  /** Watches that may be open at once. */
  readonly maxStreams: number;
  readonly limits: RpcLimits;
  readonly log: Log;
}

const MAX_STATUSES = 20;
const MAX_WATCHED = 100;
const REST = '…';

/** The implementation of TaskService, for every door. */
export function createTaskHandlers(options: TaskHandlersOptions): ServiceImpl<typeof TaskService> {
  const { registry, watcher, auth, calls, pages, streams, marksOf, log } = options;
  const messages = new WatchMessages(marksOf, log);
  const shares = new Shares('open watches');
  let openStreams = 0;

  return {
    registerTask: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        const claimant = await claimantOf(principal, request.leaseId);
        return { task: writtenMessage(await register(principal, request.task, 'task.', claimant)) };
      }),

    batchRegisterTasks: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        const count = request.tasks.length;
        if (count < 1 || count > MAX_BATCH_REGISTRATIONS) {
          throw requestInvalid([
            { field: 'tasks', description: `must have 1 to ${MAX_BATCH_REGISTRATIONS} records, has ${count}` },
          ]);
        }
        refuseLongAnswer(request.tasks, recordBytes(options.limits));
        const claimant = await claimantOf(principal, request.leaseId);
        const outcomes = request.tasks.map((task, index) =>
          register(principal, task, `tasks[${index}].`, claimant).catch((thrown: unknown) => asOutcome(thrown, log)),
        );
        return { results: (await Promise.all(outcomes)).map((outcome) => batchResult(outcome, writtenMessage)) };
      }),

    updateTask: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        const task = request.task ?? create(TaskSchema);
        const texts = maskedTexts(task, request.updateMask?.paths);
        const claimant = await claimantOf(principal, request.leaseId);
        const updated = await registry.update(principal, task.id, texts, {
          ...(task.etag !== '' && { etag: task.etag }),
          ...(claimant && { claimant }),
          returnsTask: true,
          pathPrefix: 'task.',
        });
        return { task: shown(principal, stored(updated)) };
      }),

    getTask: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        return { task: taskMessage(await registry.get(principal, request.id), marksOf) };
      }),

    listTasks: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        const { ascending, pageSize, pageToken } = request;
        const filter = filterOf(request.filter);
        const query = { filter, orderBy: orderOf(request.orderBy), ascending, pageSize, pageToken };
        const maxBytes = pageBytes(options.limits);
        const page = await pages.run(context, principal, () => registry.list(principal, { ...query, maxBytes }));
        return {
          tasks: sendableOnly(page.tasks, log, (task) => taskMessage(task, marksOf)),
          nextPageToken: page.nextPageToken,
          totalSize: page.totalSize,
          totalSizeExceeded: page.totalExceeded,
        };
      }),

    watchTasks: (request, context) => calls.stream(context, () => watch(request, context)),

    listTaskEvents: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        checkId(request.taskId, 'task_id');
        const { taskId, pageSize, pageToken } = request;
        const page = await pages.run(context, principal, () =>
          registry.listEvents(principal, taskId, pageSize, pageToken),
        );
        return { events: sendableOnly(page.events, log, eventMessage), nextPageToken: page.nextPageToken };
      }),

    getTaskStats: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        const filter = filterOf(request.filter);
        const { counts, groups } = await pages.run(context, principal, () => registry.stats(principal, filter));
        return create(GetTaskStatsResponseSchema, {
          total: BigInt(counts.reduce((sum, { count }) => sum + count, 0)),
          counts: countMessages(counts),
          groups: groups.map((group) => ({ groupId: group.groupId, counts: countMessages(group.counts) })),
        });
      }),
  };

  async function register(
    principal: Principal,
    task: TaskMessage | undefined,
    pathPrefix: string,
    claimant: Claimant | undefined,
  ): Promise<Task> {
    const message = task ?? create(TaskSchema);
    const options = { returnsTask: true, pathPrefix, claimant };
    return stored(await registry.register(principal, message.id, textsOf(message), options));
  }

  /** A task as its writer may know it: whoever may not read it learns which version they wrote. */
  function shown(principal: Principal, task: Task): TaskMessage {
    return isVisible(readScope(principal), task) ? writtenMessage(task) : versionMessage(task);
  }

  /** A task that has been written. That its record cannot be sent does not undo that. */
  function writtenMessage(task: Task): TaskMessage {
    return sendableOr(log, undefined, () => taskMessage(task, marksOf)) ?? versionMessage(task);
  }

  /** The session of the lease that a call names; without one nobody's claim changes. Throws LEASE_NOT_FOUND. */
  function claimantOf(principal: Principal, leaseId: string): Promise<Claimant | undefined> {
    return leaseId === '' ? Promise.resolve(undefined) : options.leases.sessionOf(leaseId, ownerOf(principal));
  }

  async function* watch(
    request: WatchTasksRequest,
    context: Parameters<ServiceImpl<typeof TaskService>['watchTasks']>[1],
  ): AsyncGenerator<WatchAnswer, void, undefined> {
    const principal = await requirePrincipal(auth, context);
    const lookUp = async () => requireSameSight(principal, await requirePrincipal(auth, context));
    const violations = [
      ...tooMany('group_ids', request.groupIds, MAX_WATCHED, TASK_LIMITS.group_id),
      ...tooMany('task_ids', request.taskIds, MAX_WATCHED, TASK_LIMITS.id),
    ];
    if (violations.length > 0) throw requestInvalid(violations);
    if (openStreams >= options.maxStreams) {
      throw new TaskDashError('OVERLOADED', {
        message: 'The server has as many open watches as it accepts.',
        retryAfterMs: 5000,
      });
    }
    const giveBack = shares.take(watchShares(principal, context));
    openStreams++;
    const network = networkOf(context.values.get(callerKey).address);
    try {
      yield* streams.run(context, lookUp, async function* (standing, signal) {
        for await (const message of watcher.watch(principal, request, standing, signal, network)) {
          const answer = messages.answer(message);
          if (answer) yield answer;
        }
      });
    } finally {
      giveBack();
      openStreams--;
    }
  }
}

/** Whose watches are counted together: of a caller, and of an address. */
function watchShares(principal: Principal, { values }: HandlerContext): readonly Share[] {
  const owner = ownerOf(principal);
  const network = networkOf(values.get(callerKey).address);
  return [
    { who: owner, key: `caller ${owner}`, max: MAX_WATCHES.perCaller },
    { who: `The address ${network}`, key: `address ${network}`, max: MAX_WATCHES.perAddress },
  ];
}

/** Throws REQUEST_INVALID where the answer, which has every record, would not fit into a message. */
function refuseLongAnswer(tasks: readonly TaskMessage[], maxBytes: number): void {
  const bytes = tasks.reduce((sum, task) => sum + sentBytesOf({ id: task.id, ...textsOf(task) }), 0);
  if (bytes <= maxBytes) return;
  throw requestInvalid([
    {
      field: 'tasks',
      description: `would be answered with ${bytes} bytes, of which there may be ${maxBytes}; send fewer`,
    },
  ]);
}

/** What the database has against one record, and not against others. */
const OF_ONE_RECORD: readonly string[] = ['STORAGE_LOCKED', 'STORAGE_REFUSED'];

function asOutcome(thrown: unknown, log: Log): TaskDashError {
  const error = TaskDashError.from(thrown);
  const isOfOne = OF_ONE_RECORD.includes(error.code);
  // What is wrong with the database is wrong for the whole batch.
  if (!isOfOne && (error.kind === 'UNAVAILABLE' || error.kind === 'INTERNAL')) throw error;
  if (error.kind === 'INTERNAL') log.error({ err: error.cause ?? error }, 'a record of a batch could not be written');
  return error;
}

function stored(task: Task | undefined): Task {
  if (task) return task;
  throw new TaskDashError('INTERNAL', { cause: 'a write that returns its record returned none' });
}

function countMessages(counts: readonly StatusCount[]) {
  const shown = counts.slice(0, MAX_STATUSES);
  const rest = counts.slice(MAX_STATUSES).reduce((sum, { count }) => sum + count, 0);
  const all = rest > 0 ? [...shown, { status: REST, count: rest }] : shown;
  return all.map(({ status, count }) => ({ status, count: BigInt(count) }));
}
