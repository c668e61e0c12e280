/** The limits that the gRPC and HTTP doors share, so that a call goes the same way through either. */
export interface RpcLimits {
  /** Largest message in both directions, in bytes. */
  readonly maxMessageBytes: number;
}

/** What a call may carry before its credentials are judged, in bytes after unpacking. A login fits in. */
export const MAX_STRANGER_BYTES = 16_384;

/**
 * Fields and elements of one message together, and how deep they may lie. An object costs as much as some four numbers,
 * and counts so. A full batch of tasks as they were read, with every field, has some 45,000; decoding 50,000 takes 30 ms.
 */
export const MAX_ELEMENTS = 50_000;
export const OBJECT_ELEMENTS = 4;
export const MAX_NESTING = 64;

/**
 * The longest text or number of a message, in bytes as it is sent. The longest that a field takes, 8,192 characters, has
 * 98,304 where JSON escapes each. Some texts are lists or numbers in disguise, which cost much more than their bytes.
 */
export const MAX_TEXT_BYTES = 131_072;

const MIB = 1024 * 1024;

/**
 * Bytes of messages that have not arrived whole, or are long and not answered yet, over one connection, from one address, and
 * of all callers of both doors: a connection may be sending four of the largest messages at once. What these and all other
 * bounds let a server keep together is told in docs/security.md.
 */
export const MAX_ARRIVING = { connection: 16 * MIB, address: 32 * MIB, together: 48 * MIB } as const;
/** How long a request may take to arrive, in milliseconds: the largest one at 140 kB/s. */
export const MAX_ARRIVING_MS = 30_000;

/** Bytes of answers that callers have not taken, in the same way; and how long a caller may take nothing, in milliseconds. */
export const MAX_UNSENT = { connection: 16 * MIB, address: 24 * MIB, together: 32 * MIB } as const;
export const MAX_UNSENT_MS = 30_000;

/**
 * Streams of health and reflection, which need no credentials: load balancers watch each service once over a connection,
 * tools ask over one stream, and behind a proxy a whole office may be one address.
 */
export const MAX_STRANGER_STREAMS = { perConnection: 16, perAddress: 256, together: 2_000 } as const;

/** What reflection tells an address: 35 bytes of question are 4 kB of answer. A tool that asks for everything needs 30 kB. */
export const MAX_STRANGER_ANSWERS = { maxBytes: 1_048_576, withinMs: 10_000 } as const;

/**
 * WatchTasks streams of one user or token, and from one address: a person has some tabs open and a token some replicas, an
 * office behind one address some dozens of people; and what one of them opens leaves most of a server's watches to others.
 */
export const MAX_WATCHES = { perCaller: 64, perAddress: 512 } as const;

/**
 * What a gRPC connection may send within so many milliseconds beside calls and messages, how many calls it may begin in one
 * turn of the event loop, which is twice as many as it may have open, and how often streams may be refused to it at all,
 * before it is closed; and how long its address waits after the former two. A client that calls 10,000 times a second has
 * nothing beside; keep-alive is 17 bytes now and then.
 */
export const MAX_FLOOD = {
  everyMs: 100,
  idleBytes: 262_144,
  callsATurn: 256,
  refusedStreams: 64,
  waitMs: 10_000,
} as const;
/** What the headers of a call may have, about, which count as its own. */
export const CALL_BYTES = 2_048;
/** What the headers of a gRPC call may measure, with 32 bytes for each as HTTP/2 counts; what gRPC itself has by default. */
export const MAX_HEADER_BYTES = 8_192;

/**
 * Connections that may wait to be accepted at each of the two doors; the system may allow less, and has callers try again
 * beyond.
 */
export const ACCEPT_BACKLOG = 4_096;

/** Connections that each of the two doors accepts; more are closed at once. */
export const MAX_CONNECTIONS = 20_000;

/**
 * Connections of the HTTP door from one address that is no trusted proxy: a browser opens six at most, so that some hundreds
 * of people behind one address have theirs.
 */
export const MAX_HTTP_CONNECTIONS = 4_096;

/** Connections that wait in line to be begun at both doors, from one network and together; more are closed at once. */
export const MAX_WAITING_CONNECTIONS = { network: 2_048, together: 8_192 } as const;

/** Headers of an HTTP request, in bytes and in number: browsers send some twenty, and proxies add some. */
export const MAX_HEADERS = { bytes: 16_384, count: 100 } as const;

/** How long a refused HTTP request may go on to arrive, so that its caller reads the refusal, in milliseconds. */
export const MAX_REFUSED_MS = 2_000;

/**
 * Calls that a door begins in one turn of the event loop; each takes a quarter of a millisecond. A door accepts one connection
 * a turn, so that long turns keep new callers waiting one behind the other.
 */
export const CALLS_A_TURN = 8;

/** Answers of the HTTP door that take next to nothing, as whether the process lives, in one turn: some milliseconds. */
export const QUICK_A_TURN = 64;

/** Requests of one HTTP connection that are not answered yet; with one more it is closed. Browsers send one at a time. */
export const MAX_UNANSWERED = 8;

/** Calls that may be under way at once on the two doors together; more are refused before anything is done for them. */
export const MAX_CALLS = 10_000;

/** The longest time-out that a call may name: a day, in milliseconds. A call that names none may last longer. */
export const MAX_TIMEOUT_MS = 86_400_000;

/** How much of a message the records of an answer may take; the rest is for tokens and totals. */
export function recordBytes({ maxMessageBytes }: RpcLimits): number {
  return maxMessageBytes - 8_192;
}

/**
 * How much the records of a page may take: 1,000 tasks of a kilobyte. Putting that into bytes takes some milliseconds, in
 * which nobody else is served.
 */
export function pageBytes(limits: RpcLimits): number {
  return Math.min(recordBytes(limits), MIB);
}
