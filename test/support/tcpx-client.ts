/**
 * A client of the legacy door for tests, demo and measurements: a real socket. Requests may be pipelined; replies are
 * read in the order in which they come, each within a deadline.
 */
import { connect, type Socket } from 'node:net';
import {
  AUTHENTICATE,
  findFrame,
  frame,
  heartbeatFrame,
  readFrame,
  registerFrame,
  updateFrame,
} from './tcpx-frames.js';
import type { WireTask } from './tcpx-frames.js';

/** A reply as it came. */
export interface TcpxReply {
  readonly messageId: number;
  /** The text of the header, to the byte. */
  readonly headerText: string;
  readonly header: Record<string, unknown>;
  readonly bodyText: string;
  readonly body: Record<string, unknown> & { id: string; errid: number; errmsg: string };
}

/** How a client connects. */
export interface TcpxClientOptions {
  /** The client's own address, for tests of addresses. */
  readonly localAddress?: string;
  /** How long a reply, a connection or its end may take, in milliseconds. */
  readonly deadlineMs?: number;
}

interface Waiter {
  readonly resolve: (reply: TcpxReply) => void;
  readonly reject: (error: Error) => void;
}

export class TcpxClient {
  #rest: Buffer = Buffer.alloc(0);
  readonly #arrived: TcpxReply[] = [];
  readonly #waiting: Waiter[] = [];
  readonly #closed: Promise<void>;
  #ended: string | undefined;

  private constructor(
    readonly socket: Socket,
    private readonly deadlineMs: number,
  ) {
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.on('end', () => this.#end('the server ended the connection'));
    socket.on('error', (error) => this.#end(error.message));
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()));
    void this.#closed.then(() => this.#end('the connection is closed'));
  }

  /** Connects to `host:port`. */
  static async connect(address: string, options: TcpxClientOptions = {}): Promise<TcpxClient> {
    const colon = address.lastIndexOf(':');
    const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
    const { localAddress, deadlineMs = 5_000 } = options;
    const socket = connect({
      host,
      port: Number(address.slice(colon + 1)),
      allowHalfOpen: true,
      noDelay: true,
      ...(localAddress && { localAddress }),
    });
    const client = new TcpxClient(socket, deadlineMs);
    await within(
      deadlineMs,
      'connecting',
      new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      }),
    );
    return client;
  }

  register(task: WireTask): Promise<TcpxReply> {
    return this.ask(registerFrame(task));
  }

  update(task: WireTask): Promise<TcpxReply> {
    return this.ask(updateFrame(task));
  }

  find(id: string): Promise<TcpxReply> {
    return this.ask(findFrame(id));
  }

  authenticate(token: string): Promise<TcpxReply> {
    return this.ask(frame(AUTHENTICATE, null, { token }));
  }

  /** Sends a heartbeat, which is never answered. */
  heartbeat(): void {
    this.socket.write(heartbeatFrame());
  }

  /** Sends heartbeats until the returned function is called or the connection ends. */
  beatEvery(periodMs: number): () => void {
    const timer = setInterval(() => this.heartbeat(), periodMs);
    const stop = () => clearInterval(timer);
    this.socket.once('close', stop);
    return stop;
  }

  /** Sends one request and reads one reply. */
  ask(request: Buffer): Promise<TcpxReply> {
    this.socket.write(request);
    return this.next();
  }

  /** Sends requests in one write, and reads as many replies. */
  pipeline(requests: readonly Buffer[]): Promise<TcpxReply[]> {
    this.socket.write(Buffer.concat(requests));
    return this.take(requests.length);
  }

  /** Sends bytes as they are, and as one chunk where the network leaves it one. */
  write(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** Sends bytes in pieces, each handed to the network by itself. */
  async writePieces(pieces: readonly Buffer[]): Promise<void> {
    for (const piece of pieces) {
      await new Promise<void>((resolve, reject) =>
        this.socket.write(piece, (error) => (error ? reject(error) : resolve())),
      );
    }
  }

  /** The next reply. Rejects when it does not come in time, or the connection ends first. */
  next(): Promise<TcpxReply> {
    const arrived = this.#arrived.shift();
    if (arrived) return Promise.resolve(arrived);
    if (this.#ended) return Promise.reject(new Error(`no reply: ${this.#ended}`));
    return within(
      this.deadlineMs,
      'a reply',
      new Promise((resolve, reject) => this.#waiting.push({ resolve, reject })),
    );
  }

  /** The next replies. */
  async take(count: number): Promise<TcpxReply[]> {
    const replies: TcpxReply[] = [];
    while (replies.length < count) replies.push(await this.next());
    return replies;
  }

  /** Replies that have arrived and nobody has asked for. */
  get unclaimed(): number {
    return this.#arrived.length;
  }

  /** How the connection ended, once it has. */
  get endedBy(): string | undefined {
    return this.#ended;
  }

  /** Shuts down the sending side; replies still arrive. */
  halfClose(): void {
    this.socket.end();
  }

  /** Reads nothing from now on. */
  stopReading(): void {
    this.socket.pause();
  }

  /** Resolves when the server has ended the connection; closes our side then. */
  async whenEnded(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      if (this.#ended) resolve();
      this.socket.once('end', resolve);
      this.socket.once('close', () => resolve());
    });
    await within(this.deadlineMs, 'the end of the connection', ended);
    await this.close();
  }

  /** Closes both sides. */
  close(): Promise<void> {
    this.socket.destroy();
    return this.#closed;
  }

  /** Cuts the connection with a reset. */
  reset(): Promise<void> {
    this.socket.resetAndDestroy();
    return this.#closed;
  }

  #onData(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let offset = 0;
    for (let read = readFrame(this.#rest); read; read = readFrame(this.#rest.subarray(offset))) {
      offset += read.size;
      this.#arrive(replyOf(read.frame));
    }
    this.#rest = this.#rest.subarray(offset);
  }

  #arrive(reply: TcpxReply): void {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(reply);
    else this.#arrived.push(reply);
  }

  #end(reason: string): void {
    this.#ended ??= reason;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new Error(`no reply: ${reason}`));
  }
}

function replyOf({ messageId, header, body }: { messageId: number; header: string; body: string }): TcpxReply {
  const parsed = JSON.parse(body) as TcpxReply['body'];
  return {
    messageId,
    headerText: header,
    header: JSON.parse(header) as TcpxReply['header'],
    bodyText: body,
    body: parsed,
  };
}

async function within<T>(deadlineMs: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${deadlineMs} ms`)), deadlineMs);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
