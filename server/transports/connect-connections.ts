/** The open connections of the HTTP door, and what each has yet to be answered. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { MAX_UNANSWERED } from './rpc/limits.js';

interface Connection {
  readonly socket: Socket;
  readonly unanswered: Set<ServerResponse>;
}

/** An encrypted connection has a second socket, which Node shows to nobody; a test notices when that changes. */
type Encrypted = Socket & { readonly _parent?: Socket | null };

export class HttpConnections {
  readonly #open = new Map<Socket, Connection>();

  /** Minds what a connection has yet to be answered. */
  onOpen(socket: Socket): void {
    const connection: Connection = { socket, unanswered: new Set() };
    this.#open.set(socket, connection);
    socket.once('close', () => {
      this.#open.delete(socket);
      // Of the answers that a connection has yet to give, Node tells only the first that it has closed.
      for (const response of connection.unanswered) if (!response.socket) response.destroy().emit('close');
    });
  }

  /**
   * Takes a request. False: too many of its connection are not answered, and it is closed. Browsers wait for an answer before
   * they ask again; who sends many requests at once does not mean to read the answers.
   */
  takes({ socket }: IncomingMessage, response: ServerResponse): boolean {
    const { _parent: carrier } = socket as Encrypted;
    const unanswered = this.#open.get(carrier ?? socket)?.unanswered;
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
