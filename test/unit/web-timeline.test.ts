import { create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { Cause, TaskEventKind, TaskEventSchema, type TaskEvent } from '../../proto/gen/taskdash/task/v1/task_pb.js';
import { timelineOf } from '../../web/src/state/timeline.js';
import { aTask, START_MS } from '../support/web-tasks.js';

const SECOND = 1000;

function event(
  atSeconds: number,
  fromStatus: string,
  toStatus: string,
  kind: TaskEventKind,
  gapSeconds?: number,
): TaskEvent {
  return create(TaskEventSchema, {
    fromStatus,
    toStatus,
    kind,
    cause: Cause.CLIENT,
    at: timestampFromMs(START_MS + atSeconds * SECOND),
    ...(gapSeconds === undefined ? {} : { gap: durationFromMs(gapSeconds * SECOND) }),
  });
}

const history = [
  event(0, '', 'running', TaskEventKind.REGISTERED),
  event(50, 'running', 'running', TaskEventKind.UPDATED),
  event(100, 'running', 'shutdown', TaskEventKind.LAPSED, 30),
  event(112, 'shutdown', 'running', TaskEventKind.RESTORED, 42),
  event(200, 'running', 'finish', TaskEventKind.UPDATED),
].toReversed();

describe('the time line of a task', () => {
  const nowMs = START_MS + 300 * SECOND;
  const seconds = (ms: number) => (ms - START_MS) / SECOND;

  it('has one span for each status, the last one reaching to now', () => {
    const { spans, fromMs, untilMs } = timelineOf(history, aTask(), nowMs);
    expect(spans.map((span) => [span.status, seconds(span.fromMs), seconds(span.untilMs), span.isOpen])).toEqual([
      ['running', 0, 100, false],
      ['shutdown', 100, 112, false],
      ['running', 112, 200, false],
      ['finish', 200, 300, true],
    ]);
    expect([seconds(fromMs), seconds(untilMs)]).toEqual([0, 300]);
  });

  it('tells a silence once, from the last sign of life to the return', () => {
    const { silences } = timelineOf(history, aTask(), nowMs);
    expect(silences.map((silence) => [seconds(silence.fromMs), seconds(silence.untilMs), silence.restored])).toEqual([
      [70, 112, true],
    ]);
  });

  it('keeps silences apart, says which one still lasts, and never begins before the line does', () => {
    const events = [
      event(0, 'running', 'shutdown', TaskEventKind.LAPSED, 60),
      event(10, 'shutdown', 'running', TaskEventKind.RESTORED, 70),
      event(500, 'running', 'shutdown', TaskEventKind.LAPSED, 30),
    ].toReversed();
    const { silences } = timelineOf(events, aTask(), START_MS + 600 * SECOND);
    expect(silences.map((silence) => [seconds(silence.fromMs), seconds(silence.untilMs), silence.restored])).toEqual([
      [0, 10, true],
      [470, 500, false],
    ]);
  });

  it('without any event it is the status since its last change', () => {
    const task = aTask({ status: 'finish', statusChangedAt: timestampFromMs(START_MS) });
    expect(timelineOf([], task, nowMs).spans).toMatchObject([
      { status: 'finish', fromMs: START_MS, untilMs: nowMs, isOpen: true },
    ]);
  });

  it('stands on one point when the clock of the viewer is behind', () => {
    const { spans } = timelineOf(history, aTask(), START_MS);
    expect(spans.every((span) => span.untilMs >= span.fromMs)).toBe(true);
  });
});
