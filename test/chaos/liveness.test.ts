/**
 * What operators fear, done to real servers. Every scenario states: nobody shut down who lives (false shutdowns), nobody
 * left running who is gone (missed shutdowns), nothing lost that was acknowledged, and how long a verdict took.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { addressOf } from './fleet.js';
import { BEAT_MS, FAILOVER_GRACE_MS, LEASE_MS, range, TTL_MS, until, World } from './world.js';

let world: World;

beforeEach(async () => {
  world = await World.begin();
});

afterEach(() => world.end());

/** A verdict on silence comes after the TTL and at most a tenth of it later. */
function expectInTime(verdicts: readonly { gapMs: number }[]): void {
  const gaps = verdicts.map(({ gapMs }) => gapMs);
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(TTL_MS);
  expect(Math.max(...gaps)).toBeLessThanOrEqual(TTL_MS * 1.1);
}

it('kill -9 of one of three servers with 3 000 sessions', async () => {
  const [doomed, one, other] = [await world.startServer(), await world.startServer(), await world.startServer()];
  const servers = [doomed.tcp, one.tcp, other.tcp];
  const fleet = await world.launch({ count: 3000, servers, startAt: 'first' });
  const beside = await world.launch({ first: 3000, count: 600, servers: [one.tcp, other.tcp] });
  await fleet.start(60_000);
  await beside.start(30_000);
  await fleet.work(500);
  await delay(LEASE_MS * 2);

  const killedAt = Date.now();
  await doomed.process.kill();
  await fleet.die(0, 300);
  await fleet.settled(30_000);
  await until(FAILOVER_GRACE_MS + 6 * LEASE_MS, async () => (await world.verdicts()).length >= 300);
  await delay(3000);
  expect(await world.shutDown()).toEqual(range(0, 300));
  const verdicts = await world.verdicts();
  expect(verdicts).toHaveLength(300);
  expect(new Set(verdicts.map(({ cause }) => cause))).toEqual(new Set(['node_failover']));
  const tookMs = Math.max(...verdicts.map(({ atMs }) => atMs)) - killedAt;
  expect(tookMs).toBeLessThanOrEqual((LEASE_MS + LEASE_MS / 3 + FAILOVER_GRACE_MS) * 1.1);
  expect(await world.lost((await fleet.status()).acknowledged)).toEqual([]);
});

it('kill -9 of the only server, whose services only beat when they are back', async () => {
  const before = await world.startServer();
  const port = before.tcp.split(':')[1] ?? '';
  const fleet = await world.launch({ count: 500, servers: [before.tcp], onReturn: 'beat' });
  await fleet.start(30_000);
  await fleet.work(500);
  await delay(2000);
  await before.process.kill();
  await fleet.die(0, 50);
  await world.startServer({ TASKDASH_TCP_PORT: port });
  await fleet.settled(20_000);
  await until(FAILOVER_GRACE_MS + 6 * LEASE_MS, async () => (await world.verdicts()).length >= 50);
  await delay(3000);
  expect(await world.shutDown()).toEqual(range(0, 50));
  expect(await world.verdicts()).toHaveLength(50);
  expect(await world.lost((await fleet.status()).acknowledged)).toEqual([]);
});

it('PostgreSQL stopped for 60 s', async () => {
  const server = await world.startServer();
  const fleet = await world.launch({ count: 1000, servers: [server.tcp] });
  await fleet.start(30_000);
  await fleet.work(1000);
  await delay(3000);
  await world.stopPostgres();
  await delay(20_000);
  await fleet.silence(0, 20);
  await delay(40_000);
  await world.startPostgres();
  const backAt = Date.now();
  await until(4 * TTL_MS, async () => (await world.shutDown()).length >= 20);
  await delay(TTL_MS);
  expect(await world.shutDown()).toEqual(range(0, 20));
  const verdicts = await world.verdicts();
  expect(verdicts).toHaveLength(20);
  expect(Math.min(...verdicts.map(({ atMs }) => atMs)) - backAt).toBeGreaterThanOrEqual(TTL_MS);
  expect(await world.lost((await fleet.status()).acknowledged)).toEqual([]);
  expect((await fleet.status()).reconnects).toBe(0);
});

it.each([1, 2])('SIGSTOP of a server for longer than the TTL, one of %i', async (servers) => {
  const stopped = await world.startServer();
  if (servers > 1) await world.startServer();
  const fleet = await world.launch({ count: 1000, servers: [stopped.tcp] });
  await fleet.start(30_000);
  await delay(LEASE_MS * 2);
  stopped.process.signal('SIGSTOP');
  await delay(TTL_MS * 2);
  await fleet.silence(0, 20);
  stopped.process.signal('SIGCONT');
  const backAt = Date.now();
  await until(4 * TTL_MS, async () => (await world.shutDown()).length >= 20);
  await delay(TTL_MS);
  expect(await world.shutDown()).toEqual(range(0, 20));
  const verdicts = await world.verdicts();
  expect(verdicts).toHaveLength(20);
  expect(Math.min(...verdicts.map(({ atMs }) => atMs)) - backAt).toBeGreaterThanOrEqual(TTL_MS);
});

it('a network that loses half of the services, and finds them again', async () => {
  const server = await world.startServer();
  const [host = '', port = ''] = server.tcp.split(':');
  const cable = await world.lay(() => ({ host, port: Number(port) }));
  const fleet = await world.launch({ count: 1000, servers: [`127.0.0.1:${cable.port}`] });
  await fleet.start(30_000);
  await delay(TTL_MS);
  const half = new Set(range(0, 500).map(addressOf));
  cable.pull((address) => half.has(address));
  await delay(TTL_MS * 3);
  expect(await world.verdicts()).toEqual([]);
  const [node] = await world.rows<{ report: { protection: { held: number } } }>('SELECT report FROM node');
  expect(node?.report.protection.held).toBe(500);
  cable.mend();
  await delay(TTL_MS * 2);
  await fleet.silence(500, 520);
  await delay(TTL_MS * 2);
  expect(await world.shutDown()).toEqual(range(500, 520));
  const verdicts = await world.verdicts();
  expect(verdicts).toHaveLength(20);
  expectInTime(verdicts);
});

it('a network that loses one service', async () => {
  const server = await world.startServer();
  const [host = '', port = ''] = server.tcp.split(':');
  const cable = await world.lay(() => ({ host, port: Number(port) }));
  const fleet = await world.launch({ count: 500, servers: [`127.0.0.1:${cable.port}`] });
  await fleet.start(30_000);
  await delay(TTL_MS);
  cable.pull((address) => address === addressOf(7));
  await until(TTL_MS * 2, async () => (await world.verdicts()).length > 0);
  await delay(TTL_MS);
  expect(await world.shutDown()).toEqual([7]);
  expectInTime(await world.verdicts());
});

it('a cable between server and database that is pulled for less than the failover grace', async () => {
  const [cut, other] = [await world.startServer(), await world.startServer()];
  const fleet = await world.launch({ count: 1000, servers: [cut.tcp] });
  const beside = await world.launch({ first: 1000, count: 100, servers: [other.tcp] });
  await fleet.start(30_000);
  await beside.start(30_000);
  await delay(LEASE_MS * 2);
  cut.cable.pull();
  await delay(LEASE_MS * 3);
  const [unconfirmed] = await world.rows<{ count: string }>(`SELECT count(*) FROM session WHERE state = 'orphan'`);
  expect(Number(unconfirmed?.count)).toBe(1000);
  cut.cable.mend();
  await delay(FAILOVER_GRACE_MS + TTL_MS * 2);
  expect(await world.verdicts()).toEqual([]);
  await fleet.silence(0, 20);
  await delay(TTL_MS * 2);
  expect(await world.shutDown()).toEqual(range(0, 20));
  expectInTime(await world.verdicts());
});

it('a graceful stop of one of two servers', async () => {
  const [leaving, staying] = [await world.startServer(), await world.startServer()];
  const fleet = await world.launch({ count: 1000, servers: [leaving.tcp, staying.tcp] });
  await fleet.start(30_000);
  await delay(LEASE_MS);
  expect(await leaving.process.stop()).toBe(0);
  await fleet.settled(20_000);
  await delay(FAILOVER_GRACE_MS + LEASE_MS * 3 + BEAT_MS);
  expect(await world.verdicts()).toEqual([]);
  expect(await world.shutDown()).toEqual([]);
});
