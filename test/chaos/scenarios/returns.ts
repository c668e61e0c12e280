/** Services that come back without a word, and are known by nothing but their address or their lease. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { ServerEventKind } from '../../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { TaskMark, type Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import type { ServerProcess } from '../../support/server-process.js';
import { TcpxClient } from '../../support/tcpx-client.js';
import { openTasks } from '../callers.js';
import { idOf } from '../fleet.js';
import type { FleetProcess } from '../fleet-process.js';
import { conclude, judged, LATE, sinceDeath, type Figures, type VerdictClock } from '../scenario.js';
import { addressOf } from '../tcp-fleet.js';
import { until, type World } from '../world.js';

const START_MS = 60_000;
/** Nobody reports a growing count: that would name the task, as a registration does. */
const NOBODY_WORKS = { first: 1, workEvery: 1_000_000 };
/** Between the last connection of a bystander and the kill; shorter than between two renewals. */
const BYSTANDERS_ARE_THERE_MS = 300;
/** How soon who registers is to be shown as running. */
const AT_ONCE_MS = 2000;

/** Two servers, and services that are all at the first and only beat when they have to go to the other. */
async function settleAtOneOfTwo(world: World, services: number) {
  const [doomed, staying] = [await world.startServer(), await world.startServer()];
  const servers = [doomed.ready.tcp, staying.ready.tcp];
  const plan = { count: services, servers, startAt: 'first', onReturn: 'beat' } as const;
  const fleet = await world.launch({ ...NOBODY_WORKS, ...plan });
  await fleet.start(START_MS);
  await delay(world.timing.leaseMs * 2);
  return { doomed, staying, fleet };
}

/**
 * One of two servers dies, and with it some of its services. The others, each at an address of its own, believe that they
 * are still registered: the other server gives them their tasks back, unconfirmed until they register.
 */
export async function returnUnnamed(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const { doomed, staying, fleet } = await settleAtOneOfTwo(world, size.services);
  const killedAt = Date.now();
  await Promise.all([doomed.kill(), fleet.die(1, 1 + size.dying)]);
  const note = await backUnnamed(world, staying, fleet, size);
  return conclude(world, [sinceDeath('kill -9', killedAt, world)], note);
}

/**
 * One of two servers dies a moment after it renewed its lease, and with it some of its services. In that moment somebody else
 * connected to the other server from the address of each of these, and beats: nobody of them is taken for a service that
 * died, while the others, who only beat there at once, have their tasks back.
 */
export async function returnAmongBystanders(world: World, size: { services: number; dying: number }): Promise<Figures> {
  const { doomed, staying, fleet } = await settleAtOneOfTwo(world, size.services);
  const before = await renewalOfFirst(world);
  await until(world.timing.leaseMs, async () => (await renewalOfFirst(world)) > before, 10);
  const renewal = await renewalOfFirst(world);
  const addresses = Array.from({ length: size.dying }, (_, i) => addressOf(1 + i));
  const bystanders = await Promise.all(
    addresses.map((localAddress) => TcpxClient.connect(staying.ready.tcp, { localAddress })),
  );
  const beating = setInterval(() => bystanders.forEach((one) => one.heartbeat()), world.timing.beatMs);
  try {
    await delay(BYSTANDERS_ARE_THERE_MS);
    const killedAt = Date.now();
    await Promise.all([doomed.kill(), fleet.die(1, 1 + size.dying)]);
    expect(await renewalOfFirst(world), 'the last renewal').toBe(renewal);
    const note = await backUnnamed(world, staying, fleet, size);
    const figures = await conclude(world, [sinceDeath('kill -9', killedAt, world)]);
    const there = `node lease of ${world.timing.leaseMs / 1000} s; ${bystanders.length} bystanders, opened after the last renewal, got nothing`;
    return { ...figures, note: `${there}; ${note}` };
  } finally {
    clearInterval(beating);
    await Promise.all(bystanders.map((one) => one.close()));
  }
}

/**
 * The only server dies and is started again. Services that share an address two by two only beat, as those with addresses
 * of their own do: nobody can tell which is which, so theirs become `shutdown`, and it is told why.
 */
export async function returnInDoubt(world: World, size: { services: number; pairs: number }): Promise<Figures> {
  const before = await world.startServer();
  const plan = { servers: [before.ready.tcp], onReturn: 'beat' } as const;
  const alone = await world.launch({ ...plan, count: size.services });
  const first = 2 * size.services;
  const paired = await world.launch({ ...NOBODY_WORKS, ...plan, first, count: 2 * size.pairs, sharing: 2 });
  await Promise.all([alone.start(START_MS), paired.start(START_MS)]);
  await delay(world.timing.leaseMs);
  await before.kill();
  const [, port = ''] = before.ready.tcp.split(':');
  const after = await world.startServer({ settings: { TASKDASH_TCP_PORT: port } });
  paired.giveUp(first, first + 2 * size.pairs);
  const figures = await conclude(world, [sinceDeath('the new start', Date.now(), world)]);
  expect(await paired.status(), 'they live').toMatchObject({ settled: 2 * size.pairs });
  const addresses = Array.from({ length: size.pairs }, (_, pair) => addressOf(size.services + pair)).sort();
  // Of many lines of a kind the log has the first at once, the events have all.
  expect(addresses, 'addresses in the log').toEqual(expect.arrayContaining(doubtsInLog(after)));
  expect(doubtsInLog(after), 'addresses in the log').toHaveLength(1);
  expect(await doubtsInEvents(world, after), 'addresses in the events').toEqual(addresses);
  const backMs = await registerAll(world, () => paired.registerAgain());
  return {
    ...figures,
    note: [
      `the gone live: ${2 * size.pairs} services that share ${size.pairs} addresses and only beat (expected)`,
      `the events tell of each address, and the log of the first`,
      `all run ${backMs} ms after they registered (allowed: ${AT_ONCE_MS})`,
    ].join('; '),
  };
}

/** Two services die; from the address of each something connects, beats and leaves every second, there before or after. */
export async function probeTheDead(world: World, size: { services: number }): Promise<Figures> {
  const server = await world.startServer();
  const fleet = await world.launch({ count: size.services, servers: [server.ready.tcp] });
  await fleet.start(START_MS);
  const early = new Prober(server.ready.tcp, addressOf(0), 800);
  const late = new Prober(server.ready.tcp, addressOf(1), 100);
  early.begin();
  await delay(world.timing.ttlMs);
  await fleet.die(0, 2);
  late.begin();
  try {
    const figures = await conclude(world, [sinceSilenceOf(world)]);
    return { ...figures, note: `probes that beat: ${early.probes} and ${late.probes}` };
  } finally {
    await Promise.all([early.end(), late.end()]);
  }
}

/** Leases that are renewed through two servers in turn stay where they are: nobody claims a task by a beat. */
export async function renewInTurn(
  world: World,
  size: { services: number; dying: number; forMs: number },
): Promise<Figures> {
  const servers = [await world.startServer(), await world.startServer()];
  const urls = servers.map(({ ready }) => `http://${ready.grpc}`);
  const fleet = await world.launchRoaming({ count: size.services, urls });
  // Every figure of acknowledged writes is more than one a service.
  const beside = await world.launch({
    first: size.services,
    count: 10,
    servers: servers.map(({ ready }) => ready.tcp),
  });
  await Promise.all([fleet.start(START_MS), beside.start(START_MS)]);
  const before = await epochs(world);
  for (const endsAt = Date.now() + size.forMs; Date.now() < endsAt; await delay(1000)) {
    expect(await epochs(world)).toEqual(before);
    expect(await world.verdicts()).toEqual([]);
  }
  await fleet.silence(0, size.dying);
  const { ttlMs, leaseMs } = world.timing;
  const clock = { since: 'silence', timeOf: ({ gapMs }: { gapMs: number }) => gapMs };
  const figures = await conclude(world, [{ ...clock, atLeastMs: ttlMs, atMostMs: (ttlMs + leaseMs) * LATE }]);
  const note = `no epoch of ${before.length} tasks changed in ${size.forMs / 1000} s of beats through two servers in turn`;
  return { ...figures, note };
}

/** Those who only beat have their tasks back, unconfirmed until they register; those before them have died. */
async function backUnnamed(
  world: World,
  server: ServerProcess,
  fleet: FleetProcess,
  { services, dying }: { services: number; dying: number },
): Promise<string> {
  await judged(world);
  await delay(world.timing.ttlMs);
  const living = Array.from({ length: services - dying }, (_, i) => idOf(1 + dying + i)).sort();
  expect(await unconfirmed(world, server), 'unconfirmed before they register').toEqual(living);
  await fleet.registerAgain();
  await fleet.settled(START_MS);
  expect(await unconfirmed(world, server), 'unconfirmed after they registered').toEqual([]);
  return `${living.length} were back unconfirmed, and none was when they had registered`;
}

/** When the server that was started first last renewed its lease, by the database's clock. */
async function renewalOfFirst(world: World): Promise<number> {
  const [first] = await world.rows<{ atMs: number }>(
    `SELECT (extract(epoch FROM renewed_at) * 1000)::float8 AS "atMs" FROM node ORDER BY started_at LIMIT 1`,
  );
  if (!first) throw new Error('no server was started');
  return first.atMs;
}

/** The tasks that are shown as running and unconfirmed, as a server tells. */
async function unconfirmed(world: World, { ready }: ServerProcess): Promise<string[]> {
  const token = await world.createToken('reader', 'read');
  const open = openTasks('http', new URL(ready.http).host, token);
  const listed: Task[] = [];
  let pageToken = '';
  do {
    const page = await open.tasks.listTasks({ pageSize: 1000, pageToken });
    listed.push(...page.tasks);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  open.close();
  const isSo = ({ status, marks }: Task) => status === 'running' && marks.includes(TaskMark.UNCONFIRMED);
  return listed
    .filter(isSo)
    .map(({ id }) => id)
    .sort();
}

function doubtsInLog({ output }: ServerProcess): string[] {
  const entries = output.map((line) => JSON.parse(line) as { msg?: string; address?: string });
  const doubts = entries.filter(({ msg }) => msg?.startsWith('a service may have come back, or may not'));
  return doubts.map(({ address = '' }) => address).sort();
}

async function doubtsInEvents(world: World, server: ServerProcess): Promise<string[]> {
  const { events } = await (await world.administrator(server)).listServerEvents({ pageSize: 1000 });
  const doubts = events.filter(({ kind }) => kind === ServerEventKind.RETURN_IN_DOUBT);
  return doubts.map(({ details }) => details['address'] ?? '').sort();
}

/** Those who are shut down register: how long it takes until nobody is shut down any more. */
async function registerAll(world: World, register: () => Promise<unknown>): Promise<number> {
  const startedAt = Date.now();
  await register();
  await until(AT_ONCE_MS, async () => (await world.shutDown()).length === 0, 20);
  const tookMs = Date.now() - startedAt;
  expect(await world.shutDown()).toEqual([]);
  return tookMs;
}

/** Something that is no service: it connects every second, beats, and leaves after a while. */
class Prober {
  probes = 0;
  #stopping = false;
  #probing: Promise<void> = Promise.resolve();

  constructor(
    private readonly at: string,
    private readonly localAddress: string,
    private readonly staysMs: number,
  ) {}

  begin(): void {
    this.#probing = this.#probe();
    // A failure is heard of at the end.
    this.#probing.catch(() => {});
  }

  async end(): Promise<void> {
    this.#stopping = true;
    await this.#probing;
  }

  async #probe(): Promise<void> {
    while (!this.#stopping) {
      const client = await TcpxClient.connect(this.at, { localAddress: this.localAddress });
      client.heartbeat();
      this.probes++;
      await delay(this.staysMs);
      await client.close();
      await delay(1000 - this.staysMs);
    }
  }
}

/** Verdicts on the silent, for whose return something may be taken for as long as that is looked at. */
function sinceSilenceOf({ timing: { ttlMs } }: World): VerdictClock {
  const settleMs = ttlMs / 10;
  const timeOf = ({ gapMs }: { gapMs: number }) => gapMs;
  return { since: 'silence', timeOf, atLeastMs: ttlMs, atMostMs: ttlMs + settleMs + 2000 };
}

function epochs(world: World): Promise<{ id: string; epoch: number }[]> {
  return world.rows(`SELECT id, epoch::float8 FROM task WHERE name = 'roaming' ORDER BY id`);
}
