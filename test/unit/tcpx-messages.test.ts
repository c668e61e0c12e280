import { describe, expect, it } from 'vitest';
import { TASK_LIMITS } from '../../server/domain/task.js';
import { foundBody, plainBody, readHeader, readRequest, readToken } from '../../server/transports/tcpx/messages.js';
import { ERRMSG, GOLDEN_FRAMES, SEED_TASK } from '../support/tcpx-frames.js';

const bytes = (text: string) => Buffer.from(text);
const json = (value: unknown) => bytes(JSON.stringify(value));
const { id: SEED_ID, ...SEED_TEXTS } = SEED_TASK;

describe('a header', () => {
  it.each(['', 'null', ' null '])('of %j counts as an empty one', (text) => {
    expect(readHeader(bytes(text))).toEqual({ text: '{}', verb: undefined });
  });

  it.each([
    '{}',
    '{"RequestID":"Find"}',
    ' {"RequestID": "Find",\n"trace":[1,{"a":null}]} ',
    '{"a":1.0,"a":"\\ud800"}',
  ])('of %j is repeated to the byte', (text) => {
    expect(readHeader(bytes(text))?.text).toBe(text);
  });

  it.each(['[]', '"text"', '7', 'true', '{', '{"a":1}x', '\ufeff{}', "{'a':1}"])('of %j is none', (text) => {
    expect(readHeader(bytes(text))).toBeUndefined();
  });

  it.each([
    ['a lone continuation byte', [0x7b, 0x22, 0x80, 0x22, 0x3a, 0x31, 0x7d]],
    ['an overlong slash', [0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d]],
    ['an encoded surrogate', [0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x3a, 0x31, 0x7d]],
  ])('that is not UTF-8, by %s, is none', (_what, octets) => {
    expect(readHeader(Buffer.from(octets))).toBeUndefined();
  });
});

describe('a request', () => {
  const read = (verb: unknown, body: unknown) => readRequest(json({ RequestID: verb }), json(body));

  it('is read from the golden Register, whatever the order of its keys', () => {
    for (const golden of GOLDEN_FRAMES.filter(({ what }) => what.startsWith('Register'))) {
      const headerEnd = 16 + golden.bytes.readUInt32BE(8);
      const received = readRequest(golden.bytes.subarray(16, headerEnd), golden.bytes.subarray(headerEnd));
      expect(received).toEqual({
        header: '{"RequestID":"Register"}',
        id: SEED_ID,
        request: { verb: 'register', id: SEED_ID, texts: SEED_TEXTS },
      });
    }
  });

  it('to update leaves out what is absent or empty', () => {
    const body = {
      id: 'a',
      name: '',
      url: 'u',
      user: '',
      group_id: '',
      description: '',
      status: 'finish',
      start_time: '',
    };
    expect(read('Update', body).request).toEqual({ verb: 'update', id: 'a', texts: { url: 'u', status: 'finish' } });
  });

  it('to register keeps what is empty', () => {
    expect(read('Register', { id: 'a', name: '', status: '' }).request).toMatchObject({
      texts: { name: '', status: '' },
    });
  });

  it('to find needs nothing but an id', () => {
    expect(read('Find', { id: 'a', name: 7 }).request).toEqual({ verb: 'find', id: 'a' });
  });

  it('may bring keys that mean nothing, twice the same, and characters that Go escapes', () => {
    const body = bytes(
      '{"id":"x","id":"a\\u0026\\u003c\\u2028","__proto__":{"name":"p"},"constructor":1,"extra":[{}]}',
    );
    expect(readRequest(json({ RequestID: 'Register', 'Router-Type': 'a' }), body).request).toEqual({
      verb: 'register',
      id: 'a&<\u2028',
      texts: {},
    });
  });

  it('is read as Go reads it: the case of keys does not count, null leaves a field, the last of several stands', () => {
    const body = bytes('{"ID":"a","Name":"n","stop_time":null,"STATUS":"finish","status":null,"url":"x","URL":"u"}');
    for (const verb of ['Register', 'Update'])
      expect(readRequest(json({ RequestID: verb }), body).request).toEqual({
        verb: verb.toLowerCase(),
        id: 'a',
        texts: { name: 'n', status: 'finish', url: 'u' },
      });
    expect(readToken(bytes('{"Token":"tdt_1","token":null}'))).toBe('tdt_1');
    expect(readRequest(json({ RequestID: 'Find' }), bytes('{"id":null}')).request).toBeUndefined();
  });

  it('may bring some hundreds of fields that mean nothing, and no more than that', () => {
    const crowded = (count: number) =>
      bytes(`{"id":"a",${Array.from({ length: count }, (_, n) => `"k${n}":[{}]`).join()}}`);
    const verb = json({ RequestID: 'Find' });
    expect(readRequest(verb, crowded(90)).request).toEqual({ verb: 'find', id: 'a' });
    expect(read('Find', { id: 'a', ...Object.fromEntries(Array.from({ length: 400 }, (_, n) => [n, n])) }).id).toBe(
      'a',
    );
    expect(readRequest(verb, crowded(200))).toMatchObject({ id: '', request: undefined });
  });

  it('may nest what means nothing 60 deep, and no deeper than 64', () => {
    const deep = (count: number) => bytes(`{"id":"a","k":${'['.repeat(count)}${']'.repeat(count)}}`);
    const verb = json({ RequestID: 'Find' });
    expect(readRequest(verb, deep(60)).id).toBe('a');
    expect(readRequest(verb, deep(64)).id).toBe('');
  });

  it('may have a header of 8 KiB, and no longer', () => {
    const header = (length: number) => bytes(`{"RequestID":"Find","x":"${'y'.repeat(length - 27)}"}`);
    expect(readRequest(header(8_192), json({ id: 'a' })).request).toBeDefined();
    expect(readRequest(header(8_193), json({ id: 'a' }))).toEqual({ header: '{}', id: 'a', request: undefined });
  });

  it.each([
    ['no verb', undefined],
    ['an unknown verb', 'Delete'],
    ['a verb in other letters', 'register'],
    ['a verb that is no text', 2],
    ['a verb that every object has', 'constructor'],
  ])('with %s is refused, but its header and id are repeated', (_what, verb) => {
    expect(read(verb, { id: 'a' })).toEqual({
      header: JSON.stringify({ RequestID: verb }),
      id: 'a',
      request: undefined,
    });
  });

  it.each(['null', '[]', '"text"', '7', '', '{', '{"id":"a"} x', '\ufeff{"id":"a"}'])(
    'with the body %j is refused',
    (text) => {
      expect(readRequest(json({ RequestID: 'Find' }), bytes(text))).toEqual({
        header: '{"RequestID":"Find"}',
        id: '',
        request: undefined,
      });
    },
  );

  it.each([
    ['missing', undefined],
    ['empty', ''],
    ['a number', 7],
    ['null', null],
    ['with a NUL', 'a\0b'],
    ['half a surrogate pair', '\ud800'],
    ['over its limit', 'x'.repeat(TASK_LIMITS.id + 1)],
  ])('whose id is %s is refused, and answered with an empty id', (_what, id) => {
    for (const verb of ['Register', 'Update', 'Find']) {
      expect(read(verb, { id })).toMatchObject({ id: '', request: undefined });
    }
  });

  it('whose id is just at its limit, counted in characters, is taken', () => {
    const id = '😀'.repeat(TASK_LIMITS.id);
    expect(read('Find', { id }).request).toEqual({ verb: 'find', id });
  });

  it.each(Object.keys(SEED_TEXTS))('whose %s is no text is refused', (field) => {
    for (const value of [7, true, {}, []]) {
      expect(read('Register', { id: 'a', [field]: value })).toMatchObject({ id: 'a', request: undefined });
      expect(read('Update', { id: 'a', [field]: value })).toMatchObject({ id: 'a', request: undefined });
    }
  });

  it('with a header that is none is refused with an empty header and its id', () => {
    expect(readRequest(bytes('[1]'), json({ id: 'a' }))).toEqual({ header: '{}', id: 'a', request: undefined });
  });
});

describe('a token', () => {
  it.each([
    ['{"token":"tdt_1"}', 'tdt_1'],
    ['{"token":""}', undefined],
    ['{"token":1}', undefined],
    ['{}', undefined],
    ['', undefined],
    ['"tdt_1"', undefined],
  ])('in %j is %j', (body, token) => {
    expect(readToken(bytes(body))).toBe(token);
  });

  it('in 16 KiB is one, and in more is none', () => {
    const token = 't'.repeat(16_384 - 12);
    expect(readToken(json({ token }))).toBe(token);
    expect(readToken(json({ token: `${token}t` }))).toBeUndefined();
  });
});

describe('a reply', () => {
  it.each([0, 1000, 1001, 1002, 1003] as const)('with errid %i has the text of the interface document', (errid) => {
    expect(plainBody('a"\n', errid)).toBe(`{"id":"a\\"\\n","errid":${errid},"errmsg":"${ERRMSG[errid]}"}`);
  });

  it('to a find that found equals what a Go server with an embedded struct writes', () => {
    const golden = GOLDEN_FRAMES.find(({ what }) => what.startsWith('a reply to Find'));
    const now = new Date(0);
    const rest = {
      addr: '10.0.0.1',
      cause: 'client',
      statusChangedAt: now,
      statusBefore: 'x',
      startedAt: now,
      stoppedAt: now,
    } as const;
    const body = foundBody({
      ...SEED_TASK,
      ...rest,
      createdAt: now,
      updatedAt: now,
      revision: 3,
      sessionId: 's',
      unconfirmedSince: null,
      epoch: 2,
    });
    expect(golden?.bytes.toString('utf8').endsWith(body)).toBe(true);
    expect(body.startsWith('{"id":"1234567","name":"abc",')).toBe(true);
  });
});
