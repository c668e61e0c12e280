/** Begins the connections of an HTTP server when it is their turn, and not as soon as Node has accepted them. */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { feedInPieces } from './connect-pieces.js';
import type { ReadingTurns } from './reading-turns.js';

/**
 * Stands between a server and Node's own listener; `admits` says whether a connection may be used, and closes those that may
 * not.
 */
export function beginInTurns(
  server: Server,
  turns: ReadingTurns,
  isTls: boolean,
  admits: (socket: Socket) => boolean,
): void {
  const [begin] = server.listeners('connection') as ((socket: Socket) => void)[];
  if (!begin) throw new Error('Node no longer begins connections by a listener');
  server.off('connection', begin);
  server.on('connection', (socket) => {
    // Until Node listens.
    socket.on('error', () => socket.destroy());
    turns.onAccepted();
    if (!admits(socket)) return;
    turns.enter(socket, () => {
      if (socket.destroyed || !server.listening) return void socket.destroy();
      begin.call(server, socket);
      if (!isTls) feedInPieces(socket, turns);
    });
  });
  if (isTls) server.on('secureConnection', (socket: Socket) => feedInPieces(socket, turns));
}
