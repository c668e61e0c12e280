/** A whole server on a database whose defaults are all other ones than PostgreSQL's: it behaves as on any other. */
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { SessionService } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { TaskService, type WatchTasksResponse } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { createTestDatabase } from '../support/database.js';
import { silentLog } from '../support/silent-log.js';
import { TcpxClient } from '../support/tcpx-client.js';

/** What an owner of the database may set, save what nobody means ill with: a server sets some of them, and bears the others. */
const DEFAULTS: Readonly<Record<string, string>> = {
  array_nulls: 'off',
  backslash_quote: 'off',
  bytea_output: 'escape',
  check_function_bodies: 'off',
  client_encoding: 'LATIN1',
  client_min_messages: 'debug5',
  constraint_exclusion: 'on',
  DateStyle: 'SQL, DMY',
  debug_parallel_query: 'regress',
  default_text_search_config: 'pg_catalog.simple',
  default_toast_compression: 'pglz',
  default_transaction_deferrable: 'on',
  default_transaction_isolation: 'serializable',
  enable_hashagg: 'off',
  enable_hashjoin: 'off',
  enable_indexscan: 'off',
  enable_nestloop: 'off',
  enable_sort: 'off',
  exit_on_error: 'on',
  extra_float_digits: '-15',
  from_collapse_limit: '1',
  geqo_threshold: '2',
  gin_fuzzy_search_limit: '1',
  idle_in_transaction_session_timeout: '1ms',
  idle_session_timeout: '1s',
  IntervalStyle: 'sql_standard',
  jit_above_cost: '0',
  join_collapse_limit: '1',
  lock_timeout: '1ms',
  plan_cache_mode: 'force_custom_plan',
  quote_all_identifiers: 'on',
  row_security: 'off',
  search_path: 'nowhere',
  standard_conforming_strings: 'off',
  statement_timeout: '1ms',
  stats_fetch_consistency: 'snapshot',
  synchronize_seqscans: 'off',
  synchronous_commit: 'off',
  TimeZone: 'Asia/Shanghai',
  timezone_abbreviations: 'India',
  transaction_timeout: '1s',
  transform_null_equals: 'on',
  work_mem: '64kB',
  xmlbinary: 'hex',
  xmloption: 'document',
};

const TEXT = '\\\'任务 é \\000 {NULL,"a"}';
const warnings: unknown[] = [];
let app: TestApp;

beforeAll(async () => {
  const database = await createTestDatabase();
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  for (const [name, value] of Object.entries(DEFAULTS)) {
    // Not every PostgreSQL has all of them.
    const { rowCount } = await client.query('SELECT FROM pg_settings WHERE name = $1', [name]);
    if (rowCount) await client.query(`ALTER DATABASE ${database.name} SET ${name} = '${value}'`);
  }
  await client.end();
  const note = (...line: unknown[]) => warnings.push(line);
  app = await startTestApp({
    database,
    settings: { TASKDASH_HEARTBEAT_TTL: '2s' },
    log: { ...silentLog, warn: note, error: note },
  });
});
afterAll(async () => {
  await app.stop();
  await app.database.drop();
});

it('registers, updates, finds, lists, watches, writes sessions down and judges them, and knows tokens and people', async () => {
  const token = await app.addToken('mx');
  const tasks = app.client(TaskService, 'grpc', token);
  const changes = tasks.watchTasks({})[Symbol.asyncIterator]();
  await changes.next();
  const legacy = await TcpxClient.connect(app.tcp);
  const stopBeating = legacy.beatEvery(500);
  const wire = { id: 'a', name: TEXT, url: '', group_id: 'mx', status: 'running', start_time: '2020.07.01' };
  expect((await legacy.register(wire)).body.errid).toBe(0);
  expect((await legacy.find('a')).body).toMatchObject({ name: TEXT, start_time: '2020.07.01', errid: 0 });
  await tasks.updateTask({ task: { id: 'a', description: TEXT }, updateMask: { paths: ['description'] } });
  const { tasks: listed, totalSize } = await tasks.listTasks({ filter: { text: '任务', groupIds: ['mx'] } });
  expect(listed).toMatchObject([{ id: 'a', name: TEXT, description: TEXT }]);
  expect(totalSize).toBe(1);
  expect((await tasks.listTaskEvents({ taskId: 'a' })).events).toHaveLength(2);
  expect((await tasks.getTaskStats({})).total).toBe(1n);

  const { token: person } = await app
    .client(AuthService, 'http')
    .login({ username: 'admin', password: TEST_PASSWORD, issueToken: true });
  const sessions = app.client(SessionService, 'http', person);
  await expect.poll(() => sessions.listSessions({}), { timeout: 10_000 }).toMatchObject({ sessions: [{ tasks: 1 }] });

  stopBeating();
  const statuses: string[] = [];
  while (statuses.at(-1) !== 'shutdown') {
    const { value } = (await changes.next()) as { value: WatchTasksResponse };
    if (value.message.case === 'change') statuses.push(value.message.value.task?.status ?? '');
  }
  expect(statuses).toEqual(['running', 'running', 'shutdown']);
  await changes.return?.();
  expect(warnings).toEqual([]);
});
