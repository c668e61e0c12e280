/**
 * Whose connections are begun and read in a turn of the event loop, of the gRPC and the HTTP door together, and when a turn may
 * be long.
 *
 * Node accepts one connection in a turn, and reads whatever has come over all that are open. So whoever connects waits for a
 * turn for each connection that came before, and each of them lasts as long as a crowd has sent something. Hence:
 *
 * - Accepting goes first, as it costs next to nothing: what has been accepted gets in line as the system gives it, before Node
 *   makes a socket of it. While each turn accepts one, the line pauses after each turn in which some of it went on; but not where
 *   turns are long all the same, since other work makes them so.
 * - A turn is short. When these doors have worked too long in it, nothing more is read: all connections get in line, those behind
 *   whom something was done last, and some of the line go on in each of the next turns. Work that takes long by itself, as making
 *   a long answer, waits for a turn of its own.
 * - In the line networks take turns: whoever comes alone is next, however many others somebody else has. While a network
 *   waits, it goes on with one piece at a time of each of its connections; nobody else is held up by that.
 * - A piece may take all of a turn. The system decides which connection is read first, so that of those that go on together
 *   some would be stopped again and again before they are read. So after a long turn networks go on one after the other, and
 *   several in a turn only when none has been long for a while.
 *
 *   accepted ──► in line ──► begun, reading ──► in line ──► reading …
 *                   its turn              a turn was long, or its network waits
 *
 * The line moves in every turn but for those pauses. Nobody notices that a connection was closed by the other side
 * before its turn, so those that come when many of their network wait are closed at once.
 */
import type { Server, Socket } from 'node:net';
import type { Clock } from '../domain/clock.js';
import { networkOf } from '../domain/network.js';
import { MAX_WAITING_CONNECTIONS } from './rpc/limits.js';

/** After how much work nothing more is read in a turn. */
const TURN_MS = 10;
/** How long accepting may keep the line waiting, and long work, each time. */
const ACCEPTING_MS = 25;
/** How many of the line go on in a turn. */
const GO_ON = 16;
/** After how many turns without a long one they may be of several networks. */
const CALM_TURNS = 16;
/** For how many turns the line does not pause after one that was as long as a pause may be, though the line did pause in it. */
const UNPAUSED_TURNS = 8;

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

/** A connection as the system gives it. */
interface Accepted {
  /** Writes its address into what is given, but for one that has gone already. */
  getpeername(peer: { address?: string }): number;
  close(): void;
}

/** What a server accepts by: Node makes a socket of each connection in `onconnection`, and tells the server of it. */
interface ListeningHandle {
  onconnection: (error: number, accepted: Accepted | undefined) => void;
}

/** Which connections a server takes. */
export interface Gate {
  /** Counts one more from an address; false: it is not taken, and closed at once. */
  admits(address: string): boolean;
  /** One that was taken is closed. */
  onClosed(address: string): void;
}

/** Who waits in line. */
interface Waiting {
  readonly network: string;
  goOn(): void;
}

/** An open connection. */
interface Connection extends Waiting {
  readonly handle: Handle;
  /** Counts how often it has begun to be read. */
  spell: number;
}

export class ReadingTurns {
  readonly #connections = new WeakMap<Socket, Connection>();
  /** Those for whom something was done last come last. */
  readonly #reading = new Set<Connection>();
  readonly #line = new Line();
  /** How many connections have been accepted so far, those too that were closed at once. */
  accepted = 0;
  #longWork: (() => void)[] = [];
  /** How long pieces have been worked on in the present turn, but for the one since then. */
  #workedMs = 0;
  #pieceBeganAtMs: number | undefined;
  #hasAccepted = false;
  /** How many turns in which some of the line went on have ended since the latest long one. */
  #calmTurns = CALM_TURNS;
  /** Whether some of the line go on in the present turn. */
  #isGoingOn = false;
  /** When the latest such turn ended. */
  #wentOnUntilMs = -Infinity;
  /** When the present turn began, if somebody has waited since then; else Infinity. */
  #waitedSinceMs = Infinity;
  /** For how many turns the line does not pause. */
  #unpausedTurns = 0;
  #isCounting = false;

  constructor(private readonly clock: Clock) {}

  /**
   * Has what a listening server accepts wait for its turn to become a connection, and watches how connections are read.
   * `isHttp2`: what reads them stops by itself while it writes, and goes on after that.
   */
  begin(server: Server, gate: Gate, { isHttp2 = false } = {}): void {
    const { _handle: handle } = server as unknown as { _handle: ListeningHandle };
    const { onconnection: connect } = handle;
    let begunFrom = '';
    handle.onconnection = (error, accepted) => {
      if (!accepted) return connect.call(handle, error, accepted);
      // Also one that is closed at once: behind it others wait to be accepted.
      this.#hasAccepted = true;
      this.accepted++;
      this.#count();
      const address = addressOf(accepted);
      const network = networkOf(address ?? '');
      if (address === undefined || !this.#hasRoomFor(network) || !gate.admits(address)) return accepted.close();
      const goOn = () => {
        begunFrom = address;
        // Who has gone meanwhile is closed like those who had gone before.
        if (server.listening && addressOf(accepted) !== undefined) return connect.call(handle, 0, accepted);
        accepted.close();
        gate.onClosed(address);
      };
      this.#line.add({ network, goOn });
    };
    server.prependListener('connection', (socket: Socket) => {
      const address = begunFrom;
      socket.once('close', () => gate.onClosed(address));
      this.#follow(socket, networkOf(address), isHttp2);
    });
  }

  /** Something came over a connection and is about to be worked on. */
  onWork(socket: Socket | undefined): void {
    const connection = socket && this.#connections.get(socket);
    if (connection) this.#worksFor(connection);
    const nowMs = this.clock.monotonicMs();
    this.#endPiece(nowMs);
    this.#pieceBeganAtMs = nowMs;
    this.#count();
    if (this.#workedMs < TURN_MS) return;
    this.#calmTurns = 0;
    for (const each of this.#reading) this.#stop(each);
  }

  /** Something is about to be worked on that came over no connection of these: how long it takes is not their fault. */
  onOtherWork(): void {
    if (this.#pieceBeganAtMs !== undefined) this.#endPiece(this.clock.monotonicMs());
  }

  #endPiece(nowMs: number): void {
    if (this.#pieceBeganAtMs !== undefined) this.#workedMs += nowMs - this.#pieceBeganAtMs;
    this.#pieceBeganAtMs = undefined;
  }

  #worksFor(connection: Connection): void {
    if (this.#line.countOf(connection.network) > 0) this.#stop(connection);
    // Whoever has been read is the last to get in line.
    else if (this.#reading.delete(connection)) this.#reading.add(connection);
  }

  /** Resolves when it is the turn of work that takes some milliseconds, in the order in which it came. */
  forLongWork(): Promise<void> {
    this.#count();
    return new Promise((resolve) => this.#longWork.push(resolve));
  }

  /** The spell for which a connection is being read without a break; undefined: it waits in line. */
  readingSpell(socket: Socket): number | undefined {
    const connection = this.#connections.get(socket);
    return connection && this.#reading.has(connection) ? connection.spell : undefined;
  }

  #hasRoomFor(network: string): boolean {
    const { network: maxOfNetwork, together } = MAX_WAITING_CONNECTIONS;
    return this.#line.countOf(network) < maxOfNetwork && this.#line.count < together;
  }

  #follow(socket: Socket, network: string, isHttp2: boolean): void {
    const { _handle: handle } = socket as unknown as { _handle: Handle | null };
    if (!handle) return;
    const goOn = () => {
      this.#reading.add(connection);
      connection.spell++;
      const goesOnByItself = isHttp2 && handle.writeQueueSize > 0;
      if (handle.reading && !goesOnByItself) handle.readStart();
    };
    const connection: Connection = { network, handle, goOn, spell: 0 };
    this.#connections.set(socket, connection);
    this.#reading.add(connection);
    socket.once('close', () => {
      this.#reading.delete(connection);
      this.#line.remove(connection);
    });
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
    const nowMs = this.clock.monotonicMs();
    this.#note(nowMs);
    this.#isCounting = false;
    this.#hasAccepted = false;
    this.#workedMs = 0;
    this.#pieceBeganAtMs = undefined;
    if (this.#line.isEmpty && this.#longWork.length === 0) return;
    this.#waitedSinceMs = nowMs;
    this.#count();
    if (isAccepting && this.#pauses(nowMs)) return;
    this.#isGoingOn = true;
    const networks = this.#calmTurns < CALM_TURNS ? 1 : GO_ON;
    for (const waiting of this.#line.take(GO_ON, networks)) waiting.goOn();
    this.#longWork.shift()?.();
  }

  /** Learns from the turn that is over. */
  #note(nowMs: number): void {
    if (this.#isGoingOn) {
      this.#wentOnUntilMs = nowMs;
      this.#calmTurns++;
    } else if (this.#hasAccepted && nowMs - this.#waitedSinceMs >= ACCEPTING_MS) {
      this.#unpausedTurns = UNPAUSED_TURNS;
    }
    this.#isGoingOn = false;
    this.#waitedSinceMs = Infinity;
  }

  /** Whether the line pauses in the next turn, since connections are being accepted. */
  #pauses(nowMs: number): boolean {
    if (nowMs - this.#wentOnUntilMs >= ACCEPTING_MS) return false;
    if (this.#unpausedTurns === 0) return true;
    this.#unpausedTurns--;
    return false;
  }
}

/** Where a connection comes from; absent: it has gone already. */
function addressOf(accepted: Accepted): string | undefined {
  const peer: { address?: string } = {};
  accepted.getpeername(peer);
  return peer.address;
}

/** Those who wait, by network, in the order of turns. */
class Line {
  readonly #networks = new Map<string, Set<Waiting>>();
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get count(): number {
    return this.#count;
  }

  countOf(network: string): number {
    return this.#networks.get(network)?.size ?? 0;
  }

  add(one: Waiting): void {
    const others = this.#networks.get(one.network);
    this.#count++;
    if (others) others.add(one);
    else this.#networks.set(one.network, new Set([one]));
  }

  remove(one: Waiting): void {
    const others = this.#networks.get(one.network);
    if (others?.delete(one)) this.#count--;
    if (others?.size === 0) this.#networks.delete(one.network);
  }

  /**
   * The next so many of the next so many networks, those of a network together; these networks have equal shares, come last
   * from now on, and none is the first twice.
   */
  take(count: number, networks: number): Waiting[] {
    const next = [...firstOf(this.#networks, networks)];
    const taken = next.map((): Waiting[] => []);
    let left = Math.min(
      count,
      next.reduce((sum, [, waiting]) => sum + waiting.size, 0),
    );
    this.#count -= left;
    while (left > 0) {
      for (const [share, [, waiting]] of next.entries()) {
        const [one] = waiting;
        if (!one || left === 0) continue;
        waiting.delete(one);
        taken[share]?.push(one);
        left--;
      }
    }
    for (const [network, waiting] of [...next.slice(1), ...next.slice(0, 1)]) this.#toEnd(network, waiting);
    return taken.flat();
  }

  #toEnd(network: string, waiting: Set<Waiting>): void {
    this.#networks.delete(network);
    if (waiting.size > 0) this.#networks.set(network, waiting);
  }
}

function* firstOf<T>(all: Iterable<T>, count: number): Generator<T> {
  for (const one of all) {
    if (count-- === 0) return;
    yield one;
  }
}
