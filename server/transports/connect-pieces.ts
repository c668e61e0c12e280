/**
 * What arrives over a connection, given to Node's parser in small pieces. Node parses all that it has read at once, up to
 * 64 kB, which may be 2,500 requests, whatever becomes of the connection meanwhile; so it stops where the connection closes.
 */
import type { Socket } from 'node:net';

/** Some twenty of the shortest requests. What has no blank line, as most bodies, comes in one piece. */
const PIECE_BYTES = 512;
const BLANK_LINE = '\r\n\r\n';

/** Stands between a new connection and Node's parser, which must listen to it already. */
export function feedInPieces(socket: Socket, turns: { onWork(socket: Socket): void }): void {
  const [parse] = socket.listeners('data') as ((chunk: Buffer) => void)[];
  if (!parse) throw new Error('Node no longer parses requests from the data of a connection');
  socket.off('data', parse);
  socket.on('data', (chunk: Buffer) => {
    turns.onWork(socket);
    for (let at = 0; at < chunk.length && !socket.destroyed;) {
      // Node pauses a connection that does not take its answers.
      if (socket.isPaused()) return socket.unshift(chunk.subarray(at));
      const end = endOfPiece(chunk, at);
      parse(chunk.subarray(at, end));
      at = end;
    }
  });
}

/** Behind the blank line after so many bytes; requests begin behind one. */
function endOfPiece(chunk: Buffer, from: number): number {
  const blank = chunk.indexOf(BLANK_LINE, from + PIECE_BYTES);
  return blank === -1 ? chunk.length : blank + BLANK_LINE.length;
}
