import { beforeEach, describe, expect, it } from 'vitest';
import { ReplyQueue } from '../../server/transports/tcpx/reply-queue.js';
import { SharedMemory } from '../../server/transports/tcpx/shared-memory.js';

let memory: SharedMemory;
let replies: ReplyQueue;

beforeEach(() => {
  memory = new SharedMemory(1_000_000, 10);
  replies = new ReplyQueue(memory);
});

const push = (header: string) => replies.push({ messageId: 2, header, requestBytes: 100, isFind: false });

describe('what the replies of a connection measure', () => {
  it('is their headers too, from the request on, in bytes', () => {
    const place = push('描'.repeat(1_000));
    expect([replies.replyBytes, memory.bytes]).toEqual([3_016, 3_016]);
    replies.answer(place, '述'.repeat(100));
    expect([replies.replyBytes, replies.heldBytes, memory.bytes]).toEqual([3_316, 3_316, 3_316]);
  });

  it('is what the socket keeps, once they are taken', () => {
    replies.answer(push('{}'), 'body');
    push('{}');
    const bytes = replies.takeReady().length;
    expect([bytes, memory.bytes]).toEqual([22, 18]);
    replies.unsentBytes = bytes;
    expect([replies.heldBytes, memory.bytes]).toEqual([40, 40]);
    replies.close();
    expect(memory.bytes).toBe(22);
    replies.unsentBytes = 0;
    expect(memory.bytes).toBe(0);
  });

  it('is nothing any more once it is closed, whatever is answered later', () => {
    const place = push('{}');
    replies.close();
    replies.close();
    replies.answer(place, 'body');
    expect([replies.length, replies.isReady, memory.bytes]).toEqual([0, false, 0]);
  });
});
