import { describe, expect, it } from 'vitest';
import type { ConnectError } from '@connectrpc/connect';
import { Code, createContextValues, createHandlerContext } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { Calls, type CallReport } from '../../server/transports/rpc/call.js';
import { MAX_CALLS } from '../../server/transports/rpc/limits.js';
import { silentLog } from '../support/silent-log.js';

const context = (timeoutMs?: number) =>
  createHandlerContext({
    ...{ service: TaskService, method: TaskService.method.listTasks, protocolName: 'connect', requestMethod: 'POST' },
    ...{ url: 'http://taskdash/', contextValues: createContextValues(), ...(timeoutMs !== undefined && { timeoutMs }) },
  });

describe('calls under way', () => {
  it('are bounded, those included whose callers wait no longer', async () => {
    const reports: CallReport[] = [];
    const calls = new Calls(silentLog, { onCall: (report) => reports.push(report), onStream: () => {} });
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    const patient = Array.from({ length: MAX_CALLS - 1 }, () => calls.unary(context(), () => held));
    await expect(calls.unary(context(0), () => held)).rejects.toMatchObject({ code: Code.DeadlineExceeded });
    let begun = 0;
    const refused = await calls.unary(context(), () => Promise.resolve(begun++)).catch((error: unknown) => error);
    expect((refused as ConnectError).findDetails(ErrorInfoSchema)[0]?.reason).toBe('OVERLOADED');
    expect(begun).toBe(0);
    release();
    await Promise.all(patient);
    expect(await calls.unary(context(), () => Promise.resolve('served'))).toBe('served');
    expect(reports.map(({ code }) => code).filter((code) => code !== 'OK')).toEqual([
      'DEADLINE_EXCEEDED',
      'RESOURCE_EXHAUSTED',
    ]);
  });
});
