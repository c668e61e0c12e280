import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

/** Watches, is cut off at random, and goes on with the last token, on one node or the other; returns the numbers it saw. */
async function watchWithCuts(
  start: string,
  isDone: () => boolean,
  expected: number,
  random: () => number,
): Promise<string[]> {
  const seen: string[] = [];
  let resumeToken = start;
  let opened = 0;
  while (seen.length < expected || !isDone()) {
    const app = opened++ % 2 === 0 ? first : second;
    const cut = new AbortController();
    let left = 1 + Math.floor(random() * 400);
    const timer = setTimeout(() => cut.abort(), isDone() ? 2_000 : 20_000);
    try {
      for await (const message of app
        .client(TaskService, opened % 3 === 0 ? 'http' : 'grpc', token)
        .watchTasks({ resumeToken }, { signal: cut.signal })) {
        resumeToken = message.resumeToken;
        note(message, seen);
        if (--left === 0) break;
      }
    } catch (error) {
      if (!cut.signal.aborted) throw error;
      if (isDone()) break;
    } finally {
      clearTimeout(timer);
      cut.abort();
    }
  }
  return seen;
}

function note(message: WatchTasksResponse, seen: string[]): void {
  if (message.message.case !== 'change') return;
  const text = message.message.value.task?.description ?? '';
  if (text.startsWith('change ')) seen.push(text);
}

describe('watching two nodes', () => {
  it('sees each of 10 000 changes exactly once although it is cut off at random', { timeout: 120_000 }, async () => {
    let state = 42;
    const random = () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
    let done = false;
    const watching = watchWithCuts(await tokenOfNow(first), () => done, 10_000, random);
    await Promise.all([writeNumbered(first, 'a', 0, 5_000), writeNumbered(second, 'b', 5_000, 5_000)]);
    done = true;
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
