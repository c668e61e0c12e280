import { connect as connectTls } from 'node:tls';
import { request } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findFrame, frame, GOLDEN_FRAMES, registerFrame, REQUEST, SEED_TASK } from '../support/tcpx-frames.js';
import { TcpxRig, until } from '../support/tcpx-rig.js';

const FIND = { RequestID: 'Find' };
const REGISTER = { RequestID: 'Register' };

let rig: TcpxRig;
beforeEach(async () => {
  rig = await TcpxRig.start();
});
afterEach(() => rig.stop());

/** Whether the door still serves somebody new. */
async function serves(): Promise<boolean> {
  const client = await rig.connect();
  return (await client.find('nobody')).body.errid === 1002;
}

describe('somebody who speaks another protocol', () => {
  it.each([
    ['a browser', 'GET / HTTP/1.1\r\nHost: taskdash\r\n\r\n'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['SSH', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['a terminal', 'hello?\r\n'],
    ['PostgreSQL', Buffer.from('0000000804d2162f', 'hex')],
    ['noise', Buffer.from(Array.from({ length: 4_096 }, (_, n) => (n * 151 + 77) & 0xff))],
  ])('such as %s gets one answer at most, then the end', async (_who, bytes) => {
    const client = await rig.connect();
    client.write(Buffer.from(bytes as string));
    expect((await client.next()).body).toMatchObject({ id: '', errid: 1000 });
    await client.whenEnded();
    expect(client.unclaimed).toBe(0);
    expect(await serves()).toBe(true);
  });

  it('such as TLS fails at once, and not by a deadline', async () => {
    const [host = '', port] = rig.server.address.split(':');
    const startedMs = performance.now();
    const error = await new Promise((resolve) =>
      connectTls({ host, port: Number(port), rejectUnauthorized: false }).on('error', resolve),
    );
    expect(String(error)).toMatch(/SSL|TLS|ECONNRESET/i);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    expect(await serves()).toBe(true);
  });

  it('such as an HTTP client fails at once, and not by a deadline', async () => {
    const error = await new Promise((resolve) =>
      request(`http://${rig.server.address}/`, () => resolve('an answer'))
        .on('error', resolve)
        .end(),
    );
    expect(String(error)).toMatch(/Parse Error|socket hang up|ECONNRESET/);
    expect(await serves()).toBe(true);
  });
});

describe('JSON made to hurt', () => {
  const deep = (open: string, close: string, inner: string) => open.repeat(100_000) + inner + close.repeat(100_000);

  it.each([
    ['a body of lists in lists', frame(REQUEST, FIND, deep('[', ']', '')), 1000],
    ['a body that opens lists and closes none', frame(REQUEST, FIND, '['.repeat(1_000_000)), 1000],
    ['an id of objects in objects', frame(REQUEST, FIND, `{"id":${deep('{"a":', '}', '1')}}`), 1000],
    ['a number that no type holds', frame(REQUEST, FIND, `{"id":1e${'9'.repeat(1_000)}}`), 1000],
    ['a hundred thousand keys', frame(REQUEST, FIND, `{${'"k":1,'.repeat(100_000)}"id":"x"}`), 1000],
    ['a hundred thousand objects', frame(REQUEST, FIND, `{"id":"x","k":[${'{},'.repeat(100_000)}{}]}`), 1000],
    ['a deep value of no interest', frame(REQUEST, FIND, `{"id":"x","k":${deep('[', ']', '')}}`), 1000],
    ['keys that scripts know', frame(REQUEST, FIND, '{"__proto__":{"id":"y"},"constructor":1,"id":"x"}'), 1002],
    ['an id that only a prototype has', frame(REQUEST, FIND, '{"__proto__":{"id":"x"}}'), 1000],
    ['a RequestID that only a prototype has', frame(REQUEST, '{"__proto__":{"RequestID":"Find"}}', { id: 'x' }), 1000],
    ['a RequestID of the prototype of all', frame(REQUEST, '{"RequestID":"constructor"}', { id: 'x' }), 1000],
    ['bytes behind the JSON', frame(REQUEST, FIND, '{"id":"x"}\0'), 1000],
    ['two JSON texts', frame(REQUEST, FIND, '{"id":"x"}{"id":"y"}'), 1000],
    ['a byte order mark', frame(REQUEST, FIND, '\ufeff{"id":"x"}'), 1000],
    ['an overlong form of UTF-8', frame(REQUEST, FIND, Buffer.from('7b226964223a22c0af227d', 'hex')), 1000],
    ['a surrogate written in UTF-8', frame(REQUEST, FIND, Buffer.from('7b226964223a22eda080227d', 'hex')), 1000],
    ['the id twice', frame(REQUEST, FIND, '{"id":7,"id":"x"}'), 1002],
    ['white space around everything', frame(REQUEST, ' \n{"RequestID" : "Find"}\t', '\r\n {"id":"x"}  '), 1002],
  ])('%s', async (_what, bytes, errid) => {
    const client = await rig.connect();
    expect((await client.ask(bytes)).body.errid).toBe(errid);
    expect((await client.find('x')).body.errid).toBe(1002);
    expect(Object.prototype).not.toHaveProperty('id');
  });

  it('in a header comes back to the byte, and up to 8 KiB of it', async () => {
    const client = await rig.connect();
    const long = (bytes: number) => `{"RequestID":"Find","long":"${'x'.repeat(bytes - 30)}"}`;
    for (const header of [long(8_193), `{"RequestID":"Find","deep":${'['.repeat(100)}${']'.repeat(100)}}`]) {
      const reply = await client.ask(frame(REQUEST, header, { id: 'x' }));
      expect(reply).toMatchObject({ headerText: '{}', body: { id: 'x', errid: 1000 } });
    }
    const headers = [
      `{"RequestID":"Find","deep":${'['.repeat(60)}${']'.repeat(60)}}`,
      long(8_192),
      '{"RequestID":"Register","RequestID":"Find","half":"\\ud83d","__proto__":{"a":1}}',
    ];
    for (const header of headers) {
      const reply = await client.ask(frame(REQUEST, header, { id: 'x' }));
      expect(reply.headerText).toBe(header);
      expect(reply.body.errid).toBe(1002);
    }
  });
});

describe('a frame', () => {
  const golden = GOLDEN_FRAMES.filter(({ what }) => /^(Register|Update|Find)/.test(what));

  it.each(golden)('$what: is answered alike in pieces of every size', async ({ bytes }) => {
    const client = await rig.connect();
    await client.register(SEED_TASK);
    const whole = await client.ask(bytes);
    for (let size = 1; size < bytes.length; size++) {
      const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
        bytes.subarray(n * size, (n + 1) * size),
      );
      await client.writePieces(pieces);
      expect(await client.next()).toEqual(whole);
    }
  });

  it('of which each byte comes by itself, long after the one before it, is one frame', async () => {
    const client = await rig.connect();
    for (const byte of registerFrame(SEED_TASK)) {
      const read = rig.metrics.of('times read');
      client.write(Buffer.of(byte));
      await until('the byte is read alone', () => rig.metrics.of('times read') === read + 1);
    }
    expect((await client.next()).body).toMatchObject({ id: SEED_TASK.id, errid: 0 });
    expect(rig.metrics.of('times read')).toBe(registerFrame(SEED_TASK).length);
  });
});

describe('ten thousand requests in one write', () => {
  it('are all answered, in their order, and none is done twice or left out', async () => {
    const client = await rig.connect({ deadlineMs: 20_000 });
    const requests = Array.from({ length: 10_000 }, (_, n) =>
      n % 2 === 0 ? registerFrame({ id: `task-${n}` }, { n }) : findFrame(`task-${n - 1}`, { n }),
    );
    const replies = await client.pipeline(requests);
    expect(replies.map(({ header }) => header['n'])).toEqual(requests.map((_, n) => n));
    expect(replies.filter(({ body }) => body.errid !== 0)).toEqual([]);
    expect(rig.store.tasks.size).toBe(5_000);
  });
});

describe('a connection that is cut', () => {
  it('in the middle of ten thousand requests takes nothing with it that was answered', async () => {
    const client = await rig.connect();
    client.write(Buffer.concat(Array.from({ length: 10_000 }, (_, n) => registerFrame({ id: `task-${n}` }))));
    const answered = await client.take(100);
    await client.reset();
    await until('it is gone', () => rig.server.size === 0);
    for (const { body } of answered) expect([body.errid, rig.store.tasks.has(body.id)]).toEqual([0, true]);
    expect(await serves()).toBe(true);
    expect(rig.metrics.of('closed client')).toBe(1);
  });
});

describe('announced lengths', () => {
  it('of all sizes that lie hold no memory, on a thousand connections', async () => {
    const clients = await Promise.all(Array.from({ length: 1_000 }, () => rig.connect()));
    const before = process.memoryUsage();
    const lies = [0x7fffffff, 0x80000000, 0xffffffff, 1024 * 1024];
    for (const [n, client] of clients.entries()) {
      const head = frame(REQUEST, REGISTER, undefined, {
        length: lies[n % lies.length] as number,
        bodyLength: 0x7fffffff,
      });
      client.write(head.subarray(0, 16));
    }
    await until('all are read', () => rig.metrics.of('bytes read') === 16 * clients.length);
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2_000_000);
    expect(after.rss - before.rss).toBeLessThan(50_000_000);
  });
});
