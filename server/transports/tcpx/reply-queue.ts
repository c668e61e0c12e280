/**
 * The replies of one connection, in the order of its requests: each request takes a place when it is read, and the queue
 * leaves from its head, as far as it is answered.
 *
 * The queue knows what its replies measure, and expects of those of finds that are under way what the latest ones of the
 * connection did. What it keeps, headers included, and what the socket keeps of it count against the memory of all replies.
 */
import { encodeFrames, HEAD_BYTES, type OutgoingFrame } from './frame.js';
import { Holding, type SharedMemory } from './shared-memory.js';

/** A request's place in the queue. */
export interface Place {
  readonly messageId: number;
  /** The header of the reply. */
  readonly header: string;
  /** Bytes of the request, of which the queue keeps account. */
  readonly requestBytes: number;
  /** The reply may be as large as a record. */
  readonly isFind: boolean;
}

interface TakenPlace extends Place {
  /** What the body was expected to measure. */
  readonly expectedBytes: number;
  /** What is known of the reply. */
  bytes: number;
  body: string | undefined;
}

/** What the reply to the first find is expected to measure. */
const USUAL_REPLY_BYTES = 4 * 1024;
/** How fast the expectation follows when replies get smaller. */
const DECAY = 0.9;

export class ReplyQueue {
  #places: TakenPlace[] = [];
  #requestBytes = 0;
  /** What the replies measure that are known, and are expected to that are not. */
  #replyBytes = 0;
  #expectedBytes = USUAL_REPLY_BYTES;
  #unsentBytes = 0;
  #isClosed = false;
  readonly #held: Holding;

  constructor(memory: SharedMemory) {
    this.#held = new Holding(memory);
  }

  /** Requests that are not answered yet, or whose replies have not been taken. */
  get length(): number {
    return this.#places.length;
  }

  /** What those requests measured as frames. */
  get requestBytes(): number {
    return this.#requestBytes;
  }

  /** What those replies measure, or may. */
  get replyBytes(): number {
    return this.#replyBytes;
  }

  /** What of the replies is kept, also by the socket. */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** The socket keeps so many bytes of replies that were taken. */
  set unsentBytes(bytes: number) {
    this.#held.bytes += bytes - this.#unsentBytes;
    this.#unsentBytes = bytes;
  }

  push(place: Place): Place {
    const expectedBytes = place.isFind ? this.#expectedBytes : 0;
    const bytes = HEAD_BYTES + Buffer.byteLength(place.header);
    // Written out: to copy the place by `...` would cost more than all else that is done for a reply.
    const { messageId, header, requestBytes, isFind } = place;
    const taken: TakenPlace = { messageId, header, requestBytes, isFind, expectedBytes, bytes, body: undefined };
    this.#places.push(taken);
    this.#requestBytes += place.requestBytes;
    this.#replyBytes += bytes + expectedBytes;
    this.#held.bytes += bytes;
    return taken;
  }

  /** The reply of a place is known. When the queue is closed nobody is there to take it. */
  answer(place: Place, body: string): void {
    if (this.#isClosed) return;
    const taken = place as TakenPlace;
    const bytes = Buffer.byteLength(body);
    taken.body = body;
    taken.bytes += bytes;
    this.#replyBytes += bytes - taken.expectedBytes;
    if (taken.isFind) this.#expectedBytes = Math.max(bytes, this.#expectedBytes * DECAY);
    this.#held.bytes += bytes;
  }

  /** Whether `takeReady` has something. */
  get isReady(): boolean {
    return this.#places[0]?.body !== undefined;
  }

  /** The answered head of the queue as one buffer of frames; empty when the first request is not answered yet. */
  takeReady(): Buffer {
    const ready: OutgoingFrame[] = [];
    let readyBytes = 0;
    for (const { messageId, header, body, bytes, requestBytes } of this.#places) {
      if (body === undefined) break;
      ready.push({ messageId, header, body });
      this.#requestBytes -= requestBytes;
      readyBytes += bytes;
    }
    this.#places = this.#places.slice(ready.length);
    this.#replyBytes -= readyBytes;
    this.#held.bytes -= readyBytes;
    return encodeFrames(ready, readyBytes);
  }

  /** Forgets what is left; idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#places = [];
    this.#requestBytes = this.#replyBytes = 0;
    this.#held.bytes = this.#unsentBytes;
  }
}
