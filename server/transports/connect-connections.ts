/** The open connections of the HTTP door, and what each has yet to be answered. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { MAX_UNANSWERED } from './rpc/limits.js';

interface Connection {
  readonly socket: Socket;
  readonly unanswered: Set<ServerResponse>;
  /** The answer that says that it is the last. */
  last: ServerResponse | undefined;
  /** How it was found when it had nothing to be answered: the spell of its being read, and how much had come. */
  seen: { readonly spell: number; readonly bytes: number } | undefined;
}

/** An encrypted connection has a second socket, which Node shows to nobody; a test notices when that changes. */
type Encrypted = Socket & { readonly _parent?: Socket | null };

export class HttpConnections {
  readonly #open = new Map<Socket, Connection>();
  #isEnding = false;

  /** Connections that are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Minds what a connection has yet to be answered. */
  onOpen(socket: Socket): void {
    const connection: Connection = { socket, unanswered: new Set(), last: undefined, seen: undefined };
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
    const connection = this.#open.get(carrier ?? socket);
    if (!connection || connection.unanswered.size >= MAX_UNANSWERED) {
      socket.destroy();
      return false;
    }
    const { unanswered } = connection;
    unanswered.add(response);
    response.once('close', () => unanswered.delete(response));
    if (this.#isEnding) markLast(connection);
    return true;
  }

  /** From now on the last answer of each connection says that it closes the connection. */
  announceEnd(): void {
    this.#isEnding = true;
    for (const connection of this.#open.values()) markLast(connection);
  }

  /**
   * Closes those that have nothing to be answered and were read, since they were looked at last, without anything coming; also
   * those over which nothing has ever come. `spellOf` tells in which spell a connection is being read. Whether the next turn tells
   * more of one.
   */
  closeQuiet(spellOf: (socket: Socket) => number | undefined): boolean {
    let isOneOpen = false;
    for (const connection of this.#open.values()) {
      const { socket, unanswered, seen } = connection;
      connection.seen = undefined;
      if (socket.destroyed || unanswered.size > 0) continue;
      const spell = socket.isPaused() ? undefined : spellOf(socket);
      if (spell !== undefined) connection.seen = { spell, bytes: socket.bytesRead };
      if (seen && seen.spell === spell && seen.bytes === socket.bytesRead) socket.destroy();
      else isOneOpen = true;
    }
    return isOneOpen;
  }

  /** The calls that have nothing of their answer yet. */
  unanswered(): ServerResponse[] {
    const all = [...this.#open.values()].flatMap(({ unanswered }) => [...unanswered]);
    return all.filter(({ req, headersSent }) => req.method === 'POST' && !headersSent);
  }

  /** Closes those whose requests have not arrived whole. */
  closeUnfinished(): void {
    for (const { socket, unanswered } of this.#open.values())
      if ([...unanswered].some(({ req }) => !req.complete)) socket.destroy();
  }
}

/** Of several requests that came together, the answers to the first ones do not close the connection. */
function markLast(connection: Connection): void {
  let last: ServerResponse | undefined;
  for (const response of connection.unanswered) last = response;
  if (connection.last && !connection.last.headersSent) connection.last.shouldKeepAlive = true;
  connection.last = last?.shouldKeepAlive ? last : undefined;
  if (last) last.shouldKeepAlive = false;
}
