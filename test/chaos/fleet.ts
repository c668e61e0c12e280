/**
 * Many services on the legacy door, each with one connection and one task: they register, beat, come back when their
 * connection breaks, and note what was acknowledged.
 */
import { connect, type Socket } from 'node:net';
import { heartbeatFrame, readFrame, registerFrame, updateFrame } from '../support/tcpx-frames.js';

/** How a fleet is made. */
export interface FleetPlan {
  /** The number of the first service; numbers are in ids and addresses. */
  readonly first: number;
  readonly count: number;
  /** host:port of the servers; a service goes on to the next when one fails. */
  readonly servers: readonly string[];
  /** Whether the services start at all servers, or all at the first. */
  readonly startAt: 'all' | 'first';
  readonly beatMs: number;
  /** Over how many milliseconds the first connections are spread. */
  readonly spreadMs: number;
  /** What a service does after a reconnect: register again, or believe that it is still registered. */
  readonly onReturn: 'register' | 'beat';
  /** Each service has its own address in 127.0.0.0/8. */
  readonly ownAddresses: boolean;
}

/** How a fleet stands. */
export interface FleetStatus {
  readonly connected: number;
  /** Services whose latest connection is up and, where it registers, acknowledged. */
  readonly settled: number;
  readonly reconnects: number;
  /** The highest count that each working service was told to be stored, by id. */
  readonly acknowledged: Record<string, number>;
}

const RETRY_MIN_MS = 200;
const RETRY_MAX_MS = 1500;
const SLICES = 50;

export class Fleet {
  readonly #services: Service[];
  readonly #beat: NodeJS.Timeout;
  #slice = 0;

  constructor(readonly plan: FleetPlan) {
    this.#services = Array.from({ length: plan.count }, (_, i) => new Service(plan, plan.first + i));
    this.#beat = setInterval(() => this.#beatSlice(), plan.beatMs / SLICES);
  }

  /** Opens the connections; resolves when every service is settled. */
  async start(deadlineMs: number): Promise<void> {
    for (const service of this.#services) service.begin(Math.random() * this.plan.spreadMs);
    await this.settled(deadlineMs);
  }

  /** Resolves when every living service is settled. */
  async settled(deadlineMs: number): Promise<void> {
    const endsAt = Date.now() + deadlineMs;
    while (this.#services.some((service) => service.isExpected && !service.isSettled)) {
      const { connected, settled, reconnects } = this.status();
      if (Date.now() > endsAt)
        throw new Error(`not settled in time: ${JSON.stringify({ connected, settled, reconnects })}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** These fall silent; their connections stay. */
  silence(from: number, to: number): void {
    for (const service of this.#range(from, to)) service.isSilent = true;
  }

  /** These are gone for good, as by kill -9 of each. */
  die(from: number, to: number): void {
    for (const service of this.#range(from, to)) service.die();
  }

  /** All break their connections and come back, spread over a time. */
  comeBack(spreadMs: number): void {
    for (const service of this.#services) if (service.isExpected) service.comeBack(Math.random() * spreadMs);
  }

  /** Living services report a count that grows, as fast as they are answered, with a pause in between. */
  work(pauseMs: number): void {
    for (const service of this.#services) service.work(pauseMs);
  }

  status(): FleetStatus {
    const living = this.#services.filter(({ isExpected }) => isExpected);
    const working = this.#services.filter(({ acknowledged }) => acknowledged > 0);
    return {
      connected: living.filter(({ isConnected }) => isConnected).length,
      settled: living.filter(({ isSettled }) => isSettled).length,
      reconnects: this.#services.reduce((sum, { reconnects }) => sum + reconnects, 0),
      acknowledged: Object.fromEntries(working.map(({ id, acknowledged }) => [id, acknowledged])),
    };
  }

  stop(): void {
    clearInterval(this.#beat);
    for (const service of this.#services) service.die();
  }

  #range(from: number, to: number): Service[] {
    return this.#services.filter(({ number }) => number >= from && number < to);
  }

  /** Beats are spread over the interval, as those of real fleets are. */
  #beatSlice(): void {
    this.#slice = (this.#slice + 1) % SLICES;
    for (const service of this.#services) if (service.number % SLICES === this.#slice) service.beat();
  }
}

const HEARTBEAT = heartbeatFrame();

class Service {
  readonly id: string;
  isSilent = false;
  isDead = false;
  isConnected = false;
  isSettled = false;
  reconnects = 0;
  acknowledged = 0;
  #socket: Socket | undefined;
  #server: number;
  #wasRegistered = false;
  #retryMs = RETRY_MIN_MS;
  #rest: Buffer = Buffer.alloc(0);
  #count = 0;
  #workPauseMs: number | undefined;
  #waitsFor: 'register' | 'update' | undefined;

  constructor(
    private readonly plan: FleetPlan,
    readonly number: number,
  ) {
    this.id = `service-${number}`;
    this.#server = plan.startAt === 'first' ? 0 : number % plan.servers.length;
  }

  get isExpected(): boolean {
    return !this.isDead && !this.isSilent;
  }

  begin(delayMs: number): void {
    setTimeout(() => this.#connect(), delayMs);
  }

  beat(): void {
    if (this.isConnected && !this.isSilent) this.#socket?.write(HEARTBEAT);
  }

  die(): void {
    this.isDead = true;
    this.#socket?.destroy();
  }

  comeBack(delayMs: number): void {
    setTimeout(() => this.#socket?.destroy(), delayMs);
  }

  work(pauseMs: number): void {
    this.#workPauseMs = pauseMs;
    this.#report();
  }

  #connect(): void {
    if (this.isDead) return;
    const server = this.plan.servers[this.#server] ?? '';
    const colon = server.lastIndexOf(':');
    const localAddress = this.plan.ownAddresses ? addressOf(this.number) : undefined;
    const target = { host: server.slice(0, colon), port: Number(server.slice(colon + 1)) };
    const socket = connect({ ...target, ...(localAddress && { localAddress }) });
    this.#socket = socket;
    this.#rest = Buffer.alloc(0);
    this.#waitsFor = undefined;
    socket.on('connect', () => this.#onConnected());
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#onClosed());
  }

  #onConnected(): void {
    this.isConnected = true;
    this.#retryMs = RETRY_MIN_MS;
    if (!this.isSilent) this.#socket?.write(HEARTBEAT);
    if (!this.#wasRegistered || this.plan.onReturn === 'register') return this.#send('register');
    this.isSettled = true;
    this.#report();
  }

  #send(what: 'register' | 'update'): void {
    const task = { id: this.id, name: 'fleet', user: 'ssx', group_id: 'mx', description: String(this.#count) };
    this.#waitsFor = what;
    this.#socket?.write(what === 'register' ? registerFrame({ ...task, status: 'running' }) : updateFrame(task));
  }

  #report(): void {
    if (this.#workPauseMs === undefined || !this.isExpected || !this.isSettled || this.#waitsFor) return;
    this.#count++;
    this.#send('update');
  }

  #onData(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (let read = readFrame(this.#rest); read; read = readFrame(this.#rest)) {
      this.#rest = this.#rest.subarray(read.size);
      this.#onReply((JSON.parse(read.frame.body) as { errid: number }).errid);
    }
  }

  #onReply(errid: number): void {
    const answered = this.#waitsFor;
    this.#waitsFor = undefined;
    if (errid === 0) {
      this.acknowledged = this.#count;
      this.#wasRegistered = true;
      this.isSettled = true;
    } else if (answered === 'register') {
      setTimeout(() => this.isConnected && !this.#waitsFor && this.#send('register'), RETRY_MIN_MS);
      return;
    }
    if (this.#workPauseMs !== undefined) setTimeout(() => this.#report(), this.#workPauseMs);
  }

  #onClosed(): void {
    this.isConnected = false;
    this.isSettled = false;
    if (!this.isExpected) return;
    this.reconnects++;
    this.#server = (this.#server + 1) % this.plan.servers.length;
    setTimeout(() => this.#connect(), this.#retryMs * (0.5 + Math.random()));
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }
}

/** 127.1.0.0 and on. */
export function addressOf(number: number): string {
  return `127.${1 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}
