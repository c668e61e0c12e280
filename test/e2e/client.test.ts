import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskDashClient, type ClientState } from '../../client/client.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

let database: TestDatabase;
let app: TestApp;
let token: string;
let client: TaskDashClient;
let states: ClientState[];

beforeEach(async () => {
  database = await createTestDatabase();
  app = await startTestApp({ database });
  token = await app.addToken('mx');
  states = [];
  client = new TaskDashClient({
    url: `http://${app.grpc}`,
    token,
    ttlMs: 5_000,
    timeoutMs: 2_000,
    onState: (state) => states.push(state),
  });
});
afterEach(async () => {
  await client.stop();
  await app.stop();
  await database.drop();
});

const stored = (id: string) => app.storage.tasks.find('everything', id);

describe('the client of services', () => {
  it('registers tasks under a lease, updates them and reports how they end', async () => {
    await client.register({ id: 'job', name: 'nightly', groupId: 'mx' });
    expect(await stored('job')).toMatchObject({
      name: 'nightly',
      status: 'running',
      sessionId: expect.any(String) as string,
    });
    await client.update('job', { description: 'half' });
    expect(await stored('job')).toMatchObject({ name: 'nightly', description: 'half', status: 'running' });
    await client.finish('job', '2026-01-01T00:00:00Z');
    expect(await stored('job')).toMatchObject({ status: 'finish', stop_time: '2026-01-01T00:00:00Z' });
    await expect(client.update('job', {})).rejects.toThrow('has ended');
  });

  it('says goodbye when it stops, so that what still ran is shutdown at once', async () => {
    await client.register({ id: 'left', groupId: 'mx' });
    await client.stop();
    expect(await stored('left')).toMatchObject({ status: 'shutdown', cause: 'client' });
    await expect(client.register({ id: 'late', groupId: 'mx' })).rejects.toThrow();
  });

  it('rejects a record that the registry refuses, with what is wrong', async () => {
    await expect(client.register({ id: 'x', groupId: 'foreign' })).rejects.toThrow(/permission_denied.*foreign/);
    await client.register({ id: 'good', groupId: 'mx' });
    expect(client.state).toBe('alive');
  });

  it(
    'comes back by itself when the server was away, and its tasks are what they were',
    { timeout: 60_000 },
    async () => {
      await client.register({ id: 'durable', name: 'd', groupId: 'mx' });
      const { grpc } = app;
      await app.stop();
      await expect.poll(() => client.state, { timeout: 20_000 }).toBe('connecting');
      app = await startTestApp({ database, settings: { TASKDASH_GRPC_PORT: grpc.slice(grpc.lastIndexOf(':') + 1) } });
      await expect.poll(() => client.state, { timeout: 30_000 }).toBe('alive');
      await client.register({ id: 'another', groupId: 'mx' });
      expect(await stored('durable')).toMatchObject({
        name: 'd',
        status: 'running',
        sessionId: expect.any(String) as string,
      });
      expect(states.slice(0, 3)).toEqual(['alive', 'connecting', expect.any(String)]);
    },
  );
});
