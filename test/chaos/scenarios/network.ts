/** A network in front of a server that loses services, all of them for a moment, half of them, or one. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { connectionsADoor } from '../../../server/open-files.js';
import type { ServerProcess } from '../../support/server-process.js';
import { openFilesLimit } from '../../support/spawn-node.js';
import type { Cable } from '../cable.js';
import type { FleetProcess } from '../fleet-process.js';
import { conclude, LATE, sinceSilence, type Figures, type VerdictClock } from '../scenario.js';
import { addressOf } from '../tcp-fleet.js';
import { until, type World } from '../world.js';

const START_MS = 60_000;

/** A server behind a proxy that can become a black hole. */
interface Front {
  readonly server: ServerProcess;
  readonly cable: Cable;
  readonly fleet: FleetProcess;
}

async function front(world: World, services: number, settings: Readonly<Record<string, string>> = {}): Promise<Front> {
  const server = await world.startServer({ settings });
  const cable = await world.lay(() => server.ready.tcp);
  const fleet = await world.launch({ count: services, servers: [cable.at] });
  await fleet.start(START_MS);
  await delay(world.timing.ttlMs);
  return { server, cable, fleet };
}

/** The network loses services from 0 up to, but not including, this one. */
function lose({ cable }: Front, to: number): void {
  const addresses = new Set(Array.from({ length: to }, (_, number) => addressOf(number)));
  cable.pull((address) => addresses.has(address));
}

/** The network loses one service, which cannot be told from its death. */
export async function loseOne(world: World, size: { services: number }): Promise<Figures> {
  const there = await front(world, size.services);
  there.fleet.giveUp(0, 1);
  lose(there, 1);
  return conclude(world, [sinceSilence(world)]);
}

/** The network loses half of the services and finds them again: nobody is blamed. Afterwards some fall silent. */
export async function loseHalfForAWhile(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const { ttlMs } = world.timing;
  const there = await front(world, size.services);
  const half = size.services / 2;
  lose(there, half);
  await expectHeld(world, half);
  there.cable.mend();
  await until(10 * ttlMs, async () => (await held(world)) === undefined);
  await delay(ttlMs);
  await there.fleet.silence(half, half + size.dying);
  return conclude(world, [sinceSilence(world)]);
}

/** The network loses half of the services, and an administrator says 'expire now'; then it finds them again. */
export async function loseHalfAndExpire(world: World, size: { services: number }): Promise<Figures> {
  const there = await front(world, size.services);
  const half = size.services / 2;
  lose(there, half);
  await expectHeld(world, half);
  const administrator = await world.administrator(there.server);
  const orderedAt = Date.now();
  await administrator.expireNow({ node: there.server.ready.node });
  there.fleet.giveUp(0, half);
  const figures = await conclude(world, async () => [await sinceOrder(orderedAt, world)]);
  await expectRestored(world, there, half);
  return figures;
}

/** The network loses half of the services, for longer than protection may last. */
export async function loseHalfForGood(
  world: World,
  size: { services: number; protectionMs: number },
): Promise<Figures> {
  const settings = { TASKDASH_PROTECTION_MAX: `${size.protectionMs}ms` };
  const there = await front(world, size.services, settings);
  const half = size.services / 2;
  lose(there, half);
  await expectHeld(world, half);
  there.fleet.giveUp(0, half);
  return conclude(world, async () => [await sinceProtection(size.protectionMs, world)]);
}

/** Everybody's connection to a server breaks, and everybody is back at once; afterwards some die. As many as the machine allows. */
export async function comeBackAtOnce(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const server = await world.startServer();
  const services = Math.min(size.services, connectionsADoor(openFilesLimit(server.pid)));
  const half = services / 2;
  const plan = { servers: [server.ready.tcp], spreadMs: 10_000, workEvery: 100, workPauseMs: 1000 };
  const registering = await world.launch({ ...plan, count: half });
  const believing = await world.launch({ ...plan, first: half, count: half, onReturn: 'beat' });
  const fleets = [registering, believing];
  await Promise.all(fleets.map((fleet) => fleet.start(2 * START_MS)));
  await delay(world.timing.beatMs);
  const brokeAt = Date.now();
  await Promise.all(fleets.map((fleet) => fleet.comeBack(10_000)));
  // Looked at seldom, since counting takes from the machine what the storm needs.
  await until(120_000, async () => (await restored(world, brokeAt)) >= services, 2000);
  const tookMs = Date.now() - brokeAt;
  expect(tookMs, `${await restored(world, brokeAt)} of ${services} are back`).toBeLessThan(30_000);
  await registering.die(0, size.dying);
  return conclude(world, [sinceSilence(world)], `all were back after ${(tookMs / 1000).toFixed(1)} s (allowed: 30 s)`);
}

/** Tasks whose services have been back since then, as the database knows. */
async function restored(world: World, sinceMs: number): Promise<number> {
  const [row] = await world.rows<{
    count: number;
  }>(`SELECT count(*)::int FROM task t JOIN session s ON s.id = t.session_id
    WHERE s.state = 'open' AND s.opened_at > to_timestamp(${sinceMs / 1000}) AND t.status = 'running'`);
  return row?.count ?? 0;
}

/** Verdicts that an administrator ordered at `orderedAt`: when the server did what it was told. */
async function sinceOrder(orderedAt: number, world: World): Promise<VerdictClock> {
  const endedAt = await world.lastEvent('protection_ended');
  return {
    since: '"expire now"',
    timeOf: ({ atMs }) => atMs - orderedAt,
    atLeastMs: 0,
    atMostMs: endedAt - orderedAt + world.timing.ttlMs * (LATE - 1),
  };
}

/** Verdicts that had waited for protection to end by itself. */
async function sinceProtection(protectionMs: number, world: World): Promise<VerdictClock> {
  const beganAt = await world.lastEvent('protection_began');
  const slackMs = world.timing.ttlMs * (LATE - 1);
  return {
    since: 'protection began',
    timeOf: ({ atMs }) => atMs - beganAt,
    atLeastMs: protectionMs - slackMs,
    atMostMs: protectionMs + slackMs,
  };
}

/** All who are lost are held, and stay so for longer than the TTL. */
async function expectHeld(world: World, services: number): Promise<void> {
  await until(world.timing.ttlMs * 5, async () => (await held(world)) === services);
  await delay(world.timing.ttlMs);
  expect(await held(world)).toBe(services);
  expect(await world.verdicts()).toEqual([]);
}

/** How many services protection holds, as the server last told; undefined: there is no protection. */
async function held(world: World): Promise<number | undefined> {
  const [node] = await world.rows<{ held: number | null }>(
    `SELECT (report #>> '{protection,held}')::int AS held FROM node`,
  );
  return node?.held ?? undefined;
}

/** The network finds them again: they register, and the history tells of it. */
async function expectRestored(world: World, { cable }: Front, services: number): Promise<void> {
  cable.mend();
  await until(30_000, async () => (await world.shutDown()).length === 0);
  expect(await world.shutDown()).toEqual([]);
  const [restored] = await world.rows(`SELECT count(DISTINCT task_id)::int FROM task_event WHERE kind = 'restored'`);
  expect(restored).toEqual({ count: services });
}
