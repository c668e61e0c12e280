/** Leases that are revoked at one of two servers while services write under them at both. */
import { Code, ConnectError } from '@connectrpc/connect';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { createTestDatabase } from '../support/database.js';

const ROUNDS = 15;
const CALLS = 12;

let servers: [TestApp, TestApp];
let token: string;
/** Somebody at the database. */
let client: pg.Client;

beforeAll(async () => {
  const database = await createTestDatabase();
  const settings = { TASKDASH_TOKEN_NEW_TASKS: '0', TASKDASH_NODE_LEASE: '3s', TASKDASH_WRITE_DEADLINE: '2s' };
  servers = [await startTestApp({ database, settings }), await startTestApp({ database, settings })];
  token = await servers[0].addToken('mx');
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await Promise.all(servers.map((server) => server.stop()));
  await servers[0].database.drop();
});

const at = (index: number) => servers[index % 2] as TestApp;
const leasesAt = (index: number) => at(index).client(LeaseService, 'grpc', token);
const tasksAt = (index: number) => at(index).client(TaskService, 'grpc', token);

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'OK';
  } catch (thrown) {
    return Code[ConnectError.from(thrown).code];
  }
}

async function messageOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => '',
    (thrown: unknown) => ConnectError.from(thrown).rawMessage,
  );
}

async function leaseWith(...ids: readonly string[]): Promise<string> {
  const leaseId = (await leasesAt(0).grantLease({})).lease?.id ?? '';
  const tasks = ids.map((id) => ({ id, groupId: 'mx' }));
  await tasksAt(0).batchRegisterTasks({ leaseId, tasks });
  return leaseId;
}

/** Beats are refused: at once, or when that is told. */
async function isOverAt(index: number, leaseId: string): Promise<void> {
  await expect.poll(() => codeOf(leasesAt(index).renewLease({ leaseId })), { timeout: 2000 }).toBe('NotFound');
}

/** How tasks stand whose ids begin so. */
async function statesOf(prefix: string): Promise<string[]> {
  const { rows } = await client.query<{ state: string }>(
    `SELECT DISTINCT concat_ws(' ', status, cause, CASE WHEN session_id IS NULL THEN 'free' ELSE 'held' END) AS state
     FROM task WHERE id LIKE $1 || '%' ORDER BY state`,
    [prefix],
  );
  return rows.map(({ state }) => state);
}

it('take what is written under them with them, or refuse it', async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const leaseId = await leaseWith(`race-${round}-old`);
    const write = (call: number) => {
      const task = { id: `race-${round}-${call % 3 === 0 ? 'old' : call}`, groupId: 'mx' };
      const tasks = tasksAt(call >> 1);
      return codeOf(call % 3 === 0 ? tasks.updateTask({ task, leaseId }) : tasks.registerTask({ task, leaseId }));
    };
    const calls = Array.from({ length: CALLS }, async (_, call) => {
      await new Promise((resolve) => setTimeout(resolve, call));
      return write(call);
    });
    await new Promise((resolve) => setTimeout(resolve, round % CALLS));
    expect(await codeOf(leasesAt(round).revokeLease({ leaseId }))).toBe('OK');
    for (const code of await Promise.all(calls)) expect(['OK', 'NotFound']).toContain(code);
    for (const call of [0, 2]) expect(await write(call)).toBe('NotFound');
    for (const index of [0, 1]) await isOverAt(index, leaseId);
  }
  await expect.poll(() => statesOf('race-'), { timeout: 5000 }).toEqual(['shutdown client free']);
  const { rows } = await client.query(`SELECT task_id FROM task_event WHERE kind = 'lapsed'`);
  expect(rows).toEqual([]);
}, 60_000);

it.each([0, 1])(
  'are over with a locked task, which ends when it is free; whatever beats at the other server (%i)',
  async (index) => {
    const id = `locked-${index}`;
    const leaseId = await leaseWith(id, `free-${index}`);
    await client.query('BEGIN');
    await client.query('SELECT FROM task WHERE id = $1 FOR UPDATE', [id]);
    expect(await codeOf(leasesAt(index).revokeLease({ leaseId }))).toBe('Unavailable');
    expect(await statesOf(`free-${index}`)).toEqual(['shutdown client free']);
    for (const other of [0, 1]) await isOverAt(other, leaseId);
    expect(await statesOf(id)).toEqual(['running client held']);
    await client.query('ROLLBACK');
    await expect.poll(() => statesOf(id), { timeout: 5000 }).toEqual(['shutdown client free']);
  },
);

it('are over everywhere when that is answered, though another server was at the record for a second', async () => {
  const leaseId = await leaseWith('busy');
  await tasksAt(1).updateTask({ task: { id: 'busy' }, leaseId });
  await client.query('BEGIN');
  await client.query('SELECT FROM session WHERE id = $1 FOR UPDATE', [leaseId]);
  const revoking = codeOf(leasesAt(0).revokeLease({ leaseId }));
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await client.query('ROLLBACK');
  expect(await revoking).toBe('OK');
  for (const index of [0, 1]) {
    const task = { id: `busy-${index}`, groupId: 'mx' };
    expect(await codeOf(tasksAt(index).registerTask({ task, leaseId }))).toBe('NotFound');
  }
});

it('are over with a record that stays locked, which is told, whatever beats at the other server when it is free', async () => {
  const leaseId = await leaseWith('record');
  await client.query('BEGIN');
  await client.query('SELECT FROM session WHERE id = $1 FOR UPDATE', [leaseId]);
  expect(await messageOf(leasesAt(0).revokeLease({ leaseId }))).toMatch(
    /^The lease is over at this server.*record locked/,
  );
  expect(await statesOf('record')).toEqual(['shutdown client free']);
  await client.query('ROLLBACK');
  await codeOf(leasesAt(1).renewLease({ leaseId }));
  await expect.poll(() => codeOf(leasesAt(1).renewLease({ leaseId })), { timeout: 5000 }).toBe('NotFound');
  const { rows } = await client.query('SELECT state FROM session WHERE id = $1', [leaseId]);
  expect(rows).toEqual([{ state: 'revoked' }]);
});

it('live on where they cannot be fetched to be revoked, which is told', async () => {
  const leaseId = await leaseWith('elsewhere');
  await client.query('BEGIN');
  await client.query('SELECT FROM session WHERE id = $1 FOR UPDATE', [leaseId]);
  expect(await messageOf(leasesAt(1).revokeLease({ leaseId }))).toMatch(/record of the lease locked.*nothing was done/);
  await client.query('ROLLBACK');
  expect(await statesOf('elsewhere')).toEqual(['running client held']);
  expect(await codeOf(leasesAt(1).revokeLease({ leaseId }))).toBe('OK');
  expect(await statesOf('elsewhere')).toEqual(['shutdown client free']);
});
