/** A place for a server that dies and comes back at the same addresses, with cables to its clients and to its database. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ReadyLine, ServerProcess } from '../support/server-process.js';
import type { Cable } from './cable.js';
import type { DoorName } from './callers.js';
import type { World } from './world.js';

export class Seat {
  #server: ServerProcess | undefined;

  private constructor(
    private readonly world: World,
    readonly database: Cable,
    readonly doors: Readonly<Record<DoorName, Cable>>,
  ) {}

  /** Lays the cables and starts a server. */
  static async take(world: World): Promise<Seat> {
    const ready = (): ReadyLine => seat.server.ready;
    const doors = {
      tcp: await world.lay(() => ready().tcp),
      grpc: await world.lay(() => ready().grpc),
      http: await world.lay(() => new URL(ready().http).host),
    };
    const seat: Seat = new Seat(world, await world.lay(() => world.databaseAt), doors);
    await seat.#start();
    return seat;
  }

  get server(): ServerProcess {
    if (!this.#server) throw new Error('nobody has taken the seat yet');
    return this.#server;
  }

  /** kill -9, and another server a while later. */
  async kill(awayMs: number): Promise<void> {
    await this.server.kill();
    await delay(awayMs);
    await this.#start();
  }

  /** The server stands still for a while. */
  async suspend(forMs: number): Promise<void> {
    this.server.signal('SIGSTOP');
    await delay(forMs);
    this.server.signal('SIGCONT');
  }

  /** Breaks the connections of all clients. */
  cut(): void {
    for (const cable of Object.values(this.doors)) cable.cut();
  }

  async #start(): Promise<void> {
    this.#server = await this.world.startServer({ databaseAt: this.database.at });
  }
}
