import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { postmasterPid, ServerProcess } from '../support/server-process.js';
import { TcpxClient } from '../support/tcpx-client.js';

let dataDir: string;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'taskdash-durability-'));
});
afterAll(() => rm(dataDir, { recursive: true, force: true }));

/** Registers as fast as it may until the connection breaks; returns the ids that were acknowledged. */
async function registerUntilCut(tcp: string, prefix: string): Promise<string[]> {
  const acknowledged: string[] = [];
  const client = await TcpxClient.connect(tcp, { deadlineMs: 10_000 });
  const lane = async (name: string): Promise<void> => {
    for (let n = 0; ; n++) {
      const id = `${prefix}-${name}-${n}`;
      const reply = await client.register({ id, name, group_id: 'mx' });
      if (reply.body.errid !== 0) return;
      acknowledged.push(id);
    }
  };
  await Promise.allSettled(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map(lane));
  client.socket.destroy();
  return acknowledged;
}

describe('an acknowledged register', () => {
  it('survives kill -9 of server and database under load, three times', { timeout: 120_000 }, async () => {
    const acknowledged: string[] = [];
    for (let round = 0; round < 3; round++) {
      const server = await ServerProcess.start({ TASKDASH_DATA_DIR: dataDir });
      const postgres = postmasterPid(dataDir);
      const clients = ['x', 'y', 'z', 'w'].map((name) => registerUntilCut(server.ready.tcp, `${round}-${name}`));
      await new Promise((resolve) => setTimeout(resolve, 700 + round * 400));
      process.kill(postgres, 'SIGKILL');
      await server.kill();
      const perClient = await Promise.all(clients);
      expect(perClient.every((ids) => ids.length > 0)).toBe(true);
      acknowledged.push(...perClient.flat());
    }

    const server = await ServerProcess.start({ TASKDASH_DATA_DIR: dataDir });
    const client = await TcpxClient.connect(server.ready.tcp, { deadlineMs: 30_000 });
    const missing: string[] = [];
    for (let n = 0; n < acknowledged.length; n += 50) {
      const replies = await Promise.all(acknowledged.slice(n, n + 50).map((id) => client.find(id)));
      missing.push(...replies.filter((reply) => reply.body.errid !== 0).map((reply) => reply.body.id));
    }
    client.socket.destroy();
    expect(await server.stop()).toBe(0);
    expect(missing).toEqual([]);
    expect(acknowledged.length).toBeGreaterThan(500);
  });
});
