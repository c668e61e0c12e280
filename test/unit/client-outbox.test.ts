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
    expect(next).toEqual({ report: { id: 'a', name: 'm', status: 's' }, before: { id: 'a', name: 'n' } });
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
    expect(again).toEqual({ report: { id: 'a', status: 's' }, before: undefined });
    outbox.confirm(again);
    expect([await outcomeOf(first), await outcomeOf(second)]).toEqual(['arrived', 'arrived']);
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
    expect(parcel).toEqual({ report: { id: 'a' }, before: undefined });
    outbox.confirm(parcel);
    void outbox.change({ id: 'a', status: 's' }, false);
    outbox.return(only(outbox.take(10)), true);
    expect(only(outbox.take(10)).before).toBeUndefined();
  });

  it('has the registry agree in the end with what was reported last, whatever happens on the way', async () => {
    const ids = ['a', 'b', 'c'];
    const step = fc.record({
      does: fc.constantFrom('begin', 'change', 'end', 'send', 'lose'),
      id: fc.constantFrom(...ids),
      fate: fc.constantFrom('confirm', 'return', 'stored but unknown'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const [outbox, registry, expected] = [
          new Outbox(),
          new Map<string, TaskReport>(),
          new Map<string, TaskReport>(),
        ];
        const waiting: Promise<void>[] = [];
        const send = (fate: string) => {
          for (const parcel of outbox.take(2)) {
            // An update of what the registry does not have would be no such task.
            if (parcel.before) expect(registry.get(parcel.report.id)).toBeDefined();
            if (fate !== 'return') registry.set(parcel.report.id, parcel.report);
            if (fate === 'confirm') outbox.confirm(parcel);
            else outbox.return(parcel);
          }
        };
        for (const [n, { does, id, fate }] of steps.entries()) {
          const report = { id, description: `${n}` };
          if (does === 'send') send(fate);
          else if (does === 'lose') outbox.registerAllAgain();
          else if (does === 'begin' || outbox.find(id)) {
            waiting.push(does === 'begin' ? outbox.begin(report) : outbox.change(report, does === 'end'));
            expected.set(id, report);
          }
        }
        while (outbox.hasDue) send('confirm');
        expect(registry).toEqual(expected);
        await Promise.all(waiting);
      }),
    );
  });
});
