/** Connections whose peers had gone before anybody looked: none is taken for another. */
import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { HttpConnections } from '../../server/transports/connect-connections.js';
import { addressIn, nameOf } from '../../server/transports/connection-name.js';
import { FloodGuard } from '../../server/transports/grpc-floods.js';
import { MAX_FLOOD } from '../../server/transports/rpc/limits.js';
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';

class FakeSocket extends EventEmitter {
  destroyed = false;
  bytesRead = 0;
  isPaused = () => false;
  remoteAddress: string | undefined;
  remotePort: number | undefined;

  destroy(): void {
    this.destroyed = true;
  }
}

const gone = () => new FakeSocket() as FakeSocket & Socket;
const request = (socket: Socket) => ({ socket }) as IncomingMessage;
const response = () => new EventEmitter() as ServerResponse;

describe('the name of a connection', () => {
  it('stays the same, tells the address, and is that of no other', () => {
    const [one, other] = [gone(), gone()];
    const [first, second] = [one, other].map((socket) => {
      Object.assign(socket, { remoteAddress: '::ffff:10.0.0.1', remotePort: 4711 });
      return nameOf(socket);
    });
    one.remoteAddress = undefined;
    expect([nameOf(one), addressIn(nameOf(one))]).toEqual([first, '10.0.0.1']);
    expect(first).not.toBe(second);
    expect(addressIn(nameOf(gone()))).toBe('');
  });
});

describe('HTTP connections whose peers have gone', () => {
  it('are taken, counted and closed each for itself', () => {
    const connections = new HttpConnections();
    const [busy, idle, third] = [gone(), gone(), gone()];
    for (const socket of [busy, idle, third]) connections.onOpen(socket);
    expect(connections.takes(request(busy), response())).toBe(true);
    third.emit('close');
    expect(connections.takes(request(busy), response())).toBe(true);
    for (const isStillOne of [true, false]) expect(connections.closeQuiet(() => 1)).toBe(isStillOne);
    expect([busy.destroyed, idle.destroyed, third.destroyed]).toEqual([false, true, false]);
  });
});

describe('gRPC connections whose peers have gone', () => {
  it('are watched each for itself', () => {
    const clock = new ManualClock();
    const floods = new FloodGuard(clock, silentLog);
    const [first, second, third] = [gone(), gone(), gone()];
    for (const socket of [first, second, third]) floods.watch(socket);
    third.emit('close');
    expect([first, second, third].map((socket) => floods.socketOf(nameOf(socket)))).toEqual([first, second, undefined]);
    for (let n = 0; n <= MAX_FLOOD.refusedStreams; n++) floods.onRefusedStream(nameOf(first));
    expect([first.destroyed, second.destroyed]).toEqual([true, false]);
    second.bytesRead = MAX_FLOOD.idleBytes + 1;
    clock.advance(MAX_FLOOD.everyMs);
    expect(second.destroyed).toBe(true);
  });
});
