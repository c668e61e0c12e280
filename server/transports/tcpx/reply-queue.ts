/**
 * The replies of one connection, in the order of its requests: each request takes a place when it is read, and the queue
 * leaves from its head, as far as it is answered.
 *
 * The queue knows what its replies measure, and expects of those of finds that are under way what the latest ones of the
 * connection did.
 */
import { encodeFrames, type OutgoingFrame } from './frame.js';
import type { ReplyMemory } from './reply-memory.js';

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
  /** What the reply was expected to measure. */
  readonly expectedBytes: number;
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
  #isClosed = false;

  constructor(private readonly memory: ReplyMemory) {}

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

  push(place: Place): Place {
    const expectedBytes = place.isFind ? this.#expectedBytes : 0;
    this.#places.push({ ...place, expectedBytes, body: undefined });
    this.#requestBytes += place.requestBytes;
    this.#replyBytes += expectedBytes;
    return this.#places.at(-1) as Place;
  }

  /** The reply of a place is known. */
  answer(place: Place, body: string): void {
    const taken = place as TakenPlace;
    taken.body = body;
    this.#replyBytes += body.length - taken.expectedBytes;
    if (taken.isFind) this.#expectedBytes = Math.max(body.length, this.#expectedBytes * DECAY);
    if (!this.#isClosed) this.memory.change(body.length);
  }

  /** Whether `takeReady` has something. */
  get isReady(): boolean {
    return this.#places[0]?.body !== undefined;
  }

  /** The answered head of the queue as one buffer of frames; empty when the first request is not answered yet. */
  takeReady(): Buffer {
    const ready: OutgoingFrame[] = [];
    let bytes = 0;
    for (const { messageId, header, body, requestBytes } of this.#places) {
      if (body === undefined) break;
      ready.push({ messageId, header, body });
      this.#requestBytes -= requestBytes;
      bytes += body.length;
    }
    this.#places = this.#places.slice(ready.length);
    this.#release(bytes);
    return encodeFrames(ready);
  }

  /** Forgets what is left; idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#release(this.#places.reduce((bytes, { body }) => bytes + (body?.length ?? 0), 0));
    this.#isClosed = true;
  }

  #release(bytes: number): void {
    this.#replyBytes -= bytes;
    if (!this.#isClosed) this.memory.change(-bytes);
  }
}
