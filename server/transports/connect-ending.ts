/**
 * How the HTTP door comes to its end: whoever had asked before is answered, whether anybody here has seen the question yet or not.
 * It may lie with the system: in a connection that is not accepted yet, in one that is in line, in one that was not read since.
 * So the door looks, once in a turn of the event loop:
 *
 *   door        listening ──a turn in which none was accepted, and none is in line──► takes no more connections
 *   connection  open ──nothing to answer, and a turn in which it was read and nothing came──► closed
 *
 * It looks for as long as there is something to find out in the next turn, and again after each answer. All of that has its time:
 * those who come while the door ends are let in for half of it at most, requests that are arriving have a moment, and shortly
 * before it is over, calls without an answer are told so.
 */
import type { Server } from 'node:http';
import type { Clock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import { refuse } from './connect-calls.js';
import type { HttpConnections } from './connect-connections.js';
import type { Gate, ReadingTurns } from './reading-turns.js';
import { describeError } from './rpc/errors.js';
import { MAX_REFUSED_MS } from './rpc/limits.js';

/** What the end of a door is about. */
export interface HttpEndingOptions {
  readonly server: Server;
  readonly connections: HttpConnections;
  readonly turns: ReadingTurns;
  readonly clock: Clock;
}

/** Parts of the time. */
const LETS_IN = 0.5;
const LAST_WORD = 0.97;

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

  /** Resolves when every connection is closed; what is left after `withinMs` is cut. */
  async end(withinMs: number): Promise<void> {
    const { server, connections, clock } = this.options;
    const cuts = [
      clock.schedule(withinMs * LETS_IN, () => this.#refuseNewcomers()),
      clock.schedule(Math.min(withinMs, MAX_REFUSED_MS), () => connections.closeUnfinished()),
      clock.schedule(withinMs * LAST_WORD, () => this.#refuseUnanswered()),
      clock.schedule(withinMs, () => server.closeAllConnections()),
    ];
    await this.#begin();
    for (const cut of cuts) cut.cancel();
  }

  #begin(): Promise<void> {
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
  #refuseNewcomers(): void {
    if (this.options.server.listening) this.options.server.close(() => this.#onClosed());
  }

  #refuseUnanswered(): void {
    const stopping = describeError(new TaskDashError('STOPPING'));
    for (const response of this.options.connections.unanswered()) refuse(response, stopping);
  }

  /** Whether there is something to find out in the next turn. */
  #look(): boolean {
    const { connections, turns } = this.options;
    const mayCome = this.#mayCome();
    if (!mayCome) this.#refuseNewcomers();
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
