/** Whoever has to change the password first hears that of every call, but for those that they need for it. */
import type { DescService } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { AdminService } from '../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { SessionService } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { RIG_PASSWORD, RpcRig, type RigDoor } from '../support/rpc-rig.js';

const NEXT_PASSWORD = 'another correct horse';
const SERVICES = [TaskService, LeaseService, SessionService, AdminService] as const;
const DOORS = ['grpc', 'http', 'web'] as const;

let rig: RpcRig;
let token: string;

beforeEach(async () => {
  rig = await RpcRig.start({ recheckMs: 50 });
  await rig.addUser('lena', { mx: 'manager' }, true);
  const request = { username: 'lena', password: RIG_PASSWORD, issueToken: true };
  token = (await rig.client(AuthService, 'http').login(request)).token;
  await setMustChange();
});
afterEach(() => rig.stop());

async function setMustChange(): Promise<void> {
  const user = await rig.identity.findUser('lena');
  await rig.identity.saveUser({ ...(user as NonNullable<typeof user>), mustChangePassword: true });
}

function reasonOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'OK',
    (error: unknown) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason ?? String(error),
  );
}

type AnyCall = (request: unknown) => Promise<unknown> & AsyncIterable<unknown>;

/** What a method answers to an empty request, or a stream to begin with. */
function firstAnswer(service: DescService, method: DescService['methods'][number], door: RigDoor): Promise<unknown> {
  const client = rig.client(service, door, token) as Record<string, AnyCall>;
  const call = client[method.localName] as AnyCall;
  if (method.methodKind === 'unary') return call({});
  const request = method.methodKind === 'bidi_streaming' ? (async function* () {})() : {};
  return call(request)[Symbol.asyncIterator]().next();
}

const CALLS = SERVICES.flatMap((service) => service.methods.map((method) => ({ service, method })));

describe.each(DOORS)('on %s', (door) => {
  // Over HTTP/1.1 there are no streams that go both ways.
  const possible = CALLS.filter(({ method }) => door === 'grpc' || method.methodKind !== 'bidi_streaming');

  it.each(possible.map((call) => [call.method.name, call] as const))('%s says so', async (_name, call) => {
    expect(await reasonOf(firstAnswer(call.service, call.method, door))).toBe('PASSWORD_CHANGE_REQUIRED');
  });

  it('they hear who they are, change the password, and may do then what is theirs', async () => {
    const auth = rig.client(AuthService, door, token);
    expect((await auth.getCurrentUser({})).user).toMatchObject({ id: 'lena', mustChangePassword: true });
    await auth.changePassword({ currentPassword: RIG_PASSWORD, newPassword: NEXT_PASSWORD });
    expect(await reasonOf(rig.client(TaskService, door, token).listTasks({}))).toBe('OK');
    expect(await reasonOf(rig.client(AdminService, door, token).listServerEvents({}))).toBe('OK');
  });

  it('they may log out', async () => {
    await rig.client(AuthService, door, token).logout({});
    expect(await reasonOf(rig.client(TaskService, door, token).listTasks({}))).toBe('NOT_LOGGED_IN');
  });
});

it('a stream that is open ends with it', async () => {
  const user = await rig.identity.findUser('lena');
  await rig.identity.saveUser({ ...(user as NonNullable<typeof user>), mustChangePassword: false });
  const watch = rig.client(TaskService, 'grpc', token).watchTasks({})[Symbol.asyncIterator]();
  await watch.next();
  await setMustChange();
  expect(await reasonOf(watch.next())).toBe('PASSWORD_CHANGE_REQUIRED');
});
