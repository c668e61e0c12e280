/**
 * One connection of the legacy door.
 *
 *   reading ◄──────── room again ────────┐
 *      │ └── too much unanswered, unread or waiting for the database ──► paused
 *      ├── the peer ended, or the server stops ──► finishing ──all answered and sent──► closed
 *      └── broken stream, error, expiry ──► closed
 *
 * Invariants
 * - Replies leave in the order of their requests: each request takes a place in the queue when it is read, and the queue
 *   is sent from its head as far as it is answered, in one write a turn.
 * - Of what the peer sends, no more is held than the decoder's incomplete frame and the frames of one chunk; when those
 *   may not be begun, nothing further is read. Of what the peer does not read, no more is held than `maxUnsentBytes` and
 *   the replies under way.
 * - No error of one request, peer or socket leaves this file.
 */
import type { Socket } from 'node:net';
import type { LegacyService, Principal } from '../../domain/access.js';
import type { Log } from '../../domain/ports.js';
import type { Session } from '../../domain/sessions.js';
import type { TaskRegistry } from '../../domain/task-registry.js';
import { FrameDecoder, type Frame } from './frame.js';
import {
  AUTHENTICATE_ID,
  erridOf,
  foundReply,
  HEARTBEAT_ID,
  parseBody,
  parseHeader,
  parseRequest,
  readableId,
  reply,
  REQUEST_ID,
  type Envelope,
  type Request,
} from './messages.js';
import { RequestOrder } from './request-order.js';

/** Counts what happens on the legacy door. */
export interface TcpxMetrics {
  connection(event: 'opened' | 'closed' | 'refused_limit' | 'refused_address' | 'refused_address_limit'): void;
  frame(kind: 'register' | 'update' | 'find' | 'heartbeat' | 'authenticate' | 'unknown' | 'invalid'): void;
  error(errid: number): void;
}

/** Says when the write queue has room. */
export interface Room {
  readonly hasRoom: boolean;
  whenRoom(): Promise<void>;
}

/** What a connection needs of its server. */
export interface ConnectionContext {
  readonly registry: Pick<TaskRegistry, 'register' | 'update' | 'get'>;
  readonly room: Room;
  readonly log: Log;
  readonly metrics: TcpxMetrics;
  readonly maxFrameBytes: number;
  readonly maxUnanswered: number;
  readonly maxUnsentBytes: number;
  /** Present when a connection must authenticate before anything else (message 1393). */
  readonly authenticate: ((token: string, address: string) => Promise<Principal>) | undefined;
  /** Told when a frame begins to be, or is no longer, incomplete. */
  readonly onIncomplete: (connection: Connection, incomplete: boolean) => void;
}

/** A place in the queue of replies. */
interface Place {
  reply: Buffer | undefined;
}

export class Connection {
  readonly #decoder: FrameDecoder;
  readonly #order = new RequestOrder();
  #session: Session | undefined;
  #principal: Principal;
  #authenticated: boolean;
  #authenticating = false;
  #backlog: Frame[] = [];
  #replies: Place[] = [];
  #finishing = false;
  #flushing = false;
  #pumping = false;
  #waitingForRoom = false;
  #paused = false;

  constructor(
    private readonly socket: Socket,
    private readonly address: string,
    private readonly context: ConnectionContext,
  ) {
    this.#decoder = new FrameDecoder(context.maxFrameBytes);
    this.#principal = { kind: 'legacy', address } satisfies LegacyService;
    this.#authenticated = context.authenticate === undefined;
  }

  /** Begins to read. `session` is this connection's. */
  begin(session: Session): void {
    this.#session = session;
    this.socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    this.socket.on('end', () => this.finish());
    this.socket.on('drain', () => this.#pump());
    this.socket.on('error', (error) =>
      this.context.log.debug({ err: error, address: this.address }, 'a legacy connection broke'),
    );
  }

  /** Whether the server itself does not read on for now. */
  get paused(): boolean {
    return this.#paused;
  }

  /** Whether the last replies are on their way and nothing follows. */
  get finishing(): boolean {
    return this.#finishing;
  }

  /** Reads nothing more, answers what was read, then closes. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    this.context.onIncomplete(this, false);
    this.socket.pause();
    this.#pump();
    this.#flushSoon();
  }

  /** Closes at once. */
  destroy(): void {
    this.#backlog = [];
    this.socket.destroy();
  }

  #onData(chunk: Buffer): void {
    if (this.#finishing) return;
    const frames = this.#decoder.decode(chunk);
    if (frames.length > 0) {
      this.#session?.beat();
      this.context.onIncomplete(this, false);
    }
    if (this.#decoder.incomplete) this.context.onIncomplete(this, true);
    this.#backlog = this.#backlog.length === 0 ? frames : this.#backlog.concat(frames);
    this.#pump();
  }

  /** Begins as many of the waiting frames as may be begun, and reads on only when none waits. */
  #pump(): void {
    // What a frame begins may call for more; the outer call goes on with it.
    if (this.#pumping) return;
    this.#pumping = true;
    let begun = 0;
    while (begun < this.#backlog.length && this.#mayBegin()) this.#begin(this.#backlog[begun++] as Frame);
    if (begun > 0) this.#backlog = this.#backlog.slice(begun);
    this.#pumping = false;
    if (this.#backlog.length > 0 || !this.#mayBegin()) this.#pause();
    else this.#resume();
  }

  #mayBegin(): boolean {
    if (!this.context.room.hasRoom) this.#waitForRoom();
    return (
      this.context.room.hasRoom &&
      !this.#authenticating &&
      this.#replies.length < this.context.maxUnanswered &&
      this.socket.writableLength < this.context.maxUnsentBytes
    );
  }

  #waitForRoom(): void {
    if (this.#waitingForRoom) return;
    this.#waitingForRoom = true;
    void this.context.room.whenRoom().then(() => {
      this.#waitingForRoom = false;
      if (!this.socket.destroyed) this.#pump();
    });
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.socket.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#finishing) return;
    // That nothing was read meanwhile was our doing, not the peer's silence.
    this.#session?.beat();
    this.socket.resume();
  }

  #begin(frame: Frame): void {
    if (frame.kind === 'message') return this.#beginMessage(frame);
    this.context.metrics.frame('invalid');
    this.#answer(Promise.resolve(this.#refusal({ messageId: frame.messageId, header: '{}' }, '', 1000)));
    if (frame.kind === 'break') {
      this.context.log.debug(
        { address: this.address, length: frame.length },
        'a frame length cannot be right; closing',
      );
      this.finish();
    }
  }

  #beginMessage(frame: Extract<Frame, { kind: 'message' }>): void {
    if (frame.messageId === HEARTBEAT_ID) {
      this.context.metrics.frame('heartbeat');
      this.#session?.heartbeat();
    } else if (frame.messageId === AUTHENTICATE_ID && this.context.authenticate) {
      this.#beginAuthentication(frame.header, frame.body, this.context.authenticate);
    } else if (frame.messageId === REQUEST_ID) {
      this.#beginRequest(frame.header, frame.body);
    } else {
      this.context.metrics.frame('unknown');
    }
  }

  #beginRequest(headerBytes: Buffer, bodyBytes: Buffer): void {
    const header = parseHeader(headerBytes);
    const envelope: Envelope = { messageId: REQUEST_ID, header: header?.text ?? '{}' };
    const body = parseBody(bodyBytes);
    const id = readableId(body);
    if (!this.#authenticated) return this.#answer(Promise.resolve(this.#refusal(envelope, id, 1003)));
    let request: Request | undefined;
    try {
      request = header && parseRequest(header.requestId, body);
    } catch (invalid) {
      this.context.metrics.frame('invalid');
      return this.#answer(Promise.resolve(this.#refusal(envelope, id, erridOf(invalid))));
    }
    if (!request) {
      this.context.metrics.frame('invalid');
      return this.#answer(Promise.resolve(this.#refusal(envelope, id, 1000)));
    }
    this.context.metrics.frame(VERB_METRIC[request.verb]);
    this.#answer(this.#run(envelope, request));
  }

  async #run(envelope: Envelope, request: Request): Promise<Buffer> {
    const touch = request.verb === 'Find' ? 'read' : 'write';
    try {
      return await this.#order.run(request.id, touch, () => this.#perform(envelope, request));
    } catch (failure) {
      return this.#refusal(envelope, request.id, this.#erridFor(failure, request));
    }
  }

  async #perform(envelope: Envelope, request: Request): Promise<Buffer> {
    if (request.verb === 'Find')
      return foundReply(envelope, await this.context.registry.get(this.#principal, request.id));
    const claimant = this.#session ?? null;
    if (request.verb === 'Register')
      await this.context.registry.register(this.#principal, request.id, request.texts, { claimant });
    else await this.context.registry.update(this.#principal, request.id, request.texts, { claimant });
    return reply(envelope, request.id, 0);
  }

  #erridFor(failure: unknown, request: Request) {
    const errid = erridOf(failure);
    if (errid === 1001)
      this.context.log.warn(
        { err: failure, address: this.address, verb: request.verb, id: request.id },
        'a legacy request failed',
      );
    return errid;
  }

  #beginAuthentication(
    headerBytes: Buffer,
    bodyBytes: Buffer,
    authenticate: NonNullable<ConnectionContext['authenticate']>,
  ): void {
    this.context.metrics.frame('authenticate');
    const envelope: Envelope = { messageId: AUTHENTICATE_ID, header: parseHeader(headerBytes)?.text ?? '{}' };
    const token = parseBody(bodyBytes)?.['token'];
    if (typeof token !== 'string') return this.#answer(Promise.resolve(this.#refusal(envelope, '', 1000)));
    // What follows waits: it runs as whoever this turns out to be.
    this.#authenticating = true;
    const outcome = authenticate(token, this.address).then(
      (principal) => {
        this.#principal = principal;
        this.#authenticated = true;
        return reply(envelope, '', 0);
      },
      (failure: unknown) => this.#refusal(envelope, '', erridOf(failure)),
    );
    this.#answer(outcome);
    void outcome.then(() => {
      this.#authenticating = false;
      this.#pump();
    });
  }

  #refusal(envelope: Envelope, id: string, errid: Exclude<Parameters<typeof reply>[2], 0>): Buffer {
    this.context.metrics.error(errid);
    return reply(envelope, id, errid);
  }

  /** Takes the next place in the queue of replies; `outcome` never rejects. */
  #answer(outcome: Promise<Buffer>): void {
    const place: Place = { reply: undefined };
    this.#replies.push(place);
    void outcome.then((buffer) => {
      place.reply = buffer;
      if (this.#replies[0] === place) this.#flushSoon();
    });
  }

  /** Sends at the end of this turn, so that replies that become ready together leave together. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.socket.destroyed) return;
    const ready: Buffer[] = [];
    for (const place of this.#replies) {
      if (!place.reply) break;
      ready.push(place.reply);
    }
    if (ready.length > 0) {
      this.#replies = this.#replies.slice(ready.length);
      this.socket.write(ready.length === 1 ? (ready[0] as Buffer) : Buffer.concat(ready));
    }
    this.#pump();
    if (this.#finishing && this.#replies.length === 0 && this.#backlog.length === 0) this.#close();
  }

  /** Says goodbye, and reads into nothing until the peer does too: closing with unread input would cut off the last replies. */
  #close(): void {
    this.socket.end();
    this.socket.resume();
  }
}

const VERB_METRIC = { Register: 'register', Update: 'update', Find: 'find' } as const;
