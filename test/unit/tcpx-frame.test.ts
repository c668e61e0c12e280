import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeFrames, FrameDecoder, type Frame } from '../../server/transports/tcpx/frame.js';
import { frame, GOLDEN_FRAMES, HEARTBEAT, REQUEST, SEED_TASK } from '../support/tcpx-frames.js';

const LIMIT = 1024 * 1024;

/** What was decoded, as texts; equal for equal bytes, however they were cut. */
function decode(chunks: readonly Buffer[], decoder = new FrameDecoder(LIMIT)): object[] {
  const decoded: object[] = [];
  for (const chunk of chunks) {
    decoder.push(chunk);
    for (let next = decoder.next(); next; next = decoder.next()) decoded.push(told(next));
  }
  return decoded;
}

function told(decoded: Frame): object {
  if (decoded.kind !== 'message') return { ...decoded };
  return { ...decoded, header: decoded.header.toString(), body: decoded.body.toString() };
}

function inPiecesOf(size: number, bytes: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
  return pieces;
}

const message = (messageId: number, header: string, body: string) => ({ kind: 'message', messageId, header, body });

describe('golden frames', () => {
  it.each(GOLDEN_FRAMES)('$what: is read whole, byte by byte, and at every split', ({ bytes }) => {
    const headerEnd = 16 + bytes.readUInt32BE(8);
    const expected = [
      message(bytes.readInt32BE(4), bytes.toString('utf8', 16, headerEnd), bytes.toString('utf8', headerEnd)),
    ];
    expect(decode([bytes])).toEqual(expected);
    expect(decode(inPiecesOf(1, bytes))).toEqual(expected);
    for (let at = 1; at < bytes.length; at++) {
      expect(decode([bytes.subarray(0, at), bytes.subarray(at)])).toEqual(expected);
    }
  });

  it('are read in any cut of all of them together', () => {
    const stream = Buffer.concat(GOLDEN_FRAMES.map(({ bytes }) => bytes));
    const whole = decode([stream]);
    expect(whole).toHaveLength(GOLDEN_FRAMES.length);
    for (let size = 1; size <= stream.length; size++) expect(decode(inPiecesOf(size, stream))).toEqual(whole);
  });

  it.each(GOLDEN_FRAMES)('$what: is written by the encoder to the byte', ({ bytes }) => {
    const headerEnd = 16 + bytes.readUInt32BE(8);
    const [header, body] = [bytes.toString('utf8', 16, headerEnd), bytes.toString('utf8', headerEnd)];
    expect(encodeFrames([{ messageId: bytes.readInt32BE(4), header, body }])).toEqual(bytes);
  });
});

describe('the decoder', () => {
  it('reads a negative message id as a signed number', () => {
    expect(decode([frame(-2, '{}')])).toEqual([message(-2, '{}', '')]);
  });

  it('reads a frame without header and body', () => {
    const bytes = frame(HEARTBEAT, undefined);
    expect(decode([bytes, bytes])).toEqual([message(HEARTBEAT, '', ''), message(HEARTBEAT, '', '')]);
    expect(decode(inPiecesOf(1, bytes))).toEqual([message(HEARTBEAT, '', '')]);
  });

  it('hands out a frame that lies whole in a chunk without copying it', () => {
    const decoder = new FrameDecoder(LIMIT);
    const chunk = Buffer.concat([frame(HEARTBEAT, null), frame(REQUEST, { RequestID: 'Find' }, { id: 'x' })]);
    decoder.push(chunk);
    decoder.next();
    const found = decoder.next();
    expect(
      found?.kind === 'message' && found.header.buffer === chunk.buffer && found.body.buffer === chunk.buffer,
    ).toBe(true);
    expect(decoder.keptBytes).toBe(0);
  });

  it('can be left in the middle of a chunk and gone on with later', () => {
    const decoder = new FrameDecoder(LIMIT);
    decoder.push(Buffer.concat([frame(1, '{}'), frame(2, '{}'), frame(3, '{}').subarray(0, 5)]));
    expect(decoder.next()).toMatchObject({ messageId: 1 });
    decoder.push(frame(3, '{}').subarray(5));
    expect(decoder.next()).toMatchObject({ messageId: 2 });
    expect(decoder.next()).toMatchObject({ messageId: 3 });
    expect(decoder.next()).toBeUndefined();
  });

  it.each([
    ['header length too small', { headerLength: 3 }],
    ['header length too large', { headerLength: 400 }],
    ['body length too large', { bodyLength: 0x7fffffff }],
    ['body length too small', { bodyLength: 0 }],
    ['both lengths at their greatest', { headerLength: 0xffffffff, bodyLength: 0xffffffff }],
    ['length too small', { length: 20 }],
    ['length just the head', { length: 12 }],
  ])('skips a frame whose lengths contradict each other, %s, by its length, and stays in step', (_what, claims) => {
    const wrong = frame(77, '{"a":1}', SEED_TASK, claims);
    const skipped = wrong.subarray(0, 4 + wrong.readUInt32BE(0));
    const stream = Buffer.concat([skipped, frame(5, '{}', '{"after":1}')]);
    const expected = [{ kind: 'mismatch', messageId: 77 }, message(5, '{}', '{"after":1}')];
    for (let size = 1; size <= stream.length; size++) expect(decode(inPiecesOf(size, stream))).toEqual(expected);
  });

  it('skips a frame that is longer than it is asked for, says what it was, and stays in step', () => {
    const stream = Buffer.concat([frame(77, '{"a":1}', SEED_TASK), frame(5, '{}', '{"after":1}')]);
    for (let size = 1; size <= stream.length; size++) {
      const decoder = new FrameDecoder(LIMIT);
      const decoded = inPiecesOf(size, stream).flatMap((piece) => {
        decoder.push(piece);
        const frames: object[] = [];
        for (let next = decoder.next(50); next; next = decoder.next(50)) frames.push(told(next));
        expect(decoder.keptBytes).toBeLessThanOrEqual(64);
        return frames;
      });
      expect(decoded).toEqual([message(77, '', ''), message(5, '{}', '{"after":1}')]);
    }
  });

  it('keeps nothing of a frame that it skips', () => {
    const decoder = new FrameDecoder(LIMIT);
    decoder.push(frame(77, undefined, Buffer.alloc(500_000), { headerLength: 1 }).subarray(0, 400_000));
    expect(decoder.next()).toBeUndefined();
    expect(decoder.keptBytes).toBe(0);
    expect(decoder.isMidFrame).toBe(true);
  });

  it.each([0, 11, LIMIT + 1, 0x7fffffff, 0x80000000, 0xffffffff])(
    'breaks on the length %i as soon as its four bytes are there, and allocates nothing for it',
    (length) => {
      const decoder = new FrameDecoder(LIMIT);
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(length);
      expect(decode([bytes], decoder)).toEqual([{ kind: 'broken', length }]);
      expect(decoder.keptBytes).toBe(0);
      expect(decode([frame(REQUEST, '{}'), frame(REQUEST, '{}')], decoder)).toEqual([]);
      expect(decoder.keptBytes).toBe(0);
    },
  );

  it('breaks alike at every cut', () => {
    const stream = Buffer.concat([frame(1, '{}'), frame(2, '{}', undefined, { length: 0x7fffffff }), frame(3, '{}')]);
    const expected = [message(1, '{}', ''), { kind: 'broken', length: 0x7fffffff }];
    for (let size = 1; size <= stream.length; size++) expect(decode(inPiecesOf(size, stream))).toEqual(expected);
  });

  it('accepts a frame of exactly the limit', () => {
    const body = Buffer.alloc(LIMIT - 12, 'x');
    expect(decode([frame(9, undefined, body)])).toEqual([message(9, '', body.toString())]);
  });

  it('sets no more aside for an announced frame than has arrived of it', () => {
    const decoder = new FrameDecoder(LIMIT);
    const announced = frame(REQUEST, '{}', Buffer.alloc(1_000_000));
    decoder.push(announced.subarray(0, 17));
    decoder.next();
    expect(decoder.keptBytes).toBeLessThanOrEqual(64);
    decoder.push(announced.subarray(17, 10_000));
    decoder.next();
    expect(decoder.keptBytes).toBeLessThanOrEqual(20_000);
  });

  it('keeps nothing of a frame that it has handed out', () => {
    const decoder = new FrameDecoder(LIMIT);
    const bytes = frame(REQUEST, undefined, Buffer.alloc(50_000));
    decoder.push(bytes.subarray(0, 30_000));
    expect(decoder.next()).toBeUndefined();
    decoder.push(bytes.subarray(30_000));
    expect(decoder.next()).toBeDefined();
    expect(decoder.keptBytes).toBe(0);
    expect(decoder.isMidFrame).toBe(false);
  });

  it('takes a frame of 1 MiB byte by byte, moving what it has gathered only a few times', () => {
    const bytes = frame(REQUEST, undefined, Buffer.alloc(LIMIT - 12, 'x'));
    const decoder = new FrameDecoder(LIMIT);
    let movedBytes = 0;
    for (let at = 0; at < bytes.length - 1; at++) {
      const before = decoder.keptBytes;
      decoder.push(bytes.subarray(at, at + 1));
      decoder.next();
      if (decoder.keptBytes !== before) movedBytes += before;
    }
    decoder.push(bytes.subarray(-1));
    expect(decoder.next()).toMatchObject({ kind: 'message', messageId: REQUEST });
    expect(movedBytes).toBeGreaterThan(0);
    expect(movedBytes).toBeLessThan(2 * bytes.length);
  });
});

describe('whatever arrives', () => {
  const limit = 4096;
  const pieces = (bytes: Buffer, sizes: readonly number[]) => {
    const cut: Buffer[] = [];
    let at = 0;
    for (let index = 0; at < bytes.length; index++) {
      const size = sizes[index % sizes.length] ?? 1;
      cut.push(bytes.subarray(at, at + size));
      at += size;
    }
    return cut;
  };
  const sizes = fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 20 });
  const someFrame = fc
    .tuple(
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ maxLength: 300 }),
    )
    .map(([messageId, header, body]) => frame(messageId, Buffer.from(header), Buffer.from(body)));

  it('the decoder never throws, keeps within its bound, and yields the same for every cut', () => {
    const noise = fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes));
    const mutated = fc.tuple(someFrame, fc.nat(), fc.integer({ min: 0, max: 255 })).map(([bytes, at, value]) => {
      const copy = Buffer.from(bytes);
      copy[at % Math.min(16, copy.length)] = value;
      return copy;
    });
    const stream = fc.array(fc.oneof(someFrame, mutated, noise), { maxLength: 8 }).map((parts) => Buffer.concat(parts));
    fc.assert(
      fc.property(stream, sizes, (bytes, cut) => {
        const decoder = new FrameDecoder(limit);
        const decoded: object[] = [];
        for (const piece of pieces(bytes, cut)) {
          decoder.push(piece);
          for (let next = decoder.next(); next; next = decoder.next()) decoded.push(told(next));
          expect(decoder.keptBytes).toBeLessThanOrEqual(limit + 4);
        }
        expect(decoded).toEqual(decode([bytes], new FrameDecoder(limit)));
      }),
      { numRuns: 500 },
    );
  });

  it('the decoder stays in step behind frames whose inner lengths lie', () => {
    const liar = fc
      .tuple(someFrame, fc.nat({ max: 0xffffffff }), fc.nat({ max: 0xffffffff }))
      .map(([bytes, headerLength, bodyLength]) => {
        const copy = Buffer.from(bytes);
        copy.writeUInt32BE(headerLength, 8);
        copy.writeUInt32BE(bodyLength, 12);
        return copy;
      });
    fc.assert(
      fc.property(fc.array(fc.oneof(liar, someFrame), { maxLength: 8 }), sizes, (frames, cut) => {
        const decoded = decode(
          pieces(Buffer.concat([...frames, frame(4242, '{"last":1}')]), cut),
          new FrameDecoder(limit),
        );
        expect(decoded).toHaveLength(frames.length + 1);
        expect(decoded.at(-1)).toEqual(message(4242, '{"last":1}', ''));
      }),
      { numRuns: 500 },
    );
  });

  it('what the encoder writes, the decoder reads', () => {
    const outgoing = fc.record({
      messageId: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      header: fc.string(),
      body: fc.string({ unit: 'binary' }),
    });
    fc.assert(
      fc.property(fc.array(outgoing, { maxLength: 10 }), sizes, (frames, cut) => {
        const wellFormed = frames.map((each) => ({
          ...each,
          header: each.header.toWellFormed(),
          body: each.body.toWellFormed(),
        }));
        const expected = wellFormed.map(({ messageId, header, body }) => message(messageId, header, body));
        expect(decode(pieces(encodeFrames(wellFormed), cut))).toEqual(expected);
      }),
    );
  });
});
