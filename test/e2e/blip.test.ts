/** A moment without the database is waited for at every door alike: reads, writes, and who somebody is. */
import { setTimeout as delay } from 'node:timers/promises';
import type { DescMethod, DescService } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AdminService } from '../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { SessionService } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { startCuttableProxy, type CuttableProxy } from '../support/cuttable-proxy.js';
import { createTestDatabase } from '../support/database.js';
import { TcpxClient } from '../support/tcpx-client.js';

/** Longer than what is believed of a credential. */
const BLIP_MS = 2500;

let app: TestApp;
/** Another server, whose way to the database holds. */
let other: TestApp;
let proxy: CuttableProxy;
let token: string;

beforeAll(async () => {
  const database = await createTestDatabase();
  proxy = await startCuttableProxy(database.url);
  const throughProxy = new URL(database.url);
  throughProxy.host = new URL(proxy.url).host;
  app = await startTestApp({ database, settings: { TASKDASH_DATABASE_URL: throughProxy.href } });
  other = await startTestApp({ database });
  await app.addUser('ann', { mx: 'member' });
  token = await app.addToken('mx');
  await app.client(TaskService, 'grpc', token).registerTask({ task: { id: 'a', groupId: 'mx', user: 'ann' } });
});
afterAll(async () => {
  await Promise.all([app.stop(), other.stop()]);
  await proxy.stop();
  await app.database.drop();
});

const DOORS = ['grpc', 'http'] as const;
const SERVICES: readonly DescService[] = [TaskService, SessionService, LeaseService, AuthService, AdminService];
/** What reads is called so in the contract. */
const READS = SERVICES.flatMap((service) =>
  service.methods.filter(({ name }) => /^(Get|List|Watch)/.test(name)).map((method) => ({ service, method })),
);
/** What a read asks for where it is not for everything. */
const REQUESTS: Readonly<Record<string, object>> = { GetTask: { id: 'a' }, ListTaskEvents: { taskId: 'a' } };

type Calls = Record<string, (request: object) => Promise<unknown> | AsyncIterable<unknown>>;

/** Calls a method, and waits for the answer, or for the first message of a stream. */
async function read(service: DescService, method: DescMethod, door: 'grpc' | 'http', bearer: string): Promise<unknown> {
  const called = (app.client(service, door, bearer) as Calls)[method.localName]?.(REQUESTS[method.name] ?? {});
  if (method.methodKind !== 'server_streaming') return called;
  for await (const message of called as AsyncIterable<unknown>) return message;
  throw new Error('the stream ended without a message');
}

it.each([
  ['just before', 0],
  ['too long ago to be believed', BLIP_MS],
])('every read of the contract, legacy finds and writes, of callers known %s', async (_when, knownForMs) => {
  const { token: administrator } = await app
    .client(AuthService, 'http')
    .login({ username: 'admin', password: TEST_PASSWORD, issueToken: true });
  const legacy = await TcpxClient.connect(app.tcp);
  const calls: Record<string, () => Promise<unknown>> = {
    'a legacy find': () => legacy.find('a').then(({ body }) => expect(body).toMatchObject({ id: 'a', errid: 0 })),
  };
  for (const door of DOORS) {
    calls[`UpdateTask ${door}`] = () =>
      app
        .client(TaskService, door, token)
        .updateTask({ task: { id: 'a', description: door }, updateMask: { paths: ['description'] } });
    calls[`GetTask ${door} by token`] = () => app.client(TaskService, door, token).getTask({ id: 'a' });
    for (const { service, method } of READS)
      calls[`${method.name} ${door}`] = () => read(service, method, door, administrator);
  }
  for (const bearer of [token, administrator]) await app.client(TaskService, 'grpc', bearer).getTask({ id: 'a' });
  await delay(knownForMs);
  proxy.goAway();
  setTimeout(() => proxy.restore(), BLIP_MS);
  const outcomes = await Promise.allSettled(Object.values(calls).map((call) => call()));
  const failed = Object.keys(calls).filter((_, index) => outcomes[index]?.status === 'rejected');
  expect(failed).toEqual([]);
  expect(READS.map(({ method }) => method.name)).toContain('WatchTasks');
  legacy.socket.destroy();
});

/** A lease of the other server. */
async function leaseElsewhere(): Promise<string> {
  const { lease } = await other.client(LeaseService, 'grpc', token).grantLease({});
  return lease?.id ?? '';
}

async function loggedIn(username: string): Promise<string> {
  const credentials = { username, password: TEST_PASSWORD, issueToken: true };
  return (await app.client(AuthService, 'http').login(credentials)).token;
}

/** What calls that change something need to be there before. */
async function preparedWrites(door: 'grpc' | 'http'): Promise<Record<string, () => Promise<unknown>>> {
  const tasks = app.client(TaskService, door, token);
  const leases = app.client(LeaseService, door, token);
  const ownLease = async () => (await leases.grantLease({})).lease?.id ?? '';
  const five = [leaseElsewhere(), leaseElsewhere(), leaseElsewhere(), leaseElsewhere(), leaseElsewhere()] as const;
  const [registers, batches, updates, renews, revokes] = await Promise.all(five);
  const [registersHere, revokesHere] = [await ownLease(), await ownLease()];
  const [ends, changes] = [`ends-${door}`, `changes-${door}`];
  for (const user of [ends, changes, `begins-${door}`]) await app.addUser(user, { mx: 'member' });
  const [ending, changing] = [await loggedIn(ends), await loggedIn(changes)];
  const auth = (bearer?: string) => app.client(AuthService, door, bearer);
  await auth(ending).getCurrentUser({});
  await auth(changing).getCurrentUser({});
  const task = { id: `b-${door}`, groupId: 'mx' };
  await tasks.registerTask({ task: { ...task, id: `u-${door}` } });
  const passwords = { currentPassword: TEST_PASSWORD, newPassword: 'correct horse battery 2' };
  return {
    RegisterTask: () => tasks.registerTask({ task, leaseId: registers }),
    'RegisterTask under a lease of this server': () =>
      tasks.registerTask({ task: { ...task, id: `o-${door}` }, leaseId: registersHere }),
    BatchRegisterTasks: () => tasks.batchRegisterTasks({ tasks: [{ ...task, id: `c-${door}` }], leaseId: batches }),
    UpdateTask: () =>
      tasks.updateTask({ task: { id: `u-${door}`, name: 'n' }, updateMask: { paths: ['name'] }, leaseId: updates }),
    GrantLease: () => leases.grantLease({}),
    RenewLease: () => leases.renewLease({ leaseId: renews }),
    RevokeLease: () => leases.revokeLease({ leaseId: revokes }),
    'RevokeLease of this server': () => leases.revokeLease({ leaseId: revokesHere }),
    Login: () => auth().login({ username: `begins-${door}`, password: TEST_PASSWORD, issueToken: true }),
    Logout: () => auth(ending).logout({}),
    ChangePassword: () => auth(changing).changePassword(passwords),
  };
}

/** Calls that change something and are not made above, with the reason. */
const NOT_CALLED: Readonly<Record<string, string>> = {
  KeepAlive: 'each of its messages is a RenewLease',
  ExpireNow: 'of this server, it asks no database; of another, it is told at once that nothing is known',
  HoldProtection: 'as ExpireNow',
};

it.each(DOORS)('every write of the contract over %s, under leases of this server and of another', async (door) => {
  const calls = await preparedWrites(door);
  proxy.goAway();
  setTimeout(() => proxy.restore(), 2000);
  const outcomes = await Promise.allSettled(Object.values(calls).map((call) => call()));
  const failed = Object.keys(calls).flatMap((name, index) => {
    const outcome = outcomes[index];
    return outcome?.status === 'rejected' ? [`${name}: ${String(outcome.reason)}`] : [];
  });
  expect(failed).toEqual([]);
  const written = SERVICES.flatMap(({ methods }) => methods.map(({ name }) => name)).filter(
    (name) => !READS.some(({ method }) => method.name === name),
  );
  expect(written.filter((name) => !(name in calls) && !(name in NOT_CALLED))).toEqual([]);
});
