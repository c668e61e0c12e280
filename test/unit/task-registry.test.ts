import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Principal } from '../../server/domain/access.js';
import { TaskRegistry } from '../../server/domain/task-registry.js';
import { TokenQuota } from '../../server/domain/token-quota.js';
import { TokenSealer } from '../../server/domain/token-sealer.js';
import { WriteBatcher } from '../../server/domain/write-batcher.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryTaskDatabase, MemoryTaskStore } from '../support/memory-task-store.js';

const PERSON: Principal = { kind: 'user', id: 'admin', administrator: true, memberships: new Map() };
const SERVICE: Principal = { kind: 'legacy', address: '10.0.0.1' };
const TOKEN: Principal = { kind: 'token', name: 't', groupId: 'mx', scopes: ['register', 'read'], address: '' };
const WRITER: Principal = { ...TOKEN, scopes: ['register'] };
const VIEWER: Principal = { kind: 'user', id: 'ssx', administrator: false, memberships: new Map([['mx', 'viewer']]) };
const MANAGER: Principal = { ...VIEWER, memberships: new Map([['mx', 'manager']]) };
const SESSION = {
  id: '00000000-0000-4000-8000-000000000001',
  isLease: false,
  began: () => {},
  claimed: () => {},
  concluded: () => {},
};

let store: MemoryTaskStore;
let registry: TaskRegistry;
let clock: ManualClock;
let exceeded: string[];
let ended: [string, number][];

beforeEach(() => {
  clock = new ManualClock();
  store = new MemoryTaskStore(new MemoryTaskDatabase(), clock, 'node-a');
  const limits = { maxBatch: 10, maxInFlight: 1, capacity: 10, deadlineMs: 1000 };
  const batcher = new WriteBatcher(store, clock, limits);
  exceeded = [];
  ended = [];
  const quota = new TokenQuota(clock, { newTasksPerMinute: 5, onExceeded: (owner) => exceeded.push(owner) });
  const sealer = new TokenSealer(new Uint8Array(32));
  registry = new TaskRegistry(store, batcher, { announce: () => {} }, sealer, store, quota, (...end) =>
    ended.push(end),
  );
});

describe('the quota of new ids', () => {
  /** Registers ids at once; returns what became of each. */
  const registerAll = (ids: readonly string[]) =>
    Promise.all(
      ids.map((id) =>
        registry.register(TOKEN, id, { group_id: 'mx' }).then(
          () => 'written',
          (error: { code: unknown }) => error.code,
        ),
      ),
    );

  it('holds for what is registered at once, and each beyond is refused by itself', async () => {
    const outcomes = await registerAll(['1', '2', '3', '4', '5', '6', '7']);
    expect(outcomes).toEqual([...Array<string>(5).fill('written'), 'OVERLOADED', 'OVERLOADED']);
    expect(exceeded).toEqual(['token:t@mx', 'token:t@mx']);
    expect(await store.find('everything', '6')).toBeUndefined();
  });

  it('is not used up by what is there already, however much of it at once and also when nothing is left', async () => {
    const known = ['1', '2', '3', '4'];
    expect(await registerAll(known)).toEqual(known.map(() => 'written'));
    expect(await registerAll([...known, ...known])).toEqual([...known, ...known].map(() => 'written'));
    expect(await registerAll(['5', '6', ...known])).toEqual(['written', 'OVERLOADED', ...known.map(() => 'written')]);
  });

  it('is there for a new id that comes behind as many that are known', async () => {
    await registerAll(['1', '2', '3', '4', '5']);
    clock.advance(60_000);
    expect(await registerAll(['1', '2', '3', '4', '5', 'new'])).toEqual(Array<string>(6).fill('written'));
    expect(exceeded).toEqual([]);
  });
});

it('who has no session takes no claim: the death of the service that vouches for a task is still noticed', async () => {
  await registry.register(SERVICE, 'a', { name: 'first' }, { claimant: SESSION });
  await registry.register(PERSON, 'a', { name: 'second' });
  expect(await store.find('everything', 'a')).toMatchObject({ name: 'second', sessionId: SESSION.id, epoch: 1 });
  await registry.update(PERSON, 'a', { name: 'third' });
  expect(await store.find('everything', 'a')).toMatchObject({ name: 'third', sessionId: SESSION.id, epoch: 1 });
  const lapse = { taskId: 'a', sessionId: SESSION.id, epoch: 1, cause: 'heartbeat_timeout', silentMs: 1 } as const;
  expect(await store.lapse([lapse])).toEqual({ lapsed: ['a'], locked: [] });
});

it('a session is told by every write whether the task has ended, and others than sessions are listened to as well', async () => {
  const told: unknown[] = [];
  const claimant = {
    ...SESSION,
    claimed: (...claim: unknown[]) => told.push(['claimed', ...claim]),
    concluded: (...claim: unknown[]) => told.push(['concluded', ...claim]),
  };
  await registry.register(SERVICE, 'a', {}, { claimant });
  await registry.update(SERVICE, 'a', { status: 'finish' }, { claimant });
  await registry.update(SERVICE, 'a', { stop_time: '2026-01-01' }, { claimant });
  await registry.update(SERVICE, 'a', { status: 'restart' }, { claimant });
  await registry.update(SERVICE, 'a', { name: 'new' }, { claimant });
  await registry.update(PERSON, 'a', { name: 'newer' });
  expect(told).toEqual([
    ['claimed', 'a', 1],
    ...[2, 3].map((epoch) => ['concluded', 'a', epoch]),
    ...[4, 5].map((epoch) => ['claimed', 'a', epoch]),
  ]);
  expect(ended).toEqual([]);
  await registry.update(PERSON, 'a', { status: 'shutdown' });
  expect(ended).toEqual([['a', 5]]);
});

describe('an update of a task that the caller may not see', () => {
  /** How an update ends, and how many statements the database got for it. */
  async function refusal(principal: Principal, id: string): Promise<{ code: unknown; statements: object }> {
    const find = vi.spyOn(store, 'find');
    const write = vi.spyOn(store, 'writeBatch');
    const code = await registry.update(principal, id, { name: 'new' }).catch((error: { code: unknown }) => error.code);
    const statements = { writes: write.mock.calls.length, finds: find.mock.calls.length };
    vi.restoreAllMocks();
    return { code, statements };
  }

  it.each([
    ['a token', TOKEN],
    ['a token that only registers', WRITER],
    ['a viewer', VIEWER],
    ['a manager', MANAGER],
  ])('by %s is answered as one of a missing task, with as many statements', async (_who, principal) => {
    await registry.register(SERVICE, 'foreign', { group_id: 'other' });
    const foreign = await refusal(principal, 'foreign');
    expect(foreign.code).toBe('TASK_NOT_FOUND');
    expect(await refusal(principal, 'missing')).toEqual(foreign);
  });

  it('costs a caller who may write everything no second statement', async () => {
    expect(await refusal(SERVICE, 'missing')).toEqual({ code: 'TASK_NOT_FOUND', statements: { writes: 1, finds: 0 } });
  });
});
