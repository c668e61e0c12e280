/**
 * A session is one live connection of a service and the unit of liveness; rules: docs/liveness.md.
 * This file holds what the doors need; how deadlines run is in liveness.ts.
 */
import type { Claimant } from './task-registry.js';

/** Which door a session came through. */
export type Door = 'tcp' | 'grpc';

/** A live connection, as its door handles it. */
export interface Session extends Claimant {
  readonly id: string;
  readonly door: Door;
  /** The address of the service, without the port. */
  readonly address: string;
  /** A sign of life: any complete frame or call. Touches memory only. */
  beat(): void;
  /**
   * A sign of life that is nothing else: message 1392, or a keep-alive. A service that only reconnected and beats, in the
   * belief that it is still registered, gets its tasks back by it where that is unambiguous.
   */
  heartbeat(): void;
  /** Who the service is was not known when the session was opened: the session is that owner's from now on. */
  identify(owner: string): void;
  /** The connection is gone without a goodbye; the tasks get the reconnect grace. Idempotent. */
  close(): void;
}

/** What a door says when it opens a session. */
export interface SessionOpening {
  readonly door: Door;
  readonly address: string;
  /** Who the service is, as histories name it; its sessions take over from each other only. Absent: anybody. */
  readonly owner?: string;
  /** How long the session may be silent, in milliseconds; absent: the configured one. */
  readonly ttlMs?: number;
  /** Called once when the session expired in silence: the door closes the connection, so that the client notices. */
  readonly onExpired: () => void;
}

/** Opens sessions. */
export interface SessionHost {
  open(opening: SessionOpening): Session;
}
