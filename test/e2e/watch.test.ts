import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TaskEventKind } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { TaskService, type WatchTasksResponse } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { TcpxClient } from '../support/tcpx-client.js';

let first: TestApp;
let second: TestApp;
let token: string;

beforeAll(async () => {
  first = await startTestApp();
  second = await startTestApp({ database: first.database });
  token = await first.addToken('mx');
});
afterAll(async () => {
  await second.stop();
  await first.stop();
});

/** Writes updates that each carry a number of their own. */
async function writeNumbered(app: TestApp, prefix: string, from: number, count: number): Promise<void> {
  const service = await TcpxClient.connect(app.tcp, { deadlineMs: 60_000 });
  const ids = Array.from({ length: 50 }, (_, n) => `${prefix}-${n}`);
  for (const id of ids) await service.register({ id, group_id: 'mx', description: '' });
  const window = 40;
  for (let n = 0; n < count; n += window) {
    const updates = Array.from({ length: Math.min(window, count - n) }, (_, k) => n + k);
    const replies = await Promise.all(
      updates.map((number) =>
        service.update({ id: ids[number % ids.length] as string, description: `change ${from + number}` }),
      ),
    );
    for (const reply of replies) expect(reply.body.errid).toBe(0);
  }
}

/** A stream that tells nothing for so long, though there is something to tell, has lost it. */
const QUIET_MS = 20_000;

/** Watches, is cut off at random, and goes on with the last token, on one node or the other; returns the numbers it saw. */
async function watchWithCuts(start: string, expected: number, random: () => number): Promise<string[]> {
  const seen: string[] = [];
  let resumeToken = start;
  for (let opened = 1; seen.length < expected; opened++) {
    const messages = 1 + Math.floor(random() * 400);
    const before = seen.length;
    const isQuiet = await watchOnce(opened, resumeToken, messages, QUIET_MS, (message) => {
      resumeToken = message.resumeToken;
      note(message, seen);
    });
    if (isQuiet && seen.length === before) return seen;
  }
  // Whatever is told now is told twice.
  for (const opened of [0, 1]) await watchOnce(opened, resumeToken, Infinity, 1000, (message) => note(message, seen));
  return seen;
}

/** Takes so many messages, or as many as come before it is quiet for so long; says whether it was. */
async function watchOnce(
  opened: number,
  resumeToken: string,
  messages: number,
  quietMs: number,
  take: (message: WatchTasksResponse) => void,
): Promise<boolean> {
  const app = opened % 2 === 0 ? first : second;
  const cut = new AbortController();
  const timer = setTimeout(() => cut.abort(), quietMs);
  const stream = app
    .client(TaskService, opened % 3 === 0 ? 'http' : 'grpc', token)
    .watchTasks({ resumeToken }, { signal: cut.signal });
  try {
    let taken = 0;
    for await (const message of stream) {
      take(message);
      timer.refresh();
      if (++taken >= messages) return false;
    }
    return false;
  } catch (error) {
    if (cut.signal.aborted) return true;
    throw error;
  } finally {
    clearTimeout(timer);
    cut.abort();
  }
}

/** Keeps the numbers of updates. Where the machine is slow, a writer that has done its part may lapse meanwhile. */
function note(message: WatchTasksResponse, seen: string[]): void {
  if (message.message.case !== 'change') return;
  const { event, task } = message.message.value;
  const text = task?.description ?? '';
  if (text.startsWith('change ') && event?.kind !== TaskEventKind.LAPSED) seen.push(text);
}

describe('watching two nodes', () => {
  it('sees each of 10 000 changes exactly once although it is cut off at random', { timeout: 120_000 }, async () => {
    let state = 42;
    const random = () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
    const watching = watchWithCuts(await tokenOfNow(first), 10_000, random);
    await Promise.all([writeNumbered(first, 'a', 0, 5_000), writeNumbered(second, 'b', 5_000, 5_000)]);
    const seen = await watching;
    expect(seen).toHaveLength(10_000);
    expect(new Set(seen).size).toBe(10_000);
  });

  it('refuses a resume token that nobody gave, and says what to do', async () => {
    const stream = first.client(TaskService, 'grpc', token).watchTasks({ resumeToken: 'made-up.token' });
    await expect(stream[Symbol.asyncIterator]().next()).rejects.toThrow(/invalid_argument.*resume token/);
  });
});

/** A token from which a watch misses nothing that comes later. */
async function tokenOfNow(app: TestApp): Promise<string> {
  for await (const message of app.client(TaskService, 'grpc', token).watchTasks({})) return message.resumeToken;
  throw new Error('the watch ended without a marker');
}
