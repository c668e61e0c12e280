/** What is done over the legacy door, to logins, tokens and leases, and to the way in of HTTP. */
import { connect } from 'node:net';
import { randomBytes } from 'node:crypto';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { authorized } from '../../../client/authorized-transport.js';
import { LeaseService } from '../../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TcpxClient } from '../../support/tcpx-client.js';
import { findFrame, updateFrame } from '../../support/tcpx-frames.js';
import { again, Tally, wait, type Attack } from '../attack.js';

/** A record of some 66 kB in the reply: every character takes eight bytes there. */
const LONG = { description: '\u0001'.repeat(8_192), url: '\u0001'.repeat(2_048) };

/** 300 connections that ask for a record of 66 kB again and again, and never read. */
export const unreadFinds: Attack = async (target) => {
  const writer = await TcpxClient.connect(target.tcp, { deadlineMs: 20_000 });
  await writer.register({ id: 'long', group_id: 'mx', ...LONG });
  const finds = Buffer.concat(Array.from({ length: 100 }, () => findFrame('long')));
  const [host = '', port] = target.tcp.split(':');
  const sockets = Array.from({ length: 300 }, (_, n) => connect({ port: Number(port), host, ...target.from(n) }));
  for (const socket of sockets) {
    socket.on('error', () => {});
    socket.pause();
    socket.write(finds);
  }
  await wait(target, 200, () => {
    for (const socket of sockets) if (!socket.destroyed && socket.writableLength < 65_536) socket.write(finds);
  });
  return `${sockets.filter(({ destroyed }) => destroyed).length} of 300 connections closed`;
};

/** 40 connections at a time that ask for a record of 66 kB, read a little and leave, one lot after the other. */
export const findsAndGone: Attack = async (target) => {
  const writer = await TcpxClient.connect(target.tcp, { deadlineMs: 20_000 });
  await writer.register({ id: 'long', group_id: 'mx', ...LONG });
  const finds = Buffer.concat(Array.from({ length: 60 }, () => findFrame('long')));
  const [host = '', port] = target.tcp.split(':');
  const askAndLeave = (n: number) =>
    new Promise<void>((resolve) => {
      const socket = connect({ port: Number(port), host, ...target.from(n) }, () => socket.write(finds));
      let read = 0;
      socket.on('error', () => {});
      socket.on('data', (chunk) => (read += chunk.length) > 10_000 && socket.resetAndDestroy());
      socket.setTimeout(5_000, () => socket.destroy());
      socket.once('close', () => resolve());
    });
  return `${await again(target, 40, askAndLeave)} connections`;
};

/** 160 connections that update one task as fast as they are answered. */
export const updatesOfOne: Attack = async (target) => {
  const [first, ...rest] = await Promise.all(
    Array.from({ length: 160 }, () => TcpxClient.connect(target.tcp, { deadlineMs: 20_000 })),
  );
  if (!first) return 'no connection';
  const clients = [first, ...rest];
  await first.register({ id: 'one', group_id: 'mx' });
  let answered = 0;
  const frames = Array.from({ length: 50 }, (_, n) => updateFrame({ id: 'one', description: `${n}` }));
  const work = clients.map(async (client) => {
    while (target.isOn()) answered += (await client.pipeline(frames).catch(() => [])).length;
  });
  await Promise.race([Promise.all(work), wait(target)]);
  return `${answered} updates`;
};

/** 12 callers with a new token each time, over HTTP and keeping their connections. */
export const randomTokens: Attack = async (target) => {
  const tally = new Tally();
  await again(target, 12, async () => {
    const authorization = `Bearer tdt_${randomBytes(32).toString('base64url')}`;
    const headers = { authorization, 'content-type': 'application/json' };
    const url = `${target.http}/taskdash.task.v1.TaskService/ListTasks`;
    const answer = await fetch(url, { method: 'POST', body: '{}', headers });
    await answer.arrayBuffer();
    tally.add(String(answer.status));
  });
  return tally.toString();
};

/** 200 logins at once, again and again. */
export const logins: Attack = async (target) => {
  const tally = new Tally();
  await again(target, 200, async (n) => {
    const answer = await fetch(`${target.http}/taskdash.auth.v1.AuthService/Login`, {
      method: 'POST',
      body: JSON.stringify({ username: `user-${n}`, password: 'a wrong password' }),
      headers: { 'content-type': 'application/json' },
    });
    tally.add(`${answer.status} ${/"code":"(\w+)"/.exec(await answer.text())?.[1] ?? ''}`);
  });
  return tally.toString();
};

/** One token that is granted 20,000 leases. */
export const manyLeases: Attack = async (target) => {
  const tally = new Tally();
  const leases = createClient(
    LeaseService,
    authorized(createGrpcTransport({ baseUrl: `http://${target.grpc}` }), target.token),
  );
  let asked = 0;
  await Promise.all(
    Array.from({ length: 100 }, async () => {
      while (target.isOn() && asked++ < 20_000) {
        await leases.grantLease({}).then(
          () => tally.add('granted'),
          () => tally.add('refused'),
        );
      }
    }),
  );
  await wait(target);
  return tally.toString();
};

/** Requests that two readers would cut apart differently, and bodies that pretend to be another's. */
export const smuggling: Attack = async (target) => {
  const tally = new Tally();
  const { hostname, port } = new URL(target.http);
  const start =
    'POST /taskdash.task.v1.TaskService/ListTasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';
  const tricks = [
    `${start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n`,
    `${start}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`,
    `${start}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    `${start}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`,
    `${start}Content-Length: +2\r\n\r\n{}`,
  ];
  await again(
    target,
    16,
    async (n) =>
      new Promise<void>((resolve) => {
        const socket = connect(Number(port), hostname);
        let answer = '';
        socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
        socket.on('error', () => {});
        socket.once('close', () => {
          for (const [, status] of answer.matchAll(/HTTP\/1\.1 (\d+)/g)) tally.add(status ?? '');
          resolve();
        });
        socket.setTimeout(1_000, () => socket.destroy());
        socket.write(tricks[n % tricks.length] ?? '');
      }),
  );
  return tally.toString();
};
