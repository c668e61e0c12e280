/** Legacy connections whose token ends while they are open. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestApp, type TestApp } from '../support/app.js';
import { TcpxClient } from '../support/tcpx-client.js';
import { SEED_TASK } from '../support/tcpx-frames.js';

/** How long after its token a connection may stay. */
const WITHIN_MS = 5_000;

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ settings: { TASKDASH_TCP_REQUIRE_TOKEN: 'true' } });
});
afterAll(() => app.stop());

async function connect(token: string): Promise<TcpxClient> {
  const client = await TcpxClient.connect(app.tcp, { deadlineMs: WITHIN_MS });
  expect((await client.authenticate(token)).body.errid).toBe(0);
  return client;
}

async function revoke(groupId: string): Promise<void> {
  const database = new pg.Client(app.database.url);
  await database.connect();
  await database.query('DELETE FROM service_token WHERE group_id = $1', [groupId]);
  await database.end();
}

describe('a connection of the legacy door', () => {
  it('ends within five seconds after its token was revoked, and those of other tokens go on', async () => {
    const [mx, render] = [await app.addToken('mx'), await app.addToken('render')];
    const clients = await Promise.all([mx, mx, render].map(connect));
    expect((await clients[0]?.register(SEED_TASK))?.body.errid).toBe(0);
    await revoke('mx');
    await Promise.all([clients[0]?.whenEnded(), clients[1]?.whenEnded()]);
    expect((await clients[2]?.find('x'))?.body.errid).toBe(1002);
    await clients[2]?.close();
  });
});
