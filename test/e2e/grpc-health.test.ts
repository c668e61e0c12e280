import { connect } from 'node:http2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Health, HealthCheckResponse_ServingStatus as Status } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { startCuttableProxy, type CuttableProxy } from '../support/cuttable-proxy.js';
import { ManualClock } from '../support/manual-clock.js';
import { framed } from '../support/rpc-raw.js';
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
      expect(await (await fetch(`${app.http}/readyz`)).text()).toMatch(
        way === 'is gone'
          ? /^not ready: (nothing takes connections where the database should be|the connection to the database broke)$/m
          : /^not ready: the database did not answer within 2 s$/m,
      );
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

describe('watching health, which needs no credentials', () => {
  /** Watches over a connection of its own so many times; tells what those are refused with that are. */
  function watchOften(address: string, times: number) {
    const session = connect(`http://${address}`);
    session.on('error', () => {});
    const refused: string[] = [];
    for (let n = 0; n < times; n++) {
      const stream = session.request({
        ...{ ':method': 'POST', ':path': '/grpc.health.v1.Health/Watch', 'content-type': 'application/grpc' },
      });
      stream.on('error', () => {});
      stream.on('response', (headers) => {
        const status = headers['grpc-status'];
        if (status !== undefined)
          refused.push(`${String(status)} ${decodeURIComponent(String(headers['grpc-message']))}`);
      });
      stream.end(framed(Buffer.alloc(0)));
    }
    return { refused, destroy: () => session.destroy() };
  }

  it('is possible 16 times over one connection, and again when some are gone', async () => {
    const rig = await RpcRig.start();
    const first = watchOften(rig.grpc.address, 20);
    await expect.poll(() => first.refused).toHaveLength(4);
    expect(first.refused[0]).toBe(
      '8 This connection has 16 open streams of health and reflection, as many as it may; end some first.',
    );
    const second = watchOften(rig.grpc.address, 16);
    await expect
      .poll(() =>
        rig
          .client(Health, 'grpc')
          .check({})
          .then(({ status }) => status),
      )
      .toBe(Status.SERVING);
    expect(second.refused).toEqual([]);
    first.destroy();
    second.destroy();
    await rig.stop();
  });

  it('is possible 256 times from one address', async () => {
    const rig = await RpcRig.start();
    const connections = Array.from({ length: 17 }, () => watchOften(rig.grpc.address, 16));
    await expect.poll(() => connections.flatMap(({ refused }) => refused)).toHaveLength(16);
    const sentences = new Set(connections.flatMap(({ refused }) => refused));
    expect([...sentences]).toEqual([
      '8 The address 127.0.0.1 has 256 open streams of health and reflection, as many as it may; end some first.',
    ]);
    for (const { destroy } of connections) destroy();
    await rig.stop();
  });

  it('takes one timer for all', async () => {
    const clock = new CountingClock();
    const rig = await RpcRig.start({ clock });
    const before = clock.scheduled(2_000);
    const watching = watchOften(rig.grpc.address, 16);
    await expect.poll(() => clock.scheduled(2_000) - before).toBeGreaterThan(0);
    await rig.client(Health, 'grpc').check({});
    expect(clock.scheduled(2_000) - before).toBeLessThanOrEqual(2);
    watching.destroy();
    const stopped = rig.stop();
    clock.advance(2_000);
    await stopped;
  });
});

/** Counts timers by their time. */
class CountingClock extends ManualClock {
  readonly #delays: number[] = [];

  override schedule(delayMs: number, callback: () => void) {
    this.#delays.push(delayMs);
    return super.schedule(delayMs, callback);
  }

  scheduled(delayMs: number): number {
    return this.#delays.filter((delay) => delay === delayMs).length;
  }
}
