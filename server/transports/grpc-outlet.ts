/**
 * What a stream sends, in pieces: HTTP/2 says of a piece when the client has taken it, so that it is known how much is kept
 * for one who takes nothing, and since when (`rpc/unsent.ts`).
 */
import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Held, Peer } from './rpc/held-bytes.js';
import type { Unsent } from './rpc/unsent.js';

type Done = (error?: Error | null) => void;

interface Message {
  readonly bytes: Buffer;
  readonly done: Done;
}

const PIECE_BYTES = 65_536;

export class StreamOutlet {
  /** What the stream takes beside its messages, for as long as it has some. */
  ownBytes = 0;
  readonly #write: (piece: Buffer, done: Done) => boolean;
  readonly #end: () => void;
  /** The first one is on its way. */
  readonly #messages: Message[] = [];
  #at = 0;
  #bytes = 0;
  #hasEnded = false;
  #held: Held | undefined;

  /** Puts itself in front of the stream, for whoever writes to it from now on. */
  constructor(
    private readonly unsent: Unsent,
    private readonly stream: ServerHttp2Stream,
    private readonly peer: Peer,
  ) {
    this.#write = stream.write.bind(stream);
    this.#end = stream.end.bind(stream);
    // grpc-js writes in this form only.
    stream.write = ((bytes: Buffer, done: Done) => this.#take(bytes, done)) as typeof stream.write;
    stream.end = () => {
      this.#finish();
      return stream;
    };
    stream.once('close', () => this.#held?.end());
  }

  #take(bytes: Buffer, done: Done): boolean {
    if (this.stream.destroyed) return this.#write(bytes, done);
    this.#messages.push({ bytes, done });
    this.#bytes += bytes.length;
    this.#held ??= this.unsent.begin(this.peer, () => this.#cut());
    this.#held.hold(this.ownBytes + this.#bytes);
    if (this.#messages.length === 1) this.#send();
    return this.#messages.length === 0;
  }

  #finish(): void {
    this.#hasEnded = true;
    if (this.#messages.length === 0) this.#end();
  }

  #send(): void {
    const [message] = this.#messages;
    if (!message || this.stream.destroyed) return;
    const piece = message.bytes.subarray(this.#at, this.#at + PIECE_BYTES);
    this.#at += piece.length;
    const isLast = this.#at === message.bytes.length;
    this.#write(piece, (error) => {
      if (error || isLast) return this.#settle(message, error);
      this.#held?.renew();
      this.#send();
    });
  }

  /** A message has been taken, or never will be. */
  #settle({ bytes, done }: Message, error?: Error | null): void {
    this.#messages.shift();
    this.#at = 0;
    this.#bytes -= bytes.length;
    if (this.#messages.length > 0) {
      this.#held?.hold(this.ownBytes + this.#bytes);
      this.#held?.renew();
      this.#send();
    } else {
      this.#held?.end();
      this.#held = undefined;
      if (this.#hasEnded) this.#end();
    }
    // At last: it may bring the next message.
    done(error);
  }

  /** Nothing of it is sent any more: the client hears of it in the way that gRPC takes for RESOURCE_EXHAUSTED. */
  #cut(): void {
    this.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    this.stream.destroy();
  }
}
