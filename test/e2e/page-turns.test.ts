/** Lists, histories and counts: how many are read at once, who comes next, and what becomes of those that nobody waits for. */
import { Code, ConnectError } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { ManualClock } from '../support/manual-clock.js';
import { RIG_PAGES_AT_ONCE, RpcRig, type RigDoor } from '../support/rpc-rig.js';

describe.each<RigDoor>(['grpc', 'http', 'web'])('pages over %s', (door) => {
  const clock = new ManualClock();
  let rig: RpcRig;
  let release: () => void;

  beforeEach(async () => {
    rig = await RpcRig.start({ clock });
    release = rig.holdReads();
  });
  afterEach(async () => {
    release();
    const stopped = rig.stop();
    clock.advance(2_000);
    await stopped;
  });

  /** Asks for so many pages as the token of a group; tells how each ended. */
  async function ask(group: string, count: number, signal?: AbortSignal): Promise<Promise<string>[]> {
    const tasks = rig.client(TaskService, door, await rig.token(group));
    return Array.from({ length: count }, () =>
      tasks.listTasks({}, { ...(signal && { signal }) }).then(
        () => 'read',
        (error: unknown) => Code[ConnectError.from(error).code],
      ),
    );
  }

  it('are read a few at once, and keep no write and no find waiting', async () => {
    const asked = await ask('mx', 20);
    await expect.poll(() => rig.heldReads).toBe(RIG_PAGES_AT_ONCE);
    const others = rig.client(TaskService, door, await rig.token('other'));
    await others.registerTask({ task: { id: 'one', groupId: 'other' } });
    expect((await others.getTask({ id: 'one' })).task?.id).toBe('one');
    expect(rig.heldReads).toBe(RIG_PAGES_AT_ONCE);
    release();
    expect(new Set(await Promise.all(asked))).toEqual(new Set(['read']));
    expect(rig.heldReads).toBe(20);
    await expect.poll(() => rig.unsent.bytes).toBe(0);
  });

  it('are not read for callers who went while they waited', async () => {
    const first = await ask('mx', RIG_PAGES_AT_ONCE);
    await expect.poll(() => rig.heldReads).toBe(RIG_PAGES_AT_ONCE);
    const caller = new AbortController();
    const abandoned = await ask('mx', 5, caller.signal);
    const others = rig.client(TaskService, door, await rig.token('mx'));
    // Behind them on the way in.
    await others.registerTask({ task: { id: 'one', groupId: 'mx' } });
    caller.abort();
    expect(new Set(await Promise.all(abandoned))).toEqual(new Set(['Canceled']));
    await expect.poll(() => rig.reports.filter(({ code }) => code === 'CANCELLED')).toHaveLength(5);
    release();
    expect(new Set(await Promise.all(first))).toEqual(new Set(['read']));
    expect(rig.heldReads).toBe(RIG_PAGES_AT_ONCE);
  });

  it('are refused when their turn does not come within 5 s', async () => {
    const first = await ask('mx', RIG_PAGES_AT_ONCE);
    await expect.poll(() => rig.heldReads).toBe(RIG_PAGES_AT_ONCE);
    const timers = clock.pendingTimers;
    const [late] = await ask('mx', 1);
    await expect.poll(() => clock.pendingTimers).toBeGreaterThan(timers);
    clock.advance(5_000);
    expect(await late).toBe('ResourceExhausted');
    release();
    expect(new Set(await Promise.all(first))).toEqual(new Set(['read']));
  });
});
