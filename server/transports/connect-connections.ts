/** The connections of the HTTP door: how many a network has, and what each has yet to be answered. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { networkOf } from '../domain/network.js';
import { plainAddress } from './client-address.js';
import type { Gate } from './reading-turns.js';
import { MAX_CONNECTIONS, MAX_HTTP_CONNECTIONS, MAX_UNANSWERED } from './rpc/limits.js';

interface Connection {
  readonly socket: Socket;
  readonly unanswered: Set<ServerResponse>;
}

/** All trusted proxies together. */
const PROXIES = 'proxies';

export class HttpConnections implements Gate {
  /** By both ends, since a connection has a second socket where it is encrypted. */
  readonly #open = new Map<string, Connection>();
  /** How many are open from a network. */
  readonly #perNetwork = new Map<string, number>();
  #count = 0;

  /** `isProxy`: whether an address is that of a trusted proxy, which may have any number. */
  constructor(private readonly isProxy: (address: string) => boolean) {}

  admits(address: string): boolean {
    if (this.#count >= MAX_CONNECTIONS) return false;
    const network = this.#counted(address);
    const open = (this.#perNetwork.get(network) ?? 0) + 1;
    if (open > (network === PROXIES ? MAX_CONNECTIONS : MAX_HTTP_CONNECTIONS)) return false;
    this.#perNetwork.set(network, open);
    this.#count++;
    return true;
  }

  onClosed(address: string): void {
    const network = this.#counted(address);
    const left = (this.#perNetwork.get(network) ?? 0) - 1;
    if (left > 0) this.#perNetwork.set(network, left);
    else this.#perNetwork.delete(network);
    this.#count--;
  }

  /** Minds what a connection has yet to be answered. */
  onOpen(socket: Socket): void {
    const name = nameOf(socket);
    const connection: Connection = { socket, unanswered: new Set() };
    this.#open.set(name, connection);
    socket.once('close', () => {
      if (this.#open.get(name) === connection) this.#open.delete(name);
      // Of the answers that a connection has yet to give, Node tells only the first that it has closed.
      for (const response of connection.unanswered) if (!response.socket) response.destroy().emit('close');
    });
  }

  /**
   * Takes a request. False: too many of its connection are not answered, and it is closed. Browsers wait for an answer before
   * they ask again; who sends many requests at once does not mean to read the answers.
   */
  takes({ socket }: IncomingMessage, response: ServerResponse): boolean {
    const unanswered = this.#open.get(nameOf(socket))?.unanswered;
    if (!unanswered || unanswered.size >= MAX_UNANSWERED) {
      socket.destroy();
      return false;
    }
    unanswered.add(response);
    response.once('close', () => unanswered.delete(response));
    return true;
  }

  /** Closes those that have nothing to be answered, also those over which nothing has ever come, which Node leaves open. */
  closeIdle(): void {
    for (const { socket, unanswered } of this.#open.values()) if (unanswered.size === 0) socket.destroy();
  }

  /** Closes those whose requests have not arrived whole. */
  closeUnfinished(): void {
    for (const { socket, unanswered } of this.#open.values())
      if ([...unanswered].some(({ req }) => !req.complete)) socket.destroy();
  }

  /** As what an address is counted. */
  #counted(address: string): string {
    return this.isProxy(plainAddress(address)) ? PROXIES : networkOf(address);
  }
}

function nameOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}:${remotePort}`;
}
