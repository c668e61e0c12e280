/**
 * How the HTTP door comes to its end: whoever had asked before is answered, whether anybody here has seen the question yet or not.
 * It may lie with the system: in a connection that is not accepted yet, in one that is in line, in one that was not read since.
 * So the door looks, once in a turn of the event loop:
 *
 *   door        listening ──a turn in which none was accepted, and none is in line──► takes no more connections
 *   connection  open ──nothing to answer, and a turn in which it was read and nothing came──► closed
 *
 * It looks for as long as there is something to find out in the next turn, and again after each answer; for all that there is
 * an end in time, which whoever stops the door sees to.
 */
import type { Server } from 'node:http';
import type { HttpConnections } from './connect-connections.js';
import type { Gate, ReadingTurns } from './reading-turns.js';

/** What the end of a door is about. */
export interface HttpEndingOptions {
  readonly server: Server;
  readonly connections: HttpConnections;
  readonly turns: ReadingTurns;
}

export class HttpEnding {
  /** Connections that are open or in line. */
  #taken = 0;
  #hasBegun = false;
  #isLooking = false;
  /** How many connections had been accepted when it looked the last time. */
  #accepted = -1;
  #onClosed: () => void = () => {};

  constructor(private readonly options: HttpEndingOptions) {}

  /** The same gate; how many it has let in tells whether any of them are still in line. */
  counting(gate: Gate): Gate {
    return {
      admits: (address) => {
        const isTaken = gate.admits(address);
        if (isTaken) this.#taken++;
        return isTaken;
      },
      onClosed: (address) => {
        this.#taken--;
        gate.onClosed(address);
      },
    };
  }

  /** Resolves when every connection is closed. */
  begin(): Promise<void> {
    this.#hasBegun = true;
    // Node would do so at once, whatever has come over them that was not read yet.
    this.options.server.closeIdleConnections = () => {};
    this.options.connections.announceEnd();
    return new Promise((resolve) => {
      this.#onClosed = resolve;
      this.look();
    });
  }

  /** Looks soon what is to be closed, once the end has begun. */
  look(): void {
    if (!this.#hasBegun || this.#isLooking) return;
    this.#isLooking = true;
    setImmediate(() => {
      this.#isLooking = false;
      if (this.#look()) this.look();
    });
  }

  /** Takes no more connections, those in line neither; idempotent. */
  refuseNewcomers(): void {
    if (this.options.server.listening) this.options.server.close(() => this.#onClosed());
  }

  /** Whether there is something to find out in the next turn. */
  #look(): boolean {
    const { connections, turns } = this.options;
    const mayCome = this.#mayCome();
    if (!mayCome) this.refuseNewcomers();
    return connections.closeQuiet((socket) => turns.readingSpell(socket)) || mayCome;
  }

  #mayCome(): boolean {
    const { server, turns, connections } = this.options;
    const before = this.#accepted;
    this.#accepted = turns.accepted;
    const areInLine = this.#taken > connections.size;
    return server.listening && (this.#accepted !== before || areInLine);
  }
}
