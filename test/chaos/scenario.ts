/**
 * A scenario, and what it shows. Whatever was done to servers, four things are asked at the end, of the database and of
 * the services themselves:
 *
 * - false shutdowns, the living shown shutdown: tasks that the registry shut down although their services live
 * - missed shutdowns, the dead shown running: tasks still running although their services are gone
 * - lost writes: tasks that are not stored as it was acknowledged
 * - how long verdicts took, as the server and the database knew it, so that a busy machine is not taken for a slow server
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, type TestContext } from 'vitest';
import { sum, type FleetStatus } from './fleet.js';
import { FAST, until, World, type Timing, type Verdict } from './world.js';

declare module 'vitest' {
  interface TaskMeta {
    chaos?: Figures;
  }
}

/** What a scenario showed. */
export interface Figures {
  readonly services: number;
  /** How many of them were to be shut down. */
  readonly gone: number;
  readonly acknowledgedWrites: number;
  readonly falseShutdowns: readonly string[];
  readonly missedShutdowns: readonly string[];
  readonly lostWrites: readonly string[];
  /** Writes that took effect twice, where that was looked at. */
  readonly replayedWrites?: readonly string[];
  /** Changes that somebody who watched was not told, or told twice or otherwise than they were, where that was looked at. */
  readonly wrongChanges?: readonly string[];
  readonly verdicts: readonly VerdictTimes[];
  /** The longest time that a fleet's process stood still. */
  readonly fleetStoodStillMs: number;
  /** What else there is to say. */
  readonly note: string;
}

/** From when to when verdicts came. */
export interface VerdictTimes {
  readonly count: number;
  /** From when they are counted, in words. */
  readonly since: string;
  readonly minMs: number;
  readonly maxMs: number;
  readonly atLeastMs: number;
  readonly atMostMs: number;
}

/** How some verdicts are timed, and when they are due. */
export interface VerdictClock {
  readonly since: string;
  /** Which verdicts; all if not given. */
  readonly covers?: (verdict: Verdict) => boolean;
  readonly timeOf: (verdict: Verdict) => number;
  readonly atLeastMs: number;
  readonly atMostMs: number;
}

/** Verdicts come at most a tenth late. */
export const LATE = 1.1;
/** How long a verdict may take until the scenario gives up on it: long, since its time is taken from the database. */
const GIVE_UP_MS = 90_000;
/** How long is watched, when all verdicts are there, whether others come that should not. */
const QUIET_MS = 6000;

/** Plays a scenario in a world of its own; all of its figures must be as they should. */
export function scenario(play: (world: World) => Promise<Figures>, timing: Timing = FAST) {
  return async ({ task }: TestContext): Promise<void> => {
    const world = await World.begin(timing);
    try {
      const figures = await play(world);
      task.meta.chaos = figures;
      expectAllWell(figures);
    } finally {
      await world.end();
    }
  };
}

function expectAllWell(figures: Figures): void {
  const words = `the services' own process stood still for up to ${figures.fleetStoodStillMs} ms`;
  expect(figures, words).toMatchObject({ falseShutdowns: [], missedShutdowns: [], lostWrites: [] });
  expect(figures.replayedWrites ?? [], 'replayed writes').toEqual([]);
  expect(figures.wrongChanges ?? [], 'changes missed or told twice').toEqual([]);
  expect(figures.acknowledgedWrites).toBeGreaterThan(figures.services);
  expect(sum(figures.verdicts.map(({ count }) => count))).toBe(figures.gone);
  for (const times of figures.verdicts) {
    expect(times.minMs, times.since).toBeGreaterThanOrEqual(times.atLeastMs);
    expect(times.maxMs, times.since).toBeLessThanOrEqual(times.atMostMs);
  }
}

/** Verdicts on silence: after the TTL, and at most a tenth later. */
export function sinceSilence({ timing: { ttlMs } }: World): VerdictClock {
  const covers = ({ cause }: Verdict) => cause !== 'node_failover';
  return { since: 'silence', covers, timeOf: ({ gapMs }) => gapMs, atLeastMs: ttlMs, atMostMs: ttlMs * LATE };
}

/** Verdicts on those whose server was gone at `atMs`: when its lease has run out, and the failover grace is over. */
export function sinceDeath(words: string, atMs: number, { timing }: World): VerdictClock {
  const { leaseMs, failoverGraceMs } = timing;
  const noticedMs = leaseMs + leaseMs / 3;
  return {
    since: words,
    covers: ({ cause }) => cause === 'node_failover',
    timeOf: (verdict) => verdict.atMs - atMs,
    atLeastMs: failoverGraceMs,
    atMostMs: (noticedMs + failoverGraceMs) * LATE,
  };
}

/** Verdicts of a server that had lost the database's trust: a TTL after that was back, which it was after `atMs`. */
export async function sinceTrust(words: string, atMs: number, world: World): Promise<VerdictClock> {
  const { ttlMs } = world.timing;
  const trustedAt = await world.lastEvent('lease_lost');
  return {
    since: words,
    timeOf: (verdict) => verdict.atMs - atMs,
    atLeastMs: ttlMs,
    atMostMs: trustedAt - atMs + ttlMs * LATE,
  };
}

type Clocks = readonly VerdictClock[] | (() => Promise<readonly VerdictClock[]>);

/**
 * Waits until everybody who is gone is shut down, and a little more in case others are, and looks at everything.
 * `clocks`: how verdicts are timed, asked when they are there.
 */
export async function conclude(world: World, clocks: Clocks, note = ''): Promise<Figures> {
  await judged(world);
  await delay(QUIET_MS);
  const gone = goneOf(world);
  const statuses = await Promise.all(world.fleets.map((fleet) => fleet.status()));
  const verdicts = await world.verdicts();
  return {
    services: sum(world.fleets.map(({ count }) => count)),
    gone: gone.size,
    acknowledgedWrites: sum(statuses.map(({ writes }) => writes)),
    falseShutdowns: await falselyShutDown(world, gone, verdicts, statuses),
    missedShutdowns: await missing(world, gone),
    lostWrites: await lost(world, statuses),
    verdicts: (typeof clocks === 'function' ? await clocks() : clocks).map((clock) => timesOf(verdicts, clock)),
    fleetStoodStillMs: Math.max(...statuses.map(({ stoodStillMs }) => stoodStillMs)),
    note,
  };
}

/** Waits until everybody who is gone is shut down, or it is given up. */
export function judged(world: World): Promise<void> {
  const gone = goneOf(world);
  return until(GIVE_UP_MS, async () => (await missing(world, gone)).length === 0);
}

function goneOf(world: World): Set<string> {
  return new Set(world.fleets.flatMap((fleet) => [...fleet.gone]));
}

/** Those who are gone and not shut down. */
async function missing(world: World, gone: ReadonlySet<string>): Promise<string[]> {
  const shutDown = new Set(await world.shutDown());
  return [...gone].filter((id) => !shutDown.has(id));
}

/** Those who live and were shut down, even if only for a while, and those who were shut down before their time. */
async function falselyShutDown(
  world: World,
  gone: ReadonlySet<string>,
  verdicts: readonly Verdict[],
  statuses: readonly FleetStatus[],
): Promise<string[]> {
  const silentSince = new Map(statuses.flatMap((status) => Object.entries(status.silentSince)));
  const tooSoon = ({ id, atMs }: Verdict) => atMs < (silentSince.get(id) ?? -Infinity) + world.timing.ttlMs;
  const judged = verdicts.filter((verdict) => !gone.has(verdict.id) || tooSoon(verdict)).map(({ id }) => id);
  const shutDown = (await world.shutDown()).filter((id) => !gone.has(id));
  return [...new Set([...judged, ...shutDown])];
}

/** Those of whom less is stored than was acknowledged. */
async function lost(world: World, statuses: readonly FleetStatus[]): Promise<string[]> {
  const rows = await world.rows<{ id: string; description: string }>('SELECT id, description FROM task');
  const stored = new Map(rows.map(({ id, description }) => [id, Number(description)]));
  const acknowledged = statuses.flatMap((status) => Object.entries(status.acknowledged));
  return acknowledged.filter(([id, count]) => (stored.get(id) ?? -1) < count).map(([id]) => id);
}

function timesOf(all: readonly Verdict[], clock: VerdictClock): VerdictTimes {
  const { since, covers = () => true, timeOf, atLeastMs, atMostMs } = clock;
  const times = all.filter(covers).map((verdict) => Math.round(timeOf(verdict)));
  return {
    ...{ count: times.length, since, minMs: Math.min(...times), maxMs: Math.max(...times) },
    ...{ atLeastMs: Math.round(atLeastMs), atMostMs: Math.round(atMostMs) },
  };
}
