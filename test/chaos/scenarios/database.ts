/** Servers that lose their database. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { ServerProcess } from '../../support/server-process.js';
import type { FleetProcess } from '../fleet-process.js';
import { conclude, judged, sinceDeath, sinceSilence, sinceTrust, type Figures } from '../scenario.js';
import type { World } from '../world.js';

const START_MS = 60_000;

/** PostgreSQL is stopped, and started again; some services fall silent meanwhile. */
export async function stopPostgres(
  world: World,
  size: { services: number; dying: number; forMs: number },
): Promise<Figures> {
  const server = await world.startServer();
  const fleet = await world.launch({ count: size.services, servers: [server.ready.tcp] });
  await fleet.start(START_MS);
  await delay(world.timing.leaseMs);
  await world.stopPostgres();
  await delay(size.forMs / 3);
  await fleet.silence(0, size.dying);
  await delay((size.forMs * 2) / 3);
  const backAt = Date.now();
  await world.startPostgres();
  const figures = await conclude(world, async () => [await sinceTrust('PostgreSQL was started', backAt, world)]);
  expect((await fleet.status()).reconnects, 'connections that broke').toBe(0);
  return figures;
}

/** A server of two whose way to the database can be cut, with its services. */
interface Severable {
  readonly server: ServerProcess;
  readonly fleet: FleetProcess;
  readonly cut: () => Promise<void> | void;
  readonly mend: () => Promise<void> | void;
}

/** By a proxy that swallows everything. */
export async function behindProxy(world: World, services: number): Promise<Severable> {
  const cable = await world.lay(() => world.databaseAt);
  const server = await world.startServer({ databaseAt: cable.at });
  const fleet = await world.launch({ count: services, servers: [server.ready.tcp] });
  return { server, fleet, cut: () => cable.pull(), mend: () => cable.mend() };
}

/** In a network namespace of its own, whose cable is pulled. */
export async function inNamespace(world: World, services: number): Promise<Severable> {
  const namespace = await world.makeNamespace();
  const way = await world.lay(() => world.databaseAt, namespace.hostAddress);
  const server = await world.startServer({ databaseAt: way.at, namespace });
  const fleet = await world.launch({ count: services, servers: [server.ready.tcp] }, namespace);
  return { server, fleet, cut: () => namespace.cut(), mend: () => namespace.mend() };
}

/**
 * A server is cut off from the database for longer than its lease, so that the other takes its sessions, and for less
 * than the failover grace. Some services die while nobody may judge them; others later, when everything is well again.
 */
export async function cutOff(
  world: World,
  size: { services: number; dying: number; beside: number },
  sever: (world: World, services: number) => Promise<Severable>,
): Promise<Figures> {
  const { fleet, cut, mend } = await sever(world, size.services);
  const other = await world.startServer();
  const beside = await world.launch({ first: size.services, count: size.beside, servers: [other.ready.tcp] });
  await Promise.all([fleet.start(START_MS), beside.start(START_MS)]);
  await delay(world.timing.leaseMs * 2);
  const cutAt = Date.now();
  await cut();
  await delay(world.timing.leaseMs);
  await fleet.die(0, size.dying);
  await delay(world.timing.leaseMs * 2);
  expect(await orphans(world)).toBe(size.services);
  await mend();
  await judged(world);
  await fleet.silence(size.dying, size.dying * 2);
  return conclude(world, [sinceDeath('the cut', cutAt, world), sinceSilence(world)]);
}

async function orphans(world: World): Promise<number> {
  const [row] = await world.rows<{ count: number }>(`SELECT count(*)::int FROM session WHERE state = 'orphan'`);
  return row?.count ?? 0;
}
