/**
 * Connections of the gRPC door that send much and say little: frames that carry no message (PING, SETTINGS, headers that unpack
 * to very much), calls that are reset as soon as they are begun, and streams that are refused again and again. HTTP/2 answers
 * and unpacks such things before anybody here sees them, some milliseconds for each piece that is read; so the connection is
 * closed, and its address has to wait.
 */
import type { Socket } from 'node:net';
import type { Clock, Timer } from '../domain/clock.js';
import { networkOf } from '../domain/network.js';
import type { Log } from '../domain/ports.js';
import { addressIn, nameOf } from './connection-name.js';
import { CALL_BYTES, MAX_FLOOD } from './rpc/limits.js';

/** What an open connection did since it was looked at last. */
interface Record {
  readonly socket: Socket;
  readonly network: string;
  bytesRead: number;
  /** Bytes that calls account for. */
  usefulBytes: number;
  refusedStreams: number;
  /** Calls that began in the present turn of the event loop. */
  callsThisTurn: number;
}

export class FloodGuard {
  readonly #records = new Map<string, Record>();
  /** Until when addresses have to wait. */
  readonly #waiting = new Map<string, number>();
  #timer: Timer | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Whether connections may come from an address, which may have to wait. */
  admits(address: string): boolean {
    const network = networkOf(address);
    const untilMs = this.#waiting.get(network) ?? -Infinity;
    if (this.clock.monotonicMs() < untilMs) return false;
    this.#waiting.delete(network);
    return true;
  }

  /** Watches a new connection. */
  watch(socket: Socket): void {
    const peer = nameOf(socket);
    const network = networkOf(addressIn(peer));
    this.#records.set(peer, { socket, network, bytesRead: 0, usefulBytes: 0, refusedStreams: 0, callsThisTurn: 0 });
    socket.once('close', () => this.#records.delete(peer));
    if (!this.#timer) this.#lookSoon();
  }

  /** The open connection of that name. */
  socketOf(peer: string): Socket | undefined {
    return this.#records.get(peer)?.socket;
  }

  /** A call began, which may have headers. More of them than may be open, in one turn, are not meant to be answered. */
  onCall(peer: string): void {
    const record = this.#records.get(peer);
    if (!record) return;
    record.usefulBytes += CALL_BYTES;
    if (record.callsThisTurn === 0) setImmediate(() => (record.callsThisTurn = 0));
    if (++record.callsThisTurn === MAX_FLOOD.callsATurn)
      this.#close(record, { calls: record.callsThisTurn }, 'closed a gRPC connection that resets its calls at once');
  }

  /** A call brought bytes of a message. */
  onUseful(peer: string, bytes: number): void {
    const record = this.#records.get(peer);
    if (record) record.usefulBytes += bytes;
  }

  /** A stream was refused because its caller has too many. */
  onRefusedStream(peer: string): void {
    const record = this.#records.get(peer);
    if (record && ++record.refusedStreams > MAX_FLOOD.refusedStreams) record.socket.destroy();
  }

  #lookSoon(): void {
    this.#timer = this.clock.schedule(MAX_FLOOD.everyMs, () => this.#look());
  }

  #look(): void {
    this.#timer = undefined;
    for (const record of this.#records.values()) {
      const { bytesRead } = record.socket;
      const idleBytes = bytesRead - record.bytesRead - record.usefulBytes;
      if (idleBytes > MAX_FLOOD.idleBytes)
        this.#close(record, { bytes: idleBytes }, 'closed a gRPC connection that sent much and called little');
      record.bytesRead = bytesRead;
      record.usefulBytes = 0;
    }
    if (this.#records.size > 0) this.#lookSoon();
    else this.#forget();
  }

  #close({ socket, network }: Record, details: object, why: string): void {
    this.log.warn({ address: network, ...details }, why);
    this.#waiting.set(network, this.clock.monotonicMs() + MAX_FLOOD.waitMs);
    socket.destroy();
  }

  /** Those whose time is over. */
  #forget(): void {
    const nowMs = this.clock.monotonicMs();
    for (const [network, untilMs] of this.#waiting) if (untilMs <= nowMs) this.#waiting.delete(network);
  }
}
