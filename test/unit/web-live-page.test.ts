import { describe, expect, it } from 'vitest';
import { TaskMark, type Task } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { MAX_WAITING, type LiveChange } from '../../web/src/state/live-list.js';
import { LivePage, PAGE_TIMES, type ListAnswer, type ListFailure } from '../../web/src/state/live-page.js';
import { PLAIN_VIEW, type ListView } from '../../web/src/state/location.js';
import { aTask } from '../support/web-tasks.js';
import { settle, WebTime } from '../support/web-time.js';

interface Asked {
  readonly view: ListView;
  readonly signal: AbortSignal;
  answer(tasks: readonly Task[], nextPageToken?: string): Promise<void>;
  fail(failure: ListFailure | 'seen to'): Promise<void>;
}

/** A server that answers when told, and a stream that opens when told. */
function rig() {
  const time = new WebTime();
  const asked: Asked[] = [];
  let opened = Promise.resolve();
  let shown = 0;
  const viewer = { isLooking: true };
  const page = new LivePage(
    byName,
    {
      list: (view, _query, signal) =>
        new Promise<ListAnswer>((resolve, reject) => {
          asked.push({
            view,
            signal,
            answer: (tasks, nextPageToken = '') => {
              resolve({ tasks, nextPageToken, totalSize: tasks.length, totalSizeExceeded: false });
              return settle();
            },
            fail: (failure) => {
              reject(new Refusal(failure));
              return settle();
            },
          });
        }),
      whenOpened: () => opened,
      onFailure: (thrown) => {
        if (!(thrown instanceof Refusal)) throw thrown;
        return thrown.failure === 'seen to' ? undefined : thrown.failure;
      },
      onShow: () => (shown += 1),
      isSeen: () => viewer.isLooking,
    },
    time,
  );
  const last = () => asked.at(-1) ?? expect.fail('nothing was asked');
  return {
    time,
    page,
    viewer,
    asked,
    last,
    shown: () => shown,
    holdStream: () => {
      let open = () => {};
      opened = new Promise((resolve) => (open = resolve));
      return open;
    },
    /** A page that is there, with these rows. */
    ready: async (tasks: readonly Task[], nextPageToken = '') => {
      void page.open(byName);
      await settle();
      await last().answer(tasks, nextPageToken);
    },
  };
}

class Refusal extends Error {
  constructor(readonly failure: ListFailure | 'seen to') {
    super('refused');
  }
}

const byName: ListView = { ...PLAIN_VIEW, order: { field: 'name', ascending: true }, pageSize: 25 };
const task = (name: string, revision = 1) => aTask({ id: name, name, revision });
const change = (name: string, revision = 1): LiveChange => ({
  taskId: name,
  revision: BigInt(revision),
  task: task(name, revision),
});
const gone = (name: string): LiveChange => ({ taskId: name, revision: 9n, task: undefined });
const namesOf = (page: LivePage) => page.list.rows.map((row) => row.name);

describe('opening a view', () => {
  it('waits for the stream, then asks, and merges what arrived meanwhile', async () => {
    const { page, asked, last, holdStream } = rig();
    const open = holdStream();
    void page.open(byName);
    await settle();
    expect([asked.length, page.phase, page.isBusy]).toEqual([0, 'loading', true]);
    open();
    await settle();
    page.offer([change('b'), gone('c')]);
    await last().answer([task('a'), task('c')]);
    expect([namesOf(page), page.phase, page.isBusy]).toEqual([['a', 'b'], 'ready', false]);
  });

  it('shows the former view, still live, until the next one is there', async () => {
    const { page, last, ready } = rig();
    await ready([task('a')]);
    void page.open({ ...byName, text: 'name:z' });
    await settle();
    page.offer([change('b'), change('z')]);
    expect([namesOf(page), page.isBusy]).toEqual([['a', 'b', 'z'], true]);
    await last().answer([]);
    expect([namesOf(page), page.isBusy]).toEqual([['z'], false]);
  });

  it('ends the request for a view that nobody wants any more, and ignores its answer', async () => {
    const { page, asked, ready } = rig();
    await ready([]);
    void page.open({ ...byName, text: 'first' });
    await settle();
    void page.open({ ...byName, text: 'second' });
    await settle();
    expect(asked.slice(1).map(({ signal }) => signal.aborted)).toEqual([true, false]);
    await asked[2]?.answer([task('second')]);
    await asked[1]?.answer([task('first')]);
    expect(namesOf(page)).toEqual(['second']);
  });

  it('that failed is tried again by itself, and at once when asked to', async () => {
    const { time, page, asked, last } = rig();
    void page.open(byName);
    await settle();
    await last().fail({ isFinal: false, retryAfterMs: 0 });
    expect([page.phase, page.isBusy]).toEqual(['failed', false]);
    await time.pass(PAGE_TIMES.firstRetryMs);
    expect(asked).toHaveLength(2);
    await last().fail({ isFinal: false, retryAfterMs: 60_000 });
    expect(time.waits.at(-1)).toBe(60_000);
    page.retry();
    await settle();
    await last().answer([task('a')]);
    // The one alarm that is left is for the marks.
    expect([page.phase, namesOf(page), time.alarms]).toEqual(['ready', ['a'], 1]);
  });

  it('that cannot be answered is not asked for again, nor is one whose login is over', async () => {
    for (const failure of [{ isFinal: true, retryAfterMs: 0 }, 'seen to'] as const) {
      const { time, page, last } = rig();
      void page.open(byName);
      await settle();
      await last().fail(failure);
      expect(time.alarms).toBe(0);
    }
  });

  it('that failed is tried again when the stream begins anew', async () => {
    const { page, asked, last } = rig();
    void page.open(byName);
    await settle();
    await last().fail({ isFinal: false, retryAfterMs: 0 });
    page.onRestart();
    await settle();
    expect(asked).toHaveLength(2);
  });
});

describe('a view that is shown', () => {
  it('is asked for again unseen when it ran short of rows', async () => {
    const { time, page, asked, last, ready } = rig();
    await ready([task('a'), task('b')], 'next');
    page.offer([gone('a')]);
    await time.pass(PAGE_TIMES.reloadAfterMs);
    expect([asked.length, page.isBusy]).toEqual([2, false]);
    await last().answer([task('b'), task('c')], 'next');
    expect(namesOf(page)).toEqual(['b', 'c']);
  });

  it('is asked for again when the stream began anew, also while the first answer was still under way', async () => {
    const { time, page, asked, last, ready } = rig();
    await ready([task('a')]);
    page.onRestart();
    await time.pass(PAGE_TIMES.reloadAfterMs);
    expect(asked).toHaveLength(2);
    page.onRestart();
    await last().answer([task('a')]);
    await time.pass(PAGE_TIMES.reloadAfterMs);
    expect(asked).toHaveLength(3);
    await last().answer([task('b')]);
    await time.pass(PAGE_TIMES.reloadAfterMs);
    expect([asked.length, namesOf(page)]).toEqual([3, ['b']]);
  });

  it('is left alone while the rows may not move, even when the answer comes then', async () => {
    const { time, page, asked, last, ready } = rig();
    await ready([task('a')]);
    page.onRestart();
    await time.pass(PAGE_TIMES.reloadAfterMs);
    page.restrain({ isHeld: true });
    await last().answer([task('b')]);
    expect(namesOf(page)).toEqual(['a']);
    await time.pass(60_000);
    expect(asked).toHaveLength(2);
    page.restrain({ isHeld: false });
    await time.pass(PAGE_TIMES.reloadAfterMs);
    await last().answer([task('b')]);
    expect(namesOf(page)).toEqual(['b']);
  });

  it('is asked for again now and then, for the marks that no change tells of, but only while somebody looks', async () => {
    const { time, page, viewer, asked, last, ready } = rig();
    await ready([task('a')]);
    await time.pass(PAGE_TIMES.goodForMs);
    await time.pass(PAGE_TIMES.reloadAfterMs);
    expect(asked).toHaveLength(2);
    await last().answer([aTask({ id: 'a', name: 'a', marks: [TaskMark.SUSPECT] })]);
    expect(page.list.rows[0]?.marks).toEqual([TaskMark.SUSPECT]);
    viewer.isLooking = false;
    await time.pass(PAGE_TIMES.goodForMs);
    await time.pass(60_000);
    expect(asked).toHaveLength(2);
    viewer.isLooking = true;
    page.age();
    await time.pass(PAGE_TIMES.reloadAfterMs);
    expect(asked).toHaveLength(3);
  });

  it('keeps its rows when asking again fails, and asks later', async () => {
    const { time, page, asked, last, ready } = rig();
    await ready([task('a')]);
    page.onRestart();
    await time.pass(PAGE_TIMES.reloadAfterMs);
    await last().fail({ isFinal: false, retryAfterMs: 0 });
    expect([page.phase, namesOf(page)]).toEqual(['ready', ['a']]);
    await time.pass(PAGE_TIMES.firstRetryMs);
    expect(asked).toHaveLength(3);
  });

  it('holds changes while it is paused or held, and applies them at once or when both are over', async () => {
    const { page, ready } = rig();
    await ready([task('b')]);
    page.restrain({ isPaused: true });
    page.restrain({ isHeld: true });
    page.offer([change('a')]);
    page.restrain({ isHeld: false });
    expect([namesOf(page), page.list.pendingCount]).toEqual([['b'], 1]);
    page.apply();
    expect(namesOf(page)).toEqual(['a', 'b']);
    page.offer([change('c')]);
    page.restrain({ isPaused: false });
    expect(namesOf(page)).toEqual(['a', 'b', 'c']);
  });

  it('is loaded again on `apply` when more changed than could wait', async () => {
    const { page, asked, ready } = rig();
    await ready([]);
    page.restrain({ isHeld: true });
    page.offer(Array.from({ length: MAX_WAITING + 1 }, (_, index) => change(`t${index}`)));
    page.apply();
    await settle();
    expect(asked).toHaveLength(2);
  });
});

describe('where no stream gets through', () => {
  it('is asked for again at once, but never while an answer is under way', async () => {
    const { time, page, asked, last, ready } = rig();
    await ready([task('a')]);
    page.refresh();
    await time.pass(0);
    expect([asked.length, page.isBusy]).toEqual([2, false]);
    page.refresh();
    await time.pass(PAGE_TIMES.reloadAfterMs);
    expect([asked.length, last().signal.aborted]).toEqual([2, false]);
    await last().answer([task('b')]);
    expect(namesOf(page)).toEqual(['b']);
    page.refresh();
    await time.pass(0);
    expect(asked).toHaveLength(3);
  });

  it('keeps rows that may not move, and lets what was listed wait like changes', async () => {
    const { time, page, last, ready } = rig();
    await ready([task('b'), task('c')]);
    page.restrain({ isHeld: true });
    page.refresh();
    await time.pass(0);
    await last().answer([task('a'), task('b', 2), task('c')]);
    expect([namesOf(page), page.list.rows[0]?.revision, page.list.pendingCount]).toEqual([['b', 'c'], 2n, 1]);
    page.apply();
    expect(namesOf(page)).toEqual(['a', 'b', 'c']);
  });

  it('asks for nothing while the page is paused, or cannot be seen', async () => {
    const { time, page, viewer, asked, ready } = rig();
    await ready([task('a')]);
    page.restrain({ isPaused: true });
    page.refresh();
    page.restrain({ isPaused: false });
    viewer.isLooking = false;
    page.refresh();
    await time.pass(0);
    expect(asked).toHaveLength(1);
  });

  it('waits after a failure as long as ever', async () => {
    const { time, page, asked, last, ready } = rig();
    await ready([task('a')]);
    page.refresh();
    await time.pass(0);
    await last().fail({ isFinal: false, retryAfterMs: 0 });
    page.refresh();
    await time.pass(PAGE_TIMES.firstRetryMs - 1);
    expect(asked).toHaveLength(2);
    await time.pass(1);
    expect(asked).toHaveLength(3);
  });
});

describe('the next page', () => {
  const full = Array.from({ length: 25 }, (_, index) => task(`m${String(index).padStart(2, '0')}`));

  it('begins after the last row: by the token that is there, or by a fresh one when rows were pushed over the end', async () => {
    const { page, asked, last, ready } = rig();
    await ready(full, 'first token');
    expect(await page.nextPageToken()).toBe('first token');
    page.offer([change('a')]);
    const token = page.nextPageToken();
    await settle();
    expect(asked).toHaveLength(2);
    await last().answer([task('a'), ...full.slice(0, 24)], 'second token');
    expect(await token).toBe('second token');
  });

  it('takes in nothing that belongs to the page before it', async () => {
    const { page, last, ready } = rig();
    await ready(full, 'token');
    const pageToken = (await page.nextPageToken()) ?? '';
    void page.open({ ...byName, pageToken });
    await settle();
    await last().answer([task('z')]);
    page.offer([change('m2'), change('n')]);
    expect(namesOf(page)).toEqual(['n', 'z']);
  });

  it('is none after the last one', async () => {
    const { page, ready } = rig();
    await ready([task('a')]);
    expect(await page.nextPageToken()).toBeUndefined();
  });
});

it('stopping leaves no timer and no request behind', async () => {
  const { time, page, last, ready } = rig();
  await ready([task('a')]);
  page.onRestart();
  await time.pass(PAGE_TIMES.reloadAfterMs);
  page.stop();
  expect([time.alarms, last().signal.aborted]).toEqual([0, true]);
});
