import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, it } from 'vitest';
import { WatchTasksResponseSchema } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { FeedEvent } from '../../server/domain/ports.js';
import type { WatchMessage } from '../../server/domain/task-watch.js';
import { bytesAtHand } from '../../server/transports/rpc/encoded.js';
import { silentLog } from '../support/silent-log.js';
import { WatchMessages, type WatchAnswer } from '../../server/transports/rpc/watch-messages.js';

let marksAsked: number;
let messages: WatchMessages;

beforeEach(() => {
  marksAsked = 0;
  messages = new WatchMessages(() => {
    marksAsked++;
    return ['suspect'];
  }, silentLog);
});

const AT = new Date('2026-01-02T03:04:05.678Z');

function change(id: number): FeedEvent {
  const task: FeedEvent['task'] = {
    ...{ id: `task-${id}`, name: '蟒蛇', url: '', user: 'ssx', group_id: 'mx', description: 'x'.repeat(300) },
    ...{ status: 'running', start_time: '', stop_time: '', addr: '', cause: 'client', statusChangedAt: AT },
    ...{ statusBefore: '', startedAt: null, stoppedAt: null, createdAt: AT, updatedAt: AT, revision: 2 },
    ...{ sessionId: null, unconfirmedSince: null, epoch: 0 },
  };
  return {
    event: {
      ...{ id, taskId: task.id, kind: 'updated', fromStatus: 'restart', toStatus: 'running', cause: 'client' },
      ...{ actor: 'user:ssx', node: 'node-a', at: AT, gapMs: null, revision: 2 },
    },
    task,
    previous: { group_id: 'mx', user: 'ssx' },
    batch: '1.1',
  };
}

function told(source: FeedEvent, resumeToken: string, isSeen = true): Extract<WatchMessage, { kind: 'change' }> {
  return { kind: 'change', event: source.event, task: isSeen ? source.task : undefined, resumeToken, source };
}

function answerTo(message: WatchMessage): WatchAnswer {
  const answer = messages.answer(message);
  if (!answer) throw new Error('the change is left out');
  return answer;
}

const plainBytes = (answer: WatchAnswer) =>
  toBinary(WatchTasksResponseSchema, create(WatchTasksResponseSchema, answer));

describe('a change', () => {
  it('is made once for all who see it, each with a token of their own', () => {
    const source = change(1);
    const answers = ['', 'short', 't'.repeat(500)].map((token) => answerTo(told(source, token)));
    expect(marksAsked).toBe(1);
    for (const [index, answer] of answers.entries()) {
      const bytes = bytesAtHand(answer) as Buffer;
      const read = fromBinary(WatchTasksResponseSchema, bytes);
      expect(read).toEqual(fromBinary(WatchTasksResponseSchema, plainBytes(answer)));
      expect(read.resumeToken).toBe(['', 'short', 't'.repeat(500)][index]);
    }
  });

  it('has the bytes that its message has', () => {
    const answer = answerTo(told(change(1), 'token'));
    expect(Buffer.compare(bytesAtHand(answer) as Buffer, plainBytes(answer))).toBe(0);
  });

  it('is not mixed up with what those hear whose sight the task left', () => {
    const source = change(1);
    answerTo(told(source, 'a'));
    const answer = answerTo(told(source, 'b', false));
    const { message } = fromBinary(WatchTasksResponseSchema, bytesAtHand(answer) as Buffer);
    expect(message).toMatchObject({ case: 'change', value: { event: { taskId: 'task-1', actor: '', node: '' } } });
    expect(message.case === 'change' && message.value.task).toBeUndefined();
    expect(Buffer.from(plainBytes(answer)).includes('ssx')).toBe(false);
  });

  it('is not mixed up with what those hear into whose sight the task came', () => {
    const source = change(1);
    const came: WatchMessage = { ...told(source, 'a'), event: { ...source.event, fromStatus: '' } };
    for (const [message, fromStatus] of [
      [told(source, 'b'), 'restart'],
      [came, ''],
      [told(source, 'c'), 'restart'],
    ] as const) {
      const { message: read } = fromBinary(WatchTasksResponseSchema, bytesAtHand(answerTo(message)) as Buffer);
      expect(read).toMatchObject({ case: 'change', value: { event: { fromStatus }, task: { id: 'task-1' } } });
    }
  });

  it('is forgotten when many came after it, and made anew for a late one', () => {
    const sources = Array.from({ length: 2_001 }, (_, id) => change(id));
    for (const source of sources) answerTo(told(source, 'a'));
    expect(marksAsked).toBe(2_001);
    answerTo(told(sources[2_000] as FeedEvent, 'b'));
    answerTo(told(sources[1] as FeedEvent, 'b'));
    expect(marksAsked).toBe(2_001);
    answerTo(told(sources[0] as FeedEvent, 'b'));
    expect(marksAsked).toBe(2_002);
  });

  it('is forgotten sooner where records are long', () => {
    const description = 'x'.repeat(8_192);
    const sources = Array.from({ length: 300 }, (_, id) => {
      const source = change(id);
      return { ...source, task: { ...source.task, description } };
    });
    for (const source of sources) answerTo(told(source, 'a'));
    answerTo(told(sources[100] as FeedEvent, 'b'));
    expect(marksAsked).toBe(300);
    answerTo(told(sources[0] as FeedEvent, 'b'));
    expect(marksAsked).toBe(301);
  });
});

describe('a change that cannot be sent', () => {
  const bad = change(7);
  it.each([
    ['its record', { ...bad, task: { ...bad.task, createdAt: new Date(NaN) } }],
    ['its event', { ...bad, event: { ...bad.event, at: new Date(8e15) } }],
  ])('for %s is left out for all, and the log names it once', (_why, source) => {
    const logged: object[] = [];
    messages = new WatchMessages(() => [], { ...silentLog, error: (details) => logged.push(details) });
    for (const token of ['a', 'b']) expect(messages.answer(told(source, token))).toBeUndefined();
    expect(logged).toHaveLength(1);
    expect(String((logged[0] as { err: Error }).err.message)).toContain('"task-7"');
    expect(messages.answer(told(change(8), 'c'))).toBeDefined();
  });
});

describe('what is no change', () => {
  it('is a message without bytes at hand', () => {
    for (const message of [
      { kind: 'snapshot', resumed: true, resumeToken: 'a' },
      { kind: 'idle', resumeToken: 'a' },
    ] as const) {
      const answer = answerTo(message);
      expect(answer.message?.case).toBe(message.kind);
      expect(bytesAtHand(answer)).toBeUndefined();
    }
  });
});
