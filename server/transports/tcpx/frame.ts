/**
 * The frames of the legacy door: bytes only, no socket and no meaning. The layout is that of the Go package tcpx; all
 * integers are big-endian:
 *
 *   length 4 | messageId 4 (signed) | headerLength 4 | bodyLength 4 | header | body      length = 12 + header + body
 *
 * The decoder is handed chunks and asked for frames one at a time, so that whoever asks can stop in the middle of a
 * chunk. It is in one of three states:
 *
 *   reading ──length below 12 or over the limit──► broken    yields `broken` once; whatever follows is ignored
 *    ▲ │ └─all bytes there─► reading                         yields `message`
 *    │ └──header and body do not add up to the length, or are more than is asked for──► skipping
 *    └───────────────all bytes of the frame passed─────────────────────────────────────────┘ yields `mismatch` or `message`
 *
 * Invariants
 * - The length is judged as soon as its four bytes are there; no announcement alone ever allocates anything.
 * - A frame that lies whole in one chunk is handed out as views of that chunk. Otherwise its bytes gather in space that
 *   doubles as they arrive: each byte is copied twice at most on average, and the space is never more than the greater
 *   of 64 bytes and twice what has arrived, nor more than the frame.
 * - Skipped bytes are not kept at all.
 * - What it yields depends on the bytes, and on how long a frame may be when it is asked; never on how they were cut into
 *   chunks.
 */

/** Bytes before the header, the length field included. */
export const HEAD_BYTES = 16;
const LENGTH_BYTES = 4;
/** What the length field counts beside header and body. */
const COUNTED_HEAD_BYTES = HEAD_BYTES - LENGTH_BYTES;
const FIRST_SPACE_BYTES = 64;
const NOTHING: Buffer = Buffer.alloc(0);

/**
 * What the decoder yields. Header and body are views that hold only until the next call; a frame that was longer than it was
 * asked for has nothing in them.
 */
export type Frame =
  | { readonly kind: 'message'; readonly messageId: number; readonly header: Buffer; readonly body: Buffer }
  /** Header and body length do not add up to the length; the frame was skipped by its length. */
  | { readonly kind: 'mismatch'; readonly messageId: number }
  /** The length cannot be right; the stream cannot be trusted any further. */
  | { readonly kind: 'broken'; readonly length: number };

export class FrameDecoder {
  #chunk = NOTHING;
  #offset = 0;
  /** The bytes of the present frame from its first one on, where it does not lie whole in the chunk. */
  #held = NOTHING;
  #heldBytes = 0;
  #skipping: { readonly frame: Frame; left: number } | undefined;
  #broken = false;
  #completed = 0;

  /** `maxFrameBytes` bounds the value of the length field. */
  constructor(private readonly maxFrameBytes: number) {}

  /** How many frames have been passed, for telling one incomplete frame from the next. */
  get completed(): number {
    return this.#completed;
  }

  /** Whether a frame has begun that `next` could not complete. */
  get isMidFrame(): boolean {
    return this.#heldBytes > 0 || this.#skipping !== undefined;
  }

  /** Bytes kept: the space of an incomplete frame, and what is left of the chunk. */
  get keptBytes(): number {
    return this.#held.length + this.#chunk.length - this.#offset;
  }

  /** What the next frame measures, and its header, where all of it is there; what its head says is not judged. */
  get ready(): { readonly bytes: number; readonly headerBytes: number } | undefined {
    if (this.#skipping || !this.#has(HEAD_BYTES)) return undefined;
    const bytes = LENGTH_BYTES + this.#uint32(0);
    const arrivedBytes = this.#heldBytes + this.#chunk.length - this.#offset;
    return arrivedBytes < bytes ? undefined : { bytes, headerBytes: this.#uint32(8) };
  }

  /** Hands over the next chunk; cheapest when `next` has said that the one before is used up. */
  push(chunk: Buffer): void {
    if (this.#broken) return;
    this.#chunk = this.#chunk.length === 0 ? chunk : Buffer.concat([this.#chunk.subarray(this.#offset), chunk]);
    this.#offset = 0;
  }

  /** The next frame, or undefined when the chunk is used up; one longer than `maxBytes` is skipped. Never throws. */
  next(maxBytes = Infinity): Frame | undefined {
    const frame = this.#skipping ? this.#skipOn() : this.#read(maxBytes);
    if (frame) this.#completed++;
    if (this.#offset === this.#chunk.length) this.#dropChunk();
    return frame;
  }

  #read(maxBytes: number): Frame | undefined {
    if (!this.#has(LENGTH_BYTES)) return undefined;
    const length = this.#uint32(0);
    if (length < COUNTED_HEAD_BYTES || length > this.maxFrameBytes) return this.#break(length);
    if (!this.#has(HEAD_BYTES)) return undefined;
    const messageId = this.#uint32(4) | 0;
    const headerEnd = HEAD_BYTES + this.#uint32(8);
    const frameEnd = LENGTH_BYTES + length;
    if (headerEnd + this.#uint32(12) !== frameEnd) return this.#skip({ kind: 'mismatch', messageId }, frameEnd);
    if (length > maxBytes) return this.#skip({ kind: 'message', messageId, header: NOTHING, body: NOTHING }, frameEnd);
    if (!this.#has(frameEnd)) return undefined;
    const [bytes, start] = this.#heldBytes === 0 ? [this.#chunk, this.#offset] : [this.#held, 0];
    this.#consume(frameEnd);
    return {
      kind: 'message',
      messageId,
      header: bytes.subarray(start + HEAD_BYTES, start + headerEnd),
      body: bytes.subarray(start + headerEnd, start + frameEnd),
    };
  }

  /** Whether the present frame's first `count` bytes lie in one piece; gathers them if they do not yet. */
  #has(count: number): boolean {
    const available = this.#chunk.length - this.#offset;
    if (this.#heldBytes === 0 && available >= count) return true;
    if (this.#heldBytes < count) this.#hold(Math.min(count - this.#heldBytes, available), count);
    return this.#heldBytes >= count;
  }

  /** A number of the present frame's head, of which `#has` has made sure. */
  #uint32(at: number): number {
    return this.#heldBytes === 0 ? this.#chunk.readUInt32BE(this.#offset + at) : this.#held.readUInt32BE(at);
  }

  /** Moves `count` bytes of the chunk behind those held, of which there will be `limit` at most. */
  #hold(count: number, limit: number): void {
    if (count === 0) return;
    const needed = this.#heldBytes + count;
    if (needed > this.#held.length) {
      const space = Buffer.allocUnsafeSlow(Math.min(limit, Math.max(needed, 2 * this.#held.length, FIRST_SPACE_BYTES)));
      this.#held.copy(space, 0, 0, this.#heldBytes);
      this.#held = space;
    }
    this.#chunk.copy(this.#held, this.#heldBytes, this.#offset, this.#offset + count);
    this.#heldBytes = needed;
    this.#offset += count;
  }

  /** Passes the present frame's first `count` bytes, wherever they are. */
  #consume(count: number): void {
    if (this.#heldBytes === 0) this.#offset += count;
    this.#held = NOTHING;
    this.#heldBytes = 0;
  }

  #skip(frame: Frame, frameEnd: number): Frame | undefined {
    this.#consume(HEAD_BYTES);
    this.#skipping = { frame, left: frameEnd - HEAD_BYTES };
    return this.#skipOn();
  }

  #skipOn(): Frame | undefined {
    if (!this.#skipping) return undefined;
    const passed = Math.min(this.#skipping.left, this.#chunk.length - this.#offset);
    this.#skipping.left -= passed;
    this.#offset += passed;
    if (this.#skipping.left > 0) return undefined;
    const { frame } = this.#skipping;
    this.#skipping = undefined;
    return frame;
  }

  #break(length: number): Frame {
    this.#broken = true;
    this.#consume(0);
    this.#dropChunk();
    return { kind: 'broken', length };
  }

  #dropChunk(): void {
    this.#chunk = NOTHING;
    this.#offset = 0;
  }
}

/** A frame to be sent: header and body as texts. */
export interface OutgoingFrame {
  readonly messageId: number;
  readonly header: string;
  readonly body: string;
}

/** Frames as one buffer, one behind the other, so that they leave in one write; `bytes` is what they measure together. */
export function encodeFrames(frames: readonly OutgoingFrame[], bytes = measured(frames)): Buffer {
  const buffer = Buffer.allocUnsafe(bytes);
  let offset = 0;
  for (const { messageId, header, body } of frames) {
    const headerBytes = buffer.write(header, offset + HEAD_BYTES);
    const bodyBytes = buffer.write(body, offset + HEAD_BYTES + headerBytes);
    offset = buffer.writeUInt32BE(COUNTED_HEAD_BYTES + headerBytes + bodyBytes, offset);
    offset = buffer.writeInt32BE(messageId, offset);
    offset = buffer.writeUInt32BE(headerBytes, offset);
    offset = buffer.writeUInt32BE(bodyBytes, offset) + headerBytes + bodyBytes;
  }
  return buffer;
}

function measured(frames: readonly OutgoingFrame[]): number {
  return frames.reduce(
    (sum, { header, body }) => sum + HEAD_BYTES + Buffer.byteLength(header) + Buffer.byteLength(body),
    0,
  );
}
