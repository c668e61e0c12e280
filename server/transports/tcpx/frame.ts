/**
 * The frames of the legacy door: bytes in, frames out, no socket. The layout is that of the Go package tcpx; all
 * integers are big-endian:
 *
 *   length 4 | messageID 4 (signed) | headerLength 4 | bodyLength 4 | header | body        length = 12 + header + body
 *
 * States of the decoder
 *
 *   head ──16 bytes, lengths agree──► payload ──all bytes──► head       yields a message
 *     │  └─16 bytes, lengths differ─► skipping ──all bytes─► head       yields a mismatch
 *     └──length below 12 or over the limit──► broken                    yields a break; everything after it is ignored
 *
 * Invariants
 * - The length is judged as soon as its four bytes are there, before anything is allocated for the frame.
 * - What is kept of an incomplete frame is at most twice what has arrived of it, and never more than the limit; skipped
 *   bytes are not kept at all.
 * - A frame that lies whole in one chunk is handed out as views of that chunk, without copying.
 */

/** Bytes of the length field. */
const LENGTH_BYTES = 4;
/** Bytes of everything before the header. */
export const HEAD_BYTES = 16;
/** What the length field counts beside header and body. */
const COUNTED_HEAD_BYTES = HEAD_BYTES - LENGTH_BYTES;

const FIRST_GATHER_BYTES = 4096;
/** Answers a frame whose message id is not known. */
const DEFAULT_MESSAGE_ID = 2;

/** What the decoder yields. */
export type Frame =
  | { readonly kind: 'message'; readonly messageId: number; readonly header: Buffer; readonly body: Buffer }
  /** Header and body length do not add up to the length; the frame was skipped. */
  | { readonly kind: 'mismatch'; readonly messageId: number }
  /** The length cannot be right; the stream cannot be trusted any further. */
  | { readonly kind: 'break'; readonly messageId: number; readonly length: number };

const EMPTY = Buffer.alloc(0);

export class FrameDecoder {
  #state: 'head' | 'payload' | 'skipping' | 'broken' = 'head';
  #gathered = EMPTY;
  #gatheredBytes = 0;
  #messageId = DEFAULT_MESSAGE_ID;
  #headerBytes = 0;
  /** Bytes that the present state still waits for: of the payload in all, or to be skipped. */
  #wantedBytes = 0;

  /** `maxFrameBytes` bounds the value of the length field. */
  constructor(private readonly maxFrameBytes: number) {}

  /** Whether a frame has begun and is not complete. */
  get incomplete(): boolean {
    return this.#gatheredBytes > 0 || this.#state === 'payload' || this.#state === 'skipping';
  }

  /** Bytes set aside for the incomplete frame. */
  get heldBytes(): number {
    return this.#gathered.length;
  }

  /** Takes the next chunk of the stream and returns the frames that it completes. Never throws. */
  decode(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    let offset = 0;
    while (offset < chunk.length || this.#ready()) {
      const before = this.#state;
      offset = this.#step(chunk, offset, frames);
      if (before === 'broken') return frames;
    }
    return frames;
  }

  /** Whether the present state is complete without another byte: an empty payload, or nothing to skip. */
  #ready(): boolean {
    return (this.#state === 'payload' || this.#state === 'skipping') && this.#wantedBytes === 0;
  }

  #step(chunk: Buffer, offset: number, frames: Frame[]): number {
    switch (this.#state) {
      case 'head':
        return this.#readHead(chunk, offset, frames);
      case 'payload':
        return this.#readPayload(chunk, offset, frames);
      case 'skipping':
        return this.#skip(chunk, offset, frames);
      case 'broken':
        return chunk.length;
    }
  }

  #readHead(chunk: Buffer, offset: number, frames: Frame[]): number {
    if (this.#gatheredBytes === 0 && chunk.length - offset >= HEAD_BYTES) {
      this.#judgeHead(chunk.subarray(offset, offset + HEAD_BYTES), frames);
      return offset + HEAD_BYTES;
    }
    const taken = Math.min(HEAD_BYTES - this.#gatheredBytes, chunk.length - offset);
    this.#gather(chunk, offset, taken, HEAD_BYTES);
    const head = this.#gathered.subarray(0, this.#gatheredBytes);
    const complete = head.length === HEAD_BYTES;
    if (complete) this.#release();
    if (complete || this.#isBreak(head)) this.#judgeHead(head, frames);
    return offset + taken;
  }

  #isBreak(head: Buffer): boolean {
    if (head.length < LENGTH_BYTES) return false;
    const length = head.readUInt32BE(0);
    return length < COUNTED_HEAD_BYTES || length > this.maxFrameBytes;
  }

  #judgeHead(head: Buffer, frames: Frame[]): void {
    const length = head.readUInt32BE(0);
    this.#messageId = head.length >= 8 ? head.readInt32BE(4) : DEFAULT_MESSAGE_ID;
    if (this.#isBreak(head)) {
      this.#state = 'broken';
      this.#release();
      frames.push({ kind: 'break', messageId: this.#messageId, length });
      return;
    }
    this.#headerBytes = head.readUInt32BE(8);
    this.#wantedBytes = length - COUNTED_HEAD_BYTES;
    this.#state = this.#headerBytes + head.readUInt32BE(12) === this.#wantedBytes ? 'payload' : 'skipping';
  }

  #readPayload(chunk: Buffer, offset: number, frames: Frame[]): number {
    const available = chunk.length - offset;
    if (this.#gatheredBytes === 0 && available >= this.#wantedBytes) {
      this.#yieldMessage(chunk.subarray(offset, offset + this.#wantedBytes), frames);
      return offset + this.#wantedBytes;
    }
    const taken = Math.min(this.#wantedBytes - this.#gatheredBytes, available);
    this.#gather(chunk, offset, taken, this.#wantedBytes);
    if (this.#gatheredBytes === this.#wantedBytes) {
      const payload = this.#gathered.subarray(0, this.#wantedBytes);
      this.#release();
      this.#yieldMessage(payload, frames);
    }
    return offset + taken;
  }

  #yieldMessage(payload: Buffer, frames: Frame[]): void {
    this.#state = 'head';
    frames.push({
      kind: 'message',
      messageId: this.#messageId,
      header: payload.subarray(0, this.#headerBytes),
      body: payload.subarray(this.#headerBytes),
    });
  }

  #skip(chunk: Buffer, offset: number, frames: Frame[]): number {
    const skipped = Math.min(this.#wantedBytes, chunk.length - offset);
    this.#wantedBytes -= skipped;
    if (this.#wantedBytes === 0) {
      this.#state = 'head';
      frames.push({ kind: 'mismatch', messageId: this.#messageId });
    }
    return offset + skipped;
  }

  /** Keeps bytes of an incomplete frame; the space doubles as they arrive, so that each byte is copied twice at most. */
  #gather(chunk: Buffer, offset: number, count: number, wanted: number): void {
    const needed = this.#gatheredBytes + count;
    if (needed > this.#gathered.length) {
      const space = Math.min(wanted, Math.max(needed, this.#gathered.length * 2, Math.min(wanted, FIRST_GATHER_BYTES)));
      const larger = Buffer.allocUnsafeSlow(space);
      this.#gathered.copy(larger, 0, 0, this.#gatheredBytes);
      this.#gathered = larger;
    }
    chunk.copy(this.#gathered, this.#gatheredBytes, offset, offset + count);
    this.#gatheredBytes = needed;
  }

  #release(): void {
    this.#gathered = EMPTY;
    this.#gatheredBytes = 0;
  }
}

/** One frame, as one buffer, from the texts of its header and body. */
export function encodeFrame(messageId: number, header: string, body: string): Buffer {
  const headerBytes = Buffer.byteLength(header);
  const bodyBytes = Buffer.byteLength(body);
  const frame = Buffer.allocUnsafe(HEAD_BYTES + headerBytes + bodyBytes);
  frame.writeUInt32BE(COUNTED_HEAD_BYTES + headerBytes + bodyBytes, 0);
  frame.writeInt32BE(messageId, 4);
  frame.writeUInt32BE(headerBytes, 8);
  frame.writeUInt32BE(bodyBytes, 12);
  frame.write(header, HEAD_BYTES);
  frame.write(body, HEAD_BYTES + headerBytes);
  return frame;
}
