/**
 * One connection of the legacy door: when its socket is read, when frames are taken, and how it ends. What the frames ask
 * for is conversation.ts.
 *
 *   open ──client shut down its side, server stops, or stream broken──► finishing ──all answered──► ended ──► closed
 *     └───────────── socket lost, session expired, token ended, frame timeout, defect ──────────────────────────────────────▲
 *
 * open       Frames are taken and requests begun for as long as the connection is within its limits and the turn has time
 *            left (turns.ts). Beyond that it is *held*: nothing more is taken from the decoder or read from the socket until
 *            there is room again, or its turn comes.
 * finishing  Nothing more is read. What was read is taken and answered; that it is taken by the client has a deadline.
 * ended      Our side is shut down and the session closed. Input is thrown away until the client closes too, or its
 *            time is up: closing with unread input would make the kernel reset the connection and lose last replies.
 *
 * Invariants
 * - Replies leave in the order of the requests, the header and body of each in one write.
 * - Memory: at most `maxUnanswered` requests, of at most `maxUnansweredBytes` (one may be larger), two chunks, one
 *   incomplete frame, and replies of `maxUnreadReplyBytes`, one more at most. All connections together are within the bounds
 *   of three memories (shared-memory.ts): what was read and not taken, requests under way, and replies.
 * - While a connection is held because of the server, the server answers for its client's signs of life, which may lie
 *   unread in the socket. A client that does not take its replies has only itself to blame for being silent.
 * - No exception leaves this file: a defect closes this connection, and none other.
 */
import type { Socket } from 'node:net';
import { Conversation, type ConversationContext, type ConversationLink } from './conversation.js';
import { FrameDecoder, HEAD_BYTES, type Frame } from './frame.js';
import { MAX_HEADER_BYTES, type TcpxLimits } from './limits.js';
import type { Flushable, Outbox } from './outbox.js';
import { Holding, type MemoryWaiter, type SharedMemory } from './shared-memory.js';
import type { Sweep, Swept } from './sweep.js';
import type { CloseReason } from './tcpx-metrics.js';
import type { Turns } from './turns.js';

/** What the connections of one door share. */
export interface ConnectionContext extends ConversationContext {
  readonly limits: TcpxLimits;
  readonly sweep: Sweep;
  readonly outbox: Outbox;
  readonly turns: Turns;
  /** For what was read and not taken. */
  readonly incompleteMemory: SharedMemory;
  /** Something came and is about to be worked on. */
  readonly onWork?: () => void;
  /** Told once, at the very end. */
  readonly onClosed: (connection: Connection) => void;
}

export class Connection implements ConversationLink, Swept, Flushable, MemoryWaiter {
  /** When the client must have completed its frame, taken its last replies, or gone. */
  deadlineAtMs = Infinity;
  readonly #decoder: FrameDecoder;
  readonly #conversation: Conversation;
  #state: 'open' | 'finishing' | 'ended' | 'closed' = 'open';
  #held = false;
  /** The incomplete frame, by the number of those before it, and what was left of its time when the connection was held. */
  #timedFrame = -1;
  #frameLeftMs = 0;
  readonly #incomplete: Holding;
  /** Since when the socket sent nothing of what it keeps. */
  #unsentSinceMs = Infinity;
  #closeReason: CloseReason | undefined;

  constructor(
    private readonly socket: Socket,
    /** The client's address, without the port. */
    readonly address: string,
    private readonly context: ConnectionContext,
  ) {
    this.#decoder = new FrameDecoder(context.limits.maxFrameBytes);
    this.#conversation = new Conversation(this, context);
    this.#incomplete = new Holding(context.incompleteMemory);
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

  /** Closes at once. */
  destroy(reason: CloseReason): void {
    this.#closeReason ??= reason;
    this.socket.destroy();
  }

  /** For the conversation. */
  onExpired(): void {
    this.destroy('silent');
  }

  /** For the token watch: nothing that waits may be done any more in the name of who held it. */
  onTokenEnded(): void {
    this.#conversation.disown();
    this.destroy('token_ended');
  }

  /** For the conversation, and for memory that it waits for: goes on at the end of this turn. */
  wake(): void {
    this.context.outbox.add(this);
  }

  /** For the outbox, and for the turns. */
  flush(): void {
    if (this.#state === 'closed' || this.socket.destroyed) return;
    this.guard(() => {
      this.#send();
      if (this.#held || this.#state === 'finishing') this.#pump();
    });
  }

  /** For the sweep. */
  onOverdue(): void {
    this.context.log.debug({ address: this.address, state: this.#state }, 'a legacy connection took too long');
    this.destroy('timeout');
  }

  /** For the sweep: the client's signs of life may lie unread. */
  onStillHeld(): void {
    // A socket that is paused still reads a little.
    this.#accountForUntaken();
    if (!this.#isReplyUnread) this.guard(() => this.#conversation.beat());
  }

  /** Nothing that goes wrong on this connection reaches another one. */
  guard(work: () => void): void {
    try {
      work();
    } catch (defect) {
      this.context.log.error({ err: defect, address: this.address }, 'a legacy connection is closed by a defect');
      this.destroy('failed');
    }
  }

  #onData(chunk: Buffer): void {
    this.context.onWork?.();
    this.context.metrics.bytes('read', chunk.length);
    if (this.#state !== 'open') return;
    this.guard(() => {
      this.#decoder.push(chunk);
      this.#pump();
    });
  }

  #send(): void {
    const { replies } = this.#conversation;
    if (!replies.isReady) return;
    const bytes = replies.takeReady();
    this.context.metrics.bytes('written', bytes.length);
    // Told when the client has taken it, also where it takes long.
    this.socket.write(bytes, this.#onSent);
    this.#accountForUnsent();
  }

  readonly #onSent = (): void => {
    this.#unsentSinceMs = Infinity;
    this.#accountForUnsent();
  };

  #accountForUnsent(): void {
    const bytes = this.#state === 'closed' ? 0 : this.socket.writableLength;
    this.#conversation.replies.unsentBytes = bytes;
    if (bytes === 0) this.#unsentSinceMs = Infinity;
    else this.#unsentSinceMs = Math.min(this.#unsentSinceMs, this.context.sweep.nowMs());
  }

  /** Whether the client has taken nothing of its replies since then. */
  hasTakenNothingSince(sinceMs: number): boolean {
    return this.#unsentSinceMs <= sinceMs;
  }

  /** Takes frames for as long as the limits and the turn allow. */
  #pump(): void {
    while (this.#mayTake && this.#isAdmitted) {
      const frame = this.#decoder.next(this.#conversation.maxFrameBytes);
      if (!frame) return this.#onUsedUp();
      this.#conversation.take(frame);
      if (frame.kind === 'broken') this.#onBroken(frame);
    }
    this.#hold();
  }

  get #mayTake(): boolean {
    const { replies, mayTake } = this.#conversation;
    const { maxUnanswered, maxUnansweredBytes } = this.context.limits;
    const hasRoom = replies.length < maxUnanswered && replies.requestBytes < maxUnansweredBytes;
    const isIn = hasRoom && this.#hasRoomForReply && mayTake && !this.#isReplyUnread;
    if (!isIn) this.#leaveLines();
    return isIn;
  }

  /** Whether the turn has time for what came, and the next frame and its reply have room; waits in one line for memory at most. */
  get #isAdmitted(): boolean {
    const { turns, replyMemory, requestMemory } = this.context;
    const { keptBytes, ready } = this.#decoder;
    if (keptBytes > 0 && !turns.admits(this)) return false;
    if (!ready) return true;
    const { replies, underWayBytes } = this.#conversation;
    const replyBytes = HEAD_BYTES + Math.min(ready.headerBytes, MAX_HEADER_BYTES);
    if (replyMemory.admits(this, replies.heldBytes + replyBytes)) {
      return requestMemory.admits(this, underWayBytes + ready.bytes);
    }
    requestMemory.leave(this);
    return false;
  }

  /** Whoever could not go on anyway is in nobody's way. */
  #leaveLines(): void {
    this.context.replyMemory.leave(this);
    this.context.requestMemory.leave(this);
  }

  get #isReplyUnread(): boolean {
    return this.socket.writableLength > this.context.limits.maxUnreadReplyBytes;
  }

  /** Of what is still under way, one may be larger. */
  get #hasRoomForReply(): boolean {
    const { replyBytes } = this.#conversation.replies;
    return replyBytes === 0 || replyBytes + this.socket.writableLength < this.context.limits.maxUnreadReplyBytes;
  }

  #onBroken({ length }: Extract<Frame, { kind: 'broken' }>): void {
    this.context.log.debug({ address: this.address, length }, 'a frame length that cannot be right; closing');
    this.#closeReason ??= 'broken_stream';
    this.#finish();
  }

  #hold(): void {
    this.#accountForUntaken();
    if (this.#state === 'finishing') return this.#waitForClient();
    if (this.#held || this.#state !== 'open') return;
    this.#held = true;
    this.socket.pause();
    // Frames wait for us now, so their time stands still.
    this.#frameLeftMs = this.deadlineAtMs - this.context.sweep.nowMs();
    this.#setDeadline(Infinity);
    this.context.sweep.hold(this);
  }

  /** Last replies wait for the client, from when they do. */
  #waitForClient(): void {
    if (!this.#isReplyUnread) this.#setDeadline(Infinity);
    else if (this.deadlineAtMs === Infinity) this.#setDeadline(this.#patienceEndsMs());
  }

  #onUsedUp(): void {
    if (this.#state === 'finishing' && this.#conversation.replies.length === 0) return this.#end();
    if (this.#state !== 'open') return;
    this.#timeFrame();
    this.#accountForUntaken();
    if (!this.#held) return;
    this.#held = false;
    this.context.sweep.release(this);
    this.#conversation.beat();
    this.socket.resume();
  }

  /** A frame's time runs from its first byte, while the connection is not held; what follows of it does not renew it. */
  #timeFrame(): void {
    const { completed, isMidFrame } = this.#decoder;
    if (!isMidFrame) return this.#setDeadline(Infinity);
    if (this.#timedFrame !== completed) this.#setDeadline(this.#patienceEndsMs());
    else if (this.deadlineAtMs === Infinity) this.#setDeadline(this.context.sweep.nowMs() + this.#frameLeftMs);
    this.#timedFrame = completed;
  }

  #patienceEndsMs(): number {
    return this.context.sweep.nowMs() + this.context.limits.frameTimeoutMs;
  }

  #accountForUntaken(): void {
    const { bytes: before } = this.#incomplete;
    const keptBytes = this.#decoder.keptBytes + this.socket.readableLength;
    this.#incomplete.bytes = keptBytes;
    if (keptBytes <= before || this.context.incompleteMemory.fits(keptBytes)) return;
    const details = { address: this.address, keptBytes };
    this.context.log.warn(details, 'what legacy connections sent in part, or too fast, holds too much; closing one');
    this.destroy('memory');
  }

  #setDeadline(atMs: number): void {
    if (atMs === this.deadlineAtMs) return;
    this.deadlineAtMs = atMs;
    if (atMs === Infinity) this.context.sweep.unwatch(this);
    else this.context.sweep.watch(this);
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
    this.#conversation.close();
    const hasUnread = this.socket.writableLength > 0;
    this.#setDeadline(hasUnread ? this.#patienceEndsMs() : this.context.sweep.nowMs() + this.context.limits.lingerMs);
    this.socket.end();
    this.socket.resume();
  }

  #onClose(): void {
    this.#state = 'closed';
    this.guard(() => this.#conversation.close());
    this.#setDeadline(Infinity);
    this.context.sweep.release(this);
    this.#leaveLines();
    this.#incomplete.bytes = 0;
    this.#accountForUnsent();
    this.context.metrics.connection('closed', this.#closeReason ?? 'client');
    this.context.onClosed(this);
  }
}
