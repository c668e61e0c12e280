/**
 * Clients of all three doors who register, update and find a few tasks at random, one request after the other, and keep
 * what they asked, when, and what they were told.
 *
 * Every write carries a stamp in its url that no other write has, and nobody sends a write again: what came of each can be
 * looked up. Whoever got no answer only finds until they are answered again, so that a server that is away does not make
 * many writes of unknown outcome.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ConnectError, createClient, type Client } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { authorized } from '../../client/authorized-transport.js';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import type { Task } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { TaskTexts } from '../../server/domain/task.js';
import { TcpxClient, type TcpxReply } from '../support/tcpx-client.js';
import type { TaskInput, TaskOperation, TaskOutput, Texts } from './task-model.js';

/** Who waits longer than this for an answer gives up, and knows nothing. */
const ANSWER_MS = 3000;
const MAX_PAUSE_MS = 15;
const AFTER_SILENCE_MS = 100;

/** A door of a server as a caller uses it; undefined: no answer, or one that leaves open what happened. */
export interface Door {
  /** Whether an update may name the version that it changes. */
  readonly knowsVersions: boolean;
  ask(input: TaskInput): Promise<TaskOutput | undefined>;
  close(): Promise<void>;
}

/** The names of the doors. */
export type DoorName = 'tcp' | 'grpc' | 'http';

/** What is known about the tasks that callers ask for, by all of them. */
export interface Board {
  /** The tasks to ask for now. */
  readonly ids: () => readonly string[];
  /** The latest version that somebody saw; an update that names it may find a newer one. */
  readonly versions: Map<string, number>;
  /** Milliseconds that all callers share. */
  readonly now: () => number;
}

export class Caller {
  /** Everything that was asked, but finds without an answer: they say nothing. */
  readonly history: TaskOperation[] = [];
  #stopping = false;
  #stamps = 0;

  constructor(
    readonly name: string,
    private readonly door: Door,
    private readonly board: Board,
  ) {}

  /** Asks until `stop`. */
  async call(): Promise<void> {
    let output = await this.ask({ verb: 'find', id: anyOf(this.board.ids()) });
    while (!this.#stopping) {
      const id = anyOf(this.board.ids());
      await delay(output ? Math.random() * MAX_PAUSE_MS : AFTER_SILENCE_MS);
      output = await this.ask(output ? this.#anything(id) : { verb: 'find', id });
    }
  }

  stop(): void {
    this.#stopping = true;
  }

  async ask(input: TaskInput): Promise<TaskOutput | undefined> {
    const calledAt = this.board.now();
    const output = await this.door.ask(input);
    const answeredAt = output ? this.board.now() : Infinity;
    if (output || input.verb !== 'find') this.history.push({ client: this.name, calledAt, answeredAt, input, output });
    if (output?.outcome === 'done' && output.revision !== undefined) this.board.versions.set(input.id, output.revision);
    return output;
  }

  #anything(id: string): TaskInput {
    const kind = Math.random();
    if (kind < 0.4) return { verb: 'find', id };
    const url = `${this.name}/${++this.#stamps}`;
    // The tasks say that they are over: nobody vouches for them, and only callers change them.
    const common = { url, group_id: 'mx' };
    if (kind < 0.6)
      return { verb: 'register', id, texts: { ...common, name: url, description: url, status: 'finish' } };
    const texts = { ...common, [anyOf(['name', 'description', 'user'])]: url };
    const revision = kind < 0.8 && this.door.knowsVersions ? this.board.versions.get(id) : undefined;
    return { verb: 'update', id, texts, ...(revision !== undefined && { revision }) };
  }
}

function anyOf<T>(choices: readonly T[]): T {
  return choices[Math.floor(Math.random() * choices.length)] as T;
}

/** Opens a door at host:port. */
export function openDoor(name: DoorName, at: string, token: string): Door {
  return name === 'tcp' ? new LegacyDoor(at) : new RpcDoor(openTasks(name, at, token));
}

/** What goes wrong without saying whether a write took effect: by the code of the legacy door, and by reason. */
const UNKNOWN_ERRID = 1001;
const UNKNOWN_REASONS = ['STORAGE_UNAVAILABLE', 'OVERLOADED', 'STOPPING'];

/** One connection, opened anew after anything that leaves it in doubt. It tells no versions, and takes none. */
class LegacyDoor implements Door {
  readonly knowsVersions = false;
  #client: TcpxClient | undefined;

  constructor(private readonly at: string) {}

  async ask(input: TaskInput): Promise<TaskOutput | undefined> {
    try {
      if (this.#client?.endedBy) await this.close();
      this.#client ??= await TcpxClient.connect(this.at, { deadlineMs: ANSWER_MS });
      return outputOf(await send(this.#client, input), input);
    } catch (error) {
      if (error instanceof WrongAnswer) throw error;
      await this.close();
      return undefined;
    }
  }

  async close(): Promise<void> {
    await this.#client?.close();
    this.#client = undefined;
  }
}

function send(client: TcpxClient, input: TaskInput): Promise<TcpxReply> {
  if (input.verb === 'find') return client.find(input.id);
  return client[input.verb]({ id: input.id, ...input.texts });
}

function outputOf({ body }: TcpxReply, input: TaskInput): TaskOutput | undefined {
  if (body.errid === UNKNOWN_ERRID) return undefined;
  if (body.errid === 1002) return { outcome: 'not_found' };
  if (body.errid !== 0) throw new WrongAnswer(`${input.verb} was answered with ${body.errid}`);
  if (input.verb !== 'find') return { outcome: 'done' };
  const { id: _id, errid: _errid, errmsg: _errmsg, ...texts } = body;
  return { outcome: 'done', texts: texts as unknown as TaskTexts };
}

/** An answer that nothing in a scenario explains: the scenario fails. */
class WrongAnswer extends Error {}

/** The tasks behind a door, and how to let go of it. */
export interface OpenTasks {
  readonly tasks: Client<typeof TaskService>;
  close(): void;
}

/** Opens gRPC, or Connect with JSON over HTTP/1.1. */
export function openTasks(name: 'grpc' | 'http', at: string, token: string): OpenTasks {
  const baseUrl = `http://${at}`;
  if (name === 'http') {
    const transport = createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false });
    return { tasks: createClient(TaskService, authorized(transport, token)), close: () => {} };
  }
  const sessionManager = new Http2SessionManager(baseUrl);
  const transport = createGrpcTransport({ baseUrl, sessionManager });
  return { tasks: createClient(TaskService, authorized(transport, token)), close: () => sessionManager.abort() };
}

class RpcDoor implements Door {
  readonly knowsVersions = true;

  constructor(private readonly open: OpenTasks) {}

  async ask(input: TaskInput): Promise<TaskOutput | undefined> {
    try {
      const task = await this.#call(input);
      if (task) return { outcome: 'done', revision: Number(task.revision), texts: textsOf(task) };
    } catch (thrown) {
      return refusalOf(ConnectError.from(thrown));
    }
    throw new WrongAnswer(`${input.verb} was answered without a task`);
  }

  close(): Promise<void> {
    return Promise.resolve(this.open.close());
  }

  async #call(input: TaskInput): Promise<Task | undefined> {
    const { tasks } = this.open;
    const options = { timeoutMs: ANSWER_MS };
    const { id } = input;
    if (input.verb === 'find') return (await tasks.getTask({ id }, options)).task;
    const task = { id, ...messageOf(input.texts) };
    if (input.verb === 'register') return (await tasks.registerTask({ task }, options)).task;
    const etag = input.revision === undefined ? '' : `"${input.revision}"`;
    return (await tasks.updateTask({ task: { ...task, etag } }, options)).task;
  }
}

function refusalOf(error: ConnectError): TaskOutput | undefined {
  const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
  if (reason === 'TASK_NOT_FOUND') return { outcome: 'not_found' };
  if (reason === 'TASK_CHANGED') return { outcome: 'changed' };
  // No reason: the connection broke, or the time was up.
  if (reason === undefined || UNKNOWN_REASONS.includes(reason)) return undefined;
  throw new WrongAnswer(`a request was refused: ${reason}`, { cause: error });
}

function messageOf({ group_id: groupId = '', start_time: startTime = '', stop_time: stopTime = '', ...rest }: Texts) {
  return { ...rest, groupId, startTime, stopTime };
}

function textsOf({ name, url, user, groupId, description, status, startTime, stopTime }: Task): TaskTexts {
  return { name, url, user, group_id: groupId, description, status, start_time: startTime, stop_time: stopTime };
}
