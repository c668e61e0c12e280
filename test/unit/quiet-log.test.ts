import { beforeEach, expect, it } from 'vitest';
import { TaskDashError } from '../../server/domain/errors.js';
import { QuietLog } from '../../server/quiet-log.js';
import { Outage } from '../../server/storage/outage.js';
import { KeptLog } from '../support/liveness-bench.js';
import { ManualClock } from '../support/manual-clock.js';

let clock: ManualClock;
let kept: KeptLog;
let log: QuietLog;

beforeEach(() => {
  clock = new ManualClock();
  kept = new KeptLog();
  log = new QuietLog(kept, clock);
});

const refused = () => Object.assign(new Error('connect ECONNREFUSED 10.0.0.1:5432'), { code: 'ECONNREFUSED' });

it('an outage of three minutes is told three times: whole, and then with how often', () => {
  for (let ms = 0; ms < 180_000; ms += 200) {
    log.warn({ err: refused(), held: true }, 'the lease could not be renewed');
    clock.advance(200);
  }
  clock.advance(3_600_000);
  expect(kept.lines.map(({ message }) => message)).toEqual([
    'the lease could not be renewed',
    'the lease could not be renewed (again)',
    'the lease could not be renewed (again)',
  ]);
  expect(kept.lines[0]?.details).toMatchObject({ err: { code: 'ECONNREFUSED' } });
  expect(kept.lines[1]?.details).toEqual({ err: refused().message, held: true, times: 299, withinMs: 60_000 });
  // All that happened is counted, also what came last.
  expect(kept.lines.slice(1).map(({ details }) => (details as { times: number }).times)).toEqual([299, 600]);
  expect(clock.pendingTimers).toBe(0);
});

it('after a while without it, the next one is told whole', () => {
  log.warn({ err: refused() }, 'lost');
  clock.advance(61_000);
  log.warn({ err: refused() }, 'lost');
  expect(kept.lines).toHaveLength(2);
  expect(kept.lines[1]).toMatchObject({ message: 'lost', details: { err: { code: 'ECONNREFUSED' } } });
});

it('other words, other levels and other errors are told', () => {
  log.warn({ err: refused() }, 'one');
  log.warn({ err: refused() }, 'two');
  log.error({ err: refused() }, 'two');
  log.error({ err: new Error('a defect') }, 'two');
  log.error({ err: new Error('a defect', { cause: refused() }) }, 'two');
  log.info({}, 'three');
  log.info({}, 'three');
  log.debug({}, 'four');
  log.debug({}, 'four');
  expect(kept.lines).toHaveLength(9);
});

it('of a database that is away, whoever is hindered tells so once, whatever it says itself, and without a stack', () => {
  for (const cause of [refused(), new Error('Query read timeout'), refused()])
    log.warn({ err: new TaskDashError('STORAGE_UNAVAILABLE', { cause }) }, 'the lease could not be renewed');
  expect(kept.lines).toEqual([
    {
      ...{ level: 'warn', message: 'the lease could not be renewed' },
      details: { err: 'The database did not answer in time. (connect ECONNREFUSED 10.0.0.1:5432)' },
    },
  ]);
});

it('an outage begins and ends with a line, also where answers and failures alternate', () => {
  const outage = new Outage(log, clock);
  outage.answered();
  for (let n = 0; n < 10; n++) {
    outage.failed(refused());
    clock.advance(1_000);
    outage.answered();
    clock.advance(1_000);
  }
  clock.advance(5_000);
  outage.answered();
  clock.advance(5_000);
  expect(kept.lines).toEqual([
    expect.objectContaining({ message: 'nothing takes connections where the database should be' }),
    {
      ...{ level: 'info', message: 'the database can be used again' },
      details: { lastedMs: 19_000, failures: 10 },
    },
  ]);
});

it('remembers a bounded number of kinds, whatever errors say', () => {
  for (let i = 0; i < 10_000; i++) log.warn({ err: new Error(`no ${i}`) }, 'strange');
  expect(kept.lines.length).toBeLessThanOrEqual(501);
  expect(clock.pendingTimers).toBeLessThanOrEqual(501);
});
