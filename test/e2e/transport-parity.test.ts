import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { DOORS, type Door, type Texts } from '../support/doors.js';

let app: TestApp;
let token: string;

beforeAll(async () => {
  app = await startTestApp();
  const auth = app.client(AuthService, 'http');
  token = (await auth.login({ username: 'admin', password: TEST_PASSWORD, issueToken: true })).token;
});
afterAll(() => app.stop());

const FULL: Texts = {
  id: 'full',
  name: 'abc',
  url: 'http://localhost:8080/v1/task?a=1&b=<2>',
  user: 'wsg',
  group_id: 'mx',
  description: 'add data\n第二行 \u2028 🚀',
  status: 'restart',
  start_time: '12:00',
  stop_time: '2020.07.01',
};
const EMPTY: Texts = {
  name: '',
  url: '',
  user: '',
  group_id: '',
  description: '',
  status: '',
  start_time: '',
  stop_time: '',
};

/** One thing that must go the same way through each door: what is done, and what a find then tells. */
const SCENARIOS: readonly {
  says: string;
  run: (door: Door, id: string) => Promise<unknown>;
  expected: (id: string) => unknown;
}[] = [
  {
    says: 'a record is stored and found as it was sent, to the byte',
    run: async (door, id) => [await door.register({ ...FULL, id }), await door.find(id)],
    expected: (id) => [{ errid: 0 }, { errid: 0, task: { ...FULL, id } }],
  },
  {
    says: 'a status that is not given is running',
    run: async (door, id) => [await door.register({ ...EMPTY, id }), await door.find(id)],
    expected: (id) => [{ errid: 0 }, { errid: 0, task: { ...EMPTY, id, status: 'running' } }],
  },
  {
    says: 'a status beside the documented ones is kept',
    run: async (door, id) => [
      await door.register({ ...FULL, id, status: '维护中' }),
      (await door.find(id)).task?.['status'],
    ],
    expected: () => [{ errid: 0 }, '维护中'],
  },
  {
    says: 'registering again replaces the record',
    run: async (door, id) => [
      await door.register({ ...FULL, id }),
      await door.register({ ...EMPTY, id, name: 'new' }),
      await door.find(id),
    ],
    expected: (id) => [
      { errid: 0 },
      { errid: 0 },
      { errid: 0, task: { ...EMPTY, id, name: 'new', status: 'running' } },
    ],
  },
  {
    says: 'an update leaves what it does not bring',
    run: async (door, id) => [
      await door.register({ ...FULL, id }),
      await door.update({ ...EMPTY, id, status: 'finish' }),
      await door.find(id),
    ],
    expected: (id) => [{ errid: 0 }, { errid: 0 }, { errid: 0, task: { ...FULL, id, status: 'finish' } }],
  },
  {
    says: 'an update of an unknown id says so',
    run: (door, id) => door.update({ ...EMPTY, id, status: 'finish' }),
    expected: () => ({ errid: 1002 }),
  },
  { says: 'a find of an unknown id says so', run: (door, id) => door.find(id), expected: () => ({ errid: 1002 }) },
  ...(['register', 'update'] as const).flatMap((verb) => [
    {
      says: `${verb} without an id is refused`,
      run: (door: Door) => door[verb]({ ...FULL, id: '' }),
      expected: () => ({ errid: 1000 }),
    },
    {
      says: `${verb} with U+0000 is refused`,
      run: (door: Door, id: string) => door[verb]({ ...FULL, id, description: 'a\0b' }),
      expected: () => ({ errid: 1000 }),
    },
  ]),
  { says: 'a find without an id is refused', run: (door) => door.find(''), expected: () => ({ errid: 1000 }) },
  ...Object.entries({
    id: 128,
    name: 256,
    url: 2048,
    user: 256,
    group_id: 256,
    description: 8192,
    status: 64,
    start_time: 64,
    stop_time: 64,
  }).flatMap(([field, limit]) => [
    {
      says: `${field} may have ${limit} characters, whatever their bytes`,
      run: (door: Door, id: string) =>
        door.register({ ...FULL, id, [field]: (field === 'id' ? id : '').padEnd(limit, '字') }),
      expected: () => ({ errid: 0 }),
    },
    {
      says: `${field} may not have ${limit + 1} characters`,
      run: (door: Door, id: string) => door.register({ ...FULL, id, [field]: 'x'.repeat(limit + 1) }),
      expected: () => ({ errid: 1000 }),
    },
  ]),
];

describe.each(DOORS)('through $name', ({ name, open }) => {
  let door: Door;
  let counter = 0;

  beforeEach(async () => {
    door = await open(app, token);
  });
  afterEach(() => door.close());

  it.each(SCENARIOS)('$says', async ({ run, expected }) => {
    const id = `${name}-${counter++}`;
    expect(await run(door, id)).toEqual(expected(id));
  });
});
