import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ConnectError, Code, type Client } from '@connectrpc/connect';
import { AdminService, ServerEventKind } from '../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { LeaseService } from '../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { SessionService } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';
import {
  TaskOrderField,
  TaskService,
  type TaskChange,
  type WatchTasksResponse,
} from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { systemClock } from '../../server/domain/clock.js';
import { Users } from '../../server/domain/users.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { PlainHasher } from '../support/plain-hasher.js';
import { TcpxClient } from '../support/tcpx-client.js';

/**
 * Who asks. In group mx: `own` is a task of the member, `mate` one of somebody else; `foreign` is in another group.
 * Each row says what a call answers for each of the three: OK, or the code of the error.
 */
const WHO = [
  'nobody',
  'member',
  'viewer',
  'manager',
  'administrator',
  'register token',
  'read token',
  'full token',
] as const;
type Who = (typeof WHO)[number];
type Outcome = 'OK' | keyof typeof Code;
type Tasks = Client<typeof TaskService>;

const READ: Record<Who, readonly [own: Outcome, mate: Outcome, foreign: Outcome]> = {
  nobody: ['Unauthenticated', 'Unauthenticated', 'Unauthenticated'],
  member: ['OK', 'NotFound', 'NotFound'],
  viewer: ['OK', 'OK', 'NotFound'],
  manager: ['OK', 'OK', 'NotFound'],
  administrator: ['OK', 'OK', 'OK'],
  'register token': ['NotFound', 'NotFound', 'NotFound'],
  'read token': ['OK', 'OK', 'NotFound'],
  'full token': ['OK', 'OK', 'NotFound'],
};

const UPDATE: typeof READ = {
  nobody: ['Unauthenticated', 'Unauthenticated', 'Unauthenticated'],
  member: ['PermissionDenied', 'NotFound', 'NotFound'],
  viewer: ['PermissionDenied', 'PermissionDenied', 'NotFound'],
  manager: ['OK', 'OK', 'NotFound'],
  administrator: ['OK', 'OK', 'OK'],
  'register token': ['OK', 'OK', 'NotFound'],
  'read token': ['PermissionDenied', 'PermissionDenied', 'NotFound'],
  'full token': ['OK', 'OK', 'NotFound'],
};

/** Registering again over what is there: an id of another group is taken, and that is all one learns. */
const REGISTER: typeof READ = {
  nobody: ['Unauthenticated', 'Unauthenticated', 'Unauthenticated'],
  member: ['PermissionDenied', 'PermissionDenied', 'PermissionDenied'],
  viewer: ['PermissionDenied', 'PermissionDenied', 'PermissionDenied'],
  manager: ['OK', 'OK', 'AlreadyExists'],
  administrator: ['OK', 'OK', 'OK'],
  'register token': ['OK', 'OK', 'AlreadyExists'],
  'read token': ['PermissionDenied', 'PermissionDenied', 'PermissionDenied'],
  'full token': ['OK', 'OK', 'AlreadyExists'],
};

/** How many of the three tasks a list, the counts and a watch show. */
const VISIBLE: Record<Who, readonly string[] | 'Unauthenticated'> = {
  nobody: 'Unauthenticated',
  member: ['own'],
  viewer: ['mate', 'own'],
  manager: ['mate', 'own'],
  administrator: ['foreign', 'mate', 'own'],
  'register token': [],
  'read token': ['mate', 'own'],
  'full token': ['mate', 'own'],
};

const MAY_WRITE: readonly Who[] = ['manager', 'administrator', 'register token', 'full token'];

let app: TestApp;
let administrator: string;
const tokens = new Map<Who, string | undefined>();

beforeAll(async () => {
  app = await startTestApp();
  await app.addUser('member', { mx: 'member' });
  await app.addUser('viewer', { mx: 'viewer' });
  await app.addUser('manager', { mx: 'manager' });
  await app.addUser('administrator', {}, true);
  const auth = app.client(AuthService, 'http');
  for (const who of ['member', 'viewer', 'manager', 'administrator'] as const) {
    tokens.set(who, (await auth.login({ username: who, password: TEST_PASSWORD, issueToken: true })).token);
  }
  administrator = tokens.get('administrator') as string;
  tokens.set('register token', await app.addToken('mx', ['register']));
  tokens.set('read token', await app.addToken('mx', ['read']));
  tokens.set('full token', await app.addToken('mx'));
});
afterAll(() => app.stop());

beforeEach(async () => {
  const tasks = app.client(TaskService, 'grpc', administrator);
  await tasks.registerTask({ task: { id: 'own', user: 'member', groupId: 'mx' } });
  await tasks.registerTask({ task: { id: 'mate', user: 'mate', groupId: 'mx' } });
  await tasks.registerTask({ task: { id: 'foreign', user: 'member', groupId: 'other' } });
});

async function outcomeOf(call: Promise<unknown>): Promise<Outcome> {
  try {
    await call;
    return 'OK';
  } catch (error) {
    return Code[ConnectError.from(error).code] as Outcome;
  }
}

const IDS = ['own', 'mate', 'foreign'] as const;

describe.each(['grpc', 'http'] as const)('on the %s door', (door) => {
  describe.each(WHO)('%s', (who) => {
    const tasks = (): Tasks => app.client(TaskService, door, tokens.get(who));
    const each = (call: (id: string) => Promise<unknown>) => Promise.all(IDS.map((id) => outcomeOf(call(id))));

    it('gets what their role shows', async () => {
      expect(await each((id) => tasks().getTask({ id }))).toEqual(READ[who]);
    });

    it('reads the history of what their role shows', async () => {
      expect(await each((taskId) => tasks().listTaskEvents({ taskId }))).toEqual(READ[who]);
    });

    it('updates what their role may change', async () => {
      expect(await each((id) => tasks().updateTask({ task: { id, description: who } }))).toEqual(UPDATE[who]);
    });

    it('registers in groups that they may write', async () => {
      const groupId = who === 'administrator' ? 'other' : 'mx';
      expect(
        await each((id) =>
          tasks().registerTask({ task: { id, user: 'member', groupId: id === 'foreign' ? groupId : 'mx' } }),
        ),
      ).toEqual(REGISTER[who]);
    });

    it('registers nothing in a foreign group', async () => {
      const expected = who === 'nobody' ? 'Unauthenticated' : who === 'administrator' ? 'OK' : 'PermissionDenied';
      expect(await outcomeOf(tasks().registerTask({ task: { id: `new-${who}`, groupId: 'other' } }))).toBe(expected);
      const asOwner = app.client(TaskService, door, administrator);
      expect(await outcomeOf(asOwner.getTask({ id: `new-${who}` }))).toBe(who === 'administrator' ? 'OK' : 'NotFound');
    });

    it('moves no task into a foreign group', async () => {
      const call = tasks().updateTask({ task: { id: 'own', groupId: 'other' } });
      const expected =
        who === 'nobody'
          ? 'Unauthenticated'
          : who === 'administrator'
            ? 'OK'
            : who === 'register token' || who === 'full token' || who === 'manager'
              ? 'PermissionDenied'
              : UPDATE[who][0];
      expect(await outcomeOf(call)).toBe(expected);
    });

    it('answers each record of a batch for itself', async () => {
      const call = tasks().batchRegisterTasks({
        tasks: [
          { id: 'own', groupId: 'mx', user: 'member' },
          { id: 'x', groupId: 'third' },
        ],
      });
      if (who === 'nobody') return expect(await outcomeOf(call)).toBe('Unauthenticated');
      const { results } = await call;
      const expected =
        who === 'administrator' ? ['task', 'task'] : MAY_WRITE.includes(who) ? ['task', 'error'] : ['error', 'error'];
      expect(results.map(({ outcome }) => outcome.case)).toEqual(expected);
    });

    it('lists and counts what their role shows', async () => {
      const visible = VISIBLE[who];
      if (visible === 'Unauthenticated') {
        expect(await outcomeOf(tasks().listTasks({}))).toBe(visible);
        expect(await outcomeOf(tasks().getTaskStats({}))).toBe(visible);
        return;
      }
      const { tasks: listed, totalSize } = await tasks().listTasks({ filter: { statuses: ['running'], text: '' } });
      const ids = listed.map(({ id }) => id).filter((id) => (IDS as readonly string[]).includes(id));
      expect(ids.sort()).toEqual(visible);
      const stats = await tasks().getTaskStats({});
      expect(Number(stats.total)).toBe(totalSize);
    });

    it('watches what their role shows', async () => {
      const visible = VISIBLE[who];
      const cut = new AbortController();
      const stream = tasks().watchTasks({}, { signal: cut.signal })[Symbol.asyncIterator]();
      if (visible === 'Unauthenticated') return expect(await outcomeOf(stream.next())).toBe(visible);
      await stream.next();
      const asOwner = app.client(TaskService, 'grpc', administrator);
      for (const id of IDS) await asOwner.updateTask({ task: { id, description: 'seen' } });
      const seen = new Set<string>();
      while (seen.size < visible.length) {
        const { value } = (await stream.next()) as IteratorYieldResult<{ message: { case?: string; value?: unknown } }>;
        if (value.message.case !== 'change') continue;
        // What was written a moment before the watch began may be among it.
        const { taskId } = (value.message.value as { event: { taskId: string } }).event;
        if ((IDS as readonly string[]).includes(taskId)) seen.add(taskId);
      }
      cut.abort();
      expect([...seen].sort()).toEqual(visible);
    });

    it('takes leases where they may register, and none of somebody else', async () => {
      const leases = app.client(LeaseService, door, tokens.get(who));
      const granted = leases.grantLease({});
      const expected = who === 'nobody' ? 'Unauthenticated' : MAY_WRITE.includes(who) ? 'OK' : 'PermissionDenied';
      expect(await outcomeOf(granted)).toBe(expected);
      const foreign = await app.client(LeaseService, 'grpc', await app.addToken('other')).grantLease({});
      const leaseId = foreign.lease?.id ?? '';
      expect(await outcomeOf(leases.renewLease({ leaseId }))).toBe(expected === 'OK' ? 'NotFound' : expected);
      expect(await outcomeOf(leases.revokeLease({ leaseId }))).toBe(expected === 'OK' ? 'NotFound' : expected);
    });

    it('decides about protection only as an administrator', async () => {
      const admin = app.client(AdminService, door, tokens.get(who));
      const expected =
        who === 'nobody' ? 'Unauthenticated' : who === 'administrator' ? 'FailedPrecondition' : 'PermissionDenied';
      expect(await outcomeOf(admin.expireNow({ node: app.app.nodeName }))).toBe(expected);
      expect(await outcomeOf(admin.holdProtection({ node: app.app.nodeName }))).toBe(expected);
    });

    it('reads what happened to servers only as an administrator', async () => {
      const details = { reason: 'operator', actor: 'user:boss', held: 3 };
      await app.storage.nodes.note('elsewhere', 'protection_ended', details);
      const listing = app.client(AdminService, door, tokens.get(who)).listServerEvents({ pageSize: 1 });
      if (who !== 'administrator')
        return expect(await outcomeOf(listing)).toBe(who === 'nobody' ? 'Unauthenticated' : 'PermissionDenied');
      const told = { ...details, held: '3' };
      expect((await listing).events).toMatchObject([
        { node: 'elsewhere', kind: ServerEventKind.PROTECTION_ENDED, details: told },
      ]);
    });

    it('looks at sessions and protections only when logged in', async () => {
      const sessions = app.client(SessionService, door, tokens.get(who));
      const expected = who === 'nobody' ? 'Unauthenticated' : 'OK';
      expect(await outcomeOf(sessions.listSessions({}))).toBe(expected);
      expect(await outcomeOf(sessions.listProtections({}))).toBe(expected);
    });
  });
});

/** What one asks for with a token that somebody else was given. */
describe('tokens that somebody else was given', () => {
  const GROUP = { mx: 'hand-me-down', other: 'hand-me-down-other' };
  let viewer: string;
  let member: string;

  beforeAll(async () => {
    const tasks = app.client(TaskService, 'grpc', administrator);
    for (let n = 0; n < 6; n++) {
      const [user, groupId] = [n % 2 === 0 ? 'junior' : 'senior', n < 4 ? GROUP.mx : GROUP.other];
      await tasks.registerTask({ task: { id: `hand-${n}`, user, groupId } });
    }
    await app.addUser('senior', { [GROUP.mx]: 'viewer', [GROUP.other]: 'viewer' });
    await app.addUser('junior', { [GROUP.mx]: 'member' });
    [viewer, member] = (await Promise.all(['senior', 'junior'].map(tokenOf))) as [string, string];
  });

  it('continue a list only with what the caller may see', async () => {
    const order = { orderBy: TaskOrderField.ID, ascending: true, pageSize: 1, filter: { idPrefix: 'hand-' } };
    const { nextPageToken, totalSize } = await app.client(TaskService, 'http', viewer).listTasks(order);
    expect(totalSize).toBe(6);
    const page = await app
      .client(TaskService, 'http', member)
      .listTasks({ ...order, pageSize: 100, pageToken: nextPageToken });
    expect([page.tasks.map(({ id }) => id), page.totalSize]).toEqual([['hand-2'], 2]);
  });

  it('continue no history of what the caller may not see', async () => {
    const tasks = app.client(TaskService, 'grpc', administrator);
    for (const description of ['1', '2']) await tasks.updateTask({ task: { id: 'hand-5', description } });
    const first = await app.client(TaskService, 'grpc', viewer).listTaskEvents({ taskId: 'hand-5', pageSize: 1 });
    const asked = { taskId: 'hand-5', pageToken: first.nextPageToken };
    expect(await outcomeOf(app.client(TaskService, 'grpc', member).listTaskEvents(asked))).toBe('NotFound');
    const elsewhere = { taskId: 'hand-0', pageToken: first.nextPageToken };
    expect(await outcomeOf(app.client(TaskService, 'grpc', member).listTaskEvents(elsewhere))).toBe('InvalidArgument');
  });

  it('resume a watch only with what the caller may see', async () => {
    const before = await firstOf(app.client(TaskService, 'grpc', viewer).watchTasks({}));
    const tasks = app.client(TaskService, 'grpc', administrator);
    for (let n = 0; n < 6; n++) await tasks.updateTask({ task: { id: `hand-${n}`, description: 'resumed' } });
    await tasks.updateTask({ task: { id: 'hand-2', description: 'last' } });
    const seen: string[] = [];
    const resumed = app.client(TaskService, 'grpc', member).watchTasks({ resumeToken: before.resumeToken });
    for await (const { message } of resumed) {
      if (message.case !== 'change') continue;
      seen.push(message.value.event?.taskId ?? '');
      if (message.value.task?.description === 'last') break;
    }
    expect(seen).toEqual(['hand-0', 'hand-2', 'hand-2']);
  });

  it('are counted for nobody who may not see what is counted', async () => {
    const tasks = app.client(TaskService, 'http', member);
    for (const filter of [
      {},
      { groupIds: [GROUP.other] },
      { users: ['senior'] },
      { text: 'hand' },
      { idPrefix: 'hand' },
    ]) {
      const [stats, list] = await Promise.all([tasks.getTaskStats({ filter }), tasks.listTasks({ filter })]);
      const expected = 'groupIds' in filter || 'users' in filter ? 0 : 2;
      expect([Number(stats.total), list.totalSize], JSON.stringify(filter)).toEqual([expected, expected]);
      expect(stats.groups.map(({ groupId }) => groupId)).toEqual(expected === 0 ? [] : [GROUP.mx]);
    }
  });

  it('leave a task that moves away with no word of where it went', async () => {
    const watch = app.client(TaskService, 'grpc', viewer).watchTasks({ taskIds: ['hand-3'] });
    const stream = watch[Symbol.asyncIterator]();
    await stream.next();
    const tasks = app.client(TaskService, 'grpc', administrator);
    await tasks.updateTask({ task: { id: 'hand-3', groupId: 'secret', status: 'secret', user: 'secret' } });
    await tasks.updateTask({ task: { id: 'hand-3', description: 'unseen' } });
    await tasks.updateTask({ task: { id: 'hand-3', groupId: GROUP.mx, status: 'running', user: 'senior' } });
    const [left, back] = [(await stream.next()).value, (await stream.next()).value] as WatchTasksResponse[];
    await stream.return?.();
    expect(left?.message.case).toBe('change');
    const { event, task } = left?.message.value as TaskChange;
    expect(task).toBeUndefined();
    expect(event).toMatchObject({ taskId: 'hand-3', fromStatus: '', toStatus: '', actor: '', node: '' });
    const change = back?.message.value as TaskChange;
    expect(change.task).toMatchObject({ id: 'hand-3', groupId: GROUP.mx });
    expect(change.event).toMatchObject({ fromStatus: '', toStatus: 'running' });
  });

  it.each(['grpc', 'http'] as const)('tell no word of what a task was before it moved in, over %s', async (door) => {
    const tasks = app.client(TaskService, door, administrator);
    await tasks.registerTask({ task: { id: `came-${door}`, groupId: 'secret', status: 'acquisition-of-acme' } });
    const watch = app.client(TaskService, door, viewer).watchTasks({ taskIds: [`came-${door}`] });
    const stream = watch[Symbol.asyncIterator]();
    await stream.next();
    await tasks.updateTask({ task: { id: `came-${door}`, groupId: GROUP.mx, status: 'running' } });
    const { value } = (await stream.next()) as { value: WatchTasksResponse };
    await stream.return?.();
    expect((value.message.value as TaskChange).event).toMatchObject({ fromStatus: '', toStatus: 'running' });
    const history = async (caller: typeof viewer) =>
      (await app.client(TaskService, door, caller).listTaskEvents({ taskId: `came-${door}` })).events.map(
        ({ fromStatus, toStatus }) => `${fromStatus}>${toStatus}`,
      );
    expect(await history(viewer)).toEqual(['>running']);
    expect(await history(administrator)).toEqual(['acquisition-of-acme>running', '>acquisition-of-acme']);
  });
});

describe('sessions', () => {
  it('are listed with no more tasks than the caller may see', async () => {
    await app.addUser('overseer', { held: 'viewer', 'held-other': 'viewer' });
    await app.addUser('holder', { held: 'member' });
    const service = await TcpxClient.connect(app.tcp);
    for (const [n, user] of ['holder', 'overseer', 'overseer'].entries())
      await service.register({ id: `held-${n}`, user, group_id: n < 2 ? 'held' : 'held-other' });
    const held = async (token: string) => {
      const { sessions } = await app.client(SessionService, 'http', token).listSessions({});
      return sessions.map(({ tasks }) => tasks);
    };
    await expect.poll(() => held(administrator), { timeout: 10_000 }).toContain(3);
    expect([await held(await tokenOf('overseer')), await held(await tokenOf('holder'))]).toEqual([[3], [1]]);
    expect(await held(tokens.get('viewer') as string)).toEqual([]);
    await service.close();
  });
});

describe('a token that may not read', () => {
  it('learns of its update which version it wrote, and nothing else of the task', async () => {
    const tasks = app.client(TaskService, 'grpc', tokens.get('register token'));
    const { task } = await tasks.updateTask({ task: { id: 'mate', description: 'written' } });
    expect(task).toMatchObject({ id: 'mate', user: '', groupId: '', status: '', description: '', addr: '' });
    expect(task?.etag).toBe(`"${task?.revision}"`);
  });
});

describe('the address of a task', () => {
  it('is that of the service that registered it, or claimed it by an update; a person’s update keeps it', async () => {
    const [ours, persons] = [tokens.get('full token'), administrator];
    const leaseOf = async (token?: string) =>
      (await app.client(LeaseService, 'grpc', token).grantLease({})).lease?.id ?? '';
    const write = async (verb: 'registerTask' | 'updateTask', token?: string, leaseId = '') => {
      const tasks = app.client(TaskService, 'grpc', token);
      return (await tasks[verb]({ task: { id: 'own', groupId: 'mx' }, leaseId })).task?.addr;
    };
    expect(await write('updateTask', ours)).toBe('');
    const [ourLease, personsLease] = [await leaseOf(ours), await leaseOf(persons)];
    expect(await write('updateTask', ours, ourLease)).toBe('127.0.0.1');
    expect(await write('updateTask', persons)).toBe('127.0.0.1');
    expect(await write('registerTask', persons)).toBe('');
    expect(await write('registerTask', ours)).toBe('127.0.0.1');
    expect(await write('updateTask', persons, personsLease)).toBe('');
    await app.client(LeaseService, 'grpc', ours).revokeLease({ leaseId: ourLease });
    await app.client(LeaseService, 'grpc', persons).revokeLease({ leaseId: personsLease });
  });
});

describe('two tokens of one name', () => {
  it('in two groups end nothing of each other', async () => {
    const users = new Users(app.storage.identity, new PlainHasher(), new ZxcvbnJudge(), systemClock);
    const [ours, theirs] = await Promise.all(
      ['mx', 'other'].map((groupId) => users.createToken({ name: 'ci', groupId, scopes: ['register', 'read'] })),
    );
    const leases = app.client(LeaseService, 'grpc', ours?.secret);
    const leaseId = (await leases.grantLease({})).lease?.id ?? '';
    const foreign = app.client(LeaseService, 'grpc', theirs?.secret);
    expect(await outcomeOf(foreign.renewLease({ leaseId }))).toBe('NotFound');
    expect(await outcomeOf(foreign.revokeLease({ leaseId }))).toBe('NotFound');
    const asTheirs = app.client(TaskService, 'grpc', theirs?.secret);
    expect(await outcomeOf(asTheirs.registerTask({ task: { id: 'ci', groupId: 'other' }, leaseId }))).toBe('NotFound');
    expect(await outcomeOf(leases.renewLease({ leaseId }))).toBe('OK');
  });
});

async function tokenOf(username: string): Promise<string> {
  const login = { username, password: TEST_PASSWORD, issueToken: true };
  return (await app.client(AuthService, 'http').login(login)).token;
}

async function firstOf(stream: AsyncIterable<WatchTasksResponse>): Promise<WatchTasksResponse> {
  for await (const message of stream) return message;
  throw new Error('the stream ended at once');
}

describe('a membership that is taken away', () => {
  it('ends an open watch of it within seconds', { timeout: 20_000 }, async () => {
    await app.addUser('leaver', { mx: 'viewer' });
    const { token } = await app
      .client(AuthService, 'http')
      .login({ username: 'leaver', password: TEST_PASSWORD, issueToken: true });
    const stream = app.client(TaskService, 'grpc', token).watchTasks({})[Symbol.asyncIterator]();
    await stream.next();
    const record = await app.storage.identity.findUser('leaver');
    await app.storage.identity.saveUser({ ...(record as NonNullable<typeof record>), memberships: new Map() });
    const over = async () => {
      // What was written before comes first.
      while (!(await stream.next()).done);
    };
    await expect(over()).rejects.toThrow('[aborted] What the caller may see has changed.');
  });
});
