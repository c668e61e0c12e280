import { beforeEach, describe, expect, it } from 'vitest';
import type { Principal } from '../../server/domain/access.js';
import { TaskDashError } from '../../server/domain/errors.js';
import { Standing } from '../../server/domain/standing.js';
import { TaskFeed } from '../../server/domain/task-feed.js';
import { requireSameSight, TaskWatcher, type WatchMessage } from '../../server/domain/task-watch.js';
import { TokenSealer } from '../../server/domain/token-sealer.js';
import { upTo } from '../support/page-limits.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryFeedStore } from '../support/memory-feed-store.js';
import { MemoryTaskDatabase, MemoryTaskStore } from '../support/memory-task-store.js';
import { silentLog } from '../support/silent-log.js';
import { registration } from '../support/task-writes.js';

const TOKEN: Principal = { kind: 'token', name: 't', groupId: 'mx', scopes: ['read'], address: '' };
const EVERYTHING = { resumeToken: '', groupIds: [], taskIds: [] };
const EVERY_MS = 2_000;

let clock: ManualClock;
let tasks: MemoryTaskStore;
let feedStore: MemoryFeedStore;
let onHint: () => void;
let access: () => Principal;
let watch: AsyncGenerator<WatchMessage, void, undefined>;
let told: string[];
let ended: unknown;
let cut: AbortController;

beforeEach(async () => {
  clock = new ManualClock();
  const database = new MemoryTaskDatabase();
  tasks = new MemoryTaskStore(database, clock, 'node-a');
  feedStore = new MemoryFeedStore(database);
  const hints = { announce: () => {}, listen: (listener: () => void) => ((onHint = listener), () => {}) };
  const limits = { pollMs: 1000, page: upTo(100), watcherBytes: 1e6, ringSize: 5, ringBytes: 1e6, maxCatchUp: 1000 };
  const feed = new TaskFeed(feedStore, hints, clock, limits, silentLog);
  feed.start();
  access = () => TOKEN;
  const look = () => Promise.resolve().then(() => requireSameSight(TOKEN, access()));
  const standing = new Standing(look, clock, EVERY_MS);
  cut = new AbortController();
  const watcher = new TaskWatcher(feed, new TokenSealer(new Uint8Array(32)), clock, { idleMs: 15_000 });
  watch = watcher.watch(TOKEN, EVERYTHING, standing, AbortSignal.any([cut.signal, standing.signal]));
  told = [];
  ended = undefined;
  await watch.next();
});

async function settle(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
}

/** Takes everything that comes from now on. */
async function listen(): Promise<void> {
  void (async () => {
    for await (const message of watch) told.push(message.kind === 'change' ? message.event.taskId : message.kind);
    return 'over';
  })().then(
    (end) => (ended = end),
    (error: unknown) => (ended = error),
  );
  await settle();
}

async function write(...ids: string[]): Promise<void> {
  await tasks.writeBatch(ids.map((id) => registration(id, { group_id: 'mx' })));
  onHint();
  await settle();
}

async function pass(ms: number): Promise<void> {
  clock.advance(ms);
  await settle();
}

const refuse = (): Principal => {
  throw new TaskDashError('NOT_LOGGED_IN');
};

describe('a watch whose caller loses the access', () => {
  it.each([
    ['the look-up refuses', refuse],
    ['may see something else', () => ({ ...TOKEN, groupId: 'other' })],
  ])('whom %s is over within one look, though nothing changes', async (_what, now) => {
    await listen();
    await pass(EVERY_MS - 1);
    access = now;
    await pass(1);
    expect(ended).toBe('over');
  });

  it('is told nothing that comes after the look, also right after an event', async () => {
    await listen();
    await pass(EVERY_MS - 500);
    await write('seen');
    access = refuse;
    await pass(500);
    await write('unseen');
    await pass(60_000);
    expect(told).toEqual(['seen']);
  });

  it('is told nothing on a look that has become old while it did not take what there was', async () => {
    await write('a', 'b', 'c');
    expect((await watch.next()).value).toMatchObject({ event: { taskId: 'a' } });
    access = refuse;
    clock.skip(10 * EVERY_MS);
    await expect(watch.next()).rejects.toThrow(new TaskDashError('NOT_LOGGED_IN').message);
  });
});

describe('a watch during an outage of the database', () => {
  const away = (): never => {
    throw new TaskDashError('STORAGE_UNAVAILABLE');
  };

  it('goes on, and tells what happened once its caller is known again', async () => {
    await listen();
    access = away;
    await pass(EVERY_MS);
    await write('a');
    await pass(60_000);
    expect([told.filter((kind) => kind !== 'idle'), ended]).toEqual([[], undefined]);
    access = () => TOKEN;
    await pass(EVERY_MS);
    expect([told.at(-1), ended]).toEqual(['a', undefined]);
  });

  it('goes on also where it is so far behind that it reads by itself', async () => {
    for (const id of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) await write(id);
    const after = feedStore.after.bind(feedStore);
    feedStore.after = () => Promise.reject(new TaskDashError('STORAGE_UNAVAILABLE'));
    await listen();
    await pass(10_000);
    expect([told, ended]).toEqual([[], undefined]);
    feedStore.after = after;
    await pass(1_000);
    expect([told.join(''), ended]).toEqual(['abcdefgh', undefined]);
  });
});

it('a quiet watch says every so often that it is alive', async () => {
  await listen();
  await pass(14_999);
  expect(told).toEqual([]);
  await pass(1);
  expect(told).toEqual(['idle']);
  cut.abort();
  await settle();
  expect(ended).toBe('over');
});
