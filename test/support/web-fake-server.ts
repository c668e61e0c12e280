/**
 * A small TaskDash in memory behind the page's own calls: for looking at the page, and for tests of what a real server
 * cannot be made to do on demand. The HTTP door and the form of errors are the real ones.
 */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { clone, create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { AuthService, Role, UserSchema, type User } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import {
  Cause,
  TaskEventKind,
  TaskEventSchema,
  TaskSchema,
  TaskStatus,
  type Task,
  type TaskEvent,
} from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { TaskOrderField, TaskService, type TaskFilter } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { systemClock } from '../../server/domain/clock.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { parseInstant } from '../../server/domain/task.js';
import { HttpServer } from '../../server/transports/connect-server.js';
import { Readiness } from '../../server/transports/readiness.js';
import { toConnectError } from '../../server/transports/rpc/errors.js';
import type { RpcService } from '../../server/transports/rpc/services.js';
import { compareTasks, type OrderField } from '../../web/src/state/task-order.js';
import { matchesQuery } from '../../web/src/state/task-match.js';
import { silentLog } from './silent-log.js';

/** The texts of a task as a service reports them. */
export type Report = Partial<
  Pick<Task, 'name' | 'url' | 'user' | 'groupId' | 'description' | 'status' | 'startTime' | 'stopTime' | 'addr'>
>;

/** How a change is told beside its texts. */
export interface ChangeStory {
  readonly cause?: Cause;
  readonly kind?: TaskEventKind;
  readonly gapMs?: number;
  readonly atMs?: number;
  readonly marks?: Task['marks'];
}

interface Change {
  readonly event: TaskEvent;
  readonly task: Task;
  readonly before: Task | undefined;
}

const STATUSES: Readonly<Record<string, TaskStatus>> = {
  running: TaskStatus.RUNNING,
  finish: TaskStatus.FINISH,
  shutdown: TaskStatus.SHUTDOWN,
  restart: TaskStatus.RESTART,
};

const ORDER_FIELDS: Readonly<Record<TaskOrderField, OrderField>> = {
  [TaskOrderField.UNSPECIFIED]: 'updated',
  [TaskOrderField.UPDATED_AT]: 'updated',
  [TaskOrderField.ID]: 'id',
  [TaskOrderField.NAME]: 'name',
  [TaskOrderField.STATUS]: 'status',
  [TaskOrderField.USER]: 'user',
  [TaskOrderField.GROUP_ID]: 'group',
  [TaskOrderField.STARTED_AT]: 'start',
  [TaskOrderField.STOPPED_AT]: 'stop',
};

const TOTAL_BOUND = 10_000;
const IDLE_MS = 15_000;
/** The folder of the page's build. */
export const PAGE_FOLDER = fileURLToPath(new URL('../../dist/web', import.meta.url));

export class WebFakeServer {
  readonly users = new Map<string, { user: User; password: string }>();
  /** Set: every login is refused for this long, as after too many wrong ones. */
  throttleMs = 0;
  /** Set: every resume token is too old. */
  tokensExpired = false;
  /** How long lists and counts take. */
  delayMs = 0;
  readonly #tasks = new Map<string, Task>();
  readonly #changes: Change[] = [];
  readonly #sessions = new Map<string, string>();
  readonly #streams = new Set<{ abort: AbortController; wake: () => void }>();
  #server: HttpServer | undefined;

  /** Listens; answers where. */
  async start(port = 0): Promise<string> {
    const server = new HttpServer({
      services: [
        { service: AuthService, implementation: this.#auth() },
        { service: TaskService, implementation: this.#service() },
      ] as unknown as RpcService[],
      readiness: new Readiness({ check: async () => {} }, systemClock),
      metrics: () => Promise.resolve({ contentType: 'text/plain', body: '' }),
      clock: systemClock,
      log: silentLog,
      limits: { maxMessageBytes: 4 << 20 },
      pageFolder: PAGE_FOLDER,
    });
    await server.start({ host: '127.0.0.1', port });
    this.#server = server;
    return server.address;
  }

  async stop(): Promise<void> {
    this.cutStreams();
    await this.#server?.stop(0);
  }

  addUser(id: string, given: { administrator?: boolean; mustChange?: boolean; groups?: Record<string, Role> } = {}): void {
    const memberships = Object.entries(given.groups ?? {}).map(([groupId, role]) => ({ groupId, role }));
    const user = create(UserSchema, {
      id,
      administrator: given.administrator ?? false,
      mustChangePassword: given.mustChange ?? false,
      memberships,
    });
    this.users.set(id, { user, password: `password of ${id}` });
  }

  /** A service registers or updates a task. */
  report(id: string, texts: Report, story: ChangeStory = {}): Task {
    const before = this.#tasks.get(id);
    const atMs = story.atMs ?? Date.now();
    const task = before ? clone(TaskSchema, before) : create(TaskSchema, { id, createdAt: timestampFromMs(atMs) });
    Object.assign(task, { status: 'running' }, before && { status: before.status }, texts);
    this.#stamp(task, before, story, atMs);
    this.#tasks.set(id, task);
    this.#tell({ event: this.#eventOf(task, before, story, atMs), task, before });
    return task;
  }

  /** Ends every stream, as a lost connection does. */
  cutStreams(): void {
    for (const stream of this.#streams) stream.abort.abort();
  }

  /** Ends every login. */
  endSessions(): void {
    this.#sessions.clear();
    this.cutStreams();
  }

  #stamp(task: Task, before: Task | undefined, story: ChangeStory, atMs: number): void {
    const at = timestampFromMs(atMs);
    const [started, stopped] = [parseInstant(task.startTime), parseInstant(task.stopTime)];
    task.effectiveStatus = STATUSES[task.status] ?? TaskStatus.OTHER;
    task.revision = (before?.revision ?? 0n) + 1n;
    task.etag = `"${task.revision}"`;
    task.updatedAt = at;
    if (before?.status !== task.status) {
      task.statusChangedAt = at;
      task.cause = story.cause ?? Cause.CLIENT;
      task.statusBefore = story.kind === TaskEventKind.LAPSED ? (before?.status ?? '') : '';
    }
    task.connected = task.status === 'running' || task.status === 'restart';
    task.marks = story.marks ?? [];
    delete task.startedAt;
    delete task.stoppedAt;
    if (started) task.startedAt = timestampFromMs(started.getTime());
    if (stopped) task.stoppedAt = timestampFromMs(stopped.getTime());
  }

  #eventOf(task: Task, before: Task | undefined, story: ChangeStory, atMs: number): TaskEvent {
    return create(TaskEventSchema, {
      id: BigInt(this.#changes.length + 1),
      taskId: task.id,
      kind: story.kind ?? (before ? TaskEventKind.UPDATED : TaskEventKind.REGISTERED),
      fromStatus: before?.status ?? '',
      toStatus: task.status,
      cause: task.cause,
      actor: story.kind === TaskEventKind.LAPSED ? 'server' : `service:${task.addr || '10.0.4.17'}`,
      node: 'node-a',
      at: timestampFromMs(atMs),
      revision: task.revision,
      ...(story.gapMs === undefined ? {} : { gap: durationFromMs(story.gapMs) }),
    });
  }

  #tell(change: Change): void {
    this.#changes.push(change);
    for (const stream of this.#streams) stream.wake();
  }

  #auth(): ServiceImpl<typeof AuthService> {
    return {
      login: (request, context) => this.#answer(() => this.#login(request.username, request.password, context)),
      logout: (_request, context) => {
        this.#sessions.delete(sessionOf(context));
        context.responseHeader.append('set-cookie', 'fake=; Path=/; Max-Age=0');
        return {};
      },
      getCurrentUser: (_request, context) => {
        const user = this.#userOf(context);
        return { loginMethods: ['password'], ...(user && { user }) };
      },
      changePassword: (request, context) =>
        this.#answer(() => {
          const known = this.users.get(this.#require(context).id);
          if (!known || known.password !== request.currentPassword) throw new TaskDashError('LOGIN_FAILED');
          known.password = request.newPassword;
          known.user.mustChangePassword = false;
          return {};
        }),
    };
  }

  #login(username: string, password: string, context: HandlerContext) {
    if (this.throttleMs > 0) throw new TaskDashError('LOGIN_THROTTLED', { retryAfterMs: this.throttleMs });
    const known = this.users.get(username);
    if (!known || known.password !== password) throw new TaskDashError('LOGIN_FAILED');
    const session = randomUUID();
    this.#sessions.set(session, username);
    context.responseHeader.append('set-cookie', `fake=${session}; Path=/; HttpOnly; SameSite=Strict`);
    return { user: known.user };
  }

  #service(): ServiceImpl<typeof TaskService> {
    const refuse = () => Promise.reject(new TaskDashError('PERMISSION_DENIED'));
    return {
      registerTask: refuse,
      batchRegisterTasks: refuse,
      updateTask: refuse,
      getTask: (request, context) => this.#answer(() => ({ task: this.#find(this.#require(context), request.id) })),
      listTasks: (request, context) =>
        this.#answer(() => {
          const field = ORDER_FIELDS[request.orderBy];
          const order = { field, ascending: request.ascending };
          const matching = this.#matching(this.#require(context), request.filter);
          const sorted = matching.toSorted((a, b) => compareTasks(order, a, b));
          const after = request.pageToken ? decodeTask(request.pageToken) : undefined;
          const rest = after ? sorted.filter((task) => compareTasks(order, task, after) > 0) : sorted;
          const tasks = rest.slice(0, request.pageSize || 50);
          const last = tasks.at(-1);
          return {
            tasks,
            nextPageToken: rest.length > tasks.length && last ? encodeTask(last) : '',
            totalSize: Math.min(matching.length, TOTAL_BOUND),
            totalSizeExceeded: matching.length > TOTAL_BOUND,
          };
        }),
      getTaskStats: (request, context) =>
        this.#answer(() => {
          const matching = this.#matching(this.#require(context), request.filter);
          const counts = new Map<string, bigint>();
          for (const { status } of matching) counts.set(status, (counts.get(status) ?? 0n) + 1n);
          return { total: BigInt(matching.length), counts: [...counts].map(([status, count]) => ({ status, count })) };
        }),
      listTaskEvents: (request, context) =>
        this.#answer(() => {
          this.#find(this.#require(context), request.taskId);
          const before = request.pageToken === '' ? Infinity : Number(request.pageToken);
          const all = this.#changes
            .map((change) => change.event)
            .filter((event) => event.taskId === request.taskId && Number(event.id) < before)
            .reverse();
          const events = all.slice(0, request.pageSize || 50);
          return { events, nextPageToken: all.length > events.length ? String(events.at(-1)?.id ?? '') : '' };
        }),
      watchTasks: (request, context) => this.#watch(request.resumeToken, context),
    };
  }

  async *#watch(resumeToken: string, context: HandlerContext) {
    const user = await this.#answer(() => this.#require(context));
    if (resumeToken !== '' && this.tokensExpired) {
      throw toConnectError(new TaskDashError('RESUME_TOKEN_EXPIRED'), silentLog, 'watch');
    }
    const stream = { abort: new AbortController(), wake: () => {} };
    this.#streams.add(stream);
    const ended = AbortSignal.any([stream.abort.signal, context.signal]);
    let next = resumeToken === '' ? this.#changes.length : Number(resumeToken);
    try {
      yield { resumeToken: String(next), message: { case: 'snapshot' as const, value: { resumed: resumeToken !== '' } } };
      while (!ended.aborted) {
        for (; next < this.#changes.length && !ended.aborted; next++) {
          const told = this.#toldTo(user, this.#changes[next]);
          if (told) yield { resumeToken: String(next + 1), message: { case: 'change' as const, value: told } };
        }
        if (await this.#isQuiet(stream, ended)) yield { resumeToken: String(next), message: { case: 'idle' as const, value: {} } };
      }
    } finally {
      this.#streams.delete(stream);
    }
    if (!context.signal.aborted) throw toConnectError(new TaskDashError('STOPPING'), silentLog, 'watch');
  }

  /** Waits for a change or for the end; answers whether neither came for a while. */
  #isQuiet(stream: { wake: () => void }, ended: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(true), IDLE_MS);
      const wake = () => {
        clearTimeout(timer);
        resolve(false);
      };
      stream.wake = wake;
      ended.addEventListener('abort', wake, { once: true });
      if (ended.aborted) wake();
    });
  }

  #toldTo(user: User, change: Change | undefined) {
    if (!change) return undefined;
    if (isVisible(user, change.task)) return { event: change.event, task: change.task };
    if (!change.before || !isVisible(user, change.before)) return undefined;
    return { event: create(TaskEventSchema, { ...change.event, fromStatus: '', toStatus: '', actor: '' }) };
  }

  #matching(user: User, filter: TaskFilter | undefined): Task[] {
    const query = {
      statuses: filter?.statuses ?? [],
      groups: filter?.groupIds ?? [],
      users: filter?.users ?? [],
      idPrefix: filter?.idPrefix ?? '',
      namePrefix: filter?.namePrefix ?? '',
      addrPrefix: filter?.addrPrefix ?? '',
      words: (filter?.text ?? '').split(/\s+/).filter((word) => word !== ''),
    };
    return [...this.#tasks.values()].filter((task) => isVisible(user, task) && matchesQuery(query, task));
  }

  #find(user: User, id: string): Task {
    const task = this.#tasks.get(id);
    if (!task || !isVisible(user, task)) throw new TaskDashError('TASK_NOT_FOUND');
    return task;
  }

  #userOf(context: HandlerContext): User | undefined {
    return this.users.get(this.#sessions.get(sessionOf(context)) ?? '')?.user;
  }

  #require(context: HandlerContext): User {
    const user = this.#userOf(context);
    if (!user) throw new TaskDashError('NOT_LOGGED_IN');
    return user;
  }

  async #answer<T>(act: () => T): Promise<T> {
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    try {
      return act();
    } catch (thrown) {
      throw toConnectError(thrown, silentLog, 'call');
    }
  }
}

function isVisible(user: User, task: Task): boolean {
  if (user.administrator) return true;
  const role = user.memberships.find((membership) => membership.groupId === task.groupId)?.role;
  return role === Role.MEMBER ? task.user === user.id : role !== undefined;
}

function sessionOf(context: HandlerContext): string {
  return /(?:^|; )fake=([^;]+)/.exec(context.requestHeader.get('cookie') ?? '')?.[1] ?? '';
}

/** A page token is the whole last task: enough to go on after it in any order. */
function encodeTask(task: Task): string {
  const json = JSON.stringify(task, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value));
  return Buffer.from(json).toString('base64url');
}

function decodeTask(token: string): Task {
  try {
    return JSON.parse(Buffer.from(token, 'base64url').toString(), (_key, value: unknown) =>
      typeof value === 'string' && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value,
    ) as Task;
  } catch {
    throw new TaskDashError('PAGE_TOKEN_INVALID');
  }
}
