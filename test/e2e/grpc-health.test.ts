import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Health, HealthCheckResponse_ServingStatus as Status } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { startCuttableProxy, type CuttableProxy } from '../support/cuttable-proxy.js';
import { ManualClock } from '../support/manual-clock.js';
import { RpcRig } from '../support/rpc-rig.js';
import { startStallingProxy, type StallingProxy } from '../support/stalling-proxy.js';
import { TcpxClient } from '../support/tcpx-client.js';

describe('a server with a database', () => {
  let database: TestDatabase;
  let cable: CuttableProxy;
  let proxy: StallingProxy;
  let app: TestApp;
  let token: string;

  beforeAll(async () => {
    database = await createTestDatabase();
    cable = await startCuttableProxy(database.url);
    const url = new URL(database.url);
    url.port = new URL(cable.url).port;
    proxy = await startStallingProxy(url.href);
    app = await startTestApp({ database: { ...database, url: proxy.url } });
    token = await app.addToken('mx');
  });
  afterAll(async () => {
    await app.stop();
    await Promise.all([proxy.stop(), cable.stop()]);
    await database.drop();
  });

  it.each(['swallows everything', 'is gone'])(
    'that %s lives, but is not ready, until it is back',
    { timeout: 40_000 },
    async (way) => {
      const told: Status[] = [];
      const cut = new AbortController();
      const watching = watch(told, cut.signal);
      await expect.poll(() => told).toEqual([Status.SERVING]);
      const service = await TcpxClient.connect(app.tcp, { deadlineMs: 20_000 });
      if (way === 'is gone') cable.goAway();
      else proxy.stall();
      await expect.poll(() => statusOf('/readyz'), { timeout: 6_000 }).toBe(503);
      expect(await statusOf('/healthz')).toBe(200);
      expect((await app.client(Health, 'grpc').check({ service: TaskService.typeName })).status).toBe(
        Status.NOT_SERVING,
      );
      await expect.poll(() => told, { timeout: 6_000 }).toEqual([Status.SERVING, Status.NOT_SERVING]);
      expect((await service.register({ id: `while-${way}`, group_id: 'mx' })).body.errid).toBe(1001);
      proxy.restore();
      cable.restore();
      await expect.poll(() => statusOf('/readyz'), { timeout: 15_000 }).toBe(200);
      await expect.poll(() => told, { timeout: 6_000 }).toEqual([Status.SERVING, Status.NOT_SERVING, Status.SERVING]);
      expect((await service.register({ id: `after-${way}`, group_id: 'mx' })).body.errid).toBe(0);
      expect((await app.client(TaskService, 'grpc', token).getTask({ id: `after-${way}` })).task?.status).toBe(
        'running',
      );
      await service.close();
      cut.abort();
      await watching;
    },
  );

  async function statusOf(path: string): Promise<number> {
    return (await fetch(app.http + path)).status;
  }

  async function watch(told: Status[], signal: AbortSignal): Promise<void> {
    try {
      for await (const { status } of app.client(Health, 'grpc').watch({}, { signal })) told.push(status);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
});

describe('asking for readiness', () => {
  it('many times at once is one look at the database, and none within the next second', async () => {
    const clock = new ManualClock();
    const rig = await RpcRig.start({ clock });
    const ask = () =>
      Promise.all(Array.from({ length: 30 }, async () => (await fetch(`${rig.http.address}/readyz`)).text()));
    const health = rig.client(Health, 'grpc');
    const before = rig.healthChecks;
    expect(new Set(await ask())).toEqual(new Set(['ready\n']));
    clock.advance(999);
    await Promise.all(Array.from({ length: 50 }, () => health.check({})));
    expect(rig.healthChecks - before).toBe(1);
    rig.databaseProblem = 'it is gone';
    clock.advance(1);
    expect(new Set(await ask())).toEqual(new Set(['not ready: it is gone\n']));
    expect(rig.healthChecks - before).toBe(2);
    const stopped = rig.stop();
    clock.advance(1_000);
    await stopped;
  });
});
