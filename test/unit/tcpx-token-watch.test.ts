import { beforeEach, describe, expect, it } from 'vitest';
import type { Principal } from '../../server/domain/access.js';
import { TaskDashError, type ErrorCode } from '../../server/domain/errors.js';
import { TokenWatch } from '../../server/transports/tcpx/token-watch.js';
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';

const HOLDER: Principal = { kind: 'token', name: 'builder', groupId: 'mx', scopes: ['register'], address: '' };
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

let clock: ManualClock;
let asked: string[];
/** What asking about a token fails with. */
let failures: Map<string, ErrorCode>;
let gate: Promise<void>;
let log: string[];
let watch: TokenWatch;

beforeEach(() => {
  clock = new ManualClock();
  asked = [];
  failures = new Map();
  gate = Promise.resolve();
  log = [];
  const info = (details: object, message: string) => void log.push(JSON.stringify([details, message]));
  watch = new TokenWatch(clock, { ...silentLog, info }, async (token) => {
    asked.push(token);
    await gate;
    const code = failures.get(token);
    if (code) throw new TaskDashError(code);
    return HOLDER;
  });
});

function holder(address = '10.0.0.1') {
  return {
    address,
    ended: 0,
    onTokenEnded: function () {
      this.ended++;
    },
  };
}

async function pass(ms: number): Promise<void> {
  clock.advance(ms);
  await settle();
}

describe('tokens of open connections', () => {
  it('are asked about every two seconds, once however many connections have shown them', async () => {
    for (let n = 0; n < 20_000; n++) watch.add('a', HOLDER, holder());
    watch.add('b', HOLDER, holder());
    expect(clock.pendingTimers).toBe(1);
    await pass(1_999);
    expect(asked).toEqual([]);
    await pass(1);
    expect(asked).toEqual(['a', 'b']);
    await pass(2_000);
    expect(asked).toEqual(['a', 'b', 'a', 'b']);
    expect(clock.pendingTimers).toBe(1);
  });

  it('that are not valid any more end all connections that showed them, and none other', async () => {
    const [one, two, other] = [holder(), holder(), holder()];
    watch.add('secret', HOLDER, one);
    watch.add('secret', HOLDER, two);
    watch.add('b', HOLDER, other);
    await pass(2_000);
    failures.set('secret', 'NOT_LOGGED_IN');
    await pass(2_000);
    expect([one.ended, two.ended, other.ended]).toEqual([1, 1, 0]);
    expect(log).toEqual([
      '[{"holder":"token:builder@mx","connections":2},"a token is not valid any more; ending the legacy connections that showed it"]',
    ]);
    await pass(2_000);
    expect(asked.filter((token) => token === 'secret')).toHaveLength(2);
  });

  it.each(['STORAGE_UNAVAILABLE', 'OVERLOADED', 'INTERNAL'] as const)(
    'end nothing on %s, and are asked about again',
    async (code) => {
      const one = holder();
      watch.add('a', HOLDER, one);
      failures.set('a', code);
      await pass(2_000);
      await pass(2_000);
      expect([asked.length, one.ended]).toEqual([2, 0]);
    },
  );

  it('are asked about four at once, and no second time while an answer is awaited', async () => {
    for (let n = 0; n < 10; n++) watch.add(`token-${n}`, HOLDER, holder());
    let open = () => {};
    gate = new Promise((resolve) => (open = resolve));
    await pass(2_000);
    expect(asked).toHaveLength(4);
    await pass(60_000);
    expect(asked).toHaveLength(4);
    open();
    await settle();
    expect(asked).toHaveLength(10);
  });

  it('are not asked about for a connection that has gone, nor for nobody', async () => {
    const [one, two] = [holder(), holder()];
    watch.add('a', HOLDER, one);
    watch.add('b', HOLDER, two);
    watch.remove('a', one);
    watch.remove('a', one);
    await pass(2_000);
    expect(asked).toEqual(['b']);
    watch.remove('b', two);
    expect(clock.pendingTimers).toBe(0);
  });
});
