/** Everything that the page asks the server: one function for each call, and the only place that makes calls. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { AdminService } from '../../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { AuthService, type User } from '../../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import {
  SessionService,
  type ListSessionsResponse,
  type Protection,
} from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';
import type { Task, TaskEvent } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import {
  TaskOrderField,
  TaskService,
  type ListTasksResponse,
  type TaskFilterSchema,
  type WatchTasksResponse,
} from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { Count } from '../state/status-counts.js';
import type { OrderField, TaskOrder } from '../state/task-order.js';
import type { TaskQuery } from '../state/task-query.js';

/** After this long without an answer a call counts as failed; the stream has its own watch. */
const CALL_TIMEOUT_MS = 15_000;

const transport = createConnectTransport({
  baseUrl: location.origin,
  useBinaryFormat: true,
  defaultTimeoutMs: CALL_TIMEOUT_MS,
  fetch: (input, init) => fetch(input, { ...init, credentials: 'same-origin' }),
});
const auth = createClient(AuthService, transport);
const tasks = createClient(TaskService, transport);
const sessions = createClient(SessionService, transport);
const admin = createClient(AdminService, transport);

const ORDER_FIELDS: Readonly<Record<OrderField, TaskOrderField>> = {
  updated: TaskOrderField.UPDATED_AT,
  id: TaskOrderField.ID,
  name: TaskOrderField.NAME,
  status: TaskOrderField.STATUS,
  user: TaskOrderField.USER,
  group: TaskOrderField.GROUP_ID,
  start: TaskOrderField.STARTED_AT,
  stop: TaskOrderField.STOPPED_AT,
};

/** Who is logged in; undefined when nobody is. */
export async function getCurrentUser(): Promise<User | undefined> {
  return (await auth.getCurrentUser({})).user;
}

/** Logs in; the session comes as a cookie. */
export async function login(username: string, password: string): Promise<User | undefined> {
  return (await auth.login({ username, password })).user;
}

/** Logs out; also answers well when nobody is logged in. */
export async function logout(): Promise<void> {
  await auth.logout({});
}

/** Sets a new password for whoever is logged in. */
export async function changePassword(currentPassword: string, newPassword: string): Promise<void> {
  await auth.changePassword({ currentPassword, newPassword });
}

/** A page of tasks. */
export function listTasks(
  query: TaskQuery,
  order: TaskOrder,
  page: { pageSize: number; pageToken: string },
  signal: AbortSignal,
): Promise<ListTasksResponse> {
  const request = { filter: filterOf(query), orderBy: ORDER_FIELDS[order.field], ascending: order.ascending, ...page };
  return tasks.listTasks(request, { signal });
}

/** How many tasks have which status, among those that match the query. */
export async function countTasks(query: TaskQuery, signal: AbortSignal): Promise<readonly Count[]> {
  const { counts } = await tasks.getTaskStats({ filter: filterOf(query) }, { signal });
  return counts.map(({ status, count }) => ({ status, count: Number(count) }));
}

/** One task. */
export async function getTask(id: string, signal: AbortSignal): Promise<Task | undefined> {
  return (await tasks.getTask({ id }, { signal })).task;
}

/** A page of a task's history, newest first. */
export async function listTaskEvents(
  taskId: string,
  page: { pageSize: number; pageToken: string },
  signal: AbortSignal,
): Promise<{ events: readonly TaskEvent[]; nextPageToken: string }> {
  return tasks.listTaskEvents({ taskId, ...page }, { signal });
}

/** The stream of changes; it lasts until the signal aborts or the connection is lost. */
export function watchTasks(resumeToken: string, signal: AbortSignal): AsyncIterable<WatchTasksResponse> {
  return tasks.watchTasks({ resumeToken }, { signal, timeoutMs: 0 });
}

/** A page of the live connections of services. */
export function listSessions(
  page: { pageSize: number; pageToken: string },
  signal: AbortSignal,
): Promise<ListSessionsResponse> {
  return sessions.listSessions(page, { signal });
}

/** The servers that protect tasks from mass silence now. */
export async function listProtections(signal: AbortSignal): Promise<readonly Protection[]> {
  return (await sessions.listProtections({}, { signal })).protections;
}

/** Ends the protection of a server: what is still silent there expires at once. */
export async function expireNow(node: string): Promise<void> {
  await admin.expireNow({ node });
}

/** Prolongs the protection of a server. */
export async function holdProtection(node: string): Promise<void> {
  await admin.holdProtection({ node });
}

function filterOf(query: TaskQuery): MessageInitShape<typeof TaskFilterSchema> {
  return {
    statuses: [...query.statuses],
    groupIds: [...query.groups],
    users: [...query.users],
    text: query.words.join(' '),
    idPrefix: query.idPrefix,
    namePrefix: query.namePrefix,
    addrPrefix: query.addrPrefix,
  };
}
