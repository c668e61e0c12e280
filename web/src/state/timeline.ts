/** A task's history as spans of time: which status it had when, and when nothing was heard of it. */
import type { Duration, Timestamp } from '@bufbuild/protobuf/wkt';
import { type Cause, type Task, type TaskEvent, TaskEventKind } from '../../../proto/gen/taskdash/task/v1/task_pb.js';

/** A stretch of time with one status; milliseconds since 1970. */
export interface StatusSpan {
  readonly status: string;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly cause: Cause;
  /** Whether it reaches to now. */
  readonly isOpen: boolean;
}

/** A stretch of time in which nothing was heard of the task. */
export interface Silence {
  readonly fromMs: number;
  readonly untilMs: number;
  /** Whether the task came back at its end. */
  readonly restored: boolean;
}

/** Spans and silences, oldest first. */
export interface Timeline {
  readonly fromMs: number;
  readonly untilMs: number;
  readonly spans: readonly StatusSpan[];
  readonly silences: readonly Silence[];
}

/** An instant of the contract in milliseconds since 1970. */
export function instantMs(instant: Timestamp): number {
  return Number(instant.seconds) * 1000 + Math.floor(instant.nanos / 1e6);
}

/** A duration of the contract in milliseconds. */
export function durationMs(duration: Duration): number {
  return Number(duration.seconds) * 1000 + Math.floor(duration.nanos / 1e6);
}

/**
 * The time line that these events (newest first, perhaps only the latest of them) tell, up to now. Without any event the
 * task's own last change of status counts.
 */
export function timelineOf(events: readonly TaskEvent[], task: Task, nowMs: number): Timeline {
  const spans = spansOf(events.toReversed(), task, nowMs);
  const fromMs = spans[0]?.fromMs ?? nowMs;
  return { fromMs, untilMs: nowMs, spans, silences: silencesOf(events.toReversed(), fromMs) };
}

function spansOf(events: readonly TaskEvent[], task: Task, nowMs: number): StatusSpan[] {
  const starts = events
    .filter((event) => event.at !== undefined && event.fromStatus !== event.toStatus)
    .map((event) => ({ status: event.toStatus, cause: event.cause, fromMs: event.at ? instantMs(event.at) : nowMs }));
  const since = task.statusChangedAt ?? task.updatedAt;
  if (starts.length === 0 && since) starts.push({ status: task.status, cause: task.cause, fromMs: instantMs(since) });
  return starts.map((start, index) => {
    const next = starts[index + 1];
    return { ...start, untilMs: next?.fromMs ?? Math.max(nowMs, start.fromMs), isOpen: next === undefined };
  });
}

/** A lapse is told twice: when the registry gave the task up, and, longer, when it came back. The longer one counts. */
function silencesOf(events: readonly TaskEvent[], fromMs: number): Silence[] {
  const silences: Silence[] = [];
  for (const event of events) {
    if (!event.gap || !event.at) continue;
    const untilMs = instantMs(event.at);
    const silence: Silence = {
      fromMs: Math.max(fromMs, untilMs - durationMs(event.gap)),
      untilMs,
      restored: event.kind === TaskEventKind.RESTORED,
    };
    const last = silences.at(-1);
    if (last && silence.fromMs <= last.untilMs) silences[silences.length - 1] = merge(last, silence);
    else silences.push(silence);
  }
  return silences;
}

function merge(a: Silence, b: Silence): Silence {
  return { fromMs: Math.min(a.fromMs, b.fromMs), untilMs: Math.max(a.untilMs, b.untilMs), restored: b.restored };
}
