/** Doors, states and signs of life of sessions in words. */
import { Door, SessionState, type Session } from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { formatDuration, formatInstant } from '../i18n/format.js';
import { i18n, t } from '../i18n/i18n.svelte.js';
import type { MessageKey } from '../i18n/messages.js';
import { durationMs, instantMs } from '../state/timeline.js';
import { markWords } from '../tasks/task-words.js';

/** The doors by their names, which are the same in every language; one that this page does not know has none. */
const DOORS: Readonly<Record<Door, string>> = { [Door.UNSPECIFIED]: '', [Door.TCP]: 'TCP', [Door.GRPC]: 'gRPC' };

/** Through which door a session came. */
export function doorWord(door: Door): string {
  return DOORS[door] ?? '';
}

const STATES = {
  [SessionState.UNSPECIFIED]: 'connection.open',
  [SessionState.OPEN]: 'connection.open',
  [SessionState.CLOSING]: 'connection.closing',
  [SessionState.ORPHAN]: 'connection.orphan',
} as const satisfies Record<SessionState, MessageKey>;

/** How a session stands. */
export function stateWord(session: Session): string {
  return t(STATES[session.state] ?? 'connection.open');
}

/** How a session stands and since when it is there, and what its marks mean; one line each. */
export function sessionStory(session: Session): string {
  const { state, ttl, openedAt } = session;
  const lines = [
    state === SessionState.CLOSING || state === SessionState.ORPHAN
      ? t(`${STATES[state]}.why`)
      : t('connection.open.why', { ttl: ttl ? formatDuration(durationMs(ttl), i18n.locale) : '?' }),
    ...markWords(session.marks, session.address).map(({ word, why }) => `${word}: ${why}`),
  ];
  if (openedAt) lines.push(t('connection.since', { time: formatInstant(instantMs(openedAt), i18n.locale) }));
  return lines.join('\n');
}
