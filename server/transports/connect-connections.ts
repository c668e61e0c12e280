/** The open connections of the HTTP door, and what each has yet to be answered. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { MAX_UNANSWERED } from './rpc/limits.js';

interface Connection {
  readonly socket: Socket;
  readonly unanswered: Set<ServerResponse>;
}

export class HttpConnections {
  /** By both ends, since a connection has a second socket where it is encrypted. */
  readonly #open = new Map<string, Connection>();

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
}

function nameOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}:${remotePort}`;
}
