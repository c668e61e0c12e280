import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { WatchTasksResponseSchema, type WatchTasksResponse } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import {
  WATCH_TIMES,
  WatchLoop,
  type WatchFailure,
  type WatchListener,
  type WatchState,
} from '../../web/src/state/watch-loop.js';
import { settle, WebTime } from '../support/web-time.js';

/** The waiting times between streams, without the watch over each stream. */
function waitsOf(time: WebTime): number[] {
  const { silenceMs, firstSignMs, refreshMs } = WATCH_TIMES;
  return time.waits.filter((ms) => ![silenceMs, firstSignMs, refreshMs].includes(ms as never));
}

/** A server whose streams are fed and ended by the test. */
class Door {
  readonly tokens: string[] = [];
  #feed: ((next: WatchTasksResponse | WatchFailure | 'end') => void) | undefined;

  async *open(resumeToken: string, signal: AbortSignal): AsyncGenerator<WatchTasksResponse> {
    this.tokens.push(resumeToken);
    const queue: (WatchTasksResponse | WatchFailure | 'end')[] = [];
    let wake = () => {};
    const put = (next: WatchTasksResponse | WatchFailure | 'end') => {
      queue.push(next);
      wake();
    };
    this.#feed = put;
    signal.addEventListener('abort', () => put({ kind: 'lost', retryAfterMs: 0 }));
    for (;;) {
      const next = queue.shift();
      if (next === undefined) await new Promise<void>((resolve) => (wake = resolve));
      else if (next === 'end') return;
      else if ('kind' in next) throw new Refusal(next);
      else yield next;
    }
  }

  explain(error: unknown): WatchFailure {
    if (error instanceof Refusal) return error.failure;
    throw error;
  }

  async say(next: WatchTasksResponse | WatchFailure | 'end'): Promise<void> {
    this.#feed?.(next);
    await settle();
  }
}

class Refusal extends Error {
  constructor(readonly failure: WatchFailure) {
    super(failure.kind);
  }
}

function marker(token: string, resumed = false): WatchTasksResponse {
  return create(WatchTasksResponseSchema, { resumeToken: token, message: { case: 'snapshot', value: { resumed } } });
}

function change(token: string): WatchTasksResponse {
  return create(WatchTasksResponseSchema, {
    resumeToken: token,
    message: { case: 'change', value: { event: { taskId: token } } },
  });
}

function idle(token: string): WatchTasksResponse {
  return create(WatchTasksResponseSchema, { resumeToken: token, message: { case: 'idle', value: {} } });
}

async function running() {
  const time = new WebTime();
  const door = new Door();
  const told: string[] = [];
  const states: WatchState[] = [];
  const listener: WatchListener = {
    onState: (state) => states.push(state),
    onMarker: (resumed) => told.push(resumed ? 'resumed' : 'anew'),
    onChange: (task) => told.push(task.event?.taskId ?? '?'),
    onSign: () => {},
    onRefresh: () => told.push('refresh'),
    onLoginOver: () => told.push('login over'),
  };
  const loop = new WatchLoop(door, listener, time);
  const done = loop.run();
  await settle();
  return { time, door, told, states, loop, done };
}

describe('the stream of changes', () => {
  it('tells the marker, then changes, and goes on after the last message when it was cut off', async () => {
    const { time, door, told, states, loop, done } = await running();
    await door.say(marker('m1'));
    await door.say(change('c1'));
    await door.say(idle('i1'));
    await door.say({ kind: 'lost', retryAfterMs: 0 });
    expect(states).toEqual(['connecting', 'live', 'waiting']);
    await time.pass(WATCH_TIMES.firstWaitMs);
    await door.say(marker('m2', true));
    await door.say(change('c2'));
    expect(door.tokens).toEqual(['', 'i1']);
    expect(told).toEqual(['anew', 'c1', 'resumed', 'c2']);
    loop.stop();
    await done;
    expect(states.at(-1)).toBe('stopped');
  });

  it('counts as lost after a long silence, and idle messages keep it alive', async () => {
    const { time, door, states, loop, done } = await running();
    await door.say(marker('m1'));
    await time.pass(WATCH_TIMES.silenceMs - 1);
    await door.say(idle('i1'));
    await time.pass(WATCH_TIMES.silenceMs - 1);
    expect(states.at(-1)).toBe('live');
    await time.pass(1);
    expect(states.at(-1)).toBe('waiting');
    loop.stop();
    await done;
  });

  it('waits twice as long each time up to a bound, and starts small again after it was steady', async () => {
    const { time, door, loop, done } = await running();
    for (let attempt = 0; attempt < 8; attempt++) {
      await door.say({ kind: 'lost', retryAfterMs: 0 });
      await time.pass(WATCH_TIMES.maxWaitMs);
    }
    expect(waitsOf(time)).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    await door.say(marker('m1'));
    await door.say('end');
    expect(waitsOf(time).at(-1)).toBe(30_000);
    await time.pass(30_000);
    await door.say(marker('m2'));
    await time.pass(WATCH_TIMES.steadyMs);
    await door.say('end');
    expect(waitsOf(time).at(-1)).toBe(500);
    loop.stop();
    await done;
  });

  it('waits as long as the server asks', async () => {
    const { time, door, loop, done } = await running();
    await door.say({ kind: 'lost', retryAfterMs: 12_000 });
    expect(waitsOf(time)).toEqual([12_000]);
    loop.stop();
    await done;
  });

  it('drops a token that is refused and begins anew at once, but does not storm', async () => {
    const { time, door, told, loop, done } = await running();
    await door.say(marker('old'));
    await door.say({ kind: 'token-refused', retryAfterMs: 0 });
    expect(waitsOf(time)).toEqual([0]);
    await time.pass(0);
    await door.say(marker('new'));
    expect(door.tokens).toEqual(['', '']);
    expect(told).toEqual(['anew', 'anew']);
    await door.say({ kind: 'token-refused', retryAfterMs: 0 });
    expect(waitsOf(time)).toEqual([0, 500]);
    loop.stop();
    await done;
  });

  it('tries at once when asked to', async () => {
    const { door, loop, done } = await running();
    await door.say({ kind: 'lost', retryAfterMs: 0 });
    loop.retryNow();
    await settle();
    expect(door.tokens).toHaveLength(2);
    loop.stop();
    await done;
  });

  it('ends when the login is over', async () => {
    const { door, told, states, done } = await running();
    await door.say({ kind: 'login-over', retryAfterMs: 0 });
    await done;
    expect([told, states.at(-1)]).toEqual([['login over'], 'stopped']);
  });

  it.each(['connecting', 'live', 'waiting', 'held'] as const)(
    'stops while it is %s, and leaves no timer behind',
    async (moment) => {
      const { time, door, told, loop, done } = await running();
      if (moment === 'live') await door.say(marker('m'));
      if (moment === 'held') await time.pass(WATCH_TIMES.firstSignMs);
      if (moment === 'waiting') await door.say({ kind: 'lost', retryAfterMs: 0 });
      loop.stop();
      await done;
      expect(time.alarms).toBe(0);
      await door.say(change('late'));
      expect(told).not.toContain('late');
    },
  );
});

describe('a stream that is held on its way', () => {
  const { firstSignMs, refreshMs, firstHeldWaitMs, maxHeldWaitMs } = WATCH_TIMES;

  /** Time as it passes, so that everything that is due every few seconds is done every few seconds. */
  async function passSlowly(time: WebTime, ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += refreshMs) await time.pass(refreshMs);
  }

  it('is none that says something within the first seconds', async () => {
    const { time, door, told, states, loop, done } = await running();
    await time.pass(firstSignMs - 1);
    await door.say(marker('m1'));
    await time.pass(firstSignMs);
    expect([states, told]).toEqual([['connecting', 'live'], ['anew']]);
    loop.stop();
    await done;
  });

  it('is noticed, and whoever shows something asks for it at once and every few seconds', async () => {
    const { time, told, states, loop, done } = await running();
    await time.pass(firstSignMs);
    expect([states.at(-1), told]).toEqual(['held', ['refresh']]);
    await passSlowly(time, 3 * refreshMs);
    expect(told).toHaveLength(4);
    loop.stop();
    await done;
  });

  it('is tried again, less and less often, which changes nothing of what is told', async () => {
    const { time, door, states, loop, done } = await running();
    await time.pass(firstSignMs);
    for (const waitMs of [15_000, 30_000, 60_000, 60_000]) {
      expect(waitsOf(time).at(-1)).toBe(waitMs);
      await passSlowly(time, waitMs + firstSignMs);
    }
    expect([firstHeldWaitMs, maxHeldWaitMs]).toEqual([15_000, 60_000]);
    expect(door.tokens).toHaveLength(5);
    expect(new Set(states.slice(1))).toEqual(new Set(['held']));
    loop.stop();
    await done;
  });

  it('is live with the first message that comes through, and begins anew: what was asked for is not told again', async () => {
    const { time, door, told, states, loop, done } = await running();
    await door.say(marker('m1'));
    await door.say({ kind: 'lost', retryAfterMs: 0 });
    await time.pass(500);
    await time.pass(firstSignMs);
    await time.pass(firstHeldWaitMs);
    await door.say(marker('m2'));
    const before = [...told];
    await passSlowly(time, 4 * refreshMs);
    expect([states.at(-1), door.tokens, told.at(-1)]).toEqual(['live', ['', 'm1', ''], 'anew']);
    expect(told).toEqual(before);
    loop.stop();
    await done;
  });

  it('stays held when the server refuses the next one, and tries again as often as after any refusal', async () => {
    const { time, door, told, states, loop, done } = await running();
    await time.pass(firstSignMs);
    await time.pass(firstHeldWaitMs);
    await door.say({ kind: 'lost', retryAfterMs: 0 });
    expect([states.at(-1), waitsOf(time).at(-1)]).toEqual(['held', WATCH_TIMES.firstWaitMs]);
    const count = told.length;
    await time.pass(refreshMs);
    expect(told).toHaveLength(count + 1);
    loop.stop();
    await done;
  });

  it('is tried at once when asked to, and asks for nothing when the login is over', async () => {
    const { time, door, told, loop, done } = await running();
    await time.pass(firstSignMs);
    loop.retryNow();
    await settle();
    expect(door.tokens).toHaveLength(2);
    await door.say({ kind: 'login-over', retryAfterMs: 0 });
    await done;
    expect([told.at(-1), time.alarms]).toEqual(['login over', 0]);
  });
});
