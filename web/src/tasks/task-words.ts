/** Statuses, causes, marks, actors and events in words, and which of the five looks a status has. */
import {
  Cause,
  TaskEventKind,
  TaskMark,
  type Task,
  type TaskEvent,
} from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { formatDuration, formatInstant } from '../i18n/format.js';
import { i18n, t } from '../i18n/i18n.svelte.js';
import type { MessageKey } from '../i18n/messages.js';
import { visible } from '../i18n/visible-text.js';
import { durationMs, instantMs } from '../state/timeline.js';

/** The five looks. */
export type Look = 'running' | 'restart' | 'shutdown' | 'finish' | 'other';

/** The look of a status text. */
export function lookOf(status: string): Look {
  return status === 'running' || status === 'restart' || status === 'shutdown' || status === 'finish'
    ? status
    : 'other';
}

/** A status as people read it; other texts as they were reported. */
export function statusWord(status: string): string {
  const look = lookOf(status);
  if (look !== 'other') return t(`status.${look}`);
  return status === '' ? t('status.none') : visible(status);
}

const CAUSES = {
  [Cause.UNSPECIFIED]: 'cause.unknown',
  [Cause.CLIENT]: 'cause.client',
  [Cause.HEARTBEAT_TIMEOUT]: 'cause.heartbeatTimeout',
  [Cause.CONNECTION_CLOSED]: 'cause.connectionClosed',
  [Cause.NODE_FAILOVER]: 'cause.nodeFailover',
  [Cause.OPERATOR]: 'cause.operator',
  [Cause.RESTORED]: 'cause.restored',
} as const satisfies Record<Cause, MessageKey>;

/** Why a status is what it is. */
export function causeWord(cause: Cause): string {
  return t(CAUSES[cause] ?? 'cause.unknown');
}

const MARKS = {
  [TaskMark.UNSPECIFIED]: undefined,
  [TaskMark.SUSPECT]: 'mark.suspect',
  [TaskMark.UNCONFIRMED]: 'mark.unconfirmed',
  [TaskMark.FLAPPING]: 'mark.flapping',
  [TaskMark.PROTECTED]: 'mark.protected',
} as const satisfies Record<TaskMark, MessageKey | undefined>;

/** Marks of a task or of a session from an address: the word, and what it means. */
export function markWords(marks: readonly TaskMark[], address: string): { word: string; why: string }[] {
  return marks.flatMap((mark) => {
    const key = MARKS[mark];
    switch (key) {
      case undefined:
        return [];
      case 'mark.unconfirmed':
        return [{ word: t(key), why: t('mark.unconfirmed.why', { address: visible(address) || '?' }) }];
      default:
        return [{ word: t(key), why: t(`${key}.why`) }];
    }
  });
}

/** Why and since when a task's status is what it is, and what its marks mean; one line each. */
export function statusStory(task: Task): string {
  const lines = [causeWord(task.cause)];
  if (task.statusChangedAt) {
    const time = formatInstant(instantMs(task.statusChangedAt), i18n.locale);
    lines[0] = t('status.since', { cause: causeWord(task.cause), time });
  }
  const reported = visible(task.status);
  if (statusWord(task.status) !== reported) lines.push(t('status.reported', { status: reported }));
  if (task.statusBefore !== '') lines.push(t('status.before', { status: statusWord(task.statusBefore) }));
  lines.push(...markWords(task.marks, task.addr).map(({ word, why }) => `${word}: ${why}`));
  lines.push(task.connected ? t('status.connected') : t('status.disconnected'));
  return lines.join('\n');
}

/** Who made a change. */
export function actorWord(actor: string): string {
  const [, kind, name] = /^(service|user|token):(.*)$/s.exec(actor) ?? [];
  if (kind === 'service' || kind === 'user' || kind === 'token')
    return t(`actor.${kind}`, { name: visible(name ?? '') });
  if (actor === 'server' || actor === 'operator') return t(`actor.${actor}`);
  return visible(actor);
}

/** What a change was. */
export function eventWords(event: TaskEvent): string {
  const from = statusWord(event.fromStatus);
  const to = statusWord(event.toStatus);
  const gap = event.gap && formatDuration(durationMs(event.gap), i18n.locale);
  if (event.kind === TaskEventKind.LAPSED && gap) return t('history.lapsed', { from, gap });
  if (event.kind === TaskEventKind.RESTORED && gap) return t('history.restored', { to, gap });
  if (event.kind === TaskEventKind.REGISTERED && event.fromStatus === '') return t('history.first', { status: to });
  // Nobody is told what a task was before it moved into their sight.
  if (event.fromStatus !== '' && event.fromStatus !== event.toStatus) return t('history.changed', { from, to });
  return event.kind === TaskEventKind.REGISTERED ? t('history.again') : t('history.updated');
}
