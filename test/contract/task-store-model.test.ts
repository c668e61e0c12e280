/** Random sequences of writes and lapses leave the same tasks, answers and history on memory and on PostgreSQL. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FeedPosition } from '../../server/domain/ports.js';
import type { Lapse, TaskWrite, TaskWriteResult } from '../../server/domain/ports.js';
import type { Task, TaskEvent, TaskTexts } from '../../server/domain/task.js';
import { upTo } from '../support/page-limits.js';
import { openOnMemory, openOnPostgres, type TaskStoreBench } from '../support/task-store-bench.js';
import { PLAIN_TEXTS } from '../support/task-writes.js';

const IDS = ['a', 'b', 'c', '\u{ff5e}', '\u{1f600}'];
const SESSIONS = ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'];
const GROUPS = ['mx', 'ops'];

const anyText = fc
  .oneof(
    fc.constantFrom('', 'x', '"', '\\', '{a,b}', 'NULL', "o'clock", '汇\n总'),
    fc.string({ unit: 'grapheme', maxLength: 8 }),
  )
  // Checked texts hold neither U+0000 nor half a surrogate pair.
  .filter((text) => !text.includes('\0') && text.isWellFormed());
const anyTime = fc.constantFrom('', '12:00', '2020.07.01', '2020-07-01 12:00:05.678', '9999-12-31T23:59:59-12:00');
const anyTexts: fc.Arbitrary<TaskTexts> = fc.record({
  name: anyText,
  url: anyText,
  user: fc.constantFrom('ssx', 'wsg'),
  group_id: fc.constantFrom(...GROUPS),
  description: anyText,
  status: fc.constantFrom('running', 'finish', 'shutdown', 'restart', 'odd'),
  start_time: anyTime,
  stop_time: anyTime,
});
const anyOptions = fc.record({
  addr: fc.constantFrom(undefined, '10.0.0.1', ''),
  sessionId: fc.constantFrom(undefined, null, ...SESSIONS, ...SESSIONS),
  cause: fc.constantFrom('client' as const, 'operator' as const),
  actor: fc.constantFrom('service:10.0.0.1', 'user:"admin"'),
  groups: fc.constantFrom('every' as const, 'every' as const, ['mx'], GROUPS, []),
  returnsTask: fc.boolean(),
});
const anyRegistration = fc
  .tuple(anyTexts, anyOptions)
  .map(([texts, options]) => ({ kind: 'register' as const, texts, ...options, expectedRevision: undefined }));
const anyUpdate = fc
  .tuple(
    fc.record({ ...recordOf(anyTexts) }, { requiredKeys: [] }),
    anyOptions,
    fc.constantFrom(undefined, undefined, 1, 2, 3),
  )
  .map(([texts, options, expectedRevision]) => ({ kind: 'update' as const, texts, ...options, expectedRevision }));
const anyWrite = fc.oneof({ weight: 2, arbitrary: anyRegistration }, { weight: 3, arbitrary: anyUpdate });

type Step =
  | { readonly kind: 'write'; readonly writes: readonly TaskWrite[] }
  | { readonly kind: 'lapse'; readonly ids: readonly string[]; readonly silentMs: number; readonly stale: boolean };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.subarray(IDS, { minLength: 1 }), fc.array(anyWrite, { minLength: IDS.length, maxLength: IDS.length }))
      .map(([ids, writes]) => ({
        kind: 'write' as const,
        writes: ids.map((id, index): TaskWrite => ({ ...(writes[index] as Omit<TaskWrite, 'id'>), id })),
      })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('lapse' as const),
      ids: fc.subarray(IDS, { minLength: 1 }),
      silentMs: fc.integer({ min: 0, max: 90_000 }),
      stale: fc.boolean(),
    }),
  },
);

/** The texts of a record arbitrary one by one, so that each may be left out. */
function recordOf(_whole: typeof anyTexts): { [K in keyof TaskTexts]: fc.Arbitrary<string> } {
  const one = <K extends keyof TaskTexts>(key: K) => anyTexts.map((texts) => texts[key]);
  const keys = Object.keys(PLAIN_TEXTS) as (keyof TaskTexts)[];
  return Object.fromEntries(keys.map((key) => [key, one(key)])) as { [K in keyof TaskTexts]: fc.Arbitrary<string> };
}

/** What a bench answers to a step. */
async function take(bench: TaskStoreBench, step: Step): Promise<TaskWriteResult[] | string[]> {
  if (step.kind === 'write') return bench.tasks.writeBatch(step.writes);
  const tasks = await bench.tasks.findMany('everything', step.ids);
  const lapses = tasks.flatMap((task): Lapse[] => {
    const { id: taskId, sessionId, epoch } = task;
    const verdict = { cause: 'heartbeat_timeout' as const, silentMs: step.silentMs };
    return sessionId ? [{ taskId, sessionId, epoch: step.stale ? epoch - 1 : epoch, ...verdict }] : [];
  });
  return [...(await bench.otherNode.lapse(lapses)).lapsed].sort();
}

/** Everything that a bench holds: the tasks, each task's history without the ids of the events, and the feed. */
async function everything(bench: TaskStoreBench, from: FeedPosition) {
  const tasks: Task[] = await bench.tasks.list('everything', {
    filter: {},
    orderBy: 'id',
    ascending: true,
    limit: 100,
    maxBytes: Number.MAX_SAFE_INTEGER,
  });
  const histories = await Promise.all(
    IDS.map(async (id) => (await bench.tasks.events('everything', id, undefined, 1000)).map(withoutId)),
  );
  const events = await bench.feed.after(from, upTo(10_000), 10_000);
  const feed = IDS.map((id) =>
    events
      .filter(({ task }) => task.id === id)
      .map(({ event, task, previous }) => ({ event: withoutId(event), task, previous })),
  );
  return { tasks, histories, feed };
}

function withoutId({ id: _id, ...event }: TaskEvent) {
  return event;
}

describe('the rules of writing', () => {
  let memory: TaskStoreBench;
  let postgres: TaskStoreBench;
  beforeAll(async () => {
    memory = await openOnMemory();
    postgres = await openOnPostgres();
  });
  afterAll(() => postgres.close());

  it('are the same in TypeScript and in SQL', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 12 }), async (steps) => {
        await memory.clear();
        await postgres.clear();
        const places = [await memory.feed.head(), await postgres.feed.head()] as const;
        for (const step of steps) {
          memory.clock.advance(1234);
          postgres.clock.advance(1234);
          expect(await take(postgres, step)).toEqual(await take(memory, step));
        }
        expect(await everything(postgres, places[1])).toEqual(await everything(memory, places[0]));
      }),
      { numRuns: 200 },
    );
  });
});
