/** Records as long as they may be, asked for and written by callers who do what they may. */
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { authorized } from '../../../client/authorized-transport.js';
import { TaskService } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { again, Tally, type Attack, type Target } from '../attack.js';

/** What takes six times its length as JSON. */
const LONG = { groupId: 'mx', description: '\u0001'.repeat(8_192), url: '\u0001'.repeat(2_048) };
const RECORDS = 300;
const AT_ONCE = 50;

export type TaskClient = ReturnType<typeof clientsOf>[number];

/** Four readers of the longest pages there are, two over each door. */
export const longPages: Attack = async (target) => {
  const clients = clientsOf(target);
  await registerLong(clients[0] as TaskClient);
  const tally = new Tally();
  await again(target, 4, async (n) => {
    const { tasks } = await (clients[n % 2] as TaskClient).listTasks({ pageSize: 1_000 });
    tally.add(`a page of ${tasks.length}`);
  });
  return tally.toString();
};

/** Four watchers that go back to the beginning again and again. */
export const longCatchUps: Attack = async (target) => {
  const clients = clientsOf(target);
  const resumeToken = await tokenOfNow(clients[0] as TaskClient);
  await registerLong(clients[0] as TaskClient);
  const tally = new Tally();
  await again(target, 4, async (n) => {
    let changes = 0;
    for await (const { message } of (clients[n % 2] as TaskClient).watchTasks({ resumeToken })) {
      if (message.case === 'change' && ++changes === RECORDS) break;
      if (!target.isOn()) break;
    }
    tally.add(`${changes} changes`);
  });
  return tally.toString();
};

/** Four writers of the longest batches that fit. */
export const longBatches: Attack = async (target) => {
  const clients = clientsOf(target);
  const tally = new Tally();
  await again(target, 4, async (n) => {
    await registerLong(clients[n % 2] as TaskClient, `${n % 4}`).then(
      () => tally.add('batches'),
      (error: unknown) => tally.add(String(error)),
    );
  });
  return tally.toString();
};

export function clientsOf({ http, grpc, token }: Target) {
  const transports = [
    createGrpcTransport({ baseUrl: `http://${grpc}` }),
    createConnectTransport({ baseUrl: http, httpVersion: '1.1' }),
  ];
  return transports.map((transport) => createClient(TaskService, authorized(transport, token)));
}

export async function registerLong(client: TaskClient, prefix = ''): Promise<void> {
  for (let first = 0; first < RECORDS; first += AT_ONCE) {
    const tasks = Array.from({ length: AT_ONCE }, (_, n) => ({ id: `long-${prefix}-${first + n}`, ...LONG }));
    await client.batchRegisterTasks({ tasks });
  }
}

async function tokenOfNow(client: TaskClient): Promise<string> {
  for await (const { resumeToken } of client.watchTasks({})) return resumeToken;
  return '';
}
