import { beforeEach, describe, expect, it } from 'vitest';
import type { Lapse } from '../../server/domain/ports.js';
import { VerdictQueue, type Condemned } from '../../server/domain/verdict-queue.js';
import { settle } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';

/** A session with one task. */
class Dead implements Condemned {
  readonly tasks: ReadonlyMap<string, number>;

  constructor(readonly id: string) {
    this.tasks = new Map([[id, 1]]);
  }

  lapses(): Lapse[] {
    return [{ taskId: this.id, sessionId: this.id, epoch: 1, cause: 'heartbeat_timeout', silentMs: 0 }];
  }
}

let clock: ManualClock;
let locked: Set<string>;
/** When a task was tried. */
let triedAtMs: Map<string, number[]>;
let carriedOut: string[];
let queue: VerdictQueue<Dead>;

beforeEach(() => {
  clock = new ManualClock();
  locked = new Set();
  triedAtMs = new Map();
  carriedOut = [];
  queue = new VerdictQueue({ lapse }, clock, silentLog, {
    isReady: () => true,
    stands: () => true,
    onWithdrawn: () => {},
    onUnknown: () => {},
    onCarriedOut: ({ id }) => void carriedOut.push(id),
    onPartlyCarriedOut: () => {},
  });
});

/** Leaves alone what is locked. */
function lapse(lapses: readonly Lapse[]) {
  const ids = lapses.map(({ taskId }) => taskId);
  for (const id of ids) triedAtMs.set(id, [...(triedAtMs.get(id) ?? []), clock.monotonicMs()]);
  return Promise.resolve({
    lapsed: ids.filter((id) => !locked.has(id)),
    locked: ids.filter((id) => locked.has(id)),
  });
}

async function pass(byMs: number): Promise<void> {
  for (let leftMs = byMs; leftMs > 0; leftMs -= 100) {
    clock.advance(100);
    await settle();
  }
}

function submit(...ids: readonly string[]): void {
  queue.submit(ids.map((id) => new Dead(id)));
}

describe('many verdicts on locked tasks', () => {
  const many = Array.from({ length: 5000 }, (_, n) => `task-${n}`);

  beforeEach(async () => {
    locked = new Set(many);
    submit(...many);
    await pass(60_000);
    expect([carriedOut, queue.size]).toEqual([[], 5000]);
  });

  it('delay no other one, and none of which the task is free again', async () => {
    locked.add('for a moment');
    submit('free', 'for a moment');
    await settle();
    expect(carriedOut).toEqual(['free']);
    locked.delete('for a moment');
    await pass(5100);
    expect(carriedOut).toEqual(['free', 'for a moment']);
  });

  it('are each tried every five seconds, and carried out when their tasks are free', async () => {
    const latest = (triedAtMs.get('task-4999') ?? []).slice(-3);
    expect(latest.map((atMs, index) => atMs - (latest[index - 1] ?? atMs))).toEqual([0, 5000, 5000]);
    locked.clear();
    await pass(5100);
    expect([carriedOut.length, queue.size, clock.pendingTimers]).toEqual([5000, 0, 0]);
  });
});
