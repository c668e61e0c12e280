/**
 * A few tasks that many clients register, update and find through two servers and all three doors, while both servers and
 * their database are hurt; and what everybody was told, held against each other:
 *
 * - the answers must be those of one registry that does one thing after the other (linearizability.ts);
 * - the table of events must have every write that was acknowledged once, no write twice, and none that was refused;
 * - who watches must be told exactly the events of that table, in their order.
 *
 * Services beside them must neither be shut down while they live nor be shown running when they are gone.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { Caller, openDoor, openTasks, type Board, type Door, type DoorName } from '../callers.js';
import type { FleetProcess } from '../fleet-process.js';
import { judge } from '../linearizability.js';
import { conclude, sinceSilence, type Figures } from '../scenario.js';
import { Seat } from '../seat.js';
import { TASK_MODEL, type TaskOperation } from '../task-model.js';
import { Watcher, type Change } from '../watcher.js';
import { until, type World } from '../world.js';

const DOORS: readonly DoorName[] = ['tcp', 'grpc', 'http'];
const START_MS = 60_000;
/** How long the watchers may take to be told everything. */
const TOLD_MS = 30_000;
/** Some tasks stay, and as many are new every so often, so that their first registrations are contended too. */
const STAYING = ['staying-1', 'staying-2', 'staying-3'];
const NEW_EVERY_MS = 3000;

/** How much there is of everything. */
export interface Size {
  /** At each door of each server. */
  readonly callers: number;
  /** Services beside them, of whom some fall silent at the end. */
  readonly beside?: { readonly services: number; readonly dying: number };
}

/** Everything that takes part. */
export interface Cast {
  readonly world: World;
  readonly seats: readonly [Seat, Seat];
  readonly callers: readonly Caller[];
  readonly doors: readonly Door[];
  readonly watchers: readonly Watcher[];
  readonly fleet: FleetProcess | undefined;
  readonly board: Board & { readonly everyId: () => readonly string[] };
}

type Fault = (cast: Cast) => Promise<void>;

/** A server dies, and another takes its place. */
export const killFirst: Fault = ({ seats: [first] }) => first.kill(500);

/** What servers, clients and operators fear, one after the other. */
export const EVERY_FAULT: readonly Fault[] = [
  killFirst,
  // Connections break, of clients and of a server to its database.
  ({ seats: [, second] }) => repeatedly(6, 200, () => second.cut()),
  ({ seats: [first] }) => repeatedly(10, 150, () => first.database.cut()),
  // A server stands still for longer than its lease, or is cut off from the database for so long.
  ({ seats: [first], world }) => first.suspend(world.timing.leaseMs * 1.3),
  ({ seats: [, second], world }) => blackHole(second, world.timing.leaseMs * 1.3),
  // What was sent to the database on connections that broke arrives behind what was sent since.
  ({ seats: [, second] }) => repeatedly(8, 400, () => second.database.strand(300)),
  ({ seats }) => together(seats.map((seat) => repeatedly(6, 300, () => seat.database.strand(900)))),
  // The database crashes.
  ({ world }) => crash(world),
  // Two at a time.
  ({ seats: [first, second] }) => together([second.kill(0), repeatedly(8, 200, () => first.cut())]),
  ({ seats: [first], world }) => together([first.suspend(1500), delay(500).then(() => crash(world))]),
];

/** Plays the faults, and judges what everybody was told. */
export async function tellOneStory(world: World, size: Size, faults: readonly Fault[] = EVERY_FAULT): Promise<Figures> {
  const cast = await gather(world, size);
  const calling = Promise.all(cast.callers.map((caller) => caller.call()));
  // An answer that nothing explains is heard of when the faults are over.
  calling.catch(() => {});
  for (const fault of faults) {
    await delay(1000);
    await fault(cast);
  }
  await delay(1500);
  for (const caller of cast.callers) caller.stop();
  await calling;
  await settle(cast);
  await cast.fleet?.silence(0, size.beside?.dying ?? 0);
  return figuresOf(cast, await conclude(world, cast.fleet ? [sinceSilence(world)] : []));
}

/** `lists`: whether the watchers list, as a page does. */
export async function gather(world: World, size: Size, lists = false): Promise<Cast> {
  const seats = [await Seat.take(world), await Seat.take(world)] as const;
  const token = await world.createToken('callers', 'register', 'read');
  const watchers = [watch(seats[0], 'grpc', token, lists), watch(seats[1], 'http', token, lists)];
  await until(START_MS, () => Promise.resolve(watchers.every(({ isOpen }) => isOpen)));
  const board = newBoard();
  const lines = seats.flatMap((seat, i) => linesTo(seat, 'AB'[i] ?? '', size.callers, token));
  const callers = lines.map(({ name, door }) => new Caller(name, door, board));
  const servers = seats.map(({ doors }) => doors.tcp.at);
  const fleet = size.beside && (await world.launch({ count: size.beside.services, servers }));
  await fleet?.start(START_MS);
  return { world, seats, callers, doors: lines.map(({ door }) => door), watchers, fleet, board };
}

function watch({ doors }: Seat, door: 'grpc' | 'http', token: string, lists: boolean): Watcher {
  const watcher = new Watcher(openTasks(door, doors[door].at, token), lists);
  watcher.begin();
  return watcher;
}

/** So many doors of each kind, for a caller each. */
function linesTo({ doors }: Seat, server: string, count: number, token: string): { name: string; door: Door }[] {
  return DOORS.flatMap((kind) =>
    Array.from({ length: count }, (_, n) => ({
      name: `${kind}-${server}${n + 1}`,
      door: openDoor(kind, doors[kind].at, token),
    })),
  );
}

function newBoard(): Cast['board'] {
  const startedAt = performance.now();
  const now = () => performance.now() - startedAt;
  const newOnes = (turn: number) => STAYING.map((_, i) => `new-${turn}-${i + 1}`);
  const turn = () => Math.floor(now() / NEW_EVERY_MS);
  return {
    ...{ now, versions: new Map<string, number>() },
    ids: () => [...STAYING, ...newOnes(turn())],
    everyId: () => [...STAYING, ...Array.from({ length: turn() + 1 }, (_, n) => newOnes(n)).flat()],
  };
}

/** When all services have come back and none is waited for any longer, every caller looks at every task once more. */
export async function settle({ world, callers, doors, fleet, board }: Cast): Promise<void> {
  await fleet?.settled(START_MS);
  if (fleet) await delay(world.timing.failoverGraceMs + world.timing.ttlMs);
  const ids = board.everyId();
  await Promise.all(
    callers.map(async (caller) => {
      for (const id of ids) expect(await caller.ask({ verb: 'find', id }), `${caller.name} finds ${id}`).toBeDefined();
    }),
  );
  await Promise.all(doors.map((door) => door.close()));
}

async function figuresOf({ world, callers, watchers }: Cast, figures: Figures): Promise<Figures> {
  const events = await eventsOf(world);
  const lastId = events.at(-1)?.id ?? 0;
  await until(TOLD_MS, () => Promise.resolve(watchers.every((watcher) => watcher.hasCome(lastId))));
  for (const watcher of watchers) watcher.end();
  const written = new Written(events);
  const history = callers.flatMap((caller) => caller.history);
  const replayedWrites = written.replayedOnes();
  const wrongChanges = watchers.flatMap((watcher) => watcher.flaws(events));
  const { steps, ...judgement } = judge(TASK_MODEL, written.testify(history));
  const found = { ...judgement, refusedOnes: written.refusedOnes(history), versions: written.brokenVersions() };
  expect({ ...found, replayedWrites, wrongChanges }).toEqual({
    ...{ verdict: 'right', explanation: '', refusedOnes: [], versions: [], replayedWrites: [], wrongChanges: [] },
  });
  return {
    ...figures,
    acknowledgedWrites: figures.acknowledgedWrites + history.filter(isAcknowledged).length,
    lostWrites: [...figures.lostWrites, ...written.lostOnes(history)],
    ...{ replayedWrites, wrongChanges },
    note: [
      `${history.length} requests on ${new Set(history.map(({ input }) => input.id)).size} tasks in one order (${steps} steps)`,
      written.unknownInWords(history),
      `watches resumed ${watchers.map(({ resumed }) => resumed).join(' and ')} times`,
      `told to list again ${watchers.map(({ listedAgain }) => listedAgain).join(' and ')} times`,
    ].join('; '),
  };
}

/** What is in the table of events, which no caller was asked about. */
class Written {
  readonly #byStamp = new Map<string, Change[]>();

  constructor(private readonly events: readonly Change[]) {
    for (const event of events)
      if (event.url !== '') this.#byStamp.set(event.url, [...(this.#byStamp.get(event.url) ?? []), event]);
  }

  /**
   * What no caller was told, the table knows: a write that is not there never took effect, and one that is there made the
   * version that stands beside it, whenever that was. Without that, a judge has to try each of them everywhere.
   */
  testify(history: readonly TaskOperation[]): TaskOperation[] {
    return history.flatMap((operation) => {
      if (operation.output) return [operation];
      const [event] = this.#eventsOf(operation);
      return event ? [{ ...operation, output: { outcome: 'done', revision: event.revision } }] : [];
    });
  }

  /** Writes that made more than one event. */
  replayedOnes(): string[] {
    const all = [...this.#byStamp];
    return all.filter(([, { length }]) => length > 1).map(([stamp, { length }]) => `${stamp}: ${length} events`);
  }

  lostOnes(history: readonly TaskOperation[]): string[] {
    return stampsOf(history.filter((one) => isAcknowledged(one) && this.#eventsOf(one).length === 0));
  }

  /** Writes that took effect although the answer was that they did not. */
  refusedOnes(history: readonly TaskOperation[]): string[] {
    const isRefused = ({ output }: TaskOperation) => output !== undefined && output.outcome !== 'done';
    return stampsOf(history.filter((one) => isRefused(one) && this.#eventsOf(one).length > 0));
  }

  /** Tasks whose versions are not 1, 2, 3 … in the order of their events. */
  brokenVersions(): string[] {
    const versions = new Map<string, number>();
    return this.events.flatMap(({ taskId, revision, id }) => {
      const expected = (versions.get(taskId) ?? 0) + 1;
      versions.set(taskId, revision);
      return revision === expected ? [] : [`event ${id} of ${taskId} has version ${revision}, not ${expected}`];
    });
  }

  unknownInWords(history: readonly TaskOperation[]): string {
    const unanswered = history.filter(({ output }) => !output);
    const effective = unanswered.filter((one) => this.#eventsOf(one).length > 0);
    return `${unanswered.length} writes without an answer, of which ${effective.length} took effect`;
  }

  #eventsOf({ input }: TaskOperation): readonly Change[] {
    return input.verb === 'find' ? [] : (this.#byStamp.get(input.texts.url ?? '') ?? []);
  }
}

export function isAcknowledged({ input, output }: TaskOperation): boolean {
  return input.verb !== 'find' && output?.outcome === 'done';
}

function stampsOf(history: readonly TaskOperation[]): string[] {
  return history.flatMap(({ input }) => (input.verb === 'find' ? [] : (input.texts.url ?? '')));
}

/** Every event, in its order. */
export const EVENTS = `SELECT seq::float8 AS id, task_id AS "taskId", revision::float8, url FROM task_event ORDER BY seq`;

function eventsOf(world: World): Promise<Change[]> {
  return world.rows<Change>(EVENTS);
}

async function repeatedly(times: number, everyMs: number, act: () => void): Promise<void> {
  for (let time = 0; time < times; time++) {
    act();
    await delay(everyMs);
  }
}

async function blackHole({ database }: Seat, forMs: number): Promise<void> {
  database.pull();
  await delay(forMs);
  database.mend();
}

async function crash(world: World): Promise<void> {
  await world.crashPostgres();
  await world.startPostgres();
}

async function together(acts: readonly Promise<unknown>[]): Promise<void> {
  await Promise.all(acts);
}
