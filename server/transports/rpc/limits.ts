/** The limits that the gRPC and HTTP doors share, so that a call goes the same way through either. */
export interface RpcLimits {
  /** Largest message in both directions, in bytes. */
  readonly maxMessageBytes: number;
}

/** Connections that each of the two doors accepts; more are closed at once. */
export const MAX_CONNECTIONS = 20_000;

/** Calls that may be under way at once on the two doors together; more are refused before anything is done for them. */
export const MAX_CALLS = 10_000;

/** The longest time-out that a call may name: a day, in milliseconds. A call that names none may last longer. */
export const MAX_TIMEOUT_MS = 86_400_000;

/** How much of a message the records of an answer may take; the rest is for tokens and totals. */
export function recordBytes({ maxMessageBytes }: RpcLimits): number {
  return maxMessageBytes - 8_192;
}
