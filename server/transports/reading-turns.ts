/**
 * Whose connections are begun and read in a turn of the event loop, of the gRPC and the HTTP door together.
 *
 * Node accepts one connection in a turn, and reads whatever has come over all that are open. So whoever connects waits for a
 * turn for each connection that came before, and each of them lasts as long as a crowd has sent something. Hence:
 *
 * - A turn is short. When it has lasted too long, nothing more is read in it: all connections get in line, and some of the
 *   line go on in each of the next turns. Where there are no more than these, nothing is stopped.
 * - Accepting goes first, as it costs next to nothing. A new connection is in line before anything of it is read, and while
 *   each turn has accepted one, few of the line go on, and only now and then.
 * - In the line networks take turns: whoever comes alone is next, however many others somebody else has. While a network
 *   waits, it goes on with one piece at a time of each of its connections; nobody else is held up by that. A piece may take
 *   all of a turn, so that those of a network go on together, and another network is the first each time.
 *
 *   accepted ──► in line ──► begun, reading ──► in line ──► reading …
 *                   its turn              a turn was long, or its network waits
 *
 * The line moves in every turn but for those few milliseconds, and has no more than the connections that are open.
 */
import type { Socket } from 'node:net';
import type { Clock } from '../domain/clock.js';
import { networkOf } from '../domain/network.js';

/** After how long nothing more is read in a turn. */
const TURN_MS = 10;
/** How long accepting may keep the line waiting. */
const ACCEPTING_MS = 25;
/** How many of the line go on in a turn, and how many while connections are being accepted. */
const GO_ON = 16;
const GO_ON_ACCEPTING = 4;

/**
 * What a socket reads by. Node shows it to nobody and has no other way to leave bytes with the system; a test notices when it
 * changes.
 */
interface Handle {
  /** Whether Node itself wants to read. */
  readonly reading: boolean;
  readonly writeQueueSize: number;
  readStart(): void;
  readStop(): void;
}

/** An open connection. */
interface Connection {
  readonly network: string;
  readonly handle: Handle;
  /** What is done with it when it goes on for the first time. */
  begin: (() => void) | undefined;
  /** Whether what reads it stops by itself while it writes, and goes on after that. */
  readonly isHttp2: boolean;
}

export class ReadingTurns {
  readonly #connections = new WeakMap<Socket, Connection>();
  readonly #reading = new Set<Connection>();
  readonly #line = new Line();
  /** When the present turn began to do something. */
  #beganAtMs: number | undefined;
  #hasAccepted = false;
  #wentOnAtMs = -Infinity;
  #isCounting = false;

  constructor(private readonly clock: Clock) {}

  /** A door accepted a connection, also one that it closes at once. */
  onAccepted(): void {
    this.#hasAccepted = true;
    this.#count();
  }

  /** Puts a new connection in line; `begin` gives it to who reads it, when it is its turn. */
  enter(socket: Socket, begin: () => void, { isHttp2 = false } = {}): void {
    const { _handle: handle } = socket as unknown as { _handle: Handle | null };
    if (!handle) return void socket.destroy();
    handle.readStop();
    const connection: Connection = { network: networkOf(socket.remoteAddress ?? ''), handle, begin, isHttp2 };
    this.#connections.set(socket, connection);
    this.#line.add(connection);
    socket.once('close', () => {
      this.#reading.delete(connection);
      this.#line.remove(connection);
    });
    this.#count();
  }

  /** Something came over a connection and is about to be worked on. */
  onWork(socket: Socket | undefined): void {
    const connection = socket && this.#connections.get(socket);
    if (connection && this.#line.has(connection.network)) this.#stop(connection);
    const nowMs = this.clock.monotonicMs();
    this.#beganAtMs ??= nowMs;
    this.#count();
    // So few would all go on in the next turn: whatever takes long, it is not they.
    if (nowMs - this.#beganAtMs < TURN_MS || this.#reading.size <= GO_ON) return;
    for (const each of this.#reading) this.#stop(each);
  }

  #stop(connection: Connection): void {
    // HTTP/2 goes on after a write also when it is in line.
    connection.handle.readStop();
    if (this.#reading.delete(connection)) this.#line.add(connection);
  }

  #count(): void {
    if (this.#isCounting) return;
    this.#isCounting = true;
    setImmediate(() => this.#onTurnEnd());
  }

  #onTurnEnd(): void {
    const isAccepting = this.#hasAccepted;
    this.#isCounting = false;
    this.#hasAccepted = false;
    this.#beganAtMs = undefined;
    if (this.#line.isEmpty) return;
    this.#count();
    const nowMs = this.clock.monotonicMs();
    if (isAccepting && nowMs - this.#wentOnAtMs < ACCEPTING_MS) return;
    this.#wentOnAtMs = nowMs;
    for (const connection of this.#line.take(isAccepting ? GO_ON_ACCEPTING : GO_ON)) this.#goOn(connection);
  }

  #goOn(connection: Connection): void {
    const { begin, handle, isHttp2 } = connection;
    this.#reading.add(connection);
    connection.begin = undefined;
    begin?.();
    const goesOnByItself = isHttp2 && handle.writeQueueSize > 0;
    if (handle.reading && !goesOnByItself) handle.readStart();
  }
}

/** Connections by network, in the order of turns. */
class Line {
  readonly #networks = new Map<string, Set<Connection>>();

  get isEmpty(): boolean {
    return this.#networks.size === 0;
  }

  has(network: string): boolean {
    return this.#networks.has(network);
  }

  add(connection: Connection): void {
    const waiting = this.#networks.get(connection.network);
    if (waiting) waiting.add(connection);
    else this.#networks.set(connection.network, new Set([connection]));
  }

  remove(connection: Connection): void {
    const waiting = this.#networks.get(connection.network);
    waiting?.delete(connection);
    if (waiting?.size === 0) this.#networks.delete(connection.network);
  }

  /** The next so many, those of a network together; networks have equal shares, and none is the first twice. */
  take(count: number): Connection[] {
    const [first] = this.#networks.keys();
    const shares = new Map<string, Connection[]>();
    let left = count;
    for (const [network, waiting] of this.#networks) {
      if (left-- === 0) break;
      const [next] = waiting;
      if (!next) continue;
      shares.set(network, [...(shares.get(network) ?? []), next]);
      waiting.delete(next);
      // The loop comes to it again at the end.
      this.#toEnd(network, waiting);
    }
    const [next] = this.#networks;
    if (next && next[0] === first) this.#toEnd(...next);
    return [...shares.values()].flat();
  }

  #toEnd(network: string, waiting: Set<Connection>): void {
    this.#networks.delete(network);
    if (waiting.size > 0) this.#networks.set(network, waiting);
  }
}
