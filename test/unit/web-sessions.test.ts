import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { SessionSchema, SessionState, type Session } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { TaskMark } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { keepPlaces } from '../../web/src/state/session-places.js';
import {
  findSessions,
  isHeld,
  tasksOf,
  WALK,
  wouldExpire,
  type ListSessions,
} from '../../web/src/state/session-walk.js';

function session(id: string, more: MessageInitShape<typeof SessionSchema> = {}): Session {
  return create(SessionSchema, { id, node: 'node-1', state: SessionState.OPEN, tasks: 2, ...more });
}

const held = (id: string, more: MessageInitShape<typeof SessionSchema> = {}) =>
  session(id, { marks: [TaskMark.PROTECTED], ...more });

/** A server with these pages. */
function pages(...all: Session[][]): ListSessions {
  return ({ pageToken }) => {
    const index = Number(pageToken || '0');
    return Promise.resolve({ sessions: all[index] ?? [], nextPageToken: index + 1 < all.length ? `${index + 1}` : '' });
  };
}

const { signal } = new AbortController();
const idsOf = (sessions: readonly Session[]) => sessions.map(({ id }) => id);

describe('the sessions that are looked for', () => {
  it('are found on every page', async () => {
    const list = pages([held('a'), session('b')], [session('c')], [held('d')]);
    const found = await findSessions(list, isHeld, signal);
    expect(idsOf(found.sessions)).toEqual(['a', 'd']);
    expect(found.isWhole).toBe(true);
    expect(tasksOf(found.sessions)).toBe(4);
  });

  it('are looked for on so many pages and no more', async () => {
    let asked = 0;
    const endless: ListSessions = () => Promise.resolve({ sessions: [held(`s${asked++}`)], nextPageToken: 'more' });
    const found = await findSessions(endless, isHeld, signal);
    expect(asked).toBe(WALK.maxPages);
    expect(found.sessions).toHaveLength(WALK.maxPages);
    expect(found.isWhole).toBe(false);
  });

  it('are, for `expire now`, those of the server that are held, that missed a beat, and that closed', async () => {
    const list = pages([
      held('held'),
      session('suspect', { marks: [TaskMark.SUSPECT] }),
      session('closed', { state: SessionState.CLOSING }),
      session('alive'),
      session('orphan', { state: SessionState.ORPHAN, marks: [TaskMark.UNCONFIRMED] }),
      held('elsewhere', { node: 'node-2' }),
    ]);
    const found = await findSessions(list, wouldExpire('node-1'), signal);
    expect(idsOf(found.sessions)).toEqual(['held', 'suspect', 'closed']);
  });
});

describe('rows that may not move', () => {
  const placed = (...sessions: Session[]) => sessions.map((one) => ({ session: one, isGone: false }));

  it('keep their places, show what is new of them, and let new ones come last', () => {
    const rows = keepPlaces(placed(session('b'), session('d')), [
      session('a'),
      session('b', { tasks: 7 }),
      session('d'),
    ]);
    expect(rows.map((row) => [row.session.id, row.session.tasks, row.isGone])).toEqual([
      ['b', 7, false],
      ['d', 2, false],
      ['a', 2, false],
    ]);
  });

  it('stay when they are gone, and come back', () => {
    const gone = keepPlaces(placed(session('b'), session('d')), [session('d')]);
    expect(gone.map(({ isGone }) => isGone)).toEqual([true, false]);
    const back = keepPlaces(gone, [session('b', { tasks: 3 }), session('d')]);
    expect(back.map((row) => [row.session.id, row.session.tasks, row.isGone])).toEqual([
      ['b', 3, false],
      ['d', 2, false],
    ]);
  });
});
