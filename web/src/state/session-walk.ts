/** Looks through the sessions, page by page, for those that matter: the server lists them by id and knows no filter. */
import {
  SessionState,
  type ListSessionsResponse,
  type Session,
} from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { TaskMark } from '../../../proto/gen/taskdash/task/v1/task_pb.js';

/** One page of sessions. */
export type ListSessions = (
  page: { pageSize: number; pageToken: string },
  signal: AbortSignal,
) => Promise<Pick<ListSessionsResponse, 'sessions' | 'nextPageToken'>>;

/** What was found; `isWhole` is false when there were more sessions than are looked through. */
export interface Found {
  readonly sessions: readonly Session[];
  readonly isWhole: boolean;
}

export const WALK = { pageSize: 1_000, maxPages: 50 } as const;

/** The sessions that are wanted, by id. */
export async function findSessions(
  list: ListSessions,
  isWanted: (session: Session) => boolean,
  signal: AbortSignal,
): Promise<Found> {
  const found: Session[] = [];
  let pageToken = '';
  for (let page = 0; page < WALK.maxPages; page++) {
    const { sessions, nextPageToken } = await list({ pageSize: WALK.pageSize, pageToken }, signal);
    found.push(...sessions.filter(isWanted));
    if (nextPageToken === '') return { sessions: found, isWhole: true };
    pageToken = nextPageToken;
  }
  return { sessions: found, isWhole: false };
}

/** Silent for so long that it would have expired, and held back. */
export function isHeld({ marks }: Session): boolean {
  return marks.includes(TaskMark.PROTECTED);
}

/** What 'expire now' is about on a server: what is held there, and what has fallen silent or closed and is not yet due. */
export function wouldExpire(node: string): (session: Session) => boolean {
  const isLost = ({ state, marks }: Session) => state === SessionState.CLOSING || marks.includes(TaskMark.SUSPECT);
  return (session) => session.node === node && (isHeld(session) || isLost(session));
}

/** How many tasks these sessions vouch for, of those that the viewer may see. */
export function tasksOf(sessions: readonly Session[]): number {
  return sessions.reduce((sum, { tasks }) => sum + tasks, 0);
}
