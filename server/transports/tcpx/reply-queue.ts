/**
 * The replies of one connection, in the order of its requests: each request takes a place when it is read, and the queue
 * leaves from its head, as far as it is answered.
 */
import { encodeFrames, type OutgoingFrame } from './frame.js';

/** A request's place in the queue. */
export interface Place {
  readonly messageId: number;
  /** The header of the reply. */
  readonly header: string;
  /** Bytes of the request, of which the queue keeps account. */
  readonly requestBytes: number;
  /** The body of the reply, once it is known. */
  body: string | undefined;
}

export class ReplyQueue {
  #places: Place[] = [];
  #requestBytes = 0;

  /** Requests that are not answered yet, or whose replies have not been taken. */
  get length(): number {
    return this.#places.length;
  }

  /** What those requests measured as frames. */
  get requestBytes(): number {
    return this.#requestBytes;
  }

  push(place: Place): Place {
    this.#places.push(place);
    this.#requestBytes += place.requestBytes;
    return place;
  }

  /** Whether `takeReady` has something. */
  get isReady(): boolean {
    return this.#places[0]?.body !== undefined;
  }

  /** The answered head of the queue as one buffer of frames; empty when the first request is not answered yet. */
  takeReady(): Buffer {
    const ready: OutgoingFrame[] = [];
    for (const { messageId, header, body, requestBytes } of this.#places) {
      if (body === undefined) break;
      ready.push({ messageId, header, body });
      this.#requestBytes -= requestBytes;
    }
    this.#places = this.#places.slice(ready.length);
    return encodeFrames(ready);
  }
}
