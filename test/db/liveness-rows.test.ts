/** What heartbeats cost the database: counted in its rows, whatever the code believes. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { TcpxClient } from '../support/tcpx-client.js';

const SESSIONS = 100;
const ROUNDS = 50;

let app: TestApp;
let token: string;

beforeAll(async () => {
  app = await startTestApp();
  token = await app.addToken('mx');
});
afterAll(() => app.stop());

/** Tables in the database, and how many rows each has that a transaction from `xid` on wrote, or lost since. */
async function writtenSince(xid: string, rowsBefore: ReadonlyMap<string, number>): Promise<Record<string, number>> {
  const written: Record<string, number> = {};
  for (const [table, before] of rowsBefore) {
    const [row] = await query<{ all: number; fresh: number }>(
      `SELECT count(*)::int AS all, count(*) FILTER (WHERE xmin::text::bigint >= $1::bigint)::int AS fresh FROM ${table}`,
      [xid],
    );
    const { all = 0, fresh = 0 } = row ?? {};
    const deleted = before + fresh - all;
    if (fresh > 0 || deleted > 0) written[table] = fresh;
  }
  return written;
}

async function countRows(): Promise<Map<string, number>> {
  const tables = await query<{ name: string }>(`SELECT relname AS name FROM pg_stat_user_tables`, []);
  const counted = new Map<string, number>();
  for (const { name } of tables) {
    const [row] = await query<{ count: number }>(`SELECT count(*)::int AS count FROM "${name}"`, []);
    counted.set(`"${name}"`, row?.count ?? 0);
  }
  return counted;
}

const query = <Row extends object>(text: string, values: unknown[]) =>
  app.storage.postgres.adHocRows<Row>(text, values);

it(`${SESSIONS * ROUNDS} heartbeats on each door write no row: only the lease of the node is renewed`, async () => {
  const services = await Promise.all(Array.from({ length: SESSIONS }, () => TcpxClient.connect(app.tcp)));
  for (const [index, service] of services.entries()) {
    expect((await service.register({ id: `tcp-${index}`, group_id: 'mx' })).body.errid).toBe(0);
  }
  const leases = app.client(LeaseService, 'grpc', token);
  const { lease } = await leases.grantLease({});
  const leaseId = lease?.id ?? '';
  await app.client(TaskService, 'grpc', token).registerTask({ task: { id: 'grpc', groupId: 'mx' }, leaseId });
  // The sessions have been written down by then.
  await new Promise((resolve) => setTimeout(resolve, 1000));

  const [now] = await query<{ xid: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xid', []);
  const before = await countRows();
  for (let round = 0; round < ROUNDS; round++) for (const service of services) service.heartbeat();
  // An answer comes after everything that was sent before it has been taken.
  for (const [index, service] of services.entries()) {
    expect((await service.find(`tcp-${index}`)).body.errid).toBe(0);
  }
  let beats = 0;
  const requests = async function* () {
    for (let beat = 0; beat < SESSIONS * ROUNDS; beat++) yield await Promise.resolve({ leaseId });
  };
  for await (const answer of leases.keepAlive(requests())) if (answer.lease?.id === leaseId) beats++;
  expect(beats).toBe(SESSIONS * ROUNDS);

  const written = await writtenSince(now?.xid ?? '', before);
  // One row, however often it was renewed.
  expect([{}, { '"node"': 1 }]).toContainEqual(written);
  for (const service of services) await service.close();
});
