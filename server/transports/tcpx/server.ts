/** The legacy door: accepts connections within its limits, and stops gracefully. The contract is docs/legacy-tcp.md. */
import { createServer, isIPv6, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Clock } from '../../domain/clock.js';
import { allowOnly, plainAddress } from '../client-address.js';
import { Connection, type ConnectionContext } from './connection.js';
import { DEFAULT_TCPX_LIMITS, type TcpxLimits } from './limits.js';
import { Outbox } from './outbox.js';
import { bothRooms, RoomGate, type Room } from './room-gate.js';
import { SharedMemory } from './shared-memory.js';
import { Sweep } from './sweep.js';
import type { RefusalReason } from './tcpx-metrics.js';
import { gateForAll, WriteGate, type WriteRoom } from './write-gate.js';
import { Turns } from './turns.js';
import { TokenWatch, type TokenCheck } from './token-watch.js';

/** What the door works with. */
export interface TcpxServerOptions extends Pick<
  ConnectionContext,
  'registry' | 'sessions' | 'log' | 'metrics' | 'onWork'
> {
  /** Says when the write batcher takes more. */
  readonly room: WriteRoom;
  /** Says when the read batcher takes more. */
  readonly readRoom: Room;
  readonly clock: Clock;
  /** Present: clients must show a token (message 1393) before they may ask for anything. */
  readonly authenticateToken?: TokenCheck | undefined;
  /** Those that differ from the defaults. */
  readonly limits?: Partial<TcpxLimits>;
}

const BACKLOG = 4096;
const KEEP_ALIVE_DELAY_MS = 15_000;
/** Few clients are no crowd; what more of them take to be closed each. */
const CLOSED_AT_ONCE = 100;
const SPREAD_PER_CONNECTION_MS = 0.5;

export class TcpxServer {
  readonly #server: Server;
  readonly #limits: TcpxLimits;
  readonly #isAllowed: (address: string) => boolean;
  readonly #context: ConnectionContext;
  readonly #sweep: Sweep;
  readonly #replyMemory: SharedMemory;
  readonly #connections = new Set<Connection>();
  readonly #perAddress = new Map<string, number>();
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #onEmpty: () => void = () => {};

  /** Throws an Error for an entry of `limits.allow` that is no address or range. */
  constructor(private readonly options: TcpxServerOptions) {
    const { clock, room, readRoom, authenticateToken } = options;
    const limits = (this.#limits = { ...DEFAULT_TCPX_LIMITS, ...options.limits });
    this.#isAllowed = allowOnly(limits.allow);
    const shared = (maxBytes: number) => new SharedMemory(maxBytes, limits.maxConnections);
    this.#replyMemory = shared(limits.maxReplyBytes);
    this.#sweep = new Sweep(clock, () => this.#makeRoomForReplies());
    this.#context = {
      ...options,
      limits,
      authenticateToken,
      tokenWatch: authenticateToken && new TokenWatch(clock, options.log, authenticateToken),
      sweep: this.#sweep,
      replyMemory: this.#replyMemory,
      requestMemory: shared(limits.maxRequestBytes),
      readGate: gateForAll(new RoomGate(bothRooms(readRoom, this.#replyMemory), clock, limits.roomTimeoutMs)),
      writeGate: new WriteGate(room, clock, limits.roomTimeoutMs),
      outbox: new Outbox(),
      turns: new Turns(clock),
      incompleteMemory: shared(limits.maxIncompleteBytes),
      onClosed: (connection) => this.#forget(connection),
    };
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS };
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, ...keepAlive }, (socket) => this.#accept(socket));
  }

  /** Where the door listens, as host:port. Throws while it does not. */
  get address(): string {
    const listening = this.#server.address() as AddressInfo | null;
    if (!listening) throw new Error('The legacy door does not listen.');
    const { address, port } = listening;
    return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
  }

  /** Connections that are open. */
  get size(): number {
    return this.#connections.size;
  }

  /** Listens; port 0 takes any free one. Rejects with the system's error when the address is not to be had. Idempotent. */
  start(address: { readonly host: string; readonly port: number }): Promise<void> {
    this.#started ??= new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ ...address, backlog: BACKLOG }, () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) => this.options.log.error({ err: error }, 'the legacy door cannot accept'));
        this.#sweep.start();
        resolve();
      });
    });
    return this.#started;
  }

  /**
   * Accepts nothing and reads nothing more, answers what was read, and closes; what is left after `deadlineMs` is cut.
   * Idempotent.
   */
  stop(deadlineMs: number): Promise<void> {
    this.#stopped ??= this.#stop(deadlineMs);
    return this.#stopped;
  }

  async #stop(deadlineMs: number): Promise<void> {
    await this.#started?.catch(() => {
      // Whoever started it was told.
    });
    if (!this.#server.listening) return;
    const cut = this.options.clock.schedule(deadlineMs, () => {
      for (const connection of this.#connections) connection.destroy('stopping');
    });
    const closed = new Promise((resolve) => this.#server.close(resolve));
    // The server may have seen a connection's end before the connection itself has.
    const emptied = new Promise<void>((resolve) => (this.#onEmpty = resolve));
    this.#stopConnections(deadlineMs / 2);
    if (this.#connections.size > 0) await emptied;
    await closed;
    cut.cancel();
    this.#sweep.stop();
  }

  /** Closes a crowd bit by bit and in no order, so that it does not come to another server all at once. */
  #stopConnections(withinMs: number): void {
    const spreadMs = Math.min(withinMs, (this.#connections.size - CLOSED_AT_ONCE) * SPREAD_PER_CONNECTION_MS);
    for (const connection of this.#connections) {
      if (spreadMs <= 0) connection.stop();
      else this.options.clock.schedule(Math.random() * spreadMs, () => connection.stop());
    }
  }

  #accept(socket: Socket): void {
    // Those that are refused have no connection to listen to them.
    socket.on('error', () => socket.destroy());
    // Has gone already.
    if (socket.remoteAddress === undefined) return void socket.destroy();
    const address = plainAddress(socket.remoteAddress);
    const refusal = this.#refusalOf(address);
    if (refusal) {
      this.options.metrics.connection('refused', refusal);
      socket.destroy();
      return;
    }
    try {
      this.#connections.add(new Connection(socket, address, this.#context));
      this.#perAddress.set(address, this.#openFrom(address) + 1);
      this.options.metrics.connection('opened', '');
    } catch (defect) {
      this.options.log.error({ err: defect, address }, 'a legacy connection could not be opened');
      socket.destroy();
    }
  }

  #refusalOf(address: string): RefusalReason | undefined {
    if (this.#stopped) return 'stopping';
    if (!this.#isAllowed(address)) return 'address_not_allowed';
    if (this.#connections.size >= this.#limits.maxConnections) return 'too_many_connections';
    if (this.#openFrom(address) >= this.#limits.maxConnectionsPerAddress) return 'too_many_from_address';
    return undefined;
  }

  #openFrom(address: string): number {
    return this.#perAddress.get(address) ?? 0;
  }

  /** While requests wait for room that unread replies take up, those are cut off who take nothing of theirs. */
  #makeRoomForReplies(): void {
    if (this.#replyMemory.hasRoom) return;
    const sinceMs = this.#sweep.nowMs() - this.#limits.stalledReplyMs;
    const stalled = [...this.#connections].filter((connection) => connection.hasTakenNothingSince(sinceMs));
    if (stalled.length === 0) return;
    this.options.log.warn(
      {
        connections: stalled.length,
        bytes: this.#replyMemory.bytes,
        addresses: [...new Set(stalled.map(({ address }) => address))].slice(0, 5),
      },
      'replies that legacy clients do not take hold too much; closing their connections',
    );
    for (const connection of stalled) connection.destroy('memory');
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection);
    const left = this.#openFrom(connection.address) - 1;
    if (left > 0) this.#perAddress.set(connection.address, left);
    else this.#perAddress.delete(connection.address);
    if (this.#connections.size === 0) this.#onEmpty();
  }
}
