/** What is sent to the HTTP door by hand: requests that nobody waits for, headers without a body, answers that are not taken. */
import { connect, type Socket } from 'node:net';
import { clientsOf, registerLong, type TaskClient } from './records.js';
import { Tally, wait, type Attack, type Target } from '../attack.js';

function connected({ http, from }: Target, tally: Tally, n = 0): Socket {
  const { hostname, port } = new URL(http);
  const socket = connect({ port: Number(port), host: hostname, ...from(n) });
  socket.on('error', () => {});
  socket.on('close', () => tally.add('closed'));
  return socket;
}

/** Sends one and the same request again and again without waiting, over some connections, which are opened anew when closed. */
function pipelined(connections: number, request: string): Attack {
  const many = request.repeat(Math.ceil(65_536 / request.length));
  return async (target) => {
    const tally = new Tally();
    const open = () => {
      const socket = connected(target, tally);
      socket.resume();
      const send = () => {
        while (target.isOn() && !socket.destroyed && socket.write(many));
      };
      socket.on('drain', send);
      socket.on('close', () => void (target.isOn() && setTimeout(open, 10)));
      send();
    };
    for (let n = 0; n < connections; n++) open();
    await wait(target);
    return tally.toString();
  };
}

export const pipelinedMetrics = pipelined(4, 'GET /metrics HTTP/1.1\r\n\r\n');
export const pipelinedHealth = pipelined(20, 'GET /healthz HTTP/1.1\r\n\r\n');
export const pipelinedCalls = pipelined(
  20,
  'POST /taskdash.auth.v1.AuthService/GetCurrentUser HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
);

/** Logins with 14 kB of headers each, whose bodies never come. */
function headersWithoutBodies(connections: number, fields: number): Attack {
  const some = `X-Some: ${'a'.repeat(Math.floor(14_000 / fields) - 10)}\r\n`.repeat(fields);
  const head =
    'POST /taskdash.auth.v1.AuthService/Login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
    `Content-Length: 100\r\n${some}\r\n`;
  return async (target) => {
    const tally = new Tally();
    for (let n = 0; n < connections; n++) {
      const socket = connected(target, tally);
      socket.on('data', (chunk: Buffer) => tally.add(chunk.toString('latin1', 9, 12)));
      socket.write(head);
    }
    await wait(target);
    return tally.toString();
  };
}

export const manyHeaders = headersWithoutBodies(9_000, 400);
export const longHeaders = headersWithoutBodies(9_000, 90);

/** 250 connections that ask for the longest page there is, and never read. */
export const unreadPages: Attack = async (target) => {
  const tally = new Tally();
  await registerLong(clientsOf(target)[0] as TaskClient);
  const body = '{"pageSize":1000}';
  const head =
    'POST /taskdash.task.v1.TaskService/ListTasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
    `Authorization: Bearer ${target.token}\r\nContent-Length: ${body.length}\r\n\r\n`;
  for (let n = 0; n < 250; n++) connected(target, tally, n).write(head + body);
  await wait(target);
  return tally.toString();
};
