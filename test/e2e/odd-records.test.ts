/** Whatever the registry accepts comes back the same through every door. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { TcpxClient } from '../support/tcpx-client.js';

const SEED = 20_260_701;
const RUNS = 150;

let app: TestApp;
let token: string;
let legacy: TcpxClient;

beforeAll(async () => {
  app = await startTestApp();
  token = await app.addToken('mx');
  legacy = await TcpxClient.connect(app.tcp);
});
afterAll(async () => {
  legacy.socket.destroy();
  await app.stop();
});

interface JsonTask {
  readonly id: string;
  readonly [field: string]: unknown;
}

async function json(method: string, request: object): Promise<{ task?: JsonTask; tasks?: JsonTask[]; code?: string }> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const url = `${app.http}/taskdash.task.v1.TaskService/${method}`;
  return (await fetch(url, { method: 'POST', headers, body: JSON.stringify(request) })).json() as never;
}

const two = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, '0'));
const year = fc.oneof(
  fc.constantFrom('0000', '0001', '1969', '1970', '2020', '9999'),
  fc.integer({ min: 0, max: 9999 }).map((n) => String(n).padStart(4, '0')),
);
const zone = fc.oneof(
  fc.constantFrom(
    '',
    'Z',
    ' UTC',
    '+08:00',
    '-0800',
    '+08',
    ' +0800 CST',
    ' +0800 CST m=+0.01',
    '+99:99',
    '-23:59',
    '+23:59',
  ),
  two(99).map((hours) => `+${hours}:00`),
);
const time = fc
  .tuple(year, two(13), two(32), two(25), two(61), two(61), zone)
  .chain(([y, mo, d, h, mi, s, z]) =>
    fc.constantFrom(
      `${y}-${mo}-${d}T${h}:${mi}:${s}${z}`,
      `${y}/${mo}/${d} ${h}:${mi}${z}`,
      `${y}.${mo}.${d}`,
      `${y}年${mo}月${d}日${h}时${mi}分${z}`,
      `${y}${mo}${d}T${h}${mi}${s}${z}`,
      `${y}${mo}${d}${h}${mi}${s}`,
      `${h}:${mi}`,
    ),
  );
const stamp = fc.oneof(
  fc.integer().map(String),
  fc.constantFrom('978307200', '1593576000', '4102444799999', '9'.repeat(13)),
);
const odd = fc.constantFrom(
  '\u2028',
  '\ufeff',
  '\u202e',
  '\uffff',
  '\u{10ffff}',
  '\u0001',
  '"',
  '\\',
  '</script>',
  '\ud800',
  '\0',
  ' ',
  '\r\n',
);
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.array(odd, { maxLength: 4 }).map((parts) => parts.join('x')),
);
const record = fc.record({
  id: text,
  ...{ name: text, url: text, user: text, description: text, status: text },
  startTime: fc.oneof(time, stamp, text),
  stopTime: fc.oneof(time, stamp, text),
});

const FIELDS = ['id', 'name', 'url', 'user', 'description', 'status', 'startTime', 'stopTime'];
/** The texts of a record, those that are empty too. */
const fieldsOf = (task: object = {}) =>
  Object.fromEntries(FIELDS.map((field) => [field, (task as Record<string, unknown>)[field] ?? '']));

it('a record that is accepted is listed over JSON, Connect and gRPC, and found over the legacy protocol, as it was sent', async () => {
  let accepted = 0;
  const run = async (n: number, made: Readonly<Record<string, string>> & { id: string; status: string }) => {
    const sent = { ...made, id: `${n}:${made.id}` };
    const written = await json('RegisterTask', { task: { ...sent, groupId: 'mx' } });
    if (written.code !== undefined) {
      // Connect refuses a lone surrogate before the registry does.
      expect(written.code).toBe('invalid_argument');
      return;
    }
    accepted++;
    const expected = fieldsOf({ ...sent, status: sent.status || 'running' });
    expect(fieldsOf(written.task)).toEqual(expected);
    const filter = { idPrefix: `${n}:` };
    const { tasks = [] } = await json('ListTasks', { filter });
    expect(tasks.map(fieldsOf)).toEqual([expected]);
    for (const door of ['http', 'grpc'] as const) {
      const page = await app.client(TaskService, door, token).listTasks({ filter });
      expect(page.tasks.map(fieldsOf)).toEqual([expected]);
      expect(page.tasks[0]?.startedAt?.seconds).toBe(secondsOf(tasks[0]?.['startedAt']));
    }
    const { body } = await legacy.find(sent.id);
    const { start_time: startTime, stop_time: stopTime, ...rest } = body as unknown as Record<string, string>;
    expect([body.errid, fieldsOf({ ...rest, startTime, stopTime })]).toEqual([0, expected]);
  };
  let n = 0;
  await fc.assert(
    fc.asyncProperty(record, (made) => run(n++, made)),
    { numRuns: RUNS, seed: SEED },
  );
  expect(accepted).toBeGreaterThan(RUNS / 4);
});

function secondsOf(instant: unknown): bigint | undefined {
  return typeof instant === 'string' ? BigInt(Math.floor(Date.parse(instant) / 1000)) : undefined;
}
