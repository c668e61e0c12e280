/**
 * What arrives over gRPC, before grpc-js has it: grpc-js would keep whatever is sent, for as long as it is sent, unpack it
 * for anybody, and let a client that has its answer keep the stream.
 *
 * Messages are put together here, within what there is room for (`rpc/arrivals.ts`), and handed on when they are whole and
 * unpacked. Those that strangers may not send are refused by their first bytes.
 */
import { constants, type ServerHttp2Stream } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { ServerInterceptingCall, type Metadata, type ServerInterceptor } from '@grpc/grpc-js';
import type { Authenticator } from '../domain/authenticator.js';
import { TaskDashError } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { addressIn, nameOf } from './connection-name.js';
import type { FloodGuard } from './grpc-floods.js';
import { statusOf } from './grpc-status.js';
import { StreamOutlet } from './grpc-outlet.js';
import type { Arrival, Arrivals, Sender } from './rpc/arrivals.js';
import { toConnectError } from './rpc/errors.js';
import { FLAWS, refusalOf } from './rpc/flaws.js';
import { credentialsIn } from './rpc/guard.js';
import { CALLS_A_TURN, MAX_HEADER_BYTES, MAX_STRANGER_BYTES, type RpcLimits } from './rpc/limits.js';
import { Pile } from './rpc/pile.js';
import { TurnQueue } from './rpc/turn-queue.js';
import type { Unsent } from './rpc/unsent.js';
import { canUnpack, tooLong, unpack } from './rpc/unpacking.js';

/** What is needed to judge what arrives. */
export interface GrpcIntakeOptions {
  readonly arrivals: Arrivals;
  readonly unsent: Unsent;
  readonly floods: Pick<FloodGuard, 'onCall' | 'onUseful'>;
  readonly auth: Pick<Authenticator, 'authenticate'>;
  readonly limits: RpcLimits;
  /** Something came from there and is about to be worked on. */
  readonly onWork: (peer: string) => void;
  readonly log: Log;
}

/** In front of each message: whether it is packed, and four bytes of length. */
const HEAD_BYTES = 5;
/** What a stream takes beside its headers and messages, about. */
const STREAM_BYTES = 9_216;
/** What headers take in memory for each byte that they measure, about. */
const HEADER_COST = 2;

/** What an intercepted call has inside, which grpc-js shows to nobody; a test notices when it no longer does. */
interface Inside {
  readonly stream: ServerHttp2Stream;
  readonly incomingEncoding: string;
}

/** Who is sending, with the connection by its name. */
interface Peer extends Sender {
  readonly connection: string;
}

/** The interceptor that stands between the streams of a server and grpc-js. */
export function createGrpcIntake(options: GrpcIntakeOptions): ServerInterceptor {
  const turns = new TurnQueue(CALLS_A_TURN);
  return (method, call) => {
    const { stream, incomingEncoding } = call as unknown as Inside;
    const refuse = (thrown: unknown) => call.sendStatus(statusOf(toConnectError(thrown, options.log, method.path)));
    const intake = new StreamIntake(options, stream, incomingEncoding, method.requestStream, refuse);
    return new NamedCall(intake.connection, call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            if (intake.begin(metadata, call.getHost())) turns.enter(() => pass(metadata));
          },
          // By this name it tells of every end of a call.
          onCancel: () => intake.answered(),
        }),
    });
  };
}

/** A call that names its connection where grpc-js would tell the peer's address and port. */
class NamedCall extends ServerInterceptingCall {
  constructor(
    private readonly connection: string,
    ...call: ConstructorParameters<typeof ServerInterceptingCall>
  ) {
    super(...call);
  }

  override getPeer(): string {
    return this.connection;
  }
}

class StreamIntake {
  readonly #deliver: (chunk: Buffer) => void;
  readonly #deliverEnd: () => void;
  readonly #maxBytes: number;
  readonly #pile = new Pile();
  readonly #sender: Peer;
  readonly #outlet: StreamOutlet;
  #metadata: Metadata | undefined;
  /** What the stream takes beside its messages. */
  #ownBytes = STREAM_BYTES;
  #arrival: Arrival | undefined;
  #head: Buffer | undefined;
  #isKnown: Promise<boolean> | undefined;
  #isHandingOn = false;
  #handedOnBytes = 0;
  #hasEnded = false;
  #isOver = false;

  constructor(
    private readonly options: GrpcIntakeOptions,
    private readonly stream: ServerHttp2Stream,
    private readonly encoding: string,
    private readonly hasManyMessages: boolean,
    private readonly refuse: (thrown: unknown) => void,
  ) {
    // Messages of a stream are beats and questions; whatever is large comes alone.
    this.#maxBytes = hasManyMessages ? MAX_STRANGER_BYTES : options.limits.maxMessageBytes;
    this.#sender = senderOf(stream);
    this.#outlet = new StreamOutlet(options.unsent, stream, this.#sender);
    options.onWork(this.#sender.connection);
    options.floods.onCall(this.#sender.connection);
    this.#deliver = takeOver(stream, 'data', (chunk: Buffer) => this.#take(chunk));
    this.#deliverEnd = takeOver(stream, 'end', () => this.#end());
    stream.once('close', () => this.#close());
  }

  get connection(): string {
    return this.#sender.connection;
  }

  /** The headers are there; false: they are too long, and the stream is over. */
  begin(metadata: Metadata, host: string | undefined): boolean {
    this.#metadata = metadata;
    const headerBytes = lengthOf(metadata) + (host?.length ?? 0);
    this.#ownBytes = STREAM_BYTES + HEADER_COST * headerBytes;
    if (headerBytes > MAX_HEADER_BYTES) {
      this.#close();
      this.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return false;
    }
    this.#outlet.ownBytes = this.#ownBytes;
    const crowded = this.options.unsent.crowded(this.#sender);
    if (crowded) this.#refuse(crowded);
    // A call that brings its one message has to do so; a stream may be silent for as long as it likes.
    if (!this.hasManyMessages) this.#expect();
    return !this.#isOver;
  }

  /** The answer is out: a client that does not end its side is made to. */
  answered(): void {
    if (this.#isOver) return;
    this.#close();
    if (this.stream.closed || this.stream.readableEnded) return;
    this.#arrival = this.options.arrivals.begin(this.#sender, () => this.stream.close(constants.NGHTTP2_CANCEL));
    this.#arrival.hold(this.#ownBytes);
  }

  #take(chunk: Buffer): void {
    this.options.onWork(this.#sender.connection);
    this.options.floods.onUseful(this.#sender.connection, chunk.length);
    if (this.#isOver) return;
    const isNext = this.#pile.length === 0 && !this.#head && !this.#isHandingOn;
    if (isNext && isWholeAndPlain(chunk)) return this.#deliver(chunk);
    this.#pile.add(chunk);
    this.#expect();
    if (!this.#isHandingOn) void this.#handOn();
  }

  /** Hands on what is whole, one after the other, and at last the end. */
  async #handOn(): Promise<void> {
    this.#isHandingOn = true;
    try {
      while (!this.#isOver && this.#hasHead() && (await this.#mayGoOn()) && this.#isWhole()) await this.#handOnOne();
    } catch (thrown) {
      this.#refuse(thrown);
    }
    this.#isHandingOn = false;
    if (this.#hasEnded) this.#end();
  }

  #end(): void {
    this.#hasEnded = true;
    if (this.#isHandingOn) return;
    if (!this.#isOver && (this.#head || this.#pile.length > 0)) return this.#refuse(refusalOf(FLAWS.half));
    // Whatever is done with a long message now, it takes about as much as it did.
    if (this.#isLong) this.#arrival?.settle(this.#ownBytes + this.#handedOnBytes);
    else this.#settle();
    this.#deliverEnd();
  }

  #hasHead(): boolean {
    if (!this.#head && this.#pile.length >= HEAD_BYTES) this.#head = this.#pile.take(HEAD_BYTES);
    return this.#head !== undefined;
  }

  #isWhole(): boolean {
    return this.#head !== undefined && this.#pile.length >= this.#head.readUInt32BE(1);
  }

  /** Judges a message by its head. Throws RESOURCE_EXHAUSTED and NOT_LOGGED_IN. */
  async #mayGoOn(): Promise<boolean> {
    const length = this.#head?.readUInt32BE(1) ?? 0;
    if (length > this.#maxBytes) throw tooLong(`has ${length} bytes`, this.#maxBytes);
    if (length <= MAX_STRANGER_BYTES) return true;
    this.#isKnown ??= this.#authenticate();
    if (await this.#isKnown) return !this.#isOver;
    throw new TaskDashError('NOT_LOGGED_IN');
  }

  async #handOnOne(): Promise<void> {
    const head = this.#head ?? Buffer.alloc(HEAD_BYTES);
    const message = this.#pile.take(head.readUInt32BE(1));
    this.#head = undefined;
    if (head[0] === 1 && canUnpack(this.encoding)) await this.#unpack(this.encoding, message);
    else this.#pass(head, message);
    if (this.hasManyMessages && this.#pile.length === 0) this.#settle();
  }

  /** Unpacks a message for a caller: of a stranger's no more than strangers may send. */
  async #unpack(encoding: string, message: Buffer): Promise<void> {
    const isKnown = await this.#authenticate();
    const maxBytes = isKnown ? this.#maxBytes : MAX_STRANGER_BYTES;
    const pass = (unpacked: Uint8Array) => {
      const head = Buffer.alloc(HEAD_BYTES);
      head.writeUInt32BE(unpacked.length, 1);
      this.#expect(unpacked.length);
      this.#pass(head, unpacked);
    };
    await unpack(encoding, message, maxBytes, pass).catch((thrown: unknown) => {
      const isTooLong = thrown instanceof ConnectError && thrown.code === Code.ResourceExhausted;
      throw isTooLong && !isKnown ? new TaskDashError('NOT_LOGGED_IN') : thrown;
    });
  }

  #pass(head: Buffer, message: Uint8Array): void {
    if (this.#isOver) return;
    this.#handedOnBytes += message.length;
    this.#deliver(Buffer.concat([head, message]));
  }

  get #isLong(): boolean {
    return !this.hasManyMessages && this.#handedOnBytes > MAX_STRANGER_BYTES;
  }

  async #authenticate(): Promise<boolean> {
    const header = (name: string) => this.#metadata?.get(name)[0]?.toString();
    const caller = { door: 'grpc', address: this.#sender.address, isEncrypted: false } as const;
    return this.options.auth.authenticate(credentialsIn(header, caller)).then(
      (principal) => principal !== undefined,
      () => false,
    );
  }

  /** More is to come; `bytes`: what is kept of it beside the pile. */
  #expect(bytes = 0): void {
    if (this.#isOver) return;
    this.#arrival ??= this.options.arrivals.begin(this.#sender, (error) => this.#refuse(error));
    this.#arrival.hold(this.#ownBytes + this.#pile.size + bytes);
  }

  #refuse(thrown: unknown): void {
    if (this.#isOver) return;
    this.refuse(thrown);
    this.#close();
    // What is left of it would be kept for nobody: the client need not end its side.
    this.stream.close();
  }

  #settle(): void {
    this.#arrival?.end();
    this.#arrival = undefined;
  }

  #close(): void {
    this.#settle();
    this.#isOver = true;
    this.#pile.clear();
  }
}

/** What headers measure as HTTP/2 counts them. */
function lengthOf(metadata: Metadata): number {
  let bytes = 0;
  const headers = metadata.toHttp2Headers();
  for (const name in headers) {
    const value = headers[name];
    if (Array.isArray(value)) for (const each of value) bytes += name.length + each.length + 32;
    else bytes += name.length + String(value).length + 32;
  }
  return bytes;
}

/** Puts a listener in the place of the latest one, which it returns. */
function takeOver<Args extends unknown[]>(
  stream: ServerHttp2Stream,
  event: 'data' | 'end',
  listener: (...args: Args) => void,
): (...args: Args) => void {
  const former = stream.listeners(event).at(-1) as ((...args: Args) => void) | undefined;
  if (!former) throw new Error(`grpc-js no longer listens to the ${event} of a stream`);
  stream.off(event, former);
  stream.on(event, listener);
  return former;
}

/** Whether a chunk is one or several messages that need neither be put together nor unpacked: nearly all are. */
function isWholeAndPlain(chunk: Buffer): boolean {
  let at = 0;
  while (at + HEAD_BYTES <= chunk.length && chunk[at] === 0) {
    const length = chunk.readUInt32BE(at + 1);
    if (length > MAX_STRANGER_BYTES) return false;
    at += HEAD_BYTES + length;
  }
  return at === chunk.length;
}

const senders = new WeakMap<object, Peer>();

function senderOf({ session }: ServerHttp2Stream): Peer {
  if (!session) return { connection: '', address: '' };
  const known = senders.get(session);
  if (known) return known;
  const connection = nameOf(session.socket);
  const sender = { connection, address: addressIn(connection) };
  senders.set(session, sender);
  return sender;
}
