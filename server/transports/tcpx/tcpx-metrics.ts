/** What the legacy door counts; app.ts connects it to the metrics. Called on the hot path: implementations are cheap. */

/** Why a connection was turned away at once. */
export type RefusalReason = 'address_not_allowed' | 'too_many_connections' | 'too_many_from_address' | 'stopping';

/** Why a connection ended. */
export type CloseReason =
  /** The client went, or the network lost it. */
  | 'client'
  /** Its session expired in silence. */
  | 'silent'
  /** The token that it showed is not valid any more. */
  | 'token_ended'
  /** A frame stayed incomplete, or last replies unread, for too long. */
  | 'timeout'
  /** A length that cannot be right. */
  | 'broken_stream'
  /** Incomplete frames of all connections, or replies that nobody took, held too much. */
  | 'memory'
  | 'stopping'
  /** A defect of ours, told in the log. */
  | 'failed';

/** What a frame was. */
export type FrameKind =
  | 'register'
  | 'update'
  | 'find'
  | 'heartbeat'
  | 'authenticate'
  /** A message id that means nothing here. */
  | 'unknown'
  /** Answered with 1000 before anything was done. */
  | 'malformed'
  /** Answered with 1003: its connection has not authenticated. */
  | 'unauthenticated';

export interface TcpxMetrics {
  connection(event: 'opened', reason: ''): void;
  connection(event: 'closed', reason: CloseReason): void;
  connection(event: 'refused', reason: RefusalReason): void;
  frame(kind: FrameKind): void;
  /** A reply with an error. */
  error(errid: number): void;
  bytes(direction: 'read' | 'written', count: number): void;
}
