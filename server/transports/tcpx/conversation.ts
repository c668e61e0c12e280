/**
 * What is said on one connection: who speaks, what its frames ask for, and the replies in their order. Knows nothing of
 * sockets; when frames are handed over is the connection's business (connection.ts).
 *
 * With tokens required, a conversation begins unauthenticated: its requests are refused and its heartbeats restore nothing. Its
 * session is the same before and after the first token, which says whose it is, so that a connection is one visit to whoever
 * looks at its address. While a token is being checked no further frame may be handed over, so that what was sent behind the
 * token is done in the name of its holder. A token that ends while the connection lives ends the connection (token-watch.ts).
 */
import { ownerOf, type Principal } from '../../domain/access.js';
import { TaskDashError, type Errid } from '../../domain/errors.js';
import type { Log } from '../../domain/ports.js';
import type { Session, SessionHost } from '../../domain/sessions.js';
import type { TaskRegistry } from '../../domain/task-registry.js';
import { HEAD_BYTES, type Frame } from './frame.js';
import { MAX_STRANGER_FRAME_BYTES } from './limits.js';
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
import { ReplyQueue, type Place } from './reply-queue.js';
import { RequestLanes } from './request-lanes.js';
import { Holding, type SharedMemory } from './shared-memory.js';
import type { TcpxMetrics } from './tcpx-metrics.js';
import type { TokenCheck, TokenHolder, TokenWatch } from './token-watch.js';
import type { Gate } from './write-gate.js';

/** What the conversations of one door share. */
export interface ConversationContext {
  readonly registry: Pick<TaskRegistry, 'register' | 'update' | 'get'>;
  readonly sessions: SessionHost;
  /** Present: a connection must show a token (message 1393) before it may ask for anything. */
  readonly authenticateToken: TokenCheck | undefined;
  /** Present where tokens are: ends the connections of one that is not valid any more. */
  readonly tokenWatch: TokenWatch | undefined;
  readonly log: Log;
  readonly metrics: TcpxMetrics;
  /** For requests under way. */
  readonly requestMemory: SharedMemory;
  /** For replies that clients have not taken, and those of finds under way. */
  readonly replyMemory: SharedMemory;
  readonly readGate: Gate;
  readonly writeGate: Gate;
}

/** The connection, as its conversation knows it. */
export interface ConversationLink extends TokenHolder {
  /** The session was silent for too long. */
  onExpired(): void;
  /** Replies are ready, or frames may be handed over again. */
  wake(): void;
  /** Does what is left of a request, and keeps a defect in it from anybody else. */
  guard(work: () => void): void;
}

/** What the reply to a find is taken for until it is known: the longest record there is without escapes. */
const LARGE_REPLY_BYTES = 30 * 1024;

export class Conversation {
  readonly replies: ReplyQueue;
  /** What this connection's requests measure that are under way. */
  readonly #underWay: Holding;
  readonly #session: Session;
  /** Made at the first request: most connections of a fleet only beat. */
  #lanes: RequestLanes | undefined;
  #principal: Principal;
  #authenticated: boolean;
  #authenticating = false;
  /** The token that the principal holds. */
  #token: string | undefined;
  #closed = false;

  constructor(
    private readonly link: ConversationLink,
    private readonly context: ConversationContext,
  ) {
    this.replies = new ReplyQueue(context.replyMemory);
    this.#underWay = new Holding(context.requestMemory);
    this.#principal = { kind: 'legacy', address: link.address };
    this.#authenticated = context.authenticateToken === undefined;
    const onExpired = () => link.onExpired();
    this.#session = context.sessions.open({ door: 'tcp', address: link.address, onExpired });
  }

  /** Whether the next frame may be handed over: none while a token is checked or a request waits for room. */
  get mayTake(): boolean {
    return !this.#authenticating && !this.#lanes?.waitsForRoom;
  }

  /** What requests measure that are under way. */
  get underWayBytes(): number {
    return this.#underWay.bytes;
  }

  /** How long a frame may be: whoever has to show a token first gets to say little before. */
  get maxFrameBytes(): number {
    return this.#authenticated ? Infinity : MAX_STRANGER_FRAME_BYTES;
  }

  /** A sign of life that nobody needs to have sent. */
  beat(): void {
    this.#session.beat();
  }

  /** Nothing that waits is done any more in the name of who spoke. */
  disown(): void {
    this.#lanes?.forget('everything');
  }

  /** Ends the session; idempotent. Nobody is there any more to be told what finds that wait would find. */
  close(): void {
    this.#closed = true;
    this.#lanes?.forget('finds');
    this.replies.close();
    this.#watchToken(undefined);
    this.#session.close();
  }

  /** Takes the next frame; its header and body are not used after this returns. */
  take(frame: Frame): void {
    if (frame.kind === 'broken') return this.#onMalformed(REQUEST_ID);
    this.#session.beat();
    if (frame.kind === 'mismatch') return this.#onMalformed(frame.messageId);
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

  #onMalformed(messageId: number): void {
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
    const bytes = HEAD_BYTES + headerBytes.length + bodyBytes.length;
    const place = this.#place(REQUEST_ID, header, bytes, this.#authenticated && request?.verb === 'find');
    if (!this.#authenticated) {
      this.context.metrics.frame('unauthenticated');
      return this.#refuse(place, id, 1003);
    }
    this.context.metrics.frame(request?.verb ?? 'malformed');
    if (!request) return this.#refuse(place, id, 1000);
    const { readGate, writeGate } = this.context;
    this.#lanes ??= new RequestLanes(readGate, writeGate, () => this.link.wake());
    this.#enter(this.#lanes, place, request);
  }

  #enter(lanes: RequestLanes, place: Place, request: Request): void {
    const principal = this.#principal;
    this.#underWay.bytes += place.requestBytes;
    const answer = (body: string) => {
      this.#underWay.bytes -= place.requestBytes;
      this.#answer(place, body);
    };
    const finish = (body: string) => {
      answer(body);
      lanes.leave(job);
    };
    const job = {
      request,
      start: () => {
        this.#perform(principal, request).then(
          (body) => this.link.guard(() => finish(body)),
          (thrown: unknown) => this.link.guard(() => finish(this.#failure(request, thrown))),
        );
      },
      drop: () => void (this.#underWay.bytes -= place.requestBytes),
      fail: (error: TaskDashError) => this.link.guard(() => answer(this.#failure(request, error))),
    };
    lanes.enter(job);
  }

  async #perform(principal: Principal, request: Request): Promise<string> {
    const { verb, id } = request;
    if (verb === 'find') return this.#find(principal, id);
    await this.context.registry[verb](principal, id, request.texts, { claimant: this.#session });
    return plainBody(id, 0);
  }

  /** The reply is taken for a large one until it is known. */
  async #find(principal: Principal, id: string): Promise<string> {
    const { registry, replyMemory } = this.context;
    const reserved = new Holding(replyMemory);
    reserved.bytes = LARGE_REPLY_BYTES;
    try {
      return foundBody(await registry.get(principal, id));
    } finally {
      reserved.bytes = 0;
    }
  }

  #failure(request: Request, thrown: unknown): string {
    const error = TaskDashError.from(thrown);
    const details = { err: error, address: this.link.address, verb: request.verb, id: request.id };
    if (error.code === 'INTERNAL') this.context.log.error(details, 'a legacy request failed by a defect');
    if (error.code === 'STORAGE_REFUSED') this.context.log.warn(details, 'the database refused a legacy request');
    this.context.metrics.error(error.errid);
    return plainBody(request.id, error.errid);
  }

  #onToken(headerBytes: Buffer, bodyBytes: Buffer, authenticate: TokenCheck): void {
    this.context.metrics.frame('authenticate');
    const header = readHeader(headerBytes);
    const token = readToken(bodyBytes);
    const bytes = HEAD_BYTES + headerBytes.length + bodyBytes.length;
    const place = this.#place(AUTHENTICATE_ID, header?.text ?? EMPTY_HEADER, bytes);
    if (!header || !token) return this.#refuse(place, '', 1000);
    this.#authenticating = true;
    const conclude = (conclusion: () => void) =>
      this.link.guard(() => {
        this.#authenticating = false;
        conclusion();
        this.link.wake();
      });
    authenticate(token, this.link.address).then(
      (principal) => conclude(() => this.#onAuthenticated(place, principal, token)),
      (thrown: unknown) => conclude(() => this.#refuse(place, '', TaskDashError.from(thrown).errid)),
    );
  }

  /** From its first token on, the session is that of the token's holder. */
  #onAuthenticated(place: Place, principal: Principal, token: string): void {
    this.#principal = principal;
    if (!this.#closed) this.#watchToken(token);
    if (!this.#authenticated && !this.#closed) {
      this.#authenticated = true;
      this.#session.identify(ownerOf(principal));
    }
    this.#answer(place, plainBody('', 0));
  }

  #watchToken(token: string | undefined): void {
    const { tokenWatch } = this.context;
    if (this.#token !== undefined) tokenWatch?.remove(this.#token, this.link);
    if (token !== undefined) tokenWatch?.add(token, this.#principal, this.link);
    this.#token = token;
  }

  #place(messageId: number, header: string, requestBytes: number, isFind = false): Place {
    return this.replies.push({ messageId, header, requestBytes, isFind });
  }

  #refuse(place: Place, id: string, errid: Errid): void {
    this.context.metrics.error(errid);
    this.#answer(place, plainBody(id, errid));
  }

  #answer(place: Place, body: string): void {
    this.replies.answer(place, body);
    if (this.replies.isReady) this.link.wake();
  }
}
