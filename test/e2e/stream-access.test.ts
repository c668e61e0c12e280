/** Streams that end while nobody takes what they send. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { framed } from '../support/rpc-raw.js';
import { RpcRig } from '../support/rpc-rig.js';

const WATCH = '/taskdash.task.v1.TaskService/WatchTasks';

describe('a reader who takes nothing', () => {
  let rig: RpcRig;
  let token: string;

  beforeEach(async () => {
    rig = await RpcRig.start();
    token = await rig.token();
  });
  afterEach(() => rig.stop());

  /** More than the buffers of a connection take. */
  async function flood(): Promise<void> {
    const tasks = rig.client(TaskService, 'http', await rig.token('mx', ['register']));
    for (let batch = 0; batch < 8; batch++) {
      const records = Array.from({ length: 100 }, (_, n) => ({ id: `${batch}-${n}`, groupId: 'mx' }));
      await tasks.batchRegisterTasks({ tasks: records.map((task) => ({ ...task, description: '满'.repeat(8192) })) });
    }
  }

  /** The connection of a watch over HTTP that is not read any more. */
  async function unread(): Promise<Socket> {
    const [host, port] = rig.http.address.replace('http://', '').split(':');
    const socket = connect(Number(port), host);
    const body = framed(Buffer.from('{}'));
    const headers = { host, authorization: `Bearer ${token}`, 'content-type': 'application/connect+json' };
    const lines = Object.entries({ ...headers, 'content-length': body.length }).map((pair) => pair.join(': '));
    socket.write([`POST ${WATCH} HTTP/1.1`, ...lines, '', ''].join('\r\n'));
    socket.write(body);
    await once(socket, 'data');
    socket.pause();
    await flood();
    return socket;
  }

  it('over HTTP leaves nothing behind when it goes', async () => {
    (await unread()).destroy();
    await expect.poll(() => [rig.openStreams, rig.feed.watchers]).toEqual([0, 0]);
  });
});
