/** The three doors behind one face, for scenarios that must go the same way through each. */
import { ConnectError, type Client } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { ERROR_CATALOGUE, type ErrorCode } from '../../server/domain/errors.js';
import type { TestApp } from './app.js';
import { TcpxClient } from './tcpx-client.js';

/** The nine texts of a task under the names of the interface document. */
export type Texts = Readonly<Record<string, string>>;

/** How a request went: its errid, and the texts where it was a find. */
export interface DoorOutcome {
  readonly errid: number;
  readonly task?: Texts;
}

/** A door that is open. */
export interface Door {
  readonly name: string;
  register(task: Texts): Promise<DoorOutcome>;
  /** Changes the texts that are not empty. */
  update(task: Texts): Promise<DoorOutcome>;
  find(id: string): Promise<DoorOutcome>;
  close(): void;
}

/** How to open each door of an app; `token` may do everything. */
export const DOORS: readonly { name: string; open: (app: TestApp, token: string) => Promise<Door> }[] = [
  { name: 'legacy TCP', open: async (app) => new LegacyDoor(await TcpxClient.connect(app.tcp)) },
  { name: 'gRPC', open: (app, token) => Promise.resolve(new RpcDoor('gRPC', app.client(TaskService, 'grpc', token))) },
  {
    name: 'Connect',
    open: (app, token) => Promise.resolve(new RpcDoor('Connect', app.client(TaskService, 'http', token))),
  },
];

class LegacyDoor implements Door {
  readonly name = 'legacy TCP';

  constructor(private readonly client: TcpxClient) {}

  async register(task: Texts): Promise<DoorOutcome> {
    return { errid: (await this.client.register(task as never)).body.errid };
  }

  async update(task: Texts): Promise<DoorOutcome> {
    return { errid: (await this.client.update(task as never)).body.errid };
  }

  async find(id: string): Promise<DoorOutcome> {
    const { errid, errmsg: _text, ...task } = (await this.client.find(id)).body;
    return errid === 0 ? { errid, task: task as unknown as Texts } : { errid };
  }

  close(): void {
    this.client.socket.destroy();
  }
}

class RpcDoor implements Door {
  constructor(
    readonly name: string,
    private readonly client: Client<typeof TaskService>,
  ) {}

  register(task: Texts): Promise<DoorOutcome> {
    return outcomeOf(async () => {
      await this.client.registerTask({ task: messageOf(task) });
      return undefined;
    });
  }

  update(task: Texts): Promise<DoorOutcome> {
    return outcomeOf(async () => {
      await this.client.updateTask({ task: messageOf(task) });
      return undefined;
    });
  }

  find(id: string): Promise<DoorOutcome> {
    return outcomeOf(async () => {
      const { task } = await this.client.getTask({ id });
      if (!task) throw new Error('the answer has no task');
      const { name, url, user, groupId, description, status, startTime, stopTime } = task;
      return {
        id: task.id,
        name,
        url,
        user,
        group_id: groupId,
        description,
        status,
        start_time: startTime,
        stop_time: stopTime,
      };
    });
  }

  close(): void {
    // Calls have no connection of their own to close.
  }
}

function messageOf(task: Texts) {
  const { group_id: groupId = '', start_time: startTime = '', stop_time: stopTime = '', ...rest } = task;
  return { ...rest, groupId, startTime, stopTime };
}

async function outcomeOf(call: () => Promise<Texts | undefined>): Promise<DoorOutcome> {
  try {
    const task = await call();
    return task ? { errid: 0, task } : { errid: 0 };
  } catch (thrown) {
    const reason = ConnectError.from(thrown).findDetails(ErrorInfoSchema)[0]?.reason;
    if (reason === undefined || !(reason in ERROR_CATALOGUE)) throw thrown;
    return { errid: ERROR_CATALOGUE[reason as ErrorCode].errid };
  }
}
