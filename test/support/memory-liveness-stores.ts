import { isDeepStrictEqual } from 'node:util';
import type { Scope } from '../../server/domain/access.js';
import { isVisible } from '../../server/domain/access.js';
import type { Clock } from '../../server/domain/clock.js';
import { TaskDashError } from '../../server/domain/errors.js';
import {
  RESUMABLE_MS,
  type AddressQuestions,
  type AddressQuestionsHooks,
  type ClaimedTask,
  type EndedSession,
  type HeldTask,
  type LeaseBeats,
  type LeaseBeatsHooks,
  type LeaseHolder,
  type ListedSession,
  type MovedSession,
  type NodeEvent,
  type NodeEventKind,
  type NodeIdentity,
  type NodeRenewal,
  type NodeReport,
  type NodeStore,
  type ProtectionOrder,
  type Neighbour,
  type Neighbourhood,
  type NeighbourRequest,
  type SessionRecord,
  type SessionStore,
  type TakeoverLimits,
  type TaskVersion,
  type UnattendedTask,
  type UndoneClaim,
  type Whereabouts,
} from '../../server/domain/liveness-ports.js';
import type { Lapse, LapseResult, TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import { hasEnded, type TaskMark } from '../../server/domain/task.js';
import { MemoryTaskDatabase, MemoryTaskStore, type StoredTask } from './memory-task-store.js';

const FLAPS = 5;
const FLAP_WINDOW_MS = 600_000;

interface MemoryNode extends NodeIdentity {
  leaseUntilMs: number;
  renewedAtMs: number;
  isSettled: boolean;
  report: NodeReport;
  order: ProtectionOrder | undefined;
}

interface MemorySession {
  record: SessionRecord;
  nodeId: string;
  state: SessionRecord['state'] | 'ended' | 'revoked';
  openedAtMs: number;
  silentSinceMs: number | null;
  endedAtMs: number;
}

/** The database as liveness sees it, in memory: tasks, sessions and nodes, on a clock that plays the database's. */
export class MemoryDatabase {
  /** The tasks and their history. */
  readonly written = new MemoryTaskDatabase();
  readonly sessions = new Map<string, MemorySession>();
  readonly nodes = new Map<string, MemoryNode>();
  readonly lapsed: Lapse[] = [];
  readonly events: NodeEvent[] = [];
  /** What every statement throws; undefined: the database is there. */
  failure: TaskDashError | undefined;
  statements = 0;
  /** Every node's way to hear of beats elsewhere. */
  readonly beats = new Set<MemoryLeaseBeats>();
  /** Every node's way to hear of addresses elsewhere. */
  readonly questions = new Set<MemoryAddressQuestions>();
  rowsWritten = 0;

  constructor(readonly clock: Clock) {
    this.written.isElsewhere = (id, nodeId) => (this.sessions.get(id)?.nodeId ?? nodeId) !== nodeId;
    this.written.isRevoked = (id) => this.sessions.get(id)?.state === 'revoked';
  }

  get nowMs(): number {
    return this.clock.monotonicMs();
  }

  get tasks(): Map<string, StoredTask> {
    return this.written.tasks;
  }

  /** Runs a statement, as far away as the next turn. */
  async run<T>(statement: () => T | Promise<T>): Promise<T> {
    this.statements++;
    await Promise.resolve();
    if (this.failure) throw this.failure;
    return statement();
  }
}

/** One node's connection to the database; `failure` cuts this node off alone. */
export class MemoryConnection {
  failure: TaskDashError | undefined;
  /** Answers that are lost: of so many statements, after so many others. */
  losing = { after: 0, count: 0 };
  readonly tasks: MemoryTaskWrites;
  readonly nodes: NodeStore = new MemoryNodeStore(this);
  readonly sessions: SessionStore = new MemorySessionStore(this);
  readonly beats: MemoryLeaseBeats;
  readonly questions: MemoryAddressQuestions;

  constructor(
    readonly database: MemoryDatabase,
    nodeName = 'node',
  ) {
    this.tasks = new MemoryTaskWrites(this, nodeName);
    this.beats = new MemoryLeaseBeats(this, database);
    this.questions = new MemoryAddressQuestions(this, database);
  }

  async run<T>(statement: (database: MemoryDatabase) => T | Promise<T>): Promise<T> {
    if (this.failure) throw this.failure;
    const answer = await this.database.run(() => {
      if (this.failure) throw this.failure;
      return statement(this.database);
    });
    if (this.#losesThis()) throw new TaskDashError('STORAGE_UNAVAILABLE');
    return answer;
  }

  #losesThis(): boolean {
    const { after, count } = this.losing;
    if (count === 0) return false;
    this.losing = after > 0 ? { after: after - 1, count } : { after, count: count - 1 };
    return after === 0;
  }
}

/** Registers, updates and lapses, one by one, as every task store does them. */
export class MemoryTaskWrites {
  readonly #store: MemoryTaskStore;

  constructor(
    private readonly connection: MemoryConnection,
    nodeName: string,
  ) {
    const { clock, written } = connection.database;
    this.#store = new MemoryTaskStore(written, clock, nodeName);
  }

  submit(write: TaskWrite): Promise<TaskWriteResult> {
    return this.connection.run(async (database) => {
      const [result] = await this.#store.writeBatch([write]);
      if (result?.outcome === 'written') database.rowsWritten++;
      return result as TaskWriteResult;
    });
  }

  hasLostWrites(): Promise<boolean> {
    return this.connection.run(() => this.#store.hasLostWrites());
  }

  lapse(lapses: readonly Lapse[], nodeId?: string): Promise<LapseResult> {
    return this.connection.run(async (database) => {
      const result = await this.#store.lapse(lapses, nodeId);
      database.rowsWritten += result.lapsed.length;
      database.lapsed.push(...lapses.filter(({ taskId }) => result.lapsed.includes(taskId)));
      return result;
    });
  }
}

/** Beats of leases between nodes, in the next turn. */
export class MemoryLeaseBeats implements LeaseBeats {
  #nodeId = '';
  #hooks: LeaseBeatsHooks | undefined;
  untoldForMs = 0;
  /** Nothing that is told arrives: the connection for it stands still. */
  isStuck = false;
  /** 0: deaf, as when the listening connection is down. */
  heardForMs = Infinity;
  /** Nothing arrives, without anybody having noticed; and nobody here runs any more. */
  isDeaf: () => boolean = () => false;
  probes = 0;

  constructor(
    private readonly connection: MemoryConnection,
    { beats }: MemoryDatabase,
  ) {
    beats.add(this);
  }

  tell(leaseId: string): void {
    if (!this.isStuck) this.#send((hooks) => hooks.onBeats(this.#nodeId, [leaseId]));
  }

  tellOver(leaseId: string): void {
    if (!this.isStuck) this.#send((hooks) => hooks.onOver([leaseId]));
  }

  ask(leaseId: string, question: number): void {
    this.#send((hooks) => hooks.onAsked(this.#nodeId, leaseId, question));
  }

  answer(nodeId: string, leaseId: string, question: number, heardAgoMs: number | undefined): void {
    this.#send((hooks) => hooks.onAnswered(this.#nodeId, leaseId, question, heardAgoMs), nodeId);
  }

  probe(): void {
    this.probes++;
  }

  #send(say: (hooks: LeaseBeatsHooks) => void, to?: string): void {
    void this.connection
      .run(({ beats }) => {
        for (const other of beats) if (other !== this && (to ?? other.#nodeId) === other.#nodeId) other.#hear(say);
      })
      .catch(() => {});
  }

  #hear(say: (hooks: LeaseBeatsHooks) => void): void {
    if (this.heardForMs > 0 && !this.connection.failure && !this.isDeaf() && this.#hooks) say(this.#hooks);
  }

  join(nodeId: string, hooks: LeaseBeatsHooks): void {
    this.#nodeId = nodeId;
    this.#hooks = hooks;
  }
}

/** Questions about addresses between nodes, in the next turn. */
export class MemoryAddressQuestions implements AddressQuestions {
  #nodeId = '';
  #hooks: AddressQuestionsHooks | undefined;
  #isListening = true;
  asked = 0;
  answered = 0;

  constructor(
    private readonly connection: MemoryConnection,
    { questions }: MemoryDatabase,
  ) {
    questions.add(this);
  }

  ask(address: string, atMs: number): void {
    this.asked++;
    this.#send((hooks) => hooks.onAsked(this.#nodeId, address, atMs));
  }

  withdraw(): void {
    // What is asked here is sent at once.
  }

  answer(nodeId: string, address: string, askedAtMs: number): void {
    this.answered++;
    this.#send((hooks) => hooks.onAnswered(this.#nodeId, address, askedAtMs), nodeId);
  }

  /** The listening connection is down, or stands again. */
  set isListening(isListening: boolean) {
    this.#isListening = isListening;
    if (isListening) this.#hooks?.onListening();
  }

  #send(say: (hooks: AddressQuestionsHooks) => void, to?: string): void {
    void this.connection
      .run(({ questions }) => {
        for (const other of questions) if (other !== this && (to ?? other.#nodeId) === other.#nodeId) other.#hear(say);
      })
      .catch(() => {});
  }

  #hear(say: (hooks: AddressQuestionsHooks) => void): void {
    if (this.#isListening && !this.connection.failure && this.#hooks) say(this.#hooks);
  }

  join(nodeId: string, hooks: AddressQuestionsHooks): void {
    this.#nodeId = nodeId;
    this.#hooks = hooks;
  }
}

class MemoryNodeStore implements NodeStore {
  constructor(private readonly connection: MemoryConnection) {}

  renew(node: NodeIdentity, leaseMs: number, report: NodeReport, carriedOut?: ProtectionOrder): Promise<NodeRenewal> {
    return this.connection.run((database) => {
      const known = database.nodes.get(node.id);
      const order = isDeepStrictEqual(known?.order, carriedOut) ? undefined : known?.order;
      const { nowMs } = database;
      database.nodes.set(node.id, {
        ...node,
        report,
        leaseUntilMs: nowMs + leaseMs,
        renewedAtMs: nowMs,
        isSettled: false,
        order,
      });
      database.rowsWritten++;
      const peers = [...database.nodes.values()]
        .filter(({ id, leaseUntilMs }) => id !== node.id && leaseUntilMs > nowMs)
        .map(({ id, name, report }) => ({ id, name, report }));
      return { lapsed: !known || known.leaseUntilMs <= nowMs, order, peers };
    });
  }

  release(nodeId: string): Promise<void> {
    return this.connection.run((database) => {
      const node = database.nodes.get(nodeId);
      if (node) node.leaseUntilMs = database.nowMs;
    });
  }

  order(nodeName: string, order: ProtectionOrder): Promise<boolean> {
    return this.connection.run((database) => {
      const node = [...database.nodes.values()].find(
        ({ name, leaseUntilMs, report: { protection } }) =>
          name === nodeName && leaseUntilMs > database.nowMs && protection !== null,
      );
      if (node) node.order = order;
      return node !== undefined;
    });
  }

  note(node: string, kind: NodeEventKind, details: NodeEvent['details']): Promise<void> {
    return this.connection.run((database) => {
      database.events.unshift({ node, kind, details, at: database.clock.now() });
    });
  }

  events(limit: number): Promise<NodeEvent[]> {
    return this.connection.run((database) => database.events.slice(0, limit));
  }

  purge(deadForMs: number): Promise<number> {
    return this.connection.run((database) => {
      const old = [...database.nodes.values()].filter(
        ({ id, leaseUntilMs, isSettled }) =>
          isSettled && leaseUntilMs < database.nowMs - deadForMs && !hasLeftovers(database, id),
      );
      for (const { id } of old) database.nodes.delete(id);
      return old.length;
    });
  }
}

function hasLeftovers(database: MemoryDatabase, nodeId: string): boolean {
  const ofNode = [...database.sessions.values()].some(
    (session) => session.nodeId === nodeId && (lives(session) || isLeaving(database, session)),
  );
  return ofNode || unrecorded(database, nodeId).length > 0;
}

function lives({ state }: MemorySession): boolean {
  return state !== 'ended' && state !== 'revoked';
}

function isLeaving(database: MemoryDatabase, { record, state }: MemorySession): boolean {
  return state === 'revoked' && runningTasksOf(database, record.id).length > 0;
}

/** Tasks of sessions that a node opened and nobody knows: not written down, or over. */
function unrecorded(database: MemoryDatabase, nodeId: string): StoredTask[] {
  return [...database.tasks.values()].filter(
    ({ sessionId }) =>
      sessionId?.startsWith(nodeId.slice(0, 13)) && (database.sessions.get(sessionId)?.state ?? 'ended') === 'ended',
  );
}

/** What stays of a session that is on record, whatever is found of it later. */
function birthOf(known: MemorySession | undefined, found: SessionRecord): Partial<SessionRecord> {
  if (!known) return {};
  const { door, address, ttlMs, owner } = known.record;
  return { door, address, ttlMs, owner: found.owner || owner };
}

class MemorySessionStore implements SessionStore {
  constructor(private readonly connection: MemoryConnection) {}

  save(nodeId: string, records: readonly SessionRecord[]): Promise<void> {
    return this.connection.run((database) => {
      for (const record of records) {
        const known = database.sessions.get(record.id);
        if ((known?.nodeId ?? nodeId) !== nodeId || known?.state === 'revoked') continue;
        database.sessions.set(record.id, sessionOf(database, nodeId, { ...record, ...birthOf(known, record) }));
        database.rowsWritten++;
      }
    });
  }

  end(nodeId: string, ended: readonly EndedSession[]): Promise<(HeldTask & { sessionId: string })[]> {
    return this.connection.run((database) => {
      const ours = ended.filter(({ id }) => (database.sessions.get(id)?.nodeId ?? nodeId) === nodeId);
      const held = ours.flatMap(({ id }) => tasksHeldBy(database, id));
      for (const task of held) if (hasEnded(task.status)) task.sessionId = null;
      const leftovers = held
        .filter(({ sessionId }) => sessionId !== null)
        .map(({ id, sessionId, epoch }) => ({ taskId: id, sessionId: sessionId as string, epoch }));
      for (const session of ours) {
        if (!leftovers.some(({ sessionId }) => sessionId === session.id)) endSession(database, session);
      }
      return leftovers;
    });
  }

  revoke(nodeId: string, record: SessionRecord): Promise<boolean> {
    return this.connection.run((database) => {
      const revoked = { state: 'revoked', silentSinceMs: -Infinity, endedAtMs: database.nowMs } as const;
      database.sessions.set(record.id, { ...sessionOf(database, nodeId, record), ...revoked });
      database.rowsWritten++;
      for (const task of tasksHeldBy(database, record.id)) if (hasEnded(task.status)) task.sessionId = null;
      return true;
    });
  }

  leaving(ids: readonly string[]): Promise<{ id: string; owner: string; address: string }[]> {
    return this.connection.run((database) => {
      const isDead = (nodeId: string) => {
        const node = database.nodes.get(nodeId);
        return node !== undefined && node.leaseUntilMs <= database.nowMs && !node.isSettled;
      };
      return [...database.sessions.values()]
        .filter((session) => isLeaving(database, session))
        .filter(({ record, nodeId }) => ids.includes(record.id) || isDead(nodeId))
        .map(({ record: { id, owner, address } }) => ({ id, owner, address }));
    });
  }

  adopt(nodeId: string, limits: TakeoverLimits): Promise<MovedSession[]> {
    return this.connection.run((database) => {
      const dead = [...database.nodes.values()].filter(
        ({ leaseUntilMs, isSettled }) => leaseUntilMs <= database.nowMs && !isSettled,
      );
      const recorded = adoptSome(database, dead, nodeId, limits);
      if (recorded.length > 0) return recorded;
      for (const node of dead) writeDownUnrecorded(database, node);
      const found = adoptSome(database, dead, nodeId, limits);
      if (found.length === 0) for (const node of dead) node.isSettled = !hasLeftovers(database, node.id);
      return found;
    });
  }

  unsettle(): Promise<void> {
    return this.connection.run((database) => {
      for (const node of database.nodes.values()) {
        const isDead = node.leaseUntilMs <= database.nowMs;
        if (isDead && hasLeftovers(database, node.id)) node.isSettled = false;
      }
    });
  }

  reclaim(nodeId: string, ids: readonly string[]): Promise<MovedSession[]> {
    return this.connection.run((database) =>
      ids
        .map((id) => database.sessions.get(id))
        .filter((session) => session !== undefined && session.nodeId !== nodeId)
        .map((session) => session as MemorySession)
        .filter(({ record, state }) => record.door === 'tcp' || (state !== 'open' && state !== 'revoked'))
        .map((session) => move(database, session, nodeId, 'open')),
    );
  }

  take(nodeId: string, id: string, owner: string): Promise<MovedSession[]> {
    return this.connection.run((database) => {
      const session = database.sessions.get(id);
      if (session?.record.owner !== owner || session.record.door !== 'grpc' || session.state === 'revoked') return [];
      const { record, state } = session;
      const stays = session.nodeId === nodeId && state === 'open' && !record.isProtected;
      return [stays ? asItStands(database, session) : move(database, session, nodeId, 'open')];
    });
  }

  holderOf(id: string, owner: string): Promise<LeaseHolder | undefined> {
    return this.connection.run((database) => {
      const session = database.sessions.get(id);
      if (session?.record.owner !== owner || session.record.door !== 'grpc') return undefined;
      if (session.state === 'revoked') return undefined;
      return { nodeId: session.nodeId, ttlMs: session.record.ttlMs, isOpen: session.state === 'open' };
    });
  }

  lapsedOf(ids: readonly string[]): Promise<ReadonlyMap<string, readonly TaskVersion[]>> {
    return this.connection.run(
      (database) =>
        new Map(ids.map((id) => [id, lapsedFor(database, id)] as const).filter(([, tasks]) => tasks.length)),
    );
  }

  undone(claims: readonly ClaimedTask[]): Promise<UndoneClaim[]> {
    return this.connection.run((database) =>
      claims.flatMap(({ taskId, sessionId, epoch, claimedAgoMs }) => {
        const task = database.tasks.get(taskId);
        if (!task || task.epoch > epoch || task.sessionId === sessionId) return [];
        const isLapsed = task.statusBefore !== '' && task.lapsedSessionId !== sessionId;
        const isLater = task.updatedAt.getTime() > database.clock.now().getTime() - claimedAgoMs;
        const isTheirs = !hasEnded(task.status) && task.sessionId !== null && (task.epoch === epoch || isLater);
        return !hasEnded(task.status) || isLapsed ? [{ taskId, sessionId, revision: task.revision, isTheirs }] : [];
      }),
    );
  }

  strays(nodeId: string, knownIds: readonly string[]): Promise<MovedSession[]> {
    return this.connection.run((database) =>
      [...database.sessions.values()]
        .filter((session) => session.nodeId === nodeId && lives(session))
        .filter(({ record }) => !knownIds.includes(record.id))
        .map((session) => asItStands(database, session)),
    );
  }

  unattended(nodeId: string): Promise<UnattendedTask[]> {
    return this.connection.run((database) =>
      unrecorded(database, nodeId)
        .filter(({ status }) => !hasEnded(status))
        .map(({ id, epoch, sessionId, addr }) => {
          const nobody = { id: sessionId as string, door: 'tcp', address: addr, owner: '' } as const;
          const { door, address, owner } = database.sessions.get(nobody.id)?.record ?? nobody;
          return { taskId: id, epoch, session: { id: nobody.id, door, address, owner } };
        }),
    );
  }

  whereabouts(nodeId: string, ids: readonly string[]): Promise<ReadonlyMap<string, Whereabouts>> {
    return this.connection.run(
      (database) =>
        new Map(
          ids.map((id) => [
            id,
            {
              isElsewhere: (database.sessions.get(id)?.nodeId ?? nodeId) !== nodeId,
              hasTasks: runningTasksOf(database, id).length > 0,
            },
          ]),
        ),
    );
  }

  neighbours(nodeId: string, requests: readonly NeighbourRequest[]): Promise<Neighbourhood> {
    return this.connection.run((database) => {
      const missed = [...database.nodes.values()].filter(({ id, isSettled }) => id !== nodeId && !isSettled);
      return {
        neighbours: requests.flatMap((request) => neighboursOf(database, request)),
        missedForMs: Math.max(0, ...missed.map(({ renewedAtMs }) => database.nowMs - renewedAtMs)),
      };
    });
  }

  tasksOf(sessionId: string): Promise<TaskVersion[]> {
    return this.connection.run((database) =>
      runningTasksOf(database, sessionId).map(({ id, revision }) => ({ taskId: id, revision })),
    );
  }

  marked(exceptNodeId: string, limit: number): Promise<ReadonlyMap<string, TaskMark>> {
    return this.connection.run((database) => {
      const others = [...database.sessions.values()].filter(({ nodeId }) => nodeId !== exceptNodeId);
      const marks = others.flatMap((session): [string, TaskMark][] => {
        if (session.state === 'orphan') return [[session.record.id, 'unconfirmed']];
        return session.record.isProtected && session.state !== 'ended' ? [[session.record.id, 'protected']] : [];
      });
      return new Map(marks.slice(0, limit));
    });
  }

  flapping(limit: number): Promise<ReadonlyMap<string, number>> {
    return this.connection.run((database) => {
      const nowMs = database.clock.now().getTime();
      const flapping = [...changesByTask(database)].flatMap(([id, changesAtMs]): [string, number][] => {
        const fifthLast = changesAtMs.at(-FLAPS);
        const forMs = fifthLast === undefined ? 0 : fifthLast + FLAP_WINDOW_MS - nowMs;
        return forMs > 0 ? [[id, forMs]] : [];
      });
      return new Map(flapping.sort(([, one], [, other]) => other - one).slice(0, limit));
    });
  }

  list(scope: Scope, afterId: string | undefined, limit: number): Promise<ListedSession[]> {
    return this.connection.run((database) =>
      [...database.sessions.values()]
        .filter(lives)
        .filter(
          ({ record: { id } }) =>
            scope === 'everything' || tasksHeldBy(database, id).some((task) => isVisible(scope, task)),
        )
        .map((session) => listedOf(database, session, scope))
        .filter(({ id }) => id > (afterId ?? ''))
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .slice(0, limit),
    );
  }

  purge(): Promise<number> {
    return this.connection.run((database) => {
      const old = [...database.sessions.values()].filter(
        (session) =>
          !lives(session) && !isLeaving(database, session) && session.endedAtMs < database.nowMs - RESUMABLE_MS,
      );
      for (const { record } of old) database.sessions.delete(record.id);
      return old.length;
    });
  }
}

/** When the status of each task changed, which its first registration is not. */
function changesByTask({ written }: MemoryDatabase): Map<string, number[]> {
  const changes = new Map<string, number[]>();
  for (const { event } of written.history) {
    if (event.revision === 1 || event.fromStatus === event.toStatus) continue;
    changes.set(event.taskId, [...(changes.get(event.taskId) ?? []), event.at.getTime()]);
  }
  return changes;
}

function sessionOf(database: MemoryDatabase, nodeId: string, record: SessionRecord): MemorySession {
  return {
    record,
    nodeId,
    state: record.state,
    openedAtMs: database.nowMs - record.openedAgoMs,
    silentSinceMs: record.silentMs === null ? null : database.nowMs - record.silentMs,
    endedAtMs: 0,
  };
}

function tasksHeldBy(database: MemoryDatabase, sessionId: string): StoredTask[] {
  return [...database.tasks.values()].filter((task) => task.sessionId === sessionId);
}

function runningTasksOf(database: MemoryDatabase, sessionId: string): StoredTask[] {
  return tasksHeldBy(database, sessionId).filter((task) => !hasEnded(task.status));
}

function lapsedFor(database: MemoryDatabase, sessionId: string): TaskVersion[] {
  return [...database.tasks.values()]
    .filter((task) => task.lapsedSessionId === sessionId && task.status === 'shutdown' && task.statusBefore !== '')
    .map(({ id, revision }) => ({ taskId: id, revision }));
}

function versionsOf(database: MemoryDatabase, sessionId: string): TaskVersion[] {
  const held = runningTasksOf(database, sessionId).map(({ id, revision }) => ({ taskId: id, revision }));
  return [...held, ...lapsedFor(database, sessionId)];
}

function endSession(database: MemoryDatabase, { id, silentMs }: EndedSession): void {
  const session = database.sessions.get(id);
  if (!session || session.state === 'revoked') return;
  database.rowsWritten++;
  const wasBeside = session.state === 'orphan' && session.record.door === 'tcp' && !session.record.holdsTasks;
  if (!wasBeside && lapsedFor(database, id).length === 0) return void database.sessions.delete(id);
  session.state = 'ended';
  session.silentSinceMs = database.nowMs - silentMs;
  session.endedAtMs = database.nowMs;
}

function move(
  database: MemoryDatabase,
  session: MemorySession,
  nodeId: string,
  state: 'open' | 'orphan',
): MovedSession {
  session.nodeId = nodeId;
  session.state = state;
  session.record = { ...session.record, state, isProtected: false };
  if (state === 'open') session.silentSinceMs = null;
  for (const task of runningTasksOf(database, session.record.id)) task.epoch++;
  return asItStands(database, session);
}

function asItStands(database: MemoryDatabase, session: MemorySession): MovedSession {
  return {
    ...recordOf(database, session),
    tasks: runningTasksOf(database, session.record.id).map(({ id, epoch }) => ({ taskId: id, epoch })),
    lapsed: lapsedFor(database, session.record.id),
    locked: [],
  };
}

/** Adopts sessions of dead nodes in the order of their ids, up to the limits but at least one. */
function adoptSome(
  database: MemoryDatabase,
  dead: readonly MemoryNode[],
  nodeId: string,
  limits: TakeoverLimits,
): MovedSession[] {
  const left = [...database.sessions.values()]
    .filter((session) => lives(session) && dead.some(({ id }) => id === session.nodeId))
    .sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
  let tasks = 0;
  const end = left.findIndex(({ record }) => (tasks += runningTasksOf(database, record.id).length) > limits.tasks);
  return left.slice(0, Math.min(limits.sessions, end < 0 ? left.length : Math.max(1, end))).map((session) => {
    session.silentSinceMs ??= database.nodes.get(session.nodeId)?.renewedAtMs ?? database.nowMs;
    session.record = { ...session.record, isProtected: false };
    return move(database, session, nodeId, 'orphan');
  });
}

function recordOf(database: MemoryDatabase, session: MemorySession): SessionRecord {
  return {
    ...session.record,
    openedAgoMs: database.nowMs - session.openedAtMs,
    silentMs: session.silentSinceMs === null ? null : database.nowMs - session.silentSinceMs,
  };
}

function writeDownUnrecorded(database: MemoryDatabase, node: MemoryNode): void {
  for (const { sessionId, addr } of unrecorded(database, node.id)) {
    const id = sessionId as string;
    const record = {
      id,
      door: 'tcp',
      address: addr,
      owner: '',
      ttlMs: 30_000,
      openedAgoMs: 0,
      holdsTasks: runningTasksOf(database, id).length > 0,
    } as const;
    const unrecorded = { ...record, state: 'open', isProtected: false, silentMs: null } as const;
    const birth = birthOf(database.sessions.get(id), unrecorded);
    database.sessions.set(id, sessionOf(database, node.id, { ...unrecorded, ...birth }));
  }
}

/** The others at the address of a session: open, or heard within the hour; those that are not open first. */
function neighboursOf(database: MemoryDatabase, request: NeighbourRequest): Neighbour[] {
  const others = [...database.sessions.values()].filter(
    ({ record, silentSinceMs }) =>
      record.address === request.address &&
      record.id !== request.sessionId &&
      (silentSinceMs === null || silentSinceMs >= database.nowMs - RESUMABLE_MS),
  );
  const isOpen = ({ state }: MemorySession) => state === 'open';
  const some = [...others.filter((other) => !isOpen(other)).slice(0, 2), ...others.filter(isOpen).slice(0, 2)];
  return some.map((session) => neighbourOf(database, session, request));
}

function neighbourOf(database: MemoryDatabase, session: MemorySession, request: NeighbourRequest): Neighbour {
  const { record, state, silentSinceMs, nodeId } = session;
  const tasks = state === 'open' ? [] : versionsOf(database, record.id);
  return {
    ...{ sessionId: request.sessionId, id: record.id, nodeId, tasks },
    isOpen: state === 'open',
    isSameOwner: record.owner === request.owner && record.door === 'tcp',
    silentMs: database.nowMs - (silentSinceMs ?? database.nowMs),
    nodeRenewedAgoMs: database.nowMs - (database.nodes.get(nodeId)?.renewedAtMs ?? database.nowMs),
    isGuess: tasks.some(({ taskId }) => {
      const since = database.tasks.get(taskId)?.unconfirmedSince;
      return since && since.getTime() >= database.clock.now().getTime() - RESUMABLE_MS;
    }),
  };
}

function listedOf(database: MemoryDatabase, session: MemorySession, scope: Scope): ListedSession {
  const node = database.nodes.get(session.nodeId);
  const visible = runningTasksOf(database, session.record.id).filter((task) => isVisible(scope, task));
  return {
    ...recordOf(database, session),
    nodeId: session.nodeId,
    nodeName: node?.name ?? '',
    nodeRenewedAgoMs: database.nowMs - (node?.renewedAtMs ?? 0),
    tasks: visible.length,
  };
}
