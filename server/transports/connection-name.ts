/**
 * The names of connections: the address of the peer, and a number that no other connection ever has. Addresses and ports are
 * no names: whoever has gone has neither any more, and a port may come again while the server has not noticed an end.
 */
import type { Socket } from 'node:net';
import { plainAddress } from './client-address.js';

/** Kept on the socket itself: HTTP/2 shows only what stands for it, which has its properties. */
const NAME = Symbol('name of the connection');
let count = 0;

export function nameOf(socket: Socket): string {
  const named = socket as { [NAME]?: string };
  return (named[NAME] ??= `${plainAddress(socket.remoteAddress ?? '')} ${++count}`);
}

/** The address in a name. */
export function addressIn(name: string): string {
  return name.slice(0, name.lastIndexOf(' '));
}
