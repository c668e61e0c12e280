/** Servers that die, stand still, or are stopped. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { ServerProcess } from '../../support/server-process.js';
import { conclude, LATE, sinceDeath, sinceTrust, type Figures, type VerdictClock } from '../scenario.js';
import type { FleetProcess } from '../fleet-process.js';
import type { World } from '../world.js';

const START_MS = 60_000;

/** One of three servers dies, and with it some of its services; the others come back at the servers that are left. */
export async function killOneOfThree(
  world: World,
  size: { services: number; dying: number; beside: number },
): Promise<Figures> {
  const [doomed, ...others] = [await world.startServer(), await world.startServer(), await world.startServer()];
  const stay = others.map(({ ready }) => ready.tcp);
  const fleet = await world.launch({ count: size.services, servers: [doomed.ready.tcp, ...stay], startAt: 'first' });
  const beside = await world.launch({ first: size.services, count: size.beside, servers: stay });
  await Promise.all([fleet.start(START_MS), beside.start(START_MS)]);
  await delay(world.timing.leaseMs * 2);
  const killedAt = Date.now();
  await Promise.all([doomed.kill(), fleet.die(0, size.dying)]);
  return conclude(world, [sinceDeath('kill -9', killedAt, world)]);
}

/** The only server dies and is started again; services believe that they are still registered, and only beat. */
export async function killTheOnly(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const before = await world.startServer();
  const fleet = await world.launch({ count: size.services, servers: [before.ready.tcp], onReturn: 'beat' });
  await fleet.start(START_MS);
  await delay(world.timing.leaseMs);
  await Promise.all([before.kill(), fleet.die(0, size.dying)]);
  const [, port = ''] = before.ready.tcp.split(':');
  await world.startServer({ settings: { TASKDASH_TCP_PORT: port } });
  return conclude(world, [sinceDeath('the new start', Date.now(), world)]);
}

/** A server stands still for longer than the TTL, alone or beside another, and goes on. */
export async function suspend(
  world: World,
  size: { services: number; dying: number; servers: 1 | 2 },
): Promise<Figures> {
  const stopped = await world.startServer();
  if (size.servers === 2) await world.startServer();
  const fleet = await world.launch({ count: size.services, servers: [stopped.ready.tcp] });
  await fleet.start(START_MS);
  await delay(world.timing.leaseMs * 2);
  stopped.signal('SIGSTOP');
  await delay(world.timing.ttlMs * 1.5);
  await fleet.silence(0, size.dying);
  const backAt = Date.now();
  stopped.signal('SIGCONT');
  return conclude(world, async () => [await sinceTrust('SIGCONT', backAt, world)]);
}

/** One of two servers is stopped as it should be, and some services end meanwhile. */
export async function stopOneOfTwo(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const [leaving, staying] = [await world.startServer(), await world.startServer()];
  const servers = [leaving.ready.tcp, staying.ready.tcp];
  const fleet = await world.launch({ count: size.services, servers, startAt: 'first' });
  await fleet.start(START_MS);
  await delay(world.timing.leaseMs * 2);
  const [stopping, dying] = [stop(world, leaving), fleet.die(0, size.dying)];
  await dying;
  return conclude(world, [await stopping]);
}

/** A server with leases dies, and with it some of their holders; the clients are led to the other server. */
export async function killWithLeases(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const { first, dying, failOver } = await serveLeases(world, size);
  await dying.freeze();
  failOver();
  const killedAt = Date.now();
  await Promise.all([first.kill(), dying.kill()]);
  return conclude(world, [sinceDeath('kill -9', killedAt, world)]);
}

/** A server with leases is stopped as it should be, and some of their holders end meanwhile. */
export async function stopWithLeases(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const { first, dying, failOver } = await serveLeases(world, size);
  await dying.freeze();
  failOver();
  const [stopping, killing] = [stop(world, first), dying.kill()];
  await killing;
  return conclude(world, [await stopping]);
}

/** Two servers behind a balancer that leads everybody to the first until `failOver`. */
async function serveLeases(
  world: World,
  size: { services: number; dying: number },
): Promise<{ first: ServerProcess; dying: FleetProcess; failOver: () => void }> {
  const [first, second] = [await world.startServer(), await world.startServer()];
  let current = first;
  const balancer = await world.lay(() => current.ready.grpc);
  const url = `http://${balancer.at}`;
  const living = await world.launchLeases({ count: size.services - size.dying, url });
  const dying = await world.launchLeases({ first: size.services - size.dying, count: size.dying, url });
  await Promise.all([living.start(START_MS), dying.start(START_MS)]);
  await delay(world.timing.leaseMs * 2);
  return { first, dying, failOver: () => (current = second) };
}

/** Stops a server; verdicts on its services are due after the failover grace. */
async function stop({ timing }: World, server: ServerProcess): Promise<VerdictClock> {
  const startedAt = Date.now();
  expect(await server.stop()).toBe(0);
  const { failoverGraceMs, leaseMs } = timing;
  const stopMs = Date.now() - startedAt;
  return {
    since: 'SIGTERM',
    timeOf: ({ atMs }) => atMs - startedAt,
    atLeastMs: failoverGraceMs,
    atMostMs: stopMs + (leaseMs / 3 + failoverGraceMs) * LATE,
  };
}
