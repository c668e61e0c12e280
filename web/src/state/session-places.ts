import type { Session } from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';

/** A session in its place; `isGone`: it is no longer listed, and its row goes when rows may move. */
export interface PlacedSession {
  readonly session: Session;
  readonly isGone: boolean;
}

/** The rows with what is newly known of them: each keeps its place, those that are gone stay, new ones come last. */
export function keepPlaces(rows: readonly PlacedSession[], listed: readonly Session[]): readonly PlacedSession[] {
  const byId = new Map(listed.map((session) => [session.id, session]));
  const kept = rows.map(({ session }) => {
    const known = byId.get(session.id);
    return { session: known ?? session, isGone: known === undefined };
  });
  const shown = new Set(rows.map(({ session }) => session.id));
  const added = listed.filter(({ id }) => !shown.has(id)).map((session) => ({ session, isGone: false }));
  return [...kept, ...added];
}
