/**
 * One connection of the legacy door.
 *
 *   open ──client shut down its side, server stops, or stream broken──► finishing ──all answered──► ended ──► closed
 *     └───────────── socket lost, session expired, frame timeout, defect ──────────────────────────────────────▲
 *
 * open       Frames are taken and requests begun for as long as the connection is within its limits. Beyond them it is
 *            *held*: nothing more is taken from the decoder or read from the socket until there is room again.
 * finishing  Nothing more is read. What was read is taken and answered; that it is taken by the client has a deadline.
 * ended      Our side is shut down and the session closed. Input is thrown away until the client closes too, or its
 *            time is up: closing with unread input would make the kernel reset the connection and lose last replies.
 *
 * Invariants
 * - Replies leave in the order of the requests, the header and body of each in one write.
 * - Memory: at most `maxUnanswered` requests, of at most `maxUnansweredBytes` (one may be larger), one chunk, one
 *   incomplete frame, and `maxUnreadReplyBytes` beside the replies of those requests.
 * - While a connection is held because of the server, the server answers for its client's signs of life, which may lie
 *   unread in the socket. A client that does not take its replies has only itself to blame for being silent.
 * - No exception leaves this file: a defect closes this connection, and none other.
 */
import type { Socket } from 'node:net';
import { actorOf, type Principal } from '../../domain/access.js';
import { TaskDashError, type Errid } from '../../domain/errors.js';
import type { Log } from '../../domain/ports.js';
import type { Session, SessionHost } from '../../domain/sessions.js';
import type { TaskRegistry } from '../../domain/task-registry.js';
import { FrameDecoder, HEAD_BYTES, type Frame } from './frame.js';
import type { IncompleteMemory } from './incomplete-memory.js';
import type { TcpxLimits } from './limits.js';
import {
  AUTHENTICATE_ID,
  EMPTY_HEADER,
  foundBody,
  HEARTBEAT_ID,
  plainBody,
  readHeader,
  readRequest,
  readToken,
  REQUEST_ID,
  type Request,
} from './messages.js';
import type { Flushable, Outbox } from './outbox.js';
import { ReplyQueue, type Place } from './reply-queue.js';
import { RequestLanes } from './request-lanes.js';
import type { RoomGate } from './room-gate.js';
import type { Sweep, Swept } from './sweep.js';
import type { CloseReason, TcpxMetrics } from './tcpx-metrics.js';

/** Decides who holds a token; throws NOT_LOGGED_IN for one that is not valid. */
export type TokenCheck = (token: string, address: string) => Promise<Principal>;

/** What the connections of one door share. */
export interface ConnectionContext {
  readonly registry: Pick<TaskRegistry, 'register' | 'update' | 'get'>;
  readonly sessions: SessionHost;
  /** Present: a connection must show a token (message 1393) before it may ask for anything. */
  readonly authenticateToken: TokenCheck | undefined;
  readonly limits: TcpxLimits;
  readonly log: Log;
  readonly metrics: TcpxMetrics;
  readonly readGate: RoomGate;
  readonly writeGate: RoomGate;
  readonly sweep: Sweep;
  readonly outbox: Outbox;
  readonly incomplete: IncompleteMemory;
  /** Told once, at the very end. */
  readonly onClosed: (connection: Connection) => void;
}

export class Connection implements Swept, Flushable {
  /** When the client must have completed its frame, taken its last replies, or gone. */
  deadlineAtMs = Infinity;
  #session: Session;
  readonly #decoder: FrameDecoder;
  readonly #replies = new ReplyQueue();
  /** Made at the first request: most connections of a fleet only beat. */
  #lanes: RequestLanes | undefined;
  #state: 'open' | 'finishing' | 'ended' | 'closed' = 'open';
  #held = false;
  #principal: Principal;
  #authenticated: boolean;
  #authenticating = false;
  #timedFrame = -1;
  #incompleteBytes = 0;
  #closeReason: CloseReason | undefined;

  constructor(
    private readonly socket: Socket,
    /** The client's address, without the port. */
    readonly address: string,
    private readonly context: ConnectionContext,
  ) {
    this.#decoder = new FrameDecoder(context.limits.maxFrameBytes);
    this.#principal = { kind: 'legacy', address };
    this.#authenticated = context.authenticateToken === undefined;
    this.#session = this.#openSession();
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('drain', () => this.flush());
    socket.on('end', () => this.#finish());
    socket.on('error', (error) => context.log.debug({ err: error, address }, 'a legacy connection was lost'));
    socket.on('close', () => this.#onClose());
  }

  /** Reads no more, answers what was read, and closes. */
  stop(): void {
    this.#closeReason ??= 'stopping';
    this.#finish();
  }

  #openSession(owner?: string): Session {
    const onExpired = () => this.destroy('silent');
    return this.context.sessions.open({ door: 'tcp', address: this.address, onExpired, ...(owner && { owner }) });
  }

  /** Closes at once. */
  destroy(reason: CloseReason): void {
    this.#closeReason ??= reason;
    this.socket.destroy();
  }

  /** For the sweep. */
  onOverdue(): void {
    this.context.log.debug({ address: this.address, state: this.#state }, 'a legacy connection took too long');
    this.destroy('timeout');
  }

  /** For the sweep: the client's signs of life may lie unread. */
  onStillHeld(): void {
    if (!this.#isReplyUnread) this.#session.beat();
  }

  /** For the outbox. */
  flush(): void {
    if (this.#state === 'closed' || this.socket.destroyed) return;
    this.#guard(() => {
      this.#send();
      if (this.#held || this.#state === 'finishing') this.#pump();
    });
  }

  #onData(chunk: Buffer): void {
    this.context.metrics.bytes('read', chunk.length);
    if (this.#state !== 'open') return;
    this.#guard(() => {
      this.#decoder.push(chunk);
      this.#pump();
    });
  }

  /** Nothing that goes wrong on this connection reaches another one. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (defect) {
      this.context.log.error({ err: defect, address: this.address }, 'a legacy connection is closed by a defect');
      this.destroy('failed');
    }
  }

  #send(): void {
    if (!this.#replies.isReady) return;
    const bytes = this.#replies.takeReady();
    this.context.metrics.bytes('written', bytes.length);
    this.socket.write(bytes);
  }

  /** Takes frames for as long as the limits allow. */
  #pump(): void {
    while (this.#mayTake) {
      const frame = this.#decoder.next();
      if (!frame) return this.#onUsedUp();
      this.#take(frame);
    }
    this.#hold();
  }

  get #mayTake(): boolean {
    const { maxUnanswered, maxUnansweredBytes } = this.context.limits;
    return (
      this.#replies.length < maxUnanswered &&
      this.#replies.requestBytes < maxUnansweredBytes &&
      !this.#authenticating &&
      !this.#lanes?.waitsForRoom &&
      !this.#isReplyUnread
    );
  }

  get #isReplyUnread(): boolean {
    return this.socket.writableLength > this.context.limits.maxUnreadReplyBytes;
  }

  #hold(): void {
    if (this.#held || this.#state === 'ended' || this.#state === 'closed') return;
    this.#held = true;
    this.socket.pause();
    // Frames wait for us now, so their time stands still; last replies wait for the client.
    this.#setDeadline(this.#state === 'finishing' && this.#isReplyUnread ? this.#patienceEndsMs() : Infinity);
    if (this.#state === 'open') this.context.sweep.hold(this);
  }

  #onUsedUp(): void {
    if (this.#state === 'finishing' && this.#replies.length === 0) return this.#end();
    if (this.#state !== 'open') return;
    this.#timeFrame();
    this.#accountForFrame();
    if (!this.#held) return;
    this.#held = false;
    this.context.sweep.release(this);
    this.#session.beat();
    this.socket.resume();
  }

  /** A frame's time runs from its first byte; what follows of it does not renew the deadline. */
  #timeFrame(): void {
    const { completed, isMidFrame } = this.#decoder;
    if (!isMidFrame) return this.#setDeadline(Infinity);
    if (this.deadlineAtMs !== Infinity && this.#timedFrame === completed) return;
    this.#timedFrame = completed;
    this.#setDeadline(this.#patienceEndsMs());
  }

  #patienceEndsMs(): number {
    return this.context.sweep.nowMs() + this.context.limits.frameTimeoutMs;
  }

  #accountForFrame(): void {
    const { keptBytes } = this.#decoder;
    if (keptBytes === this.#incompleteBytes) return;
    const fits = this.context.incomplete.change(this.#incompleteBytes, keptBytes);
    this.#incompleteBytes = keptBytes;
    if (fits) return;
    this.context.log.warn({ address: this.address, keptBytes }, 'incomplete legacy frames hold too much; closing one');
    this.destroy('memory');
  }

  #setDeadline(atMs: number): void {
    if (atMs === this.deadlineAtMs) return;
    this.deadlineAtMs = atMs;
    if (atMs === Infinity) this.context.sweep.unwatch(this);
    else this.context.sweep.watch(this);
  }

  #take(frame: Frame): void {
    if (frame.kind === 'broken') return this.#onBroken(frame.length);
    this.#session.beat();
    if (frame.kind === 'mismatch') return this.#onMismatch(frame.messageId);
    switch (frame.messageId) {
      case HEARTBEAT_ID:
        return this.#onHeartbeat();
      case REQUEST_ID:
        return this.#onRequest(frame.header, frame.body);
      case AUTHENTICATE_ID:
        if (this.context.authenticateToken)
          return this.#onToken(frame.header, frame.body, this.context.authenticateToken);
    }
    this.context.metrics.frame('unknown');
  }

  #onBroken(length: number): void {
    this.context.metrics.frame('malformed');
    this.context.log.debug({ address: this.address, length }, 'a frame length that cannot be right; closing');
    this.#closeReason ??= 'broken_stream';
    this.#refuse(this.#place(REQUEST_ID, EMPTY_HEADER, HEAD_BYTES), '', 1000);
    this.#finish();
  }

  #onMismatch(messageId: number): void {
    this.context.metrics.frame('malformed');
    // No client reads an answer to a heartbeat.
    if (messageId === HEARTBEAT_ID) return;
    this.#refuse(this.#place(messageId, EMPTY_HEADER, HEAD_BYTES), '', 1000);
  }

  /** Only who may ask for tasks gets tasks back by beating. */
  #onHeartbeat(): void {
    this.context.metrics.frame('heartbeat');
    if (this.#authenticated) this.#session.heartbeat();
  }

  #onRequest(headerBytes: Buffer, bodyBytes: Buffer): void {
    const { header, id, request } = readRequest(headerBytes, bodyBytes);
    const place = this.#place(REQUEST_ID, header, HEAD_BYTES + headerBytes.length + bodyBytes.length);
    if (!this.#authenticated) {
      this.context.metrics.frame('unauthenticated');
      return this.#refuse(place, id, 1003);
    }
    this.context.metrics.frame(request?.verb ?? 'malformed');
    if (!request) return this.#refuse(place, id, 1000);
    this.#lanes ??= new RequestLanes(this.context.readGate, this.context.writeGate);
    this.#enter(this.#lanes, place, request);
  }

  #enter(lanes: RequestLanes, place: Place, request: Request): void {
    const principal = this.#principal;
    const job = {
      request,
      start: () => {
        // A request that had to wait for room makes room for the next frame.
        if (this.#held) this.context.outbox.add(this);
        void this.#perform(principal, request)
          .catch((thrown: unknown) => this.#failure(request, thrown))
          .then((body) => {
            this.#answer(place, body);
            lanes.leave(job);
          });
      },
      fail: (error: TaskDashError) => this.#answer(place, this.#failure(request, error)),
    };
    lanes.enter(job);
  }

  async #perform(principal: Principal, request: Request): Promise<string> {
    const { registry } = this.context;
    const { verb, id } = request;
    if (verb === 'find') return foundBody(await registry.get(principal, id));
    await registry[verb](principal, id, request.texts, { claimant: this.#session });
    return plainBody(id, 0);
  }

  #failure(request: Request, thrown: unknown): string {
    const error = TaskDashError.from(thrown);
    const details = { err: error, address: this.address, verb: request.verb, id: request.id };
    if (error.code === 'INTERNAL') this.context.log.error(details, 'a legacy request failed by a defect');
    if (error.code === 'STORAGE_REFUSED') this.context.log.warn(details, 'the database refused a legacy request');
    this.context.metrics.error(error.errid);
    return plainBody(request.id, error.errid);
  }

  /** Nothing that follows is taken until the verdict is there: it is done in the name of the token's holder. */
  #onToken(headerBytes: Buffer, bodyBytes: Buffer, authenticate: TokenCheck): void {
    this.context.metrics.frame('authenticate');
    const header = readHeader(headerBytes);
    const token = readToken(bodyBytes);
    const bytes = HEAD_BYTES + headerBytes.length + bodyBytes.length;
    const place = this.#place(AUTHENTICATE_ID, header?.text ?? EMPTY_HEADER, bytes);
    if (!header || !token) return this.#refuse(place, '', 1000);
    this.#authenticating = true;
    void authenticate(token, this.address).then(
      (principal) => {
        this.#onAuthenticated(principal);
        this.#answer(place, plainBody('', 0));
      },
      (thrown: unknown) => {
        this.#authenticating = false;
        this.#refuse(place, '', TaskDashError.from(thrown).errid);
      },
    );
  }

  /** From its first token on, the connection's session is that of the token's holder. */
  #onAuthenticated(principal: Principal): void {
    this.#authenticating = false;
    this.#principal = principal;
    if (this.#authenticated || this.#state === 'closed') return;
    this.#authenticated = true;
    this.#session.close();
    this.#session = this.#openSession(actorOf(principal));
  }

  #place(messageId: number, header: string, requestBytes: number): Place {
    return this.#replies.push({ messageId, header, requestBytes, body: undefined });
  }

  #refuse(place: Place, id: string, errid: Errid): void {
    this.context.metrics.error(errid);
    this.#answer(place, plainBody(id, errid));
  }

  #answer(place: Place, body: string): void {
    place.body = body;
    if (this.#replies.isReady || this.#held) this.context.outbox.add(this);
  }

  #finish(): void {
    if (this.#state !== 'open') return;
    this.#state = 'finishing';
    this.context.sweep.release(this);
    this.#setDeadline(Infinity);
    this.socket.pause();
    this.context.outbox.add(this);
  }

  #end(): void {
    this.#state = 'ended';
    this.#session.close();
    const hasUnread = this.socket.writableLength > 0;
    this.#setDeadline(hasUnread ? this.#patienceEndsMs() : this.context.sweep.nowMs() + this.context.limits.lingerMs);
    this.socket.end();
    this.socket.resume();
  }

  #onClose(): void {
    this.#state = 'closed';
    this.#session.close();
    this.#setDeadline(Infinity);
    this.context.sweep.release(this);
    this.context.incomplete.change(this.#incompleteBytes, 0);
    this.context.metrics.connection('closed', this.#closeReason ?? 'client');
    this.context.onClosed(this);
  }
}
