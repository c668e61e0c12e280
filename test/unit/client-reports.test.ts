import { expect, it } from 'vitest';
import { Code, ConnectError } from '@connectrpc/connect';
import { Outbox } from '../../client/outbox.js';
import { Reports, type ReportsOptions } from '../../client/reports.js';

it('names every field where an answer was lost, also one that is what it was before', async () => {
  const outbox = new Outbox();
  const masks: (readonly string[])[] = [];
  const tasks = {
    registerTask: () => Promise.resolve(),
    updateTask: ({ updateMask }: { updateMask: { paths: string[] } }) => {
      masks.push(updateMask.paths);
      if (masks.length > 1) return Promise.resolve();
      return Promise.reject(new ConnectError('the connection was cut', Code.Unavailable));
    },
  } as unknown as ReportsOptions['tasks'];
  const told = { onLate: () => {}, onRefused: () => {} };
  const reports = new Reports({ outbox, tasks, timeoutMs: () => 1_000, aloneTimeoutMs: 1_000, ...told });
  void outbox.begin({ id: 'a', status: 'running', description: 'fine' });
  await reports.sendDue('lease');
  void outbox.change({ id: 'a', status: 'blocked', description: 'fine' }, false);
  await expect(reports.sendDue('lease')).rejects.toThrow('cut');
  void outbox.change({ id: 'a', status: 'running', description: 'fine' }, false);
  await reports.sendDue('lease');
  void outbox.change({ id: 'a', status: 'running', description: '' }, false);
  await reports.sendDue('lease');
  expect(masks).toEqual([['status'], ['*'], ['description']]);
});
