/**
 * The database is lost, and a standby takes its place that had not received the last commits: what it lacks is gone, and
 * with it writes that were acknowledged. Everything else holds as ever:
 *
 * - what was acknowledged before the standby fell behind, and what is acknowledged after it has taken over, is stored once;
 * - who watches is told exactly the events of the history that is, or is told to list again first;
 * - servers go on by themselves, and nobody who lives is shut down.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { FleetProcess } from '../fleet-process.js';
import { conclude, sinceSilence, type Figures } from '../scenario.js';
import type { Standby } from '../standby.js';
import type { TaskOperation } from '../task-model.js';
import type { Change } from '../watcher.js';
import { until, type World } from '../world.js';
import { EVENTS, gather, isAcknowledged, settle, type Cast } from './histories.js';

const START_MS = 60_000;
/** Over how long those are spread who come back while the standby falls behind. */
const COMING_BACK_MS = 300;
/** How long writes may take to work again. */
const WRITES_AGAIN_MS = 30_000;
const TOLD_MS = 30_000;
/** For how long everybody writes before, and after. */
const WRITING_MS = 4000;

/** When things happened, on the clock of the callers. */
interface Times {
  /** What was acknowledged until then is on the standby. */
  readonly coveredAt: number;
  /** The first database is gone. */
  readonly goneAt: number;
}

export async function failOver(
  world: World,
  size: { callers: number; services: number; dying: number; behindMs: number; returning?: number },
): Promise<Figures> {
  const standby = await world.addStandby();
  const cast = await gather(world, { callers: size.callers, beside: size }, true);
  const pids = cast.seats.map(({ server }) => server.pid);
  const calling = Promise.all(cast.callers.map((caller) => caller.call()));
  // An answer that nothing explains is heard of at the end.
  calling.catch(() => {});
  const returning = size.returning ? await launchReturning(cast, size.services, size.returning) : undefined;
  await delay(WRITING_MS);
  const times = await loseDatabase(cast, standby, async () => {
    await returning?.comeBack(COMING_BACK_MS);
    await delay(size.behindMs);
  });
  const againMs = await writesAgain(cast, times);
  await delay(WRITING_MS);
  for (const caller of cast.callers) caller.stop();
  await calling;
  await settle(cast);
  await cast.fleet?.silence(0, size.dying);
  await returning?.silence(size.services, size.services + size.dying);
  const figures = await conclude(world, [sinceSilence(world)]);
  expect(cast.seats.map(({ server }) => server.pid)).toEqual(pids);
  for (const pid of pids) expect(() => process.kill(pid, 0), 'a server has ended').not.toThrow();
  return figuresOf(cast, figures, times, againMs);
}

/** Services that come back while the standby falls behind: that they did is not on it. */
async function launchReturning({ world, seats }: Cast, first: number, count: number): Promise<FleetProcess> {
  const servers = seats.map(({ doors }) => doors.tcp.at);
  const fleet = await world.launch({ first, count, servers, workEvery: 1_000_000 });
  await fleet.start(START_MS);
  return fleet;
}

/** The standby falls behind, the database is killed, the standby takes over, and the servers' cables lead to it. */
async function loseDatabase(
  { world, seats, board }: Cast,
  standby: Standby,
  meanwhile: () => Promise<void>,
): Promise<Times> {
  const coveredAt = board.now();
  const [row] = await world.rows<{ place: string }>('SELECT pg_current_wal_lsn()::text AS place');
  await standby.received(row?.place ?? '');
  standby.cable.pull();
  await meanwhile();
  await world.killPostgres();
  const goneAt = board.now();
  standby.cable.cut();
  await world.promoteStandby();
  for (const { database } of seats) database.cut();
  return { coveredAt, goneAt };
}

/** How long it takes until a write of every caller is acknowledged that was sent when the first database was gone. */
async function writesAgain({ callers, board }: Cast, { goneAt }: Times): Promise<number> {
  const isAgain = (one: TaskOperation) => isAcknowledged(one) && one.calledAt >= goneAt;
  const waiting = () => callers.filter(({ history }) => !history.some(isAgain)).map(({ name }) => name);
  await until(WRITES_AGAIN_MS, () => Promise.resolve(waiting().length === 0), 50);
  expect(waiting(), `without a write ${WRITES_AGAIN_MS} ms after the database was lost`).toEqual([]);
  return board.now() - goneAt;
}

async function figuresOf(cast: Cast, figures: Figures, times: Times, againMs: number): Promise<Figures> {
  const { world, callers, watchers } = cast;
  const lastId = (await world.rows<Change>(EVENTS)).at(-1)?.id ?? 0;
  await until(TOLD_MS, () => Promise.resolve(watchers.every((watcher) => watcher.hasCome(lastId))));
  expect(watchers.map((watcher) => watcher.hasCome(lastId))).toEqual(watchers.map(() => true));
  for (const watcher of watchers) watcher.end();
  // Services go on writing: what was told last is among what is read now.
  const now = await world.rows<Change>(EVENTS);
  const before = await world.rowsOfFormer<Change>(EVENTS);
  const kept = before.findIndex((event, place) => !isSame(event, now[place]));
  expect(kept, 'the standby lacked nothing').toBeGreaterThan(0);
  const history = callers.flatMap((caller) => caller.history);
  const acknowledged = history.filter(isAcknowledged);
  const stored = new Set(now.map(({ url }) => url));
  const missing = acknowledged.filter((one) => !stored.has(stampOf(one)));
  const isExcused = (one: TaskOperation) => one.answeredAt > times.coveredAt && one.calledAt < times.goneAt;
  const excused = missing.filter(isExcused);
  expect(excused.length, 'acknowledged writes that were not on the standby').toBeGreaterThan(0);
  return {
    ...figures,
    acknowledgedWrites: figures.acknowledgedWrites + acknowledged.length,
    lostWrites: [...figures.lostWrites, ...missing.filter((one) => !isExcused(one)).map(stampOf)],
    replayedWrites: replayedOnes(now),
    wrongChanges: watchers.flatMap((watcher) => watcher.flawsAcross(before, now)),
    note: [
      `${excused.length} acknowledged writes were not on the standby (${before.length - kept} events)`,
      `every caller wrote again ${(againMs / 1000).toFixed(1)} s after the loss (allowed: ${WRITES_AGAIN_MS / 1000} s)`,
      `watches resumed ${watchers.map(({ resumed }) => resumed).join(' and ')} times`,
      `told to list again ${watchers.map(({ listedAgain }) => listedAgain).join(' and ')} times`,
    ].join('; '),
  };
}

function replayedOnes(events: readonly Change[]): string[] {
  const stamps = events.map(({ url }) => url).filter((url) => url !== '');
  return stamps.filter((stamp, place) => stamps.indexOf(stamp) !== place);
}

function isSame(one: Change, other: Change | undefined): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function stampOf({ input }: TaskOperation): string {
  return input.verb === 'find' ? '' : (input.texts.url ?? '');
}
