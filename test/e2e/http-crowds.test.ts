/** Much at once over HTTP: requests that nobody waits for, and what they leave behind. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MAX_UNANSWERED } from '../../server/transports/rpc/limits.js';
import { RpcRig } from '../support/rpc-rig.js';

let rig: RpcRig;

beforeEach(async () => {
  rig = await RpcRig.start();
});
afterEach(() => rig.stop());

function connected(door: string): Socket {
  const { hostname, port } = new URL(door);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  return socket;
}

describe('requests that are sent without waiting for answers', () => {
  const GET_USER = 'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nContent-Type: application/json\r\n';

  it.each([
    ['of metrics', 'GET /metrics HTTP/1.1\r\n\r\n'],
    ['of health', 'GET /healthz HTTP/1.1\r\n\r\n'],
    ['of the page', 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    ['that name no host', 'GET / HTTP/1.1\r\n\r\n'],
    ['of a call', `${GET_USER}Host: localhost\r\nContent-Length: 2\r\n\r\n{}`],
  ])('close their connection beyond a few, and the rest is not even parsed: %s', async (_what, request) => {
    let parsed = 0;
    const count = () => parsed++;
    subscribe('http.server.request.start', count);
    const socket = connected(rig.http.address);
    socket.write(request.repeat(Math.floor(60_000 / request.length)));
    await text(socket).catch(() => '');
    unsubscribe('http.server.request.start', count);
    expect(parsed).toBeLessThan(MAX_UNANSWERED + 24);
  });

  it('are answered up to a few, in their order', async () => {
    const socket = connected(rig.http.address);
    const last = 'GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n';
    socket.write('GET /healthz HTTP/1.1\r\n\r\n'.repeat(MAX_UNANSWERED - 1) + last);
    const answers = await text(socket);
    expect(answers.match(/^(ok|ready)$/gm)).toEqual([...Array<string>(MAX_UNANSWERED - 1).fill('ok'), 'ready']);
  });
});
