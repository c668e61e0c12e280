/** Services that show a token, reconnect and only beat: what comes back to whom. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestApp, type TestApp } from '../support/app.js';
import { KeptLog } from '../support/liveness-bench.js';
import { TcpxClient } from '../support/tcpx-client.js';

const TTL_MS = 3_000;
const BEATS_MS = 250;
/** A moment to register by itself, and the decision. */
const WITHIN = { timeout: 4_000 };

let app: TestApp;
let database: pg.Client;
let token: string;
const log = new KeptLog();

beforeAll(async () => {
  const settings = { TASKDASH_TCP_REQUIRE_TOKEN: 'true', TASKDASH_HEARTBEAT_TTL: `${TTL_MS}ms` };
  app = await startTestApp({ settings, log });
  database = new pg.Client(app.database.url);
  await database.connect();
  token = await app.addToken('mx');
});
afterAll(async () => {
  await database.end();
  await app.stop();
});

async function open(localAddress: string, shown?: string): Promise<TcpxClient> {
  const client = await TcpxClient.connect(app.tcp, { localAddress });
  if (shown !== undefined) expect((await client.authenticate(shown)).body.errid).toBe(0);
  return client;
}

/** The service of a task is lost from its address, where it was alone. */
async function lose(id: string, localAddress: string): Promise<void> {
  const client = await open(localAddress, token);
  expect((await client.register({ id, group_id: 'mx' })).body.errid).toBe(0);
  client.heartbeat();
  await client.close();
  const lost = `SELECT FROM task t JOIN session s ON s.id = t.session_id WHERE t.id = $1 AND s.state = 'closing'`;
  await expect.poll(async () => (await database.query(lost, [id])).rowCount).toBe(1);
}

async function taskOf(id: string): Promise<{ status: string; is_guess: boolean }> {
  const sql = 'SELECT status, unconfirmed_since IS NOT NULL AS is_guess FROM task WHERE id = $1';
  return (await database.query<{ status: string; is_guess: boolean }>(sql, [id])).rows[0] as never;
}

const doubtsAbout = (address: string) =>
  log.lines.flatMap(({ message, details }) =>
    message.includes('may have come back') && 'address' in details && details.address === address ? [details] : [],
  );

describe('a service that shows its token again and only beats', () => {
  it('has its task back, unconfirmed: one connection is one visit', async () => {
    await lose('back', '127.0.0.21');
    const client = await open('127.0.0.21', token);
    client.beatEvery(BEATS_MS);
    await expect.poll(() => taskOf('back'), WITHIN).toEqual({ status: 'running', is_guess: true });
    expect(doubtsAbout('127.0.0.21')).toEqual([]);
    await client.close();
  });

  it('has it back when it has shown the token, and not before', async () => {
    await lose('late', '127.0.0.22');
    const client = await open('127.0.0.22');
    client.beatEvery(BEATS_MS);
    await expect.poll(() => taskOf('late').then(({ status }) => status), { timeout: 2 * TTL_MS }).toBe('shutdown');
    await client.authenticate(token);
    await expect.poll(() => taskOf('late'), WITHIN).toEqual({ status: 'running', is_guess: true });
    await client.close();
  });

  it('gets nothing of what the holder of another token lost', async () => {
    await lose('theirs', '127.0.0.23');
    const client = await open('127.0.0.23', await app.addToken('render'));
    client.beatEvery(BEATS_MS);
    await expect
      .poll(() => doubtsAbout('127.0.0.23'), WITHIN)
      .toMatchObject([{ reason: 'the lost session was somebody else’s' }]);
    expect(await taskOf('theirs')).toMatchObject({ is_guess: false });
    await client.close();
  });

  it('gets nothing where a stranger who showed none is at the address too', async () => {
    await lose('crowded', '127.0.0.24');
    const stranger = await open('127.0.0.24');
    stranger.heartbeat();
    const client = await open('127.0.0.24', token);
    client.beatEvery(BEATS_MS);
    await expect.poll(() => doubtsAbout('127.0.0.24'), WITHIN).toHaveLength(1);
    expect(await taskOf('crowded')).toMatchObject({ is_guess: false });
    await Promise.all([client.close(), stranger.close()]);
  });
});
