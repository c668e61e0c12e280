import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { TaskOrderField, TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { TcpxClient } from '../support/tcpx-client.js';

/** The table of the interface document. */
const EXAMPLE = [
  ['133', 'zxf', 'running', '2020.07.01', '2020.07.05'],
  ['132', 'lxq', 'finish', '2020.07.16', '2020.07.27'],
  ['131', 'lb', 'shutdown', '2020.07.03', '2020.07.06'],
  ['130', 'zgl', 'restart', '2020.07.04', '2020.07.15'],
  ['137', 'zy', 'running', '2020.07.15', '2020.07.18'],
] as const;

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
  const service = await TcpxClient.connect(app.tcp);
  for (const [id, name, status, start_time, stop_time] of EXAMPLE) {
    await service.register({
      id,
      name,
      user: 'ssx',
      group_id: 'mx',
      url: '?',
      description: '?',
      status,
      start_time,
      stop_time,
    });
  }
  await service.register({ id: '200', name: 'other user', user: 'wsg', group_id: 'mx' });
  await service.register({ id: '201', name: 'other group', user: 'ssx', group_id: 'other' });
  await app.addUser('ssx', { mx: 'member' });
  await app.addUser('lena', { mx: 'viewer' });
});
afterAll(() => app.stop());

async function tokenOf(username: string): Promise<string> {
  const auth = app.client(AuthService, 'http');
  return (await auth.login({ username, password: TEST_PASSWORD, issueToken: true })).token;
}

describe('the example of the interface document', () => {
  it.each(['http', 'grpc'] as const)(
    'ssx of mx sees exactly their five tasks over %s, as they were sent',
    async (door) => {
      const tasks = app.client(TaskService, door, await tokenOf('ssx'));
      const { tasks: listed, totalSize } = await tasks.listTasks({ orderBy: TaskOrderField.ID, ascending: true });
      const rows = listed.map((task) => [task.id, task.name, task.status, task.startTime, task.stopTime]);
      expect(rows).toEqual([...EXAMPLE].sort((a, b) => a[0].localeCompare(b[0])));
      expect(totalSize).toBe(5);
      expect(listed.every((task) => task.user === 'ssx' && task.groupId === 'mx' && task.url === '?')).toBe(true);
    },
  );

  it('counts only those five for ssx', async () => {
    const stats = await app.client(TaskService, 'http', await tokenOf('ssx')).getTaskStats({});
    expect(stats.total).toBe(5n);
    expect(Object.fromEntries(stats.counts.map(({ status, count }) => [status, count]))).toEqual({
      running: 2n,
      finish: 1n,
      shutdown: 1n,
      restart: 1n,
    });
    expect(stats.groups.map(({ groupId }) => groupId)).toEqual(['mx']);
  });

  it('hides from ssx what belongs to another user or group, as if it did not exist', async () => {
    const tasks = app.client(TaskService, 'grpc', await tokenOf('ssx'));
    for (const id of ['200', '201', 'nonsense']) {
      await expect(tasks.getTask({ id })).rejects.toThrow(`[not_found] There is no task with the id "${id}".`);
      await expect(tasks.listTaskEvents({ taskId: id })).rejects.toThrow('not_found');
    }
  });

  it('shows a viewer of mx the tasks of every user there', async () => {
    const { tasks: listed } = await app.client(TaskService, 'http', await tokenOf('lena')).listTasks({});
    expect(listed.map((task) => task.id).sort()).toEqual(['130', '131', '132', '133', '137', '200']);
  });

  it('answers a failed login without telling which of the two was wrong', async () => {
    const auth = app.client(AuthService, 'http');
    const wrong = await auth.login({ username: 'ssx', password: 'wrong password' }).catch(String);
    const unknown = await auth.login({ username: 'nobody', password: 'wrong password' }).catch(String);
    expect(wrong).toContain('[unauthenticated] The user name or the password is wrong.');
    expect(unknown).toEqual(wrong);
  });
});
