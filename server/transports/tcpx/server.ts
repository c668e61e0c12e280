/** The legacy door: accepts connections within its limits, watches over incomplete frames, and stops gracefully. */
import { BlockList, createServer, isIPv6, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Clock, Timer } from '../../domain/clock.js';
import type { SessionHost } from '../../domain/sessions.js';
import { Connection, type ConnectionContext } from './connection.js';

/** Limits of the door; sizes in bytes, times in milliseconds. */
export interface TcpxLimits {
  readonly maxFrameBytes: number;
  readonly frameTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** Requests of one connection that may be unanswered. */
  readonly maxUnanswered: number;
  /** Replies of one connection that may be unsent. */
  readonly maxUnsentBytes: number;
  /** Addresses and CIDR ranges that may connect; empty: all. */
  readonly allow: readonly string[];
}

/** What the door works with. */
export interface TcpxServerOptions extends Pick<
  ConnectionContext,
  'registry' | 'room' | 'log' | 'metrics' | 'authenticate'
> {
  readonly sessions: SessionHost;
  readonly clock: Clock;
  readonly limits: TcpxLimits;
}

const SWEEP_MS = 1000;
const KEEP_ALIVE_DELAY_MS = 10_000;

export class TcpxServer {
  readonly #server: Server;
  readonly #allowed: BlockList | undefined;
  readonly #connections = new Map<Connection, Socket>();
  readonly #perAddress = new Map<string, number>();
  /** Connections in the middle of a frame, or finishing, and since when. */
  readonly #unfinished = new Map<Connection, number>();
  readonly #context: ConnectionContext;
  #sweep: Timer | undefined;
  #stopping: Promise<void> | undefined;

  constructor(private readonly options: TcpxServerOptions) {
    this.#allowed = options.limits.allow.length > 0 ? allowList(options.limits.allow) : undefined;
    this.#server = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
    });
    this.#server.on('connection', (socket) => this.#accept(socket));
    const onIncomplete = (connection: Connection, incomplete: boolean) => this.#noteIncomplete(connection, incomplete);
    this.#context = { ...options, ...options.limits, onIncomplete };
  }

  /** Listens; resolves when connections are accepted. Rejects when the address is not to be had. */
  start(address: { host: string; port: number }): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ ...address, backlog: 4096 }, () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) =>
          this.options.log.error({ err: error }, 'the legacy door cannot accept connections'),
        );
        this.#armSweep();
        resolve();
      });
    });
  }

  /** Where the door listens, as host:port. */
  get address(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
  }

  /** Open connections. */
  get size(): number {
    return this.#connections.size;
  }

  /** Accepts and reads nothing more, answers what was read, and cuts what is left after `deadlineMs`; idempotent. */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= this.#stop(deadlineMs);
    return this.#stopping;
  }

  #stop(deadlineMs: number): Promise<void> {
    this.#sweep?.cancel();
    if (!this.#server.listening) return Promise.resolve();
    return new Promise((resolve) => {
      const cut = this.options.clock.schedule(deadlineMs, () => {
        for (const connection of this.#connections.keys()) connection.destroy();
      });
      this.#server.close(() => {
        cut.cancel();
        resolve();
      });
      for (const connection of this.#connections.keys()) connection.finish();
    });
  }

  #accept(socket: Socket): void {
    const address = plainAddress(socket.remoteAddress ?? '');
    const refusal = this.#refusalOf(address);
    if (refusal) {
      this.options.metrics.connection(refusal);
      socket.on('error', () => {
        // The peer of a refused connection may go as it likes.
      });
      socket.destroy();
      return;
    }
    this.#serve(socket, address);
  }

  #refusalOf(address: string) {
    if (this.#allowed && !this.#allowed.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')) return 'refused_address';
    if (this.#connections.size >= this.options.limits.maxConnections || this.#stopping) return 'refused_limit';
    const ofAddress = this.#perAddress.get(address) ?? 0;
    return ofAddress >= this.options.limits.maxConnectionsPerAddress ? 'refused_address_limit' : undefined;
  }

  #serve(socket: Socket, address: string): void {
    const connection = new Connection(socket, address, this.#context);
    const session = this.options.sessions.open({ door: 'tcp', address, onExpired: () => connection.destroy() });
    this.#connections.set(connection, socket);
    this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
    this.options.metrics.connection('opened');
    socket.on('close', () => {
      this.#forget(connection, address);
      session.close();
    });
    connection.begin(session);
  }

  #forget(connection: Connection, address: string): void {
    this.#connections.delete(connection);
    this.#unfinished.delete(connection);
    const left = (this.#perAddress.get(address) ?? 1) - 1;
    if (left > 0) this.#perAddress.set(address, left);
    else this.#perAddress.delete(address);
    this.options.metrics.connection('closed');
  }

  /** A frame's time runs from its first byte; further bytes do not renew it. */
  #noteIncomplete(connection: Connection, incomplete: boolean): void {
    if (!incomplete && !connection.finishing) this.#unfinished.delete(connection);
    else if (!this.#unfinished.has(connection)) this.#unfinished.set(connection, this.options.clock.monotonicMs());
  }

  /** One timer for all: closes connections whose frame stays incomplete, or whose peer does not take its last replies. */
  #armSweep(): void {
    this.#sweep = this.options.clock.schedule(SWEEP_MS, () => {
      const nowMs = this.options.clock.monotonicMs();
      for (const [connection, sinceMs] of this.#unfinished) {
        if (connection.paused && !connection.finishing) this.#unfinished.set(connection, nowMs);
        else if (nowMs - sinceMs >= this.options.limits.frameTimeoutMs) connection.destroy();
      }
      this.#armSweep();
    });
  }
}

/** An address without the prefix that IPv4 wears on an IPv6 socket. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}

function allowList(entries: readonly string[]): BlockList {
  const list = new BlockList();
  for (const entry of entries) {
    const [address = '', bits] = entry.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return list;
}
