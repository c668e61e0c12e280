import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Outbox, type Parcel, type TaskReport } from '../../client/outbox.js';

const refused = new Error('refused');

/** What has become of a promise by now. */
async function outcomeOf(promise: Promise<void>): Promise<string> {
  const settled = promise.then(
    () => 'arrived',
    (error: Error) => error.message,
  );
  return Promise.race([settled, new Promise<string>((resolve) => setImmediate(() => resolve('waits')))]);
}

function only(parcels: readonly Parcel[]): Parcel {
  const [parcel] = parcels;
  if (!parcel || parcels.length > 1) throw new Error(`one parcel was expected, there are ${parcels.length}`);
  return parcel;
}

describe('the outbox of a client', () => {
  it('merges what is reported while a report is on its way into one that follows', async () => {
    const outbox = new Outbox();
    const first = outbox.begin({ id: 'a', name: 'n' });
    const parcel = only(outbox.take(10));
    const [second, third] = [
      outbox.change({ id: 'a', name: 'n', status: 's' }, false),
      outbox.change({ id: 'a', name: 'm', status: 's' }, false),
    ];
    outbox.confirm(parcel);
    expect([await outcomeOf(first), await outcomeOf(second)]).toEqual(['arrived', 'waits']);
    const next = only(outbox.take(10));
    expect(next).toMatchObject({ report: { id: 'a', name: 'm', status: 's' }, before: { id: 'a', name: 'n' } });
    outbox.confirm(next);
    expect([await outcomeOf(second), await outcomeOf(third)]).toEqual(['arrived', 'arrived']);
  });

  it('sends again what may not have arrived, with what came meanwhile, and everybody waits for that', async () => {
    const outbox = new Outbox();
    const first = outbox.begin({ id: 'a' });
    const parcel = only(outbox.take(10));
    const second = outbox.change({ id: 'a', status: 's' }, false);
    outbox.return(parcel);
    expect(await outcomeOf(first)).toBe('waits');
    const again = only(outbox.take(10));
    expect(again).toMatchObject({ report: { id: 'a', status: 's' }, before: undefined });
    outbox.confirm(again);
    expect([await outcomeOf(first), await outcomeOf(second)]).toEqual(['arrived', 'arrived']);
  });

  it('tells what may differ from what was confirmed, since something else may have arrived', () => {
    const outbox = new Outbox();
    void outbox.begin({ id: 'a', status: 's' });
    outbox.confirm(only(outbox.take(10)));
    const ways = [(parcel: Parcel) => outbox.return(parcel), (parcel: Parcel) => outbox.setApart(parcel, 'at once')];
    for (const lose of ways) {
      void outbox.change({ id: 'a', status: 't' }, false);
      const lost = only(outbox.take(10));
      expect(lost.isUncertain).toBe(false);
      lose(lost);
      void outbox.change({ id: 'a', status: 's' }, false);
      const again = only([...outbox.take(10), ...outbox.takeAlone(Infinity)]);
      expect(again).toEqual({ report: { id: 'a', status: 's' }, before: { id: 'a', status: 's' }, isUncertain: true });
      outbox.confirm(again);
    }
  });

  it('forgets a task that was refused, and keeps one of which an update was refused as it was', async () => {
    const outbox = new Outbox();
    const wrong = outbox.begin({ id: 'wrong' });
    expect(outbox.refuse(only(outbox.take(10)), refused)).toBe(true);
    expect([await outcomeOf(wrong), outbox.find('wrong')]).toEqual(['refused', undefined]);
    void outbox.begin({ id: 'a' });
    outbox.confirm(only(outbox.take(10)));
    const ended = outbox.change({ id: 'a', status: '!' }, true);
    outbox.refuse(only(outbox.take(10)), refused);
    expect([await outcomeOf(ended), outbox.find('a'), outbox.hasDue]).toEqual(['refused', { id: 'a' }, false]);
  });

  it('says when nobody could be told that a task was refused', () => {
    const outbox = new Outbox();
    void outbox.begin({ id: 'a' });
    outbox.confirm(only(outbox.take(10)));
    outbox.registerAllAgain();
    expect(outbox.refuse(only(outbox.take(10)), refused)).toBe(false);
    expect(outbox.size).toBe(0);
  });

  it('registers everything again that has not ended, and what is lost', () => {
    const outbox = new Outbox();
    for (const id of ['a', 'ended']) void outbox.begin({ id });
    for (const parcel of outbox.take(10)) outbox.confirm(parcel);
    void outbox.change({ id: 'ended', status: 'finish' }, true);
    outbox.confirm(only(outbox.take(10)));
    outbox.registerAllAgain();
    const parcel = only(outbox.take(10));
    expect(parcel).toMatchObject({ report: { id: 'a' }, before: undefined });
    outbox.confirm(parcel);
    void outbox.change({ id: 'a', status: 's' }, false);
    outbox.return(only(outbox.take(10)), true);
    expect(only(outbox.take(10)).before).toBeUndefined();
  });

  it('takes what is apart alone, after pauses that grow, and keeps the reports of its task in order', async () => {
    const outbox = new Outbox();
    for (const id of ['slow', 'quick']) void outbox.begin({ id });
    const [slow, quick] = outbox.take(10);
    if (!slow || !quick) throw new Error('two parcels were expected');
    outbox.confirm(quick);
    outbox.setApart(slow, 'at once', 0);
    const changed = outbox.change({ id: 'slow', status: 's' }, false);
    expect([outbox.hasDue, outbox.take(10), outbox.aloneDueMs]).toEqual([false, [], 0]);
    const pauses: number[] = [];
    for (let tries = 0; tries < 8; tries++) {
      const parcel = only(outbox.takeAlone(outbox.aloneDueMs));
      expect(parcel).toMatchObject({ report: { id: 'slow', status: 's' }, before: undefined });
      expect([outbox.aloneDueMs, outbox.takeAlone(Infinity), outbox.take(10)]).toEqual([Infinity, [], []]);
      outbox.setApart(parcel, 'later', 0);
      expect(outbox.takeAlone(outbox.aloneDueMs - 1)).toEqual([]);
      pauses.push(outbox.aloneDueMs);
    }
    expect(pauses[0]).toBeLessThanOrEqual(750);
    expect(pauses[7]).toBeGreaterThanOrEqual(5_000);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(15_000);
    outbox.hurry();
    outbox.confirm(only(outbox.takeAlone(0)));
    expect([await outcomeOf(changed), outbox.hasUnsent]).toEqual(['arrived', false]);
    void outbox.change({ id: 'slow', status: 't' }, false);
    expect(only(outbox.take(10)).report.status).toBe('t');
  });

  it('sends only so many alone at a time, the one that was tried longest ago first', () => {
    const outbox = new Outbox();
    for (let n = 0; n < 100; n++) void outbox.begin({ id: `${n}` });
    for (const parcel of outbox.take(100)) outbox.setApart(parcel, 'at once', 0);
    const first = outbox.takeAlone(0);
    expect([first.length, outbox.takeAlone(0).length, outbox.aloneDueMs]).toEqual([48, 0, Infinity]);
    for (const parcel of first) outbox.setApart(parcel, 'at once', 0);
    expect(outbox.takeAlone(0).map(({ report }) => report.id)).toEqual(
      Array.from({ length: 48 }, (_, n) => `${n + 48}`),
    );
  });

  it('registers again what was on its way when the lease was lost', () => {
    const outbox = new Outbox();
    void outbox.begin({ id: 'a' });
    outbox.setApart(only(outbox.take(10)), 'at once', 0);
    const parcel = only(outbox.takeAlone(0));
    outbox.registerAllAgain();
    expect([outbox.take(10), outbox.takeAlone(Infinity)]).toEqual([[], []]);
    outbox.confirm(parcel);
    expect(only(outbox.take(10)).before).toBeUndefined();
  });

  it('does not take the outcome of a task that was forgotten for that of its successor', async () => {
    const outbox = new Outbox();
    const former = outbox.begin({ id: 'a' });
    const parcel = only(outbox.take(10));
    outbox.rejectAll(refused);
    const latter = outbox.begin({ id: 'a' });
    void only(outbox.take(10));
    outbox.confirm(parcel);
    expect([await outcomeOf(former), await outcomeOf(latter)]).toEqual(['refused', 'waits']);
  });

  it('has the registry agree in the end with what was reported last, whatever happens on the way', async () => {
    const ids = ['a', 'b', 'c'];
    const step = fc.record({
      does: fc.constantFrom('begin', 'change', 'end', 'send', 'send alone', 'settle', 'lose'),
      id: fc.constantFrom(...ids),
      fate: fc.constantFrom('confirm', 'return', 'stored but unknown', 'apart', 'stored but apart'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const [outbox, registry, expected] = [
          new Outbox(),
          new Map<string, TaskReport>(),
          new Map<string, TaskReport>(),
        ];
        const waiting: Promise<void>[] = [];
        const alone: Parcel[] = [];
        const settle = (parcel: Parcel, fate: string) => {
          // An update of what the registry does not have would be no such task.
          if (parcel.before) expect(registry.get(parcel.report.id)).toBeDefined();
          if (fate !== 'return' && fate !== 'apart') registry.set(parcel.report.id, parcel.report);
          if (fate === 'confirm') outbox.confirm(parcel);
          else if (fate.endsWith('apart')) outbox.setApart(parcel, 'later');
          else outbox.return(parcel);
        };
        const send = (fate: string) => {
          for (const parcel of outbox.take(2)) settle(parcel, fate);
        };
        const settleNext = (fate: string) => {
          const parcel = alone.shift();
          if (parcel) settle(parcel, fate);
        };
        for (const [n, { does, id, fate }] of steps.entries()) {
          const report = { id, description: `${n}` };
          if (does === 'send') send(fate);
          else if (does === 'send alone') alone.push(...outbox.takeAlone(Infinity));
          else if (does === 'settle') settleNext(fate);
          else if (does === 'lose') outbox.registerAllAgain();
          else if (does === 'begin' || outbox.find(id)) {
            waiting.push(does === 'begin' ? outbox.begin(report) : outbox.change(report, does === 'end'));
            expected.set(id, report);
          }
        }
        while (outbox.hasUnsent) {
          send('confirm');
          alone.push(...outbox.takeAlone(Infinity));
          settleNext('confirm');
        }
        expect(registry).toEqual(expected);
        await Promise.all(waiting);
      }),
    );
  });
});
