import type { JsonBounds } from '../rpc/json-scan.js';

/** The limits of the legacy door, with their defaults. Sizes in bytes, times in milliseconds. */
export interface TcpxLimits {
  /** The largest length field that is believed. */
  readonly maxFrameBytes: number;
  /** How long a frame may stay incomplete, counted from its first byte; also how long last replies may stay unread. */
  readonly frameTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** Requests of one connection that may be unanswered before it is read no further. */
  readonly maxUnanswered: number;
  /** What those requests may measure together; one may always be larger. */
  readonly maxUnansweredBytes: number;
  /** Replies of one connection that its client has not taken yet, those under way among them, before it is read no further. */
  readonly maxUnreadReplyBytes: number;
  /** The same of all connections together, and of finds under way, before requests wait (shared-memory.ts). */
  readonly maxReplyBytes: number;
  /** What requests under way of all connections measure together before those that follow wait, in the same way. */
  readonly maxRequestBytes: number;
  /** How long a client may take nothing of its replies while finds of others wait for their room. */
  readonly stalledReplyMs: number;
  /** What all connections together have read and not taken before those that want more than a share are closed. */
  readonly maxIncompleteBytes: number;
  /** How long a request waits for room in a batcher before it is refused. */
  readonly roomTimeoutMs: number;
  /** How long a connection that was told to go may take to do so. */
  readonly lingerMs: number;
  /** Addresses and CIDR ranges that may connect; empty: all. */
  readonly allow: readonly string[];
}

/** The longest header, since replies repeat it. That of the Go client has some thirty bytes. */
export const MAX_HEADER_BYTES = 8_192;

/** What a connection may send in one frame while it has to show a token and has not; also what a token fits in. */
export const MAX_STRANGER_FRAME_BYTES = 16_384;

/** What a header or a body may have in it (rpc/json-scan.ts): the nine texts, and some hundreds of fields that mean nothing. */
export const MAX_JSON: JsonBounds = { elements: 1_000, nesting: 64, textBytes: Infinity };

/** Loopback, private, unique local and link-local addresses. */
export const PRIVATE_RANGES: readonly string[] = [
  '127.0.0.0/8',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '169.254.0.0/16',
  '::1/128',
  'fc00::/7',
  'fe80::/10',
];

export const DEFAULT_TCPX_LIMITS: TcpxLimits = {
  maxFrameBytes: 1024 * 1024,
  frameTimeoutMs: 30_000,
  maxConnections: 20_000,
  maxConnectionsPerAddress: 20_000,
  maxUnanswered: 64,
  maxUnansweredBytes: 256 * 1024,
  maxUnreadReplyBytes: 256 * 1024,
  maxReplyBytes: 32 * 1024 * 1024,
  stalledReplyMs: 3_000,
  maxRequestBytes: 16 * 1024 * 1024,
  maxIncompleteBytes: 24 * 1024 * 1024,
  roomTimeoutMs: 5_000,
  lingerMs: 2_000,
  allow: PRIVATE_RANGES,
};
